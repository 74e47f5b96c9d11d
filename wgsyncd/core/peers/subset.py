"""A part of everything: the rows of a few devices and the peers that have to do with them, for a cycle of their own.

It is a short cut for the plain case. Wherever these rows could have to do with others (a rival for a key or an address,
a rejected row, a tripped guard) it gives up, and a full cycle decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from wgsyncd.core.model import DeviceRow, InterfaceState, PublicKey, decode_key
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.records import PeerRecords
from wgsyncd.core.state import ConditionType, NodeState


@dataclass(frozen=True, slots=True)
class Subset:
    """The peers with these keys, in the dumps and in the books."""

    keys: frozenset[PublicKey]
    actual: Mapping[str, InterfaceState]
    node_state: NodeState

    def of(self, actual: Mapping[str, InterfaceState]) -> dict[str, InterfaceState]:
        """The same part of other dumps."""
        return {
            name: replace(state, peers={key: state.peers[key] for key in self.keys if key in state.peers})
            for name, state in actual.items()
        }

    def within(self, node_state: NodeState) -> NodeState:
        """The same part of other books."""
        return replace(
            node_state, records=PeerRecords(one for one in node_state.records.each() if one.public_key in self.keys)
        )


def select_subset(
    rows: Iterable[DeviceRow], actual: Mapping[str, InterfaceState], node_state: NodeState
) -> Subset | None:
    """The part of these rows; None if it cannot be told apart."""
    ids: set[int] = set()
    keys: set[PublicKey] = set()
    for row in rows:
        ids.add(row.id)
        try:
            keys.add(PublicKey(decode_key(row.public_key)))
        except ValueError:
            return None  # whose live peer is it?
    if any(
        condition.type == ConditionType.ROW_REJECTED and condition.subject in map(str, ids)
        for condition in node_state.conditions
    ):
        return None  # it may be accepted now, which is to be told
    marks = node_state.interfaces
    if any(name not in marks or marks[name].epoch != state.epoch for name, state in actual.items()):
        return None  # to be filled first
    for record in node_state.records.each():
        if record.row_id in ids:
            keys.add(record.public_key)
        elif record.public_key in keys:
            return None  # another row's peer, as far as the books know
    part = Subset(frozenset(keys), {}, node_state)
    return Subset(part.keys, part.of(actual), part.within(node_state))


def is_independent(decision: Decision, part: Subset, actual: Mapping[str, InterfaceState]) -> bool:
    """Whether a plan that was made from a part is what the whole would have given."""
    desired, plan = decision.desired, decision.plan
    if desired.rejections or desired.unreadable_keys or decision.tripped or plan.blocked or any(plan.foreign.values()):
        return False
    for change in plan.changes:
        if not change.sets_allowed_ips or change.desired is None:
            continue
        wanted = change.desired.allowed_ips
        for key, found in actual[change.interface].peers.items():
            if key not in part.keys and any(net in wanted for net in found.config.allowed_ips):
                return False  # somebody has the address
    return True
