"""Desired peers: which peers the rows ask for, and which rows are rejected for which reason.

Conflicts between rows are resolved here. The kernel would give an allowed IP to the peer that gets it last.
"""

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
    """The rules about peers that hold for all interfaces."""

    ignored_interfaces: frozenset[str] = frozenset()  # the store's names of the interfaces of other nodes
    foreign: str = "remove"  # what happens to foreign peers: "remove", "keep" or "report"
    always_keep: frozenset[PublicKey] = frozenset()  # keys of peers that wgsyncd never changes


@dataclass(frozen=True, slots=True)
class Desired:
    """What the rows ask for, as far as the rows are valid."""

    peers: Mapping[str, Mapping[PublicKey, DesiredPeer]]  # by interface
    rejections: tuple[Rejection, ...]
    frozen: Mapping[str, frozenset[PublicKey]]  # by interface: actual peers that stay unchanged
    revoked: Mapping[PublicKey, tuple[DeviceRow, InactiveReason]]  # keys of rows that ask for no peer, and why
    unmatched_keys: Set[PublicKey]  # the readable keys of this node's rows that have no peer in ``peers``
    rejected: Mapping[int, PublicKey]  # the readable keys of rejected rows, by row id
    unreadable_keys: int  # how many rows ask for a peer with an unreadable key: then unclaimed peers have to stay
    # The first call of `key_of` fills this. Such calls are rare, and with very many rows it takes 5 MB.
    _keys: dict[int, PublicKey] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether no row of this node has a readable key."""
        return not self.unmatched_keys and not any(self.peers.values())

    def has_key(self, key: PublicKey) -> bool:
        """Whether a row of this node has ``key``. No row has the key of a foreign peer."""
        return key in self.unmatched_keys or self.interface_of(key) is not None

    def interface_of(self, key: PublicKey) -> str | None:
        """The interface that the desired peer with ``key`` is on, or None if no such peer is desired."""
        return next((name for name, wants in self.peers.items() if key in wants), None)

    def key_of(self, row_id: int | None) -> PublicKey | None:
        """The readable key of a row that asks for a peer, even if the row is rejected. None if there is no such key."""
        if row_id is None:
            return None
        if not self._keys:
            self._keys.update(self.rejected)
            self._keys.update((want.row.id, key) for wants in self.peers.values() for key, want in wants.items())
        return self._keys.get(row_id)

    def rejected_by_reason(self) -> dict[str, int]:
        """The number of rejected rows for each reason that occurs."""
        return dict(Counter(str(r.reason) for r in self.rejections))


_NOTHING: Mapping[PublicKey, DesiredPeer] = {}
_NOWHERE: Mapping[str, Mapping[PublicKey, DesiredPeer]] = {}


@dataclass(slots=True)
class Conflicts:
    """Resolves conflicts: rows claim keys and addresses, and claims are rejected until no two of them conflict."""

    actual: Mapping[str, InterfaceState]
    installed_keys: Callable[[], Mapping[int, frozenset[PublicKey]]]  # keys of recorded peers, by row id
    unclaimed_keys: set[PublicKey] = field(default_factory=set)  # readable keys of the rows without a claim
    claims: list[DesiredPeer] = field(default_factory=list)
    rejected_ids: set[int] = field(default_factory=set)  # ids of all rejected rows
    rejections: list[Rejection] = field(default_factory=list)
    frozen: set[PublicKey] = field(default_factory=set)
    _all_keys: set[PublicKey] | None = None

    def all_keys(self) -> Set[PublicKey]:
        """The readable keys of all rows. Only a rejected row or a kept peer makes this set necessary."""
        if self._all_keys is None:
            self._all_keys = self.unclaimed_keys | {claim.config.public_key for claim in self.claims}
        return self._all_keys

    def reject(self, row: DeviceRow, reason: Reason, facts: RejectionFacts, key: PublicKey | None) -> None:
        """Reject ``row``, and freeze the peer with ``key`` unless ``key`` is None."""
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
        """The keys of the peers that stay unchanged because of rejected rows.

        A rejected row freezes the peer with its key, unless that peer belongs to another row. The row also freezes a
        peer that was installed for it earlier, if no row has that peer's key now. Such a row has got a new key.
        """
        if not self.rejections:
            return self.frozen
        recorded = self.installed_keys()
        installed = {key for one in self.rejections for key in recorded.get(one.row_id, ())}
        return self.frozen | (installed - self.all_keys())

    def is_live(self, claim: DesiredPeer) -> bool:
        """Whether the claim's interface has the claim's peer now, with the claim's address."""
        state = self.actual.get(claim.interface)
        peer = state.peers.get(claim.config.public_key) if state else None
        return peer is not None and claim.address in peer.config.allowed_ips

    def resolve(
        self, reason: Reason, thing: Callable[[DesiredPeer], bytes], within: Callable[[DesiredPeer], str]
    ) -> None:
        """Leave one claim to each thing: a live claim wins, else the lowest row id. Reject the other claims.

        ``thing``: the key or address that a claim is about. ``within``: only claims with equal results conflict.
        """
        standing = self.accepted()
        if len(set(map(thing, standing))) == len(standing):  # nearly always
            return
        first: dict[tuple[str, bytes], DesiredPeer] = {}
        contested: dict[tuple[str, bytes], list[DesiredPeer]] = {}
        for claim in standing:
            which = within(claim), thing(claim)
            one = first.setdefault(which, claim)
            if one.row.id != claim.row.id:  # the store may list a row twice, if it lists its owner twice
                contested.setdefault(which, [one]).append(claim)
        for rivals in contested.values():
            winner = min(rivals, key=lambda c: (not self.is_live(c), c.row.id))
            for claim in rivals:
                if claim is not winner:
                    # Of two claims to one key only the winner has a peer, so the loser freezes none.
                    own = None if claim.config.public_key == winner.config.public_key else claim.config.public_key
                    self.reject(claim.row, reason, RejectionFacts(claim.row.address, rival=winner.row.device), own)

    def reject_overlaps(self, untouchable: frozenset[PublicKey]) -> None:
        """Reject claims to the key or address of a peer that stays unchanged.

        ``untouchable``: keys of peers that stay unchanged, besides the frozen ones. A rejection can freeze another
        peer, so the search is repeated until it finds nothing more.
        """
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
    """The desired peers and the rejections, from the rows, the configuration and the actual peers.

    ``now``: UNIX seconds. ``installed_keys``: returns the keys of the recorded peers by row id. ``previous``: the
    peers of an earlier call with the same ``interface_specs``. A row that is the same object is not validated again.
    """
    interface_specs = tuple(interface_specs)
    by_rows = {site.store_name: site for site in interface_specs}
    own_keys = {state.public_key for state in actual.values() if state.public_key is not None}
    court = Conflicts(actual, installed_keys)
    revoked: dict[PublicKey, tuple[DeviceRow, InactiveReason]] = {}
    wanted = {site.store_name: previous.get(site.interface, _NOTHING) for site in interface_specs}
    # If the caller keeps no reference either, `wanted.clear()` frees the old tables before the new ones are made.
    del previous
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
        installed = {key for keys in installed_keys().values() for key in keys}  # installed for rows, so not foreign
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
    """Let rows use the key objects of the actual peers, so that memory holds equal keys once.

    Call this for rows that stay in memory for long, before anything is made from them.
    """
    for row in rows:
        if isinstance(row.public_key, bytes):
            key = PublicKey(row.public_key)
            for state in actual.values():
                if (found := state.peers.get(key)) is not None:
                    row.share_keys(found.config)


def _as_found(claim: DesiredPeer, actual: Mapping[str, InterfaceState]) -> DesiredPeer:
    """The claim. If the actual peer is as desired, the result has the configuration object of the dump.

    Memory then holds the configuration once, and later comparisons only compare the identity of the objects.
    """
    state = actual.get(claim.interface)
    found = state.peers.get(claim.config.public_key) if state is not None else None
    if found is None or found.config is claim.config or found.config != claim.config:
        return claim
    claim.row.share_keys(found.config)
    return replace(claim, config=found.config)
