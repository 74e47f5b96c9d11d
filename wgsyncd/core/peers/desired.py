"""Rows -> desired peers and rejections, each with its reason. Conflicts are settled here, never by the kernel's
last-writer-wins on allowed IPs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from wgsyncd.core.model import DeviceRow, InterfaceState, InvalidKey, PublicKey, Rejection, decode_key
from wgsyncd.core.network import Network
from wgsyncd.core.peers.validate import DesiredPeer, InterfaceSpec, RowRejected, validate_row
from wgsyncd.core.reasons import NO_FACTS, InactiveReason, Reason, RejectionFacts


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """Rules that hold for all interfaces."""

    ignored_interfaces: frozenset[str] = frozenset()  # interfaces of other nodes
    foreign: str = "remove"  # "remove", "keep" or "report"
    always_keep: frozenset[PublicKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Desired:
    """What the rows ask for, as far as it can be followed."""

    peers: Mapping[str, Mapping[PublicKey, DesiredPeer]]  # by interface
    rejections: tuple[Rejection, ...]
    frozen: Mapping[str, frozenset[PublicKey]]  # live peers of rejected rows: left as they are
    revoked: Mapping[PublicKey, tuple[DeviceRow, InactiveReason]]  # keys of rows that want no peer, and why not
    unmatched_keys: Set[PublicKey]  # the readable keys of this node's rows that have no peer in ``peers``
    rejected: Mapping[int, PublicKey]  # the readable keys of the rows that are, by their ids
    unreadable_keys: int  # rows that want a peer whose key cannot be read: nothing merely unclaimed may go
    # Made when it is first asked for, which is rare: with very many rows it is 5 MB.
    _keys: dict[int, PublicKey] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether no row of this node has a readable key."""
        return not self.unmatched_keys and not any(self.peers.values())

    def has_key(self, key: PublicKey) -> bool:
        """Whether a row of this node has this key: a peer whose key none has is foreign."""
        return key in self.unmatched_keys or self.interface_of(key) is not None

    def interface_of(self, key: PublicKey) -> str | None:
        """On which interface this peer is wanted."""
        return next((name for name, wants in self.peers.items() if key in wants), None)

    def key_of(self, row_id: int | None) -> PublicKey | None:
        """The readable key of a row that wants a peer."""
        if row_id is None:
            return None
        if not self._keys:
            self._keys.update(self.rejected)
            self._keys.update((want.row.id, key) for wants in self.peers.values() for key, want in wants.items())
        return self._keys.get(row_id)

    def rejected_by_reason(self) -> dict[str, int]:
        """How many rows for each reason that occurs."""
        return dict(Counter(str(r.reason) for r in self.rejections))


_NOTHING: Mapping[PublicKey, DesiredPeer] = {}
_NOWHERE: Mapping[str, Mapping[PublicKey, DesiredPeer]] = {}


@dataclass(slots=True)
class Conflicts:
    """The claims while their conflicts are settled."""

    actual: Mapping[str, InterfaceState]
    installed_keys: Callable[[], Mapping[int, frozenset[PublicKey]]]  # live peers by the row they were installed for
    unclaimed_keys: set[PublicKey] = field(default_factory=set)  # readable keys of the rows without a claim
    claims: list[DesiredPeer] = field(default_factory=list)
    rejected_ids: set[int] = field(default_factory=set)  # ids of the claims that are rejected
    rejections: list[Rejection] = field(default_factory=list)
    frozen: set[PublicKey] = field(default_factory=set)
    _all_keys: set[PublicKey] | None = None

    def all_keys(self) -> Set[PublicKey]:
        """The readable keys of all rows. Only asked for, and made, where something is rejected or kept."""
        if self._all_keys is None:
            self._all_keys = self.unclaimed_keys | {claim.config.public_key for claim in self.claims}
        return self._all_keys

    def reject(self, row: DeviceRow, reason: Reason, facts: RejectionFacts, key: PublicKey | None) -> None:
        self.rejected_ids.add(row.id)
        self.rejections.append(Rejection(row.id, row.device, reason, facts))
        if key is not None:
            self.frozen.add(key)

    def accepted(self) -> Collection[DesiredPeer]:
        """The claims that are not rejected."""
        return (
            [claim for claim in self.claims if claim.row.id not in self.rejected_ids]
            if self.rejected_ids
            else self.claims
        )

    def frozen_keys(self) -> set[PublicKey]:
        """The keys whose peers stay as they are: those that rejected rows name, and those that were installed for
        rejected rows and that no row names now (such a row has a new key that cannot be followed)."""
        if not self.rejections:
            return self.frozen
        recorded = self.installed_keys()
        installed = {key for one in self.rejections for key in recorded.get(one.row_id, ())}
        return self.frozen | (installed - self.all_keys())

    def is_live(self, claim: DesiredPeer) -> bool:
        """Whether the claim is live in the kernel as it stands."""
        state = self.actual.get(claim.interface)
        peer = state.peers.get(claim.config.public_key) if state else None
        return peer is not None and claim.address in peer.config.allowed_ips

    def resolve(
        self, reason: Reason, thing: Callable[[DesiredPeer], bytes], within: Callable[[DesiredPeer], str]
    ) -> None:
        """Of several claims to one thing the live one keeps it, else the lowest id. ``within``: where it is
        claimed; elsewhere the same is another one."""
        standing = self.accepted()
        if len(set(map(thing, standing))) == len(standing):  # as nearly always
            return
        first: dict[tuple[str, bytes], DesiredPeer] = {}
        contested: dict[tuple[str, bytes], list[DesiredPeer]] = {}
        for claim in standing:
            which = within(claim), thing(claim)
            one = first.setdefault(which, claim)
            if one.row.id != claim.row.id:  # a row may come twice, where a contract does
                contested.setdefault(which, [one]).append(claim)
        for rivals in contested.values():
            winner = min(rivals, key=lambda c: (not self.is_live(c), c.row.id))
            for claim in rivals:
                if claim is not winner:
                    # A rival for the same key has no live peer of its own: that key's peer is the winner's.
                    own = None if claim.config.public_key == winner.config.public_key else claim.config.public_key
                    self.reject(claim.row, reason, RejectionFacts(claim.row.address, rival=winner.row.device), own)

    def reject_overlaps(self, untouchable: frozenset[PublicKey]) -> None:
        """Reject claims to what a peer holds that is left as it is, until no more follow from that."""
        while True:
            holders: dict[tuple[str, Network], PublicKey] = {}
            fixed = self.frozen_keys() | untouchable
            if not fixed:
                return
            for name, state in self.actual.items():
                for key in fixed & state.peers.keys():
                    for net in state.peers[key].config.allowed_ips:
                        holders[name, net] = key
            stuck = [
                claim
                for claim in self.accepted()
                if holders.get((claim.interface, claim.address), claim.config.public_key) != claim.config.public_key
                or claim.config.public_key in fixed
            ]
            if not stuck:
                return
            for claim in stuck:
                if claim.config.public_key in fixed:
                    self.reject(claim.row, Reason.DUPLICATE_KEY, NO_FACTS, None)
                else:
                    facts = RejectionFacts(claim.row.address)
                    self.reject(claim.row, Reason.DUPLICATE_ADDRESS, facts, claim.config.public_key)


def build_desired(
    rows: Iterable[DeviceRow],
    interface_specs: Iterable[InterfaceSpec],
    policy: PeerPolicy,
    actual: Mapping[str, InterfaceState],
    now: float,
    installed_keys: Callable[[], Mapping[int, frozenset[PublicKey]]] = dict,
    previous: Mapping[str, Mapping[PublicKey, DesiredPeer]] = _NOWHERE,
) -> Desired:
    """What the rows want, held against the configuration, each other and the live peers. ``now``: UNIX seconds.
    ``recorded`` tells the keys of the peers that were installed for each row id. ``before``: the peers of an
    earlier call with the same sites; the same row (the same object) is not read again."""
    interface_specs = tuple(interface_specs)
    by_rows = {site.store_name: site for site in interface_specs}
    own_keys = {state.public_key for state in actual.values() if state.public_key is not None}
    court = Conflicts(actual, installed_keys)
    revoked: dict[PublicKey, tuple[DeviceRow, InactiveReason]] = {}
    wanted = {site.store_name: previous.get(site.interface, _NOTHING) for site in interface_specs}
    del previous  # where the caller has let go of it, it is gone once all rows are read, before the next one is made
    rejected: dict[int, PublicKey] = {}
    unreadable = 0
    for row in rows:
        if row.interface in policy.ignored_interfaces:
            continue
        key: PublicKey | None = None
        try:
            key = PublicKey(decode_key(row.public_key))
        except InvalidKey as error:
            bad_key = RejectionFacts(key_fault=error.fault, key_bytes=error.size)
        why_not = row.inactive_reason(now)
        if why_not is not None:
            if key is not None:
                revoked[key] = row, why_not
                court.unclaimed_keys.add(key)
            continue
        if key is None:
            unreadable += 1
            court.reject(row, Reason.BAD_KEY, bad_key, None)
            continue
        try:
            if key in own_keys:
                raise RowRejected(Reason.INTERFACE_KEY)
            old = wanted.get(row.interface, _NOTHING).get(key)
            known = old if old is not None and old.row is row else validate_row(row, key, by_rows, old)
            court.claims.append(_as_found(known, actual))
        except RowRejected as fault:
            rejected[row.id] = key
            court.unclaimed_keys.add(key)
            court.reject(row, fault.reason, fault.facts, key)

    wanted.clear()
    court.resolve(Reason.DUPLICATE_KEY, lambda claim: claim.config.public_key, lambda _: "")
    court.resolve(Reason.DUPLICATE_ADDRESS, lambda claim: claim.address, lambda claim: claim.interface)
    untouchable: set[PublicKey] = set(policy.always_keep)
    if policy.foreign != "remove":
        installed = {key for keys in installed_keys().values() for key in keys}  # some row's until now, so not foreign
        untouchable |= {key for state in actual.values() for key in state.peers} - court.all_keys() - installed
    court.reject_overlaps(frozenset(untouchable))

    peers: dict[str, dict[PublicKey, DesiredPeer]] = {site.interface: {} for site in interface_specs}
    for claim in court.accepted():
        key = claim.config.public_key
        peers[claim.interface][key] = claim
        revoked.pop(key, None)
    lost = {claim.row.id: claim.config.public_key for claim in court.claims if claim.row.id in court.rejected_ids}
    frozen_keys = court.frozen_keys()
    frozen = {name: frozenset(frozen_keys & state.peers.keys()) for name, state in actual.items()}
    others = court.unclaimed_keys | set(lost.values())
    return Desired(peers, tuple(court.rejections), frozen, revoked, others, rejected | lost, unreadable)


def share_keys(rows: Iterable[DeviceRow], actual: Mapping[str, InterfaceState]) -> None:
    """Keys that rows and live peers have in common are in memory once, see :meth:`Row.share`: for rows that are kept
    for long and that nothing was made of yet."""
    for row in rows:
        if isinstance(row.public_key, bytes):
            key = PublicKey(row.public_key)
            for state in actual.values():
                if (found := state.peers.get(key)) is not None:
                    row.share_keys(found.config)


def _as_found(claim: DesiredPeer, actual: Mapping[str, InterfaceState]) -> DesiredPeer:
    """The same; where the peer is live as it is wanted, with the dump's own object: kept once, compared once."""
    state = actual.get(claim.interface)
    found = state.peers.get(claim.config.public_key) if state is not None else None
    if found is None or found.config is claim.config or found.config != claim.config:
        return claim
    claim.row.share_keys(found.config)
    return replace(claim, config=found.config)
