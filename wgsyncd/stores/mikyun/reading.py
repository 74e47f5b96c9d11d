"""What is read besides the rows: the books, and whether anything changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from sys import intern
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DeviceRow, PublicKey, reuse_equal
from wgsyncd.core.records import PeerRecord, PeerRecords, RecordState
from wgsyncd.core.state import Condition, InterfaceCheckpoint, NodeState, QuarantinedDelta, QuarantineEntry
from wgsyncd.stores.mikyun.connection import Connection

PARENT_CONFLICT = "parent_conflict"  # the type of this store's own conditions

# What a plan depends on, and nothing that wgsyncd's own counting changes. Summed over rows, so that order does not
# matter; each with a weight of its own, so that two changes at once (two devices that swap their status) do not cancel
# out as XORs or plain sums of CRCs may. CRC32 costs the server less than half of MD5; what it misses, once in some 2^32
# changes, the periodic reconcile finds. One text, since the driver spends more on describing a column than on a value.
DIGEST = """
SELECT CONCAT_WS(' ', COUNT(*), SUM(CRC32(CONCAT_WS('\\0', d.id, d.device_id, d.contract_id, COALESCE(d.wg_iface, '~'),
           COALESCE(d.wg_ip, '~'), COALESCE(d.public_key, '~'), COALESCE(d.preshared_key, '~'), d.status, d.is_parent,
           IF(d.status = 'issued', CONCAT_WS('\\0', COALESCE(d.qr_expires_at, '~'), COALESCE(d.issued_at, '~'),
                                             COALESCE(d.created_at, '~')), '~'),
           {deleted}, COALESCE(c.contract_status, '~'))) * (d.id % 8191 + 1)),
       (SELECT approved FROM wgsyncd_nodes WHERE node = {node}))
FROM customer_devices d LEFT JOIN contracts c ON c.contract_id = d.contract_id
"""


def to_seconds(value: object, zone: ZoneInfo) -> float | None:
    """A DATETIME of the zone as UNIX seconds. None for NULL, for the zero date (which PyMySQL gives as text), and for
    years that only a program's mistake puts there (0001 is Go's zero time) and datetime cannot convert everywhere."""
    if not isinstance(value, datetime) or not 1970 <= value.year < 9999:
        return None
    return max(0.0, value.replace(tzinfo=zone).timestamp())


def to_datetime(seconds: float, zone: ZoneInfo) -> str:
    """UNIX seconds as a DATETIME of the zone. PyMySQL would drop a tzinfo without a word, so it gets text."""
    return str(datetime.fromtimestamp(int(seconds), zone))[:19]


def load_conflicts(connection: Connection) -> frozenset[Condition]:
    """A condition for each contract that has more than one parent device, with their count."""
    rows = connection.query("SELECT contract_id, parent_count FROM v_parent_conflicts")
    return frozenset(Condition(PARENT_CONFLICT, str(contract), str(contract), str(count)) for contract, count in rows)


def load_state(connection: Connection, node: str, rows: Mapping[int, DeviceRow]) -> NodeState | None:
    """The node's books, or None if it has none yet. Read in one snapshot, so that ``seq`` belongs to them. ``rows``:
    what is the same in them is kept once."""
    with connection.transaction():
        # READ COMMITTED gives each statement its own view; this row's lock keeps other writers of the node out.
        found = connection.query("SELECT seq, spool FROM wgsyncd_nodes WHERE node = %s LOCK IN SHARE MODE", (node,))
        if not found:
            return None
        peers = connection.stream(
            "SELECT interface, public_key, row_id, device, contract, address, config, state, epoch, rx, tx, handshake,"
            " sampled_at FROM wgsyncd_peers WHERE node = %s",
            (node,),
        )
        records = PeerRecords()
        times: dict[float, float] = {}  # there are few
        for name, key, row_id, device, contract, address, config, state, epoch, rx, tx, handshake, at in peers:
            if row := rows.get(row_id):
                row_id, key, device = row.id, reuse_equal(key, row.public_key), reuse_equal(device, row.device)  # noqa: PLW2901
            records.add(PeerRecord(
                intern(name), PublicKey(key), row_id, device, intern(contract), address, config, RecordState(state),
                intern(epoch), rx, tx, handshake, times.setdefault(at, at),
            ))  # fmt: skip
        interfaces = connection.query(
            "SELECT interface, epoch, sampled_at FROM wgsyncd_interfaces WHERE node = %s", (node,)
        )
        standing = connection.query(
            "SELECT kind, subject, label, detail FROM wgsyncd_conditions WHERE node = %s", (node,)
        )
    marks = {name: InterfaceCheckpoint(epoch, at) for name, epoch, at in interfaces}
    seq, spool = found[0]
    return NodeState(int(seq), records, marks, frozenset(Condition(*values) for values in standing), spool)


def load_quarantine(connection: Connection, node: str) -> tuple[QuarantineEntry, ...]:
    """The node's deltas that wait for an admin, in the order in which they came."""
    found = connection.query(
        "SELECT id, interface, row_id, device, rx, tx, since, until FROM wgsyncd_quarantine WHERE node = %s"
        " ORDER BY id",
        (node,),
    )
    return tuple(QuarantineEntry(number, QuarantinedDelta(*values)) for number, *values in found)
