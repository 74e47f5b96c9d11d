"""The device limit of a contract: which of its rows are beyond it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from wgsyncd.core.model import DeviceId, DeviceRow, InterfaceState
from wgsyncd.core.reasons import Reason
from wgsyncd.core.state import NodeState


def beyond_limit(limit: int | None, wanting: Iterable[DeviceId], live: Collection[DeviceId]) -> tuple[DeviceId, ...]:
    """The rows of one contract that are beyond its limit. None or a limit below zero: there is no limit.

    ``wanting``: the rows that want a peer, on all nodes. ``live``: those that have one. A live row keeps its place, and
    then the lowest ids have the places that are left.
    """
    if limit is None or limit < 0:
        return ()
    ranked = sorted(wanting, key=lambda row_id: (row_id not in live, row_id))
    return tuple(ranked[limit:])


def with_lost_peers(
    rows: Sequence[DeviceRow], node_state: NodeState, actual: Mapping[str, InterfaceState]
) -> Sequence[DeviceRow]:
    """The rows, where a limit rejects no row whose peer was lost, as by a reboot. It refuses only new peers."""
    if not any(row.fault is Reason.OVER_DEVICE_LIMIT for row in rows):
        return rows
    recorded = node_state.installed_peers()

    def is_lost(row: DeviceRow) -> bool:
        peers = recorded.get(row.id, frozenset())
        return any(key == row.key and name in actual and key not in actual[name].peers for name, key in peers)

    return [replace(row, fault=None) if row.fault is Reason.OVER_DEVICE_LIMIT and is_lost(row) else row for row in rows]
