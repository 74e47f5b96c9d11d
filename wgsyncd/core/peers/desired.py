"""Desired peers: which peers the rows ask for, and which rows are rejected for which reason.

Conflicts between rows are resolved here. The kernel would give an allowed IP to the peer that gets it last.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

from wgsyncd.core.model import DeviceId, DeviceRow, InterfaceState, InvalidKey, PublicKey, Rejection, decode_key
from wgsyncd.core.network import Network
from wgsyncd.core.peers.validate import DesiredPeer, InterfaceSpec, RowRejected, as_found, validate_row
from wgsyncd.core.reasons import NO_FACTS, ChangeCause, ChangeReason, Inactive, InactiveReason, Reason, RejectionFacts
from wgsyncd.core.records import PeerId


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
    rejected: Mapping[tuple[DeviceId, str], PublicKey]  # the readable keys of rejected rows, by row id and device
    unreadable_keys: int  # how many rows ask for a peer with an unreadable key: then unclaimed peers have to stay
    moved: Mapping[DeviceId, str]  # by row id: the store's name of the other node's interface that the row is on now
    # The first call of `key_of` fills this. Such calls are rare, and with very many rows it takes 5 MB.
    _keys: dict[tuple[DeviceId, str], PublicKey] = field(default_factory=dict, repr=False, compare=False)

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

    def key_of(self, row_id: DeviceId | None, device: str) -> PublicKey | None:
        """The readable key of a row that asks for a peer, even if the row is rejected. None if there is no such key.

        If the row id was used again, the row belongs to another device, and the result is None.
        """
        if row_id is None:
            return None
        if not self._keys:
            self._keys.update(self.rejected)
            self._keys.update(
                ((want.row.id, want.row.device), key) for wants in self.peers.values() for key, want in wants.items()
            )
        return self._keys.get((row_id, device))

    def removal_reason(self, key: PublicKey, row_id: DeviceId | None, device: str) -> ChangeReason | None:
        """Why rows demand that the peer with ``key`` goes, which was installed for the row of ``device``.

        None if no row demands it.
        """
        moved_to = self.interface_of(key) or (self.moved.get(row_id) if row_id is not None else None)
        if moved_to is not None:
            return ChangeReason(ChangeCause.MOVED_TO, moved_to)
        if key in self.revoked:
            return ChangeReason(ChangeCause.INACTIVE, inactive=self.revoked[key][1])
        return ChangeReason(ChangeCause.KEY_REPLACED) if self.key_of(row_id, device) not in (None, key) else None

    def rejected_by_reason(self) -> dict[str, int]:
        """The number of rejected rows for each reason that occurs."""
        return dict(Counter(str(r.reason) for r in self.rejections))


_NOTHING: Mapping[PublicKey, DesiredPeer] = {}
_NOWHERE: Mapping[str, Mapping[PublicKey, DesiredPeer]] = {}
_NO_MOVES: Mapping[DeviceId, str] = {}
Installed = Callable[[], Mapping[tuple[DeviceId, str], frozenset[PeerId]]]
"""Returns the ids of the recorded peers, by row id and device."""
_SUPERSEDED = InactiveReason(Inactive.SUPERSEDED)


@dataclass(slots=True)
class Conflicts:
    """Resolves conflicts: rows claim keys and addresses, and claims are rejected until no two of them conflict."""

    actual: Mapping[str, InterfaceState]
    installed_peers: Installed
    unclaimed_keys: set[PublicKey] = field(default_factory=set)  # readable keys of the rows without a claim
    claims: list[DesiredPeer] = field(default_factory=list)
    rejected_ids: set[DeviceId] = field(default_factory=set)  # ids of all rejected rows
    rejections: list[Rejection] = field(default_factory=list)
    frozen: set[PublicKey] = field(default_factory=set)

    def all_keys(self) -> Set[PublicKey]:
        """The readable keys of all rows. Only a rejected row or a kept peer makes this set necessary."""
        return self.unclaimed_keys | {claim.config.public_key for claim in self.claims}

    def reject(self, row: DeviceRow, reason: Reason, facts: RejectionFacts, key: PublicKey | None) -> None:
        """Reject ``row``, and freeze the peer with ``key`` unless ``key`` is None."""
        self.rejected_ids.add(row.id)
        self.rejections.append(Rejection(row.id, row.device, reason, facts))
        if key is not None:
            self.frozen.add(key)

    def accepted(self) -> list[DesiredPeer]:
        return [claim for claim in self.claims if claim.row.id not in self.rejected_ids]

    def frozen_keys(self) -> set[PublicKey]:
        """The keys of the peers that stay unchanged because of rejected rows.

        A rejected row freezes the peer with its key, unless that peer belongs to another row. The row also freezes a
        peer that was installed for it earlier, if no row has that peer's key now. Such a row has got a new key.
        """
        if not self.rejections:
            return self.frozen
        recorded = self.installed_peers()
        installed = {key for one in self.rejections for _, key in recorded.get((one.row_id, one.device), ())}
        return self.frozen | (installed - self.all_keys())

    def _rank(self, claim: DesiredPeer, addresses: Iterable[Network]) -> tuple[bool, bytes, DeviceId]:
        """The lowest rank wins: a claim is live if its peer has one of ``addresses`` now. Then order and id decide."""
        state = self.actual.get(claim.interface)
        peer = state.peers.get(claim.config.public_key) if state else None
        return (
            peer is None or not any(net in peer.config.allowed_ips for net in addresses),
            claim.row.order,
            claim.row.id,
        )

    def resolve_keys(self) -> None:
        """Leave one claim to each key, and reject the other claims."""
        claims = self.accepted()
        # Nearly always. A set would take half a MiB with 10,000 claims, and a dict takes half as much.
        if len(dict.fromkeys(claim.config.public_key for claim in claims)) == len(claims):
            return
        contenders: dict[PublicKey, list[DesiredPeer]] = {}
        for claim in claims:
            contenders.setdefault(claim.config.public_key, []).append(claim)
        for some in contenders.values():
            winner = min(some, key=lambda claim: self._rank(claim, claim.config.allowed_ips))
            for claim in some:
                if claim.row.id != winner.row.id:  # the store may list a row twice, if it lists its owner twice
                    # Only the winner has a peer, so the loser freezes none.
                    self.reject(claim.row, Reason.DUPLICATE_KEY, RejectionFacts(holder=winner.row.device), None)

    def resolve_addresses(self) -> None:
        """Leave one claim to each address of an interface, and reject the other claims.

        The address with the best claim is resolved first. A rejected claim then takes part in no other conflict.
        """
        claims = self.accepted()
        addresses = [net for claim in claims for net in claim.config.allowed_ips]
        if len(dict.fromkeys(addresses)) == len(addresses):  # nearly always
            return
        contenders: dict[tuple[str, Network], dict[DeviceId, DesiredPeer]] = {}
        for claim in claims:
            for net in claim.config.allowed_ips:
                contenders.setdefault((claim.interface, net), {})[claim.row.id] = claim
        contested = [
            (min(self._rank(claim, (net,)) for claim in some.values()), net, some)
            for (_, net), some in contenders.items()
            if len(some) > 1
        ]
        for _, net, some in sorted(contested, key=lambda one: one[:2]):
            left = [claim for row_id, claim in some.items() if row_id not in self.rejected_ids]
            winner = min(left, key=lambda claim: self._rank(claim, (net,)), default=None)
            for claim in left:
                if winner is not None and claim is not winner:
                    facts = RejectionFacts(net.address, holder=winner.row.device)
                    self.reject(claim.row, Reason.DUPLICATE_ADDRESS, facts, claim.config.public_key)

    def reject_overlaps(self, kept: frozenset[PublicKey], foreign: Set[PeerId]) -> None:
        """Reject claims to the key or address of a peer that stays unchanged.

        ``kept``: keys of peers that stay unchanged, besides the frozen ones. ``foreign``: foreign peers that stay
        unchanged. A rejection can freeze another peer, so the search is repeated until it finds nothing more.
        """
        fixed, claims = self.frozen_keys() | kept, self.accepted()
        if not fixed and not foreign:
            return
        claimants: dict[tuple[str, Network], list[int]] = {}  # by address: the numbers of the claims to it
        for number, claim in enumerate(claims):
            for net in claim.config.allowed_ips:
                claimants.setdefault((claim.interface, net), []).append(number)
            if claim.config.public_key in fixed:
                self.reject(claim.row, Reason.DUPLICATE_KEY, NO_FACTS, None)
        recorded, keys, new = self.installed_peers(), self.all_keys(), self.frozen_keys() | kept
        stay = {(name, key) for name, state in self.actual.items() for key in new & state.peers.keys()} | foreign
        while stay:  # each round looks only at the addresses of the peers that the last round froze
            fixed |= new
            held = {(name, net): key for name, key in stay for net in self.actual[name].peers[key].config.allowed_ips}
            new = set()
            for number in sorted({number for address in held for number in claimants.get(address, ())}):
                claim = claims[number]
                key = claim.config.public_key
                taken = (net for net in claim.config.allowed_ips if held.get((claim.interface, net), key) != key)
                first = next(taken, None)
                if first is not None and claim.row.id not in self.rejected_ids:
                    self.reject(claim.row, Reason.DUPLICATE_ADDRESS, RejectionFacts(first.address), key)
                    new |= {key} | ({one for _, one in recorded.get((claim.row.id, claim.row.device), ())} - keys)
            new -= fixed
            stay = {(name, key) for name, state in self.actual.items() for key in new & state.peers.keys()}


def build_desired(
    rows: Iterable[DeviceRow],
    interface_specs: Iterable[InterfaceSpec],
    policy: PeerPolicy,
    actual: Mapping[str, InterfaceState],
    now: float,
    installed_peers: Installed = dict,
    previous: Mapping[str, Mapping[PublicKey, DesiredPeer]] = _NOWHERE,
    moved: Mapping[DeviceId, str] = _NO_MOVES,
) -> Desired:
    """The desired peers and the rejections, from the rows, the configuration and the actual peers.

    ``now``: UNIX seconds. ``previous``: the peers of an earlier call with the same ``interface_specs``. A row that is
    the same object is not validated again.
    ``moved``: by row id, the other nodes' interfaces of rows that left this node. ``rows`` need not have these rows.
    """
    interface_specs = tuple(interface_specs)
    by_store_name = {spec.store_name: spec for spec in interface_specs}
    own_keys = {state.public_key for state in actual.values() if state.public_key is not None}
    conflicts = Conflicts(actual, installed_peers)
    revoked: dict[PublicKey, tuple[DeviceRow, InactiveReason]] = {}
    wanted = {spec.store_name: previous.get(spec.interface, _NOTHING) for spec in interface_specs}
    # If the caller keeps no reference either, `wanted.clear()` frees the old tables before the new ones are made.
    del previous
    rejected: dict[tuple[DeviceId, str], PublicKey] = {}
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
        for other in row.other_keys:
            conflicts.unclaimed_keys.add(other)
            if row.fault is Reason.KEYS_DISAGREE and why_not is None:
                conflicts.frozen.add(other)  # nobody knows which key counts
            else:
                revoked[other] = row, why_not or _SUPERSEDED
        if why_not is not None:
            if key is not None:
                revoked[key] = row, why_not
                conflicts.unclaimed_keys.add(key)
            continue
        if key is None:
            unreadable += 1
            conflicts.reject(row, Reason.BAD_KEY, bad_key, None)
            continue
        try:
            if key in own_keys:
                raise RowRejected(Reason.INTERFACE_KEY)
            old = wanted.get(row.interface, _NOTHING).get(key)
            known = old if old is not None and old.row is row else validate_row(row, key, by_store_name, old)
            conflicts.claims.append(as_found(known, actual))
        except RowRejected as fault:
            rejected[row.id, row.device] = key
            conflicts.unclaimed_keys.add(key)
            conflicts.reject(row, fault.reason, fault.facts, key)

    wanted.clear()
    conflicts.resolve_keys()
    conflicts.resolve_addresses()
    foreign: set[PeerId] = set()
    if policy.foreign != "remove":
        keys = conflicts.all_keys()
        foreign = {(name, key) for name, state in actual.items() for key in state.peers if key not in keys}
        foreign -= {peer_id for some in installed_peers().values() for peer_id in some}  # installed for rows
    conflicts.reject_overlaps(policy.always_keep, foreign)

    peers: dict[str, dict[PublicKey, DesiredPeer]] = {spec.interface: {} for spec in interface_specs}
    for claim in conflicts.accepted():
        key = claim.config.public_key
        peers[claim.interface][key] = claim
        revoked.pop(key, None)
    lost = {
        (claim.row.id, claim.row.device): claim.config.public_key
        for claim in conflicts.claims
        if claim.row.id in conflicts.rejected_ids
    }
    frozen_keys = conflicts.frozen_keys()
    frozen = {name: frozenset(frozen_keys & state.peers.keys()) for name, state in actual.items()}
    others = conflicts.unclaimed_keys | set(lost.values())
    return Desired(peers, tuple(conflicts.rejections), frozen, revoked, others, rejected | lost, unreadable, moved)
