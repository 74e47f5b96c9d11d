"""A device limit rejects no row whose peer was only lost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wgsyncd.core.model import DeviceRow, InterfaceState
from wgsyncd.core.reasons import Reason
from wgsyncd.core.state import NodeState


def with_lost_peers(
    rows: Sequence[DeviceRow], node_state: NodeState, actual: Mapping[str, InterfaceState]
) -> Sequence[DeviceRow]:
    """The rows, where a limit rejects no row whose peer was lost, as by a reboot. It refuses only new peers."""
    if not any(row.fault is Reason.OVER_DEVICE_LIMIT for row in rows):
        return rows

    def is_lost(row: DeviceRow) -> bool:
        if (key := row.key) is None:
            return False
        recorded = (node_state.records.of(name).get(key) for name, state in actual.items() if key not in state.peers)
        return any(record is not None and record.row_id == row.id for record in recorded)

    return [replace(row, fault=None) if row.fault is Reason.OVER_DEVICE_LIMIT and is_lost(row) else row for row in rows]
