"""A subset: the rows of a few devices and their peers, for a short cycle of their own.

A subset is a shortcut for simple cases. If its rows could affect other rows, a full cycle decides instead.
Such cases are a rival for a key or an address, a rejected row and a tripped guard.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from wgsyncd.core.model import ChangeKind, DeviceId, DeviceRow, InterfaceState, PublicKey
from wgsyncd.core.network import Network
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.records import PeerRecords
from wgsyncd.core.state import ConditionType, NodeState


@dataclass(frozen=True, slots=True)
class Subset:
    """The peers with certain keys: ``actual`` and ``node_state`` have the peers and records of these keys only."""

    keys: frozenset[PublicKey]
    actual: Mapping[str, InterfaceState]
    node_state: NodeState

    def of(self, actual: Mapping[str, InterfaceState]) -> dict[str, InterfaceState]:
        """Other dumps, reduced to the peers of this subset."""
        return {
            name: replace(state, peers={key: state.peers[key] for key in self.keys if key in state.peers})
            for name, state in actual.items()
        }

    def within(self, node_state: NodeState) -> NodeState:
        """Another node state, with only the records of this subset. Everything else in it stays the same."""
        return replace(
            node_state, records=PeerRecords(one for one in node_state.records.each() if one.public_key in self.keys)
        )


def select_subset(
    rows: Iterable[DeviceRow], actual: Mapping[str, InterfaceState], node_state: NodeState
) -> Subset | None:
    """The subset for ``rows``: all peers that have their keys or are recorded for them.

    The result is None if a full cycle has to decide.
    """
    ids: dict[DeviceId, str] = {}  # the device by the row's id
    owners: dict[PublicKey, DeviceId | None] = {}  # the row's id by the key
    for row in rows:
        ids[row.id] = row.device
        if (key := row.key) is None:
            return None  # nobody can tell which peer belongs to this row
        owners |= dict.fromkeys((key, *row.other_keys), row.id)
    rejected = {one.subject for one in node_state.conditions if one.type == ConditionType.ROW_REJECTED}
    if not rejected.isdisjoint(map(str, ids)):
        return None  # the row may be valid now, and the end of its condition has to be audited
    marks = node_state.interfaces
    if any(name not in marks or marks[name].epoch != state.epoch for name, state in actual.items()):
        return None  # an interface has a new epoch, and a full cycle has to fill it first
    for record in node_state.records.each():
        if owners.get(record.public_key, record.row_id) != record.row_id:
            return None  # the peer is recorded for another row, and its bytes until now are that device's
        if record.row_id in ids:
            if record.device != ids[record.row_id]:
                return None  # the row id was used again, or the device has another name now
            owners[record.public_key] = record.row_id
    part = Subset(frozenset(owners), {}, node_state)
    return Subset(part.keys, part.of(actual), part.within(node_state))


def is_independent(
    decision: Decision, part: Subset, actual: Mapping[str, InterfaceState], node_state: NodeState
) -> bool:
    """Whether ``decision``, made from ``part``, is the same as a full cycle would make for these peers.

    ``actual``: the complete dumps. ``node_state``: the complete one.
    """
    desired, plan = decision.desired, decision.plan
    if desired.rejections or desired.unreadable_keys or decision.tripped or plan.blocked or any(plan.foreign.values()):
        return False
    if plan.of(ChangeKind.REMOVE) and any(
        not node_state.records.of(name).keys() - state.peers.keys() <= part.keys for name, state in actual.items()
    ):
        return False  # other peers went, and nothing is recorded yet: a full cycle knows whether they count
    wanted: dict[str, set[Network]] = {}
    for change in plan.changes:
        if change.desired is not None and change.sets_allowed_ips:
            wanted.setdefault(change.interface, set()).update(change.desired.allowed_ips)
    # No peer outside of the subset may have one of these addresses. One loop for each address would take too long.
    return not any(
        key not in part.keys and not nets.isdisjoint(found.config.allowed_ips)
        for name, nets in wanted.items()
        for key, found in actual[name].peers.items()
    )
