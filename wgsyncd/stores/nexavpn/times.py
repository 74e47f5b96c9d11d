"""Writes when devices were seen: the columns of the application that follow wgsyncd's own tables.

Each transaction has a limited number of devices, and comes after the transaction of the node state. A device that is
locked is left out, and a later poll writes it. The same holds for a transaction that is lost.
"""

from __future__ import annotations

from collections.abc import Collection

from wgsyncd.core.model import DeviceId
from wgsyncd.stores.nexavpn.connection import Connection

_AT_ONCE = 1000  # devices in one transaction
_BEHIND = """
WITH behind AS (
    SELECT d.id, to_timestamp(nullif(t.seen, 0)) AS seen, to_timestamp(nullif(t.connected, 0)) AS connected
    FROM wgsyncd.device_times d JOIN wgsyncd.totals t ON t.device = d.id
    WHERE t.node = %s AND {which} (coalesce(d.last_seen_at, '-infinity') < to_timestamp(nullif(t.seen, 0))
        OR coalesce(d.last_connected_at, '-infinity') < to_timestamp(nullif(t.connected, 0)))
    ORDER BY d.id LIMIT {most} FOR UPDATE OF d SKIP LOCKED)
UPDATE wgsyncd.device_times d
SET last_seen_at = greatest(d.last_seen_at, b.seen), last_connected_at = greatest(d.last_connected_at, b.connected)
FROM behind b WHERE d.id = b.id
"""
_ALL = _BEHIND.format(which="", most=_AT_ONCE)
_SOME = _BEHIND.format(which="t.device = ANY(%s) AND", most=_AT_ONCE)
# gateways.last_sync_at says that the node has compared all rows.
_SYNCED = "UPDATE wgsyncd.gateways SET last_sync_at = now() WHERE id = ANY(%s::uuid[])"


def write_times(connection: Connection, node: str, devices: Collection[DeviceId] | None = None) -> None:
    """Bring last_seen_at and last_connected_at up to date, forward only. ``devices``: None means all of the node."""
    if devices is None:
        while connection.execute(_ALL, (node,)) == _AT_ONCE:
            pass
        return
    ids = sorted(devices)
    for at in range(0, len(ids), _AT_ONCE):
        connection.execute(_SOME, (node, ids[at : at + _AT_ONCE]))


def write_synced(connection: Connection, gateways: Collection[str]) -> None:
    """Note in gateways.last_sync_at that the peers of these gateways are as the rows want them."""
    connection.execute(_SYNCED, (list(gateways),))
