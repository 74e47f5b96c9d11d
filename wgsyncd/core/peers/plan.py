"""The plan: the ordered changes that turn the actual peers into the desired ones.

From any state, and after any interrupted part of a plan, one more cycle reaches the desired state. The cycle after
that one plans nothing. Three rules ensure this:

- A plan is made only from a fresh dump.
- Every change names the complete configuration that it leads to.
- No two changes of a plan ask for the same address on the same interface.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from wgsyncd.core.model import Change, ChangeKind, DeviceId, InterfaceState, PeerConfig, PublicKey
from wgsyncd.core.network import Network
from wgsyncd.core.peers.desired import Desired, PeerPolicy
from wgsyncd.core.peers.validate import DesiredPeer
from wgsyncd.core.reasons import WANTED, ChangeCause, ChangeReason
from wgsyncd.core.records import PeerRecord, PeerRecords


class FailedChange(NamedTuple):
    """A change that the interface refused, with the errno's name (``ENOBUFS``) and its text."""

    change: Change
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of one cycle in the order in which they are applied: removals, then updates, then additions."""

    changes: tuple[Change, ...]
    live_count: int  # how many actual peers there are, on all interfaces that could be read
    foreign: Mapping[str, tuple[PublicKey, ...]]  # by interface: keys of the foreign peers, kept or not
    withheld: tuple[Change, ...] = ()  # changes that the guard holds back until an admin approves them
    blocked: tuple[Change, ...] = ()  # changes that wait while a row has an unreadable key: the peer may be that row's

    def of(self, kind: ChangeKind) -> tuple[Change, ...]:
        """The changes of one kind, in the order of the plan."""
        return tuple(c for c in self.changes if c.kind is kind)

    def withhold(self, which: Callable[[Change], bool]) -> "Plan":
        """This plan with the changes that ``which`` selects, and all changes that depend on them, held back.

        A dependent change would take an address from a peer that stays, or put a key on a second interface. It could
        also remove a peer that cannot be added on its new interface.
        """
        held = [c for c in self.changes if which(c)]
        if not held:
            return self
        # By what they require: the changes that do. A held change provides nothing, so each list is used once.
        waiting: dict[object, list[Change]] = {}
        for change in self.changes:
            for one in _required(change):
                waiting.setdefault(one, []).append(change)
        ids = set(map(id, held))
        for change in held:  # the list grows meanwhile
            for one in _provided(change):
                for other in waiting.pop(one, ()):
                    if id(other) not in ids:
                        ids.add(id(other))
                        held.append(other)
        going = tuple(c for c in self.changes if id(c) not in ids)
        return replace(self, changes=going, withheld=self.withheld + tuple(held))

    def let_wait(self, addresses: frozenset[Network]) -> "Plan":
        """This plan without the peers that come with one of these addresses, or get it."""
        if not addresses:
            return self
        return self.withhold(
            lambda one: (
                one.desired is not None and not addresses.isdisjoint(one.desired.allowed_ips) and gains_address(one)
            )
        )


def gains_address(change: Change) -> bool:
    """Whether a peer comes or gets one more address. What a plane has for this address may still be another peer's."""
    if change.desired is None or change.current is None:
        return change.desired is not None
    return not set(change.desired.allowed_ips) <= set(change.current.allowed_ips)


def removals_id(removals: Iterable[Change]) -> str:
    """The plan id: 128 bits in hexadecimal digits that name exactly this set of removals, for an admin to approve."""
    removed = sorted(change.interface.encode() + b"\0" + change.public_key for change in removals)
    return hashlib.sha256(b"".join(removed)).hexdigest()[:32]


def _required(change: Change) -> list[object]:
    """What other changes have to do before ``change``: leave an address, leave a key, or add a key."""
    if change.desired is None:
        return [("added", change.public_key)]  # a peer that cannot be added there is not removed here
    required: list[object] = [("left", change.public_key)] if change.kind is ChangeKind.ADD else []
    if change.sets_allowed_ips:
        required += [(change.interface, net) for net in change.desired.allowed_ips]
    return required


def _provided(change: Change) -> list[object]:
    """What ``change`` does for others: see :func:`_required`."""
    provided: list[object] = [(change.interface, net) for net in change.current.allowed_ips] if change.current else []
    if change.kind is ChangeKind.REMOVE:
        provided.append(("left", change.public_key))
    elif change.kind is ChangeKind.ADD:
        provided.append(("added", change.public_key))
    return provided


def make_plan(desired: Desired, actual: Mapping[str, InterfaceState], records: PeerRecords, policy: PeerPolicy) -> Plan:
    """The plan that turns the actual peers into the desired ones. Interfaces without a dump are left out.

    While a row has an unreadable key, any unclaimed peer may belong to that row. So removals that no row demands are
    blocked, together with the changes that depend on them.
    """
    changes: list[Change] = []
    foreign: dict[str, tuple[PublicKey, ...]] = {}
    for name, state in actual.items():
        wants = desired.peers.get(name, {})
        foreign_keys: list[PublicKey] = []
        for key, found in state.peers.items():
            want = wants.get(key)
            if want is not None:
                if found.config is not want.config and found.config != want.config:
                    changes.append(_for_row(ChangeKind.UPDATE, want, found.config, ChangeReason(ChangeCause.DIFFERS)))
                continue
            record = records.of(name).get(key)
            known = desired.has_key(key) or (record is not None and record.row_id is not None)
            if not known:
                foreign_keys.append(key)
            if key in desired.frozen.get(name, ()) or key in policy.always_keep:
                continue
            if not known and policy.foreign != "remove":
                continue
            changes.append(_removal(name, found.config, record, desired))
        changes += [
            _for_row(ChangeKind.ADD, want, None, WANTED) for key, want in wants.items() if key not in state.peers
        ]
        foreign[name] = tuple(foreign_keys)
    changes = _annotate_moves(changes)
    order = list(ChangeKind)
    changes.sort(key=lambda c: (order.index(c.kind), c.interface, c.row_id is not None, c.row_id, c.public_key))
    plan = Plan(tuple(changes), sum(len(state.peers) for state in actual.values()), foreign)
    if desired.unreadable_keys:
        held = plan.withhold(lambda c: c.kind is ChangeKind.REMOVE and not c.is_revocation)
        plan = replace(held, withheld=(), blocked=held.withheld)
    return plan


def _for_row(kind: ChangeKind, want: DesiredPeer, current: PeerConfig | None, reason: ChangeReason) -> Change:
    row, config = want.row, want.config
    return Change(
        kind, want.interface, config.public_key, current, config, row.id, row.device, row.owner, reason, name=row.name
    )


def _removal(name: str, peer: PeerConfig, record: PeerRecord | None, desired: Desired) -> Change:
    key, called = peer.public_key, ""
    row_id, device, owner = (record.row_id, record.device, record.owner) if record else (None, "", "")
    reason = desired.removal_reason(key, row_id, device)
    if reason is not None and reason.cause is ChangeCause.INACTIVE:
        row, _ = desired.revoked[key]
        row_id, device, owner, called = row.id, row.device, row.owner, row.name
    why = reason or ChangeReason(ChangeCause.ROW_GONE if device else ChangeCause.NO_ROW)
    return Change(ChangeKind.REMOVE, name, key, peer, None, row_id, device, owner, why, reason is not None, called)


def _annotate_moves(changes: list[Change]) -> list[Change]:
    """The same changes. Additions and updates now say where their key or their address comes from."""
    holders: dict[tuple[str, Network], str] = {}  # the device that gives up the address, "" for a foreign peer
    keys_from: dict[PublicKey, str] = {}
    rows_on: set[tuple[str, DeviceId | None, str]] = set()
    for one in changes:
        if one.current is None:
            continue
        if one.kind is ChangeKind.REMOVE:
            keys_from[one.public_key] = one.interface
            rows_on.add((one.interface, one.row_id, one.device))
        for net in set(one.current.allowed_ips) - set(one.desired.allowed_ips if one.desired else ()):
            holders[one.interface, net] = one.device
    if not (holders or rows_on):
        return changes
    annotated = []
    for one in changes:
        reason = one.reason
        if one.desired is not None:
            nets = ((one.interface, net) for net in one.desired.allowed_ips)
            got = {holders[net] for net in nets if net in holders} - {one.device}
            if one.kind is ChangeKind.ADD and one.public_key in keys_from:
                reason = ChangeReason(ChangeCause.MOVED_FROM, keys_from[one.public_key])
            elif one.kind is ChangeKind.ADD and (one.interface, one.row_id, one.device) in rows_on:
                reason = ChangeReason(ChangeCause.NEW_KEY)
            if got:
                reason = replace(reason, address_from=tuple(sorted(got)))
        annotated.append(one if reason is one.reason else replace(one, reason=reason))
    return annotated
