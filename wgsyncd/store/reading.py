"""What is read: the rows, the books, and whether anything changed."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from datetime import datetime
from zoneinfo import ZoneInfo

from wgsyncd.core.ledger import Condition, Held, Ledger, Quarantined, Record, Sampled, State
from wgsyncd.core.model import Counters, PublicKey, Row, Status
from wgsyncd.store.connection import Connection

_OFF = frozenset(("paused", "revoked", "expired", "deleted"))

ROWS = """
SELECT d.id, d.device_id, d.contract_id, d.wg_iface, d.wg_ip, d.public_key, d.preshared_key, d.status,
       {qr_end}, CAST({qr_end} AS CHAR), d.first_handshake_at, d.last_handshake_at, {deleted},
       COALESCE(d.rx_bytes_total, 0) = 0 AND COALESCE(d.tx_bytes_total, 0) = 0, c.contract_status
FROM customer_devices d LEFT JOIN contracts c ON c.contract_id = d.contract_id
{where}ORDER BY d.id
"""

RIVALS = """
SELECT COUNT(*) FROM customer_devices
WHERE device_id NOT IN ({devices}) AND (public_key IN ({keys}) OR wg_ip IN ({ips}))
"""

QR_END = """COALESCE(NULLIF({d}qr_expires_at, 0), NULLIF({d}issued_at, 0) + INTERVAL {seconds:d} SECOND,
            NULLIF({d}created_at, 0) + INTERVAL {seconds:d} SECOND)"""  # the zero date is no date

# What a plan depends on, and nothing that wgsyncd's own counting changes. Summed over rows, so that order does not
# matter; each with a weight of its own, so that two changes at once (two devices that swap their status) do not cancel
# out as XORs or plain sums of CRCs may. CRC32 costs the server less than half of MD5; what it misses, once in some 2^32
# changes, the periodic reconcile finds. One text, since the driver spends more on describing a column than on a value.
DIGEST = """
SELECT CONCAT_WS(' ', COUNT(*), SUM(CRC32(CONCAT_WS('\\0', d.id, d.device_id, d.contract_id, COALESCE(d.wg_iface, '~'),
           COALESCE(d.wg_ip, '~'), COALESCE(d.public_key, '~'), COALESCE(d.preshared_key, '~'), d.status, d.is_parent,
           IF(d.status = 'issued', CONCAT_WS('\\0', COALESCE(d.qr_expires_at, '~'), COALESCE(d.issued_at, '~'),
                                             COALESCE(d.created_at, '~')), '~'),
           {deleted}, COALESCE(c.contract_status, '~'))) * (d.id %% 8191 + 1)),
       (SELECT approved FROM wgsyncd_nodes WHERE node = %s))
FROM customer_devices d LEFT JOIN contracts c ON c.contract_id = d.contract_id
"""


def load_rows(connection: Connection, zone: ZoneInfo, qr_lifetime: int, *, has_deleted_at: bool) -> tuple[Row, ...]:
    """Every device with what its contract says, in id order. No answer raises; an empty tuple is an empty table."""
    sql = ROWS.format(
        qr_end=QR_END.format(d="d.", seconds=qr_lifetime),
        deleted="d.deleted_at IS NOT NULL" if has_deleted_at else "0",
        where="",
    )
    return tuple(_row(values, zone) for values in connection.query(sql))


def load_some(
    connection: Connection, zone: ZoneInfo, qr_lifetime: int, devices: frozenset[str], *, has_deleted_at: bool
) -> tuple[Row, ...] | None:
    """The rows of some devices; None where one is not there, or where other rows have a key or an address of theirs."""
    names = sorted(devices)
    sql = ROWS.format(
        qr_end=QR_END.format(d="d.", seconds=qr_lifetime),
        deleted="d.deleted_at IS NOT NULL" if has_deleted_at else "0",
        where=f"WHERE d.device_id IN ({_places(names)})\n",
    )
    rows = tuple(_row(values, zone) for values in connection.query(sql, names))
    if len(rows) != len(names):
        return None
    keys = [row.public_key for row in rows]
    hosts = {row.address.partition("/")[0] for row in rows}
    ips = sorted({form for host in hosts for form in (host, f"{host}/32", f"{host}/128")})  # as it may be written
    rivals = RIVALS.format(devices=_places(names), keys=_places(keys), ips=_places(ips))
    return None if connection.query(rivals, (*names, *keys, *ips))[0][0] else rows


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def _row(values: tuple[object, ...], zone: ZoneInfo) -> Row:
    (row_id, device, contract, interface, address, public_key, preshared_key, status_text, qr_end, qr_end_text, first,
     last, deleted, zero, contract_status) = values  # fmt: skip
    # As the columns' collation compares them: without regard to case or trailing spaces.
    status = _text(status_text).rstrip(" ").casefold()
    contract_word = _text(contract_status).rstrip(" ").casefold()
    return Row(
        id=int(str(row_id)),
        device=_text(device),
        contract=_text(contract),
        interface=_text(interface),
        address=_text(address),
        public_key=None if public_key is None else _text(public_key),
        preshared_key=None if preshared_key is None else _text(preshared_key),
        status=Status(status) if status in ("issued", "active") else Status.OFF,
        status_text=status if status in _OFF or status in ("issued", "active") else "of unknown status",
        contract_status=None if contract_status is None else _word(contract_word),
        contract_active=contract_word == "active",
        deleted=bool(deleted),
        qr_end=to_seconds(qr_end, zone),
        qr_end_text=None if qr_end_text is None else _text(qr_end_text),
        first_handshake_known=first is not None or last is not None,
        never_counted=bool(zero) and last is None,
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _word(status: str) -> str:
    return status if status in ("active", "paused", "terminated", "deleted") else "of unknown status"


def to_seconds(value: object, zone: ZoneInfo) -> float | None:
    """A DATETIME of the zone as UNIX seconds. None for NULL, for the zero date (which PyMySQL gives as text), and for
    years that only a program's mistake puts there (0001 is Go's zero time) and datetime cannot convert everywhere."""
    if not isinstance(value, datetime) or not 1970 <= value.year < 9999:
        return None
    return max(0.0, value.replace(tzinfo=zone).timestamp())


def to_datetime(seconds: float, zone: ZoneInfo) -> str:
    """UNIX seconds as a DATETIME of the zone. PyMySQL would drop a tzinfo without a word, so it gets text."""
    return datetime.fromtimestamp(int(seconds), zone).strftime("%Y-%m-%d %H:%M:%S")


def load_conflicts(connection: Connection) -> Mapping[str, int]:
    """Contracts with more than one parent device, and how many."""
    rows = connection.query("SELECT contract_id, parent_count FROM v_parent_conflicts")
    return {str(contract): int(count) for contract, count in rows}


def load_ledger(connection: Connection, node: str) -> Ledger | None:
    """The node's books, or None if it has none yet. Read in one snapshot, so that ``seq`` belongs to them."""
    with connection.transaction():
        # READ COMMITTED gives each statement its own view; this row's lock keeps other writers of the node out.
        found = connection.query("SELECT seq, spool FROM wgsyncd_nodes WHERE node = %s LOCK IN SHARE MODE", (node,))
        if not found:
            return None
        peers = connection.query(
            "SELECT interface, public_key, row_id, device, contract, address, config, state, epoch, rx, tx, handshake,"
            " sampled_at FROM wgsyncd_peers WHERE node = %s",
            (node,),
        )
        interfaces = connection.query(
            "SELECT interface, epoch, sampled_at FROM wgsyncd_interfaces WHERE node = %s", (node,)
        )
        standing = connection.query(
            "SELECT kind, subject, label, detail FROM wgsyncd_conditions WHERE node = %s", (node,)
        )
    records = {
        (name, PublicKey(key)): Record(
            name, PublicKey(key), row_id, device, contract, address, config, State(state), epoch, Counters(rx, tx),
            handshake, at,
        )
        for name, key, row_id, device, contract, address, config, state, epoch, rx, tx, handshake, at in peers
    }  # fmt: skip
    marks = {name: Sampled(epoch, at) for name, epoch, at in interfaces}
    seq, spool = found[0]
    return Ledger(int(seq), records, marks, frozenset(Condition(*values) for values in standing), spool)


def load_quarantine(connection: Connection, node: str) -> tuple[Held, ...]:
    """The node's deltas that wait for an admin, in the order in which they came."""
    found = connection.query(
        "SELECT id, interface, row_id, device, rx, tx, since, until FROM wgsyncd_quarantine WHERE node = %s"
        " ORDER BY id",
        (node,),
    )
    return tuple(Held(number, Quarantined(*values)) for number, *values in found)
