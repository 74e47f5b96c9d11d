"""The devices' rows: each comes as one text, and one that is known already is not read again.

Columns by themselves would cost four times as much: the driver handles each value in Python.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from datetime import datetime
from hashlib import blake2b
from sys import intern
from zoneinfo import ZoneInfo

from wgsyncd.core.model import Row, Status, encode_key, read_key
from wgsyncd.store.connection import Connection
from wgsyncd.store.reading import to_seconds

_SEPARATOR = "\x1f"  # "unit separator" of ASCII; where a text has one in it, all are read column by column

QR_END = """COALESCE(NULLIF({d}qr_expires_at, 0), NULLIF({d}issued_at, 0) + INTERVAL {seconds:d} SECOND,
            NULLIF({d}created_at, 0) + INTERVAL {seconds:d} SECOND)"""  # the zero date is no date

_TEXTS = (
    "d.id", "d.device_id", "d.contract_id", "d.wg_iface", "d.wg_ip", "d.public_key", "d.preshared_key", "d.status",
    "c.contract_status", "CAST({qr_end} AS CHAR)",
)  # fmt: skip
_FLAGS = (
    "d.public_key IS NULL", "d.preshared_key IS NULL", "c.contract_status IS NULL", "{qr_end} IS NULL",
    "d.first_handshake_at IS NULL", "d.last_handshake_at IS NULL", "{deleted}",
    "COALESCE(d.rx_bytes_total, 0) = 0 AND COALESCE(d.tx_bytes_total, 0) = 0",
)  # fmt: skip
# One character set for all, whatever the columns have: bytes (VARBINARY) in one would make the whole bytes.
_FIELDS = (*(f"CONVERT(COALESCE({text}, '') USING utf8mb4)" for text in _TEXTS), f"CONCAT({', '.join(_FLAGS)})")
_FROM = " FROM customer_devices d LEFT JOIN contracts c ON c.contract_id = d.contract_id "

_RIVALS = """
SELECT COUNT(*) FROM customer_devices
WHERE device_id NOT IN ({devices}) AND (public_key IN ({keys}) OR wg_ip IN ({ips}))
"""

# By what a column's collation takes for the same.
_DEVICE = {status: status for status in ("issued", "active", "paused", "revoked", "expired", "deleted")}
_CONTRACT = {status: status for status in ("active", "paused", "terminated", "deleted")}
_UNKNOWN = "of unknown status"


class RowReader:
    """Reads the rows with what their contracts say. ``qr_lifetime``: seconds of a QR code without an end of its own."""

    def __init__(self, zone: ZoneInfo, qr_lifetime: int) -> None:
        self._zone, self._qr_lifetime = zone, qr_lifetime
        self._known: dict[bytes, Row] = {}  # the rows of the last time by their texts' digests

    def load(self, connection: Connection, *, has_deleted_at: bool) -> tuple[Row, ...]:
        """Every device, in id order. No answer raises; an empty tuple is an empty table."""
        columns = self._columns(has_deleted_at)
        known: dict[bytes, Row] = {}
        readable = True
        for (text,) in connection.stream(f"SELECT {_as_text(columns)}{_FROM}ORDER BY d.id"):
            digest = blake2b((text or "").encode(), digest_size=16).digest()  # has a fifth of its length
            row = self._known.get(digest) or self._of_text(text)
            if row is None:
                readable = False
            else:
                known[digest] = row
        if not readable:  # nor kept: other columns could give the same text
            found = connection.query(f"SELECT {columns}{_FROM}ORDER BY d.id")
            return tuple(_row(fields, self._zone) for fields in found)
        self._known = known
        return tuple(known.values())

    def some(self, connection: Connection, devices: frozenset[str], *, has_deleted_at: bool) -> tuple[Row, ...] | None:
        """The rows of some devices; None where one is not there or cannot be read so, or where other rows have a key or
        an address of theirs."""
        names = sorted(devices)
        where = f"WHERE d.device_id IN ({_places(names)}) ORDER BY d.id"
        columns = self._columns(has_deleted_at)
        found = connection.query(f"SELECT {_as_text(columns)}{_FROM}{where}", names)
        rows = tuple(row for (text,) in found if (row := self._of_text(text)) is not None)
        if len(rows) != len(names):
            return None
        keys = [encode_key(key) if isinstance(key := row.public_key, bytes) else key for row in rows]
        hosts = {row.address.partition("/")[0] for row in rows}
        ips = sorted({form for host in hosts for form in (host, f"{host}/32", f"{host}/128")})  # as it may be written
        rivals = _RIVALS.format(devices=_places(names), keys=_places(keys), ips=_places(ips))
        return None if connection.query(rivals, (*names, *keys, *ips))[0][0] else rows

    def _of_text(self, text: str | None) -> Row | None:
        """None: not to be told from it."""
        fields = text.split(_SEPARATOR) if text is not None else ()  # longer than max_allowed_packet: NULL
        return _row(fields, self._zone) if len(fields) == len(_FIELDS) else None

    def _columns(self, has_deleted_at: bool) -> str:
        qr_end = QR_END.format(d="d.", seconds=self._qr_lifetime)
        return ", ".join(_FIELDS).format(qr_end=qr_end, deleted="d.deleted_at IS NOT NULL" if has_deleted_at else "0")


def _as_text(columns: str) -> str:
    return f"CONCAT_WS('{_SEPARATOR}', {columns})"


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def _row(fields: Sequence[str], zone: ZoneInfo) -> Row:
    row_id, device, contract, interface, address, public_key, preshared_key, status, contract_status, qr_end, flags = (
        fields
    )
    no_key, no_secret, no_contract, no_end, first_unknown, last_unknown, deleted, zero = (flag == "1" for flag in flags)
    # As the columns' collation compares them: without regard to case or trailing spaces.
    status_text = _DEVICE.get(status.rstrip(" ").casefold(), _UNKNOWN)
    contract_word = _CONTRACT.get(contract_status.rstrip(" ").casefold(), _UNKNOWN)
    has_end = not no_end and status_text in ("issued", "expired")  # nobody asks for that of a QR that was scanned
    return Row(
        id=int(row_id),
        device=device,
        contract=intern(contract),
        interface=intern(interface),
        address=address,
        public_key=None if no_key else read_key(public_key),
        preshared_key=None if no_secret else read_key(preshared_key),
        status=Status(status_text) if status_text in ("issued", "active") else Status.OFF,
        status_text=status_text,
        contract_status=None if no_contract else contract_word,
        contract_active=contract_word == "active",
        deleted=deleted,
        qr_end=_instant(qr_end, zone) if has_end else None,
        qr_end_text=qr_end if has_end else None,
        first_handshake_known=not (first_unknown and last_unknown),
        never_counted=zero and last_unknown,
    )


def _instant(text: str, zone: ZoneInfo) -> float | None:
    try:
        return to_seconds(datetime.fromisoformat(text), zone)
    except ValueError:  # none, or one that is no date: a zero in its month or day
        return None
