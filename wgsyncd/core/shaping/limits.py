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
    recorded = node_state.installed_peers()

    def is_lost(row: DeviceRow) -> bool:
        peers = recorded.get(row.id, frozenset())
        return any(key == row.key and name in actual and key not in actual[name].peers for name, key in peers)

    return [replace(row, fault=None) if row.fault is Reason.OVER_DEVICE_LIMIT and is_lost(row) else row for row in rows]
