"""Writes when devices were seen: the columns of the application that follow wgsyncd's own tables.

Each transaction has a limited number of devices, and comes after the transaction of the node state. A device that is
locked is left out, and a later poll writes it. The same holds for a transaction that is lost.
"""

from collections.abc import Collection

from wgsyncd.core.model import DeviceId
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.own_values import LAST

_AT_ONCE = 1000  # devices in one transaction
# The time of a column of wgsyncd.totals. None for 0, and for what only another program can have written.
_TIME = f"to_timestamp(CASE WHEN t.{{0}} > 0 AND t.{{0}} < {LAST} THEN t.{{0}} END)"
_SEEN, _CONNECTED = _TIME.format("seen"), _TIME.format("connected")
_BEHIND = f"""
SELECT d.id FROM wgsyncd.device_times d JOIN wgsyncd.totals t ON t.device = d.id
WHERE t.node = %s AND (coalesce(d.last_seen_at, '-infinity') < {_SEEN}
    OR coalesce(d.last_connected_at, '-infinity') < {_CONNECTED})
ORDER BY d.id
"""  # noqa: S608
# The ids are an array, not a join: the view would lock all rows that it shows, and the server would expect few rows.
_WRITE = f"""
UPDATE wgsyncd.device_times d
SET last_seen_at = greatest(d.last_seen_at, {_SEEN}), last_connected_at = greatest(d.last_connected_at, {_CONNECTED})
FROM wgsyncd.totals t
WHERE d.id = ANY(ARRAY(SELECT id FROM wgsyncd.device_times WHERE id = ANY(%s::uuid[]) FOR UPDATE SKIP LOCKED))
    AND t.node = %s AND t.device = ANY(%s::uuid[]) AND t.device = d.id
    AND (coalesce(d.last_seen_at, '-infinity') < {_SEEN} OR coalesce(d.last_connected_at, '-infinity') < {_CONNECTED})
"""  # noqa: S608
# gateways.last_sync_at says when a full reconcile has last been good.
_SYNCED = "UPDATE wgsyncd.gateways SET last_sync_at = now() WHERE id = ANY(%s::uuid[])"


def write_times(connection: Connection, node: str, devices: Collection[DeviceId] | None = None) -> None:
    """Bring last_seen_at and last_connected_at up to date, forward only. ``devices``: None means all of the node."""
    ids = sorted(devices) if devices is not None else [one for (one,) in connection.query(_BEHIND, (node,))]
    for at in range(0, len(ids), _AT_ONCE):
        # An array as text (PostgreSQL's manual, "Arrays"). psycopg needs four times as long for a list.
        some = "{" + ",".join(map(str, ids[at : at + _AT_ONCE])) + "}"
        connection.execute(_WRITE, (some, node, some))


def write_synced(connection: Connection, gateways: Collection[str]) -> None:
    """Note in gateways.last_sync_at that the peers of these gateways are as the rows want them."""
    connection.execute(_SYNCED, (list(gateways),))
