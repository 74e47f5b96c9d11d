"""Rows -> desired peers and rejections, each with its reason. Conflicts are settled here, never by the kernel's
last-writer-wins on allowed IPs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from wgsyncd.core.model import InterfaceState, PublicKey, Reason, Rejection, Row, decode_key
from wgsyncd.core.network import Network
from wgsyncd.core.peers.validate import CannotBeFollowed, Site, Want, read_row


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules that hold for all interfaces."""

    elsewhere: frozenset[str] = frozenset()  # interfaces of other nodes
    foreign: str = "remove"  # "remove", "keep" or "report"
    always_keep: frozenset[PublicKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Desired:
    """What the rows ask for, as far as it can be followed."""

    peers: Mapping[str, Mapping[PublicKey, Want]]  # by interface
    rejections: tuple[Rejection, ...]
    frozen: Mapping[str, frozenset[PublicKey]]  # live peers of rejected rows: left as they are
    revoked: Mapping[PublicKey, tuple[Row, str]]  # keys of rows that want no peer, and why not
    others: Set[PublicKey]  # the readable keys of this node's rows that have no peer in ``peers``
    rejected: Mapping[int, PublicKey]  # the readable keys of the rows that are, by their ids
    unreadable_keys: int  # rows that want a peer whose key cannot be read: nothing merely unclaimed may go
    # Made when it is first asked for, which is rare: with very many rows it is 5 MB.
    _keys: dict[int, PublicKey] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names_nobody(self) -> bool:
        """Whether no row of this node has a readable key."""
        return not self.others and not any(self.peers.values())

    def names(self, key: PublicKey) -> bool:
        """Whether a row of this node has this key: a peer whose key none has is foreign."""
        return key in self.others or self.interface_of(key) is not None

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


_NOTHING: Mapping[PublicKey, Want] = {}
_NOWHERE: Mapping[str, Mapping[PublicKey, Want]] = {}


@dataclass(slots=True)
class _Court:
    """The claims while their conflicts are settled."""

    live: Mapping[str, InterfaceState]
    recorded: Callable[[], Mapping[int, frozenset[PublicKey]]]  # live peers by the row they were installed for
    others: set[PublicKey] = field(default_factory=set)  # readable keys of the rows without a claim
    claims: list[Want] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)  # ids of the claims that are rejected
    rejections: list[Rejection] = field(default_factory=list)
    frozen: set[PublicKey] = field(default_factory=set)
    _named: set[PublicKey] | None = None

    def named(self) -> Set[PublicKey]:
        """The readable keys of all rows. Only asked for, and made, where something is rejected or kept."""
        if self._named is None:
            self._named = self.others | {claim.peer.public_key for claim in self.claims}
        return self._named

    def reject(self, row: Row, reason: Reason, detail: str, key: PublicKey | None) -> None:
        self.lost.add(row.id)
        self.rejections.append(Rejection(row.id, row.device, reason, detail))
        if key is not None:
            self.frozen.add(key)

    def standing(self) -> Collection[Want]:
        """The claims that are not rejected."""
        return [claim for claim in self.claims if claim.row.id not in self.lost] if self.lost else self.claims

    def frozen_keys(self) -> set[PublicKey]:
        """The keys whose peers stay as they are: those that rejected rows name, and those that were installed for
        rejected rows and that no row names now (such a row has a new key that cannot be followed)."""
        if not self.rejections:
            return self.frozen
        recorded = self.recorded()
        installed = {key for one in self.rejections for key in recorded.get(one.row_id, ())}
        return self.frozen | (installed - self.named())

    def holds(self, claim: Want) -> bool:
        """Whether the claim is live in the kernel as it stands."""
        state = self.live.get(claim.interface)
        peer = state.peers.get(claim.peer.public_key) if state else None
        return peer is not None and claim.address in peer.peer.allowed_ips

    def settle(self, reason: Reason, what: str, thing: Callable[[Want], bytes], within: Callable[[Want], str]) -> None:
        """Of several claims to one thing the live one keeps it, else the lowest id. ``within``: where it is
        claimed; elsewhere the same is another one."""
        standing = self.standing()
        if len(set(map(thing, standing))) == len(standing):  # as nearly always
            return
        first: dict[tuple[str, bytes], Want] = {}
        contested: dict[tuple[str, bytes], list[Want]] = {}
        for claim in standing:
            which = within(claim), thing(claim)
            one = first.setdefault(which, claim)
            if one.row.id != claim.row.id:  # a row may come twice, where a contract does
                contested.setdefault(which, [one]).append(claim)
        for rivals in contested.values():
            winner = min(rivals, key=lambda c: (not self.holds(c), c.row.id))
            for claim in rivals:
                if claim is not winner:
                    # A rival for the same key has no live peer of its own: that key's peer is the winner's.
                    own = None if claim.peer.public_key == winner.peer.public_key else claim.peer.public_key
                    self.reject(claim.row, reason, f"{what} is {winner.row.device}'s", own)

    def keep_clear_of(self, untouchable: frozenset[PublicKey]) -> None:
        """Reject claims to what a peer holds that is left as it is, until no more follow from that."""
        while True:
            holders: dict[tuple[str, Network], PublicKey] = {}
            fixed = self.frozen_keys() | untouchable
            if not fixed:
                return
            for name, state in self.live.items():
                for key in fixed & state.peers.keys():
                    for net in state.peers[key].peer.allowed_ips:
                        holders[name, net] = key
            stuck = [
                claim
                for claim in self.standing()
                if holders.get((claim.interface, claim.address), claim.peer.public_key) != claim.peer.public_key
                or claim.peer.public_key in fixed
            ]
            if not stuck:
                return
            for claim in stuck:
                if claim.peer.public_key in fixed:
                    self.reject(claim.row, Reason.DUPLICATE_KEY, "its peer belongs to a kept or frozen one", None)
                else:
                    detail = f"{claim.row.address} is held by a peer that is left as it is"
                    self.reject(claim.row, Reason.DUPLICATE_ADDRESS, detail, claim.peer.public_key)


def build_desired(
    rows: Iterable[Row],
    sites: Iterable[Site],
    policy: Policy,
    live: Mapping[str, InterfaceState],
    now: float,
    recorded: Callable[[], Mapping[int, frozenset[PublicKey]]] = dict,
    before: Mapping[str, Mapping[PublicKey, Want]] = _NOWHERE,
) -> Desired:
    """What the rows want, held against the configuration, each other and the live peers. ``now``: UNIX seconds.
    ``recorded`` tells the keys of the peers that were installed for each row id. ``before``: the peers of an
    earlier call with the same sites; the same row (the same object) is not read again."""
    sites = tuple(sites)
    by_rows = {site.rows: site for site in sites}
    own_keys = {state.public_key for state in live.values() if state.public_key is not None}
    court = _Court(live, recorded)
    revoked: dict[PublicKey, tuple[Row, str]] = {}
    wanted = {site.rows: before.get(site.interface, _NOTHING) for site in sites}
    del before  # where the caller has let go of it, it is gone once all rows are read, before the next one is made
    rejected: dict[int, PublicKey] = {}
    unreadable = 0
    for row in rows:
        if row.interface in policy.elsewhere:
            continue
        key: PublicKey | None = None
        try:
            key = PublicKey(decode_key(row.public_key))
        except ValueError as error:
            bad_key = str(error)
        why_not = row.why_not(now)
        if why_not is not None:
            if key is not None:
                revoked[key] = row, why_not
                court.others.add(key)
            continue
        if key is None:
            unreadable += 1
            court.reject(row, Reason.BAD_KEY, f"public_key {bad_key}", None)
            continue
        try:
            if key in own_keys:
                raise CannotBeFollowed(Reason.INTERFACE_KEY, "public_key is an interface's own")
            old = wanted.get(row.interface, _NOTHING).get(key)
            known = old if old is not None and old.row is row else read_row(row, key, by_rows, old)
            court.claims.append(_as_found(known, live))
        except CannotBeFollowed as fault:
            rejected[row.id] = key
            court.others.add(key)
            court.reject(row, fault.reason, fault.detail, key)

    wanted.clear()
    court.settle(Reason.DUPLICATE_KEY, "the public key", lambda claim: claim.peer.public_key, lambda _: "")
    court.settle(Reason.DUPLICATE_ADDRESS, "the address", lambda claim: claim.address, lambda claim: claim.interface)
    untouchable: set[PublicKey] = set(policy.always_keep)
    if policy.foreign != "remove":
        installed = {key for keys in recorded().values() for key in keys}  # some row's until now, so not foreign
        untouchable |= {key for state in live.values() for key in state.peers} - court.named() - installed
    court.keep_clear_of(frozenset(untouchable))

    peers: dict[str, dict[PublicKey, Want]] = {site.interface: {} for site in sites}
    for claim in court.standing():
        key = claim.peer.public_key
        peers[claim.interface][key] = claim
        revoked.pop(key, None)
    lost = {claim.row.id: claim.peer.public_key for claim in court.claims if claim.row.id in court.lost}
    frozen_keys = court.frozen_keys()
    frozen = {name: frozenset(frozen_keys & state.peers.keys()) for name, state in live.items()}
    others = court.others | set(lost.values())
    return Desired(peers, tuple(court.rejections), frozen, revoked, others, rejected | lost, unreadable)


def share_keys(rows: Iterable[Row], live: Mapping[str, InterfaceState]) -> None:
    """Keys that rows and live peers have in common are in memory once, see :meth:`Row.share`: for rows that are kept
    for long and that nothing was made of yet."""
    for row in rows:
        if isinstance(row.public_key, bytes):
            key = PublicKey(row.public_key)
            for state in live.values():
                if (found := state.peers.get(key)) is not None:
                    row.share(found.peer)


def _as_found(claim: Want, live: Mapping[str, InterfaceState]) -> Want:
    """The same; where the peer is live as it is wanted, with the dump's own object: kept once, compared once."""
    state = live.get(claim.interface)
    found = state.peers.get(claim.peer.public_key) if state is not None else None
    if found is None or found.peer is claim.peer or found.peer != claim.peer:
        return claim
    claim.row.share(found.peer)
    return replace(claim, peer=found.peer)
