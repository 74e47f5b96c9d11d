"""Reads the rows of devices as texts, and decodes only the rows that changed since the last time.

A row is one text, and many rows are one value. To read each column as a value would cost ten times as much, because the
driver handles each value in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from secrets import token_hex
from sys import intern
from typing import Any
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DeviceId, DeviceRow, Status, encode_key, read_key
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.eligibility import inactive_reasons
from wgsyncd.stores.mikyun.reading import reuse_equal, to_seconds

_SEPARATOR = "\x1f"  # the "unit separator" of ASCII. If a column holds one, all rows are read column by column.
_DIGEST = 16  # bytes
_PAGE = 2_500  # rows in one value, which then has some 500 KB: see connection.MOST_JOINED

# The end of a QR code. NULLIF: the zero date means that there is no date.
QR_END = """COALESCE(NULLIF({d}qr_expires_at, 0), NULLIF({d}issued_at, 0) + INTERVAL {seconds:d} SECOND,
            NULLIF({d}created_at, 0) + INTERVAL {seconds:d} SECOND)"""

_TEXTS = (
    "d.device_id", "d.contract_id", "d.wg_iface", "d.wg_ip", "d.public_key", "d.preshared_key", "d.status",
    "c.contract_status",
)  # fmt: skip
# Devices with these statuses need no QR deadline. _row decides about every other status.
_QR_END = "COALESCE(IF(d.status IN ('active', 'paused', 'revoked', 'deleted'), NULL, CAST({qr_end} AS CHAR)), '')"
_FLAGS = (
    "d.public_key IS NULL", "d.preshared_key IS NULL", "c.contract_status IS NULL",
    "d.first_handshake_at IS NULL", "d.last_handshake_at IS NULL", "{deleted}",
    "COALESCE(d.rx_bytes_total, 0) = 0 AND COALESCE(d.tx_bytes_total, 0) = 0",
)  # fmt: skip
_FIELDS = 3 + len(_TEXTS)
_FROM = " FROM customer_devices d LEFT JOIN contracts c ON c.contract_id = d.contract_id "

# Counts other rows with one of these keys or addresses. If there are any, these devices cannot be planned alone.
_RIVALS = """
SELECT COUNT(*) FROM customer_devices
WHERE device_id NOT IN ({devices}) AND (public_key IN ({keys}) OR wg_ip IN ({ips}))
"""

# By the text that a column's collation takes as equal: see _row.
_DEVICE = {status: status for status in ("issued", "active", "paused", "revoked", "expired", "deleted")}
_CONTRACT = {status: status for status in ("active", "paused", "terminated", "deleted")}
_UNKNOWN = "of unknown status"
_NONE: Mapping[DeviceId, DeviceRow] = {}


@dataclass(frozen=True, slots=True)
class Schema:
    """The optional column and the character sets of an installation's tables."""

    has_deleted_at: bool = False
    utf8: frozenset[str] = frozenset()  # columns that are utf8mb4 already: converting them takes half of a read

    def as_utf8(self, column: str) -> str:
        """SQL for a column as text in utf8mb4, NULL as the empty text.

        One binary column (VARBINARY) would make the whole joined text binary.
        """
        text = f"COALESCE({column}, '')"
        return text if column in self.utf8 else f"CONVERT({text} USING utf8mb4)"


@dataclass(slots=True)
class _Page:
    """Some rows in id order, with the digests of their texts in the same order.

    A digest has a fifth of the length of its text. All digests are one string, because a table of them would need as
    much memory as a fifth of the rows.
    """

    rows: list[DeviceRow]
    digests: bytearray
    digest: bytes = b""  # the digest of the page's whole text. Empty: the page was not read as one text.

    def known(self) -> Iterator[tuple[bytes, DeviceRow]]:
        """Each row with the digest of its text."""
        for at, row in enumerate(self.rows):
            yield bytes(self.digests[_DIGEST * at : _DIGEST * (at + 1)]), row


class RowCache:
    """Reads device rows with the status of their contracts, and keeps them for the next time.

    ``qr_lifetime``: seconds that a QR code lasts if its row has no end for it.
    """

    def __init__(self, zone: ZoneInfo, qr_lifetime: int) -> None:
        self._zone, self._qr_lifetime = zone, qr_lifetime
        self._pages: list[_Page] = []  # the rows of the last time
        self._readable = True  # whether the last load could split all texts. If not, the next load tries no pages.
        self._next = token_hex(8)  # separates the texts of rows. It is secret, so no column can imitate a row with it.

    def load(self, connection: Connection, schema: Schema) -> tuple[DeviceRow, ...]:
        """Every device in id order, all of one moment. StoreError: no answer. An empty tuple: the table is empty."""
        columns = self._columns(schema)
        pages = self._load_pages(connection, columns) if self._readable else None
        if pages is None:
            pages = self._one_by_one(connection, columns)
        self._readable = pages is not None
        if pages is None:  # the rows are not kept, because other columns could give the same text
            found = connection.query(f"SELECT {columns}{_FROM}ORDER BY d.id")
            return tuple(_row(fields, self._zone) for fields in found)
        self._pages = pages
        return tuple(row for page in pages for row in page.rows)

    def by_id(self) -> dict[DeviceId, DeviceRow]:
        """The rows that the last :meth:`load` kept, by id."""
        return {row.id: row for page in self._pages for row in page.rows}

    def _load_pages(self, connection: Connection, columns: str) -> list[_Page] | None:
        """Read one value for each page of the last time. None: a text is too long, or a column holds a separator."""
        bounds = [page.rows[-1].id for page in self._pages[:-1]] if self._pages else _bounds(connection)
        before = self._pages or [_Page([], bytearray())] * (len(bounds) + 1)
        pages: list[_Page | None] = [None] * len(before)
        for number, count, text in _texts(connection, _of_pages(columns, self._next, bounds)):
            pages[number] = self._page(before[number], count, text or "")
        whole = [page for page in pages if page is not None]
        if len(whole) < len(pages):
            return None
        if all(0 < len(page.rows) <= 2 * _PAGE for page in whole):
            return whole
        # Rows were added or deleted until a page is empty or too large: divide all rows again.
        pages_anew: list[_Page] = []
        for page in whole:
            for known, row in page.known():
                _store_row(pages_anew, known, row)
        return pages_anew

    def _page(self, old: _Page, count: int, text: str) -> _Page | None:
        """A page from its text. ``count``: how many rows the server joined. None: the text does not give that many."""
        digest = _digest(text)
        # The count matters too: GROUP_CONCAT leaves out a text longer than max_allowed_packet.
        if digest == old.digest and count == len(old.rows):
            return old
        known, before = dict(old.known()), {row.id: row for row in old.rows}
        page, texts = _Page([], bytearray(), digest), text.split(self._next) if text else []
        for one in texts:
            if row := known.get(row_digest := _digest(one)) or self._of_text(one, before):
                page.rows.append(row)
                page.digests += row_digest
        return page if len(texts) == len(page.rows) == count else None

    def _one_by_one(self, connection: Connection, columns: str) -> list[_Page] | None:
        """Read one value for each row. None: a row could not be read in this way."""
        known = {digest: row for page in self._pages for digest, row in page.known()}
        before = self.by_id()
        pages: list[_Page] = []
        readable = True
        for (text,) in _texts(connection, f"SELECT {_as_text(columns)}{_FROM}ORDER BY d.id"):
            digest = _digest(text or "")
            row = known.get(digest) or self._of_text(text, before)
            if row is None:
                readable = False
            else:
                _store_row(pages, digest, row)
        return pages if readable else None

    def some(self, connection: Connection, devices: frozenset[str], schema: Schema) -> tuple[DeviceRow, ...] | None:
        """The rows of some devices in id order. None: a device has no row, or its row cannot be read as one text.

        None also if another row has one of their keys or addresses.
        """
        names = sorted(devices)
        where = f"WHERE d.device_id IN ({_places(names)}) ORDER BY d.id"
        columns = self._columns(schema)
        found = _texts(connection, f"SELECT {_as_text(columns)}{_FROM}{where}", names)
        rows = tuple(row for (text,) in found if (row := self._of_text(text)) is not None)
        if len(rows) != len(names):
            return None
        keys = [encode_key(key) if isinstance(key := row.public_key, bytes) else key for row in rows]
        hosts = {text.partition("/")[0] for row in rows for text in row.addresses}
        ips = sorted({form for host in hosts for form in (host, f"{host}/32", f"{host}/128")})  # all ways to write it
        rivals = _RIVALS.format(devices=_places(names), keys=_places(keys), ips=_places(ips))
        return None if connection.query(rivals, (*names, *keys, *ips))[0][0] else rows

    def _of_text(self, text: str | None, before: Mapping[DeviceId, DeviceRow] = _NONE) -> DeviceRow | None:
        """The row of a text, or None if the text cannot be split into its columns. ``before``: the last rows by id."""
        fields = (text or "").split(_SEPARATOR)  # the server gives NULL for a text longer than max_allowed_packet
        whole = len(fields) == _FIELDS and len(fields[-1]) == len(_FLAGS)
        return _row(fields, self._zone, before.get(int(fields[0]))) if whole else None

    def _columns(self, schema: Schema) -> str:
        qr_end = QR_END.format(d="d.", seconds=self._qr_lifetime)
        deleted = "d.deleted_at IS NOT NULL" if schema.has_deleted_at else "0"
        fields = "d.id", *map(schema.as_utf8, _TEXTS), _QR_END, f"CONCAT({', '.join(_FLAGS)})"
        return ", ".join(fields).format(qr_end=qr_end, deleted=deleted)


def _texts(connection: Connection, sql: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
    """The rows of an answer that have a text as their last value.

    The text arrives as bytes if a column has become binary since the connection was opened (see :class:`Schema`).
    Then StoreError ends the connection, and the next connection inspects the columns again.
    """
    with closing(connection.stream(sql, values)) as found:
        for one in found:
            if isinstance(one[-1], bytes):
                raise StoreError("a column has become binary: the next connection inspects the columns again")
            yield one


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_DIGEST).digest()


def _store_row(pages: list[_Page], digest: bytes, row: DeviceRow) -> None:
    if not pages or len(pages[-1].rows) == _PAGE:
        pages.append(_Page([], bytearray()))
    pages[-1].rows.append(row)
    pages[-1].digests += digest


def _bounds(connection: Connection) -> range:
    """The last id of each page but the last one, for the first load. It assumes that ids are spread evenly."""
    ((count, first, last),) = connection.query("SELECT COUNT(*), MIN(id), MAX(id) FROM customer_devices")
    if not count:
        return range(0)
    span = (last - first + 1) * _PAGE // count
    return range(first + span - 1, last, span)


def _of_pages(columns: str, separator: str, bounds: Sequence[DeviceId]) -> str:
    """The SELECT for all pages: the number of a page, how many rows it has, and their texts.

    It is one statement, so that all rows are of one moment. The server cuts off texts that are too long together.
    ``bounds``: the last id of each page but the last one.
    """
    texts = f"GROUP_CONCAT({_as_text(columns)} ORDER BY d.id SEPARATOR '{separator}')"
    rows = _FROM.replace(" d ", " d FORCE INDEX (PRIMARY) ", 1)
    above = ["TRUE", *(f"d.id > {bound}" for bound in bounds)]
    below = [*(f"d.id <= {bound}" for bound in bounds), "TRUE"]
    pages = enumerate(zip(above, below, strict=True))
    return " UNION ALL ".join(f"SELECT {n}, COUNT(*), {texts}{rows}WHERE {low} AND {high}" for n, (low, high) in pages)


def _as_text(columns: str) -> str:
    return f"CONCAT_WS('{_SEPARATOR}', {columns})"


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def _row(fields: Sequence[str], zone: ZoneInfo, before: DeviceRow | None = None) -> DeviceRow:
    """The row of its columns' texts.

    ``before``: the same row at the last time. Values that did not change are the same objects as before, so that a row,
    its peer and its record share them in memory.
    """
    row_id, device, contract, interface, address, public_key, preshared_key, status, contract_status, qr_end, flags = (
        fields
    )
    no_key, no_secret, no_contract, first_unknown, last_unknown, deleted, zero = (flag == "1" for flag in flags)
    # The collation of the columns ignores case and trailing spaces, so this comparison ignores them too.
    status_text = _DEVICE.get(status.rstrip(" ").casefold(), _UNKNOWN)
    contract_word = _CONTRACT.get(contract_status.rstrip(" ").casefold(), _UNKNOWN)
    key, secret = None if no_key else read_key(public_key), None if no_secret else read_key(preshared_key)
    number = int(row_id) if before is None else before.id
    if before is not None:
        device = reuse_equal(device, before.device)
        key, secret = reuse_equal(key, before.public_key), reuse_equal(secret, before.preshared_key)
    has_end = qr_end != "" and status_text in ("issued", "expired")  # after a scan the end does not matter
    return DeviceRow(
        id=number,
        device=device,
        owner=intern(contract),
        interface=intern(interface),
        addresses=(address,) if before is None else reuse_equal((address,), before.addresses),
        public_key=key,
        preshared_key=secret,
        status=Status(status_text) if status_text in ("issued", "active", "expired") else Status.OFF,
        status_text=status_text,
        inactive=inactive_reasons(intern(contract), None if no_contract else contract_word, deleted=deleted),
        activation_deadline=_instant(qr_end, zone) if has_end else None,
        version=qr_end if has_end else None,
        first_handshake_known=not (first_unknown and last_unknown),
        has_no_usage=zero and last_unknown,
    )


def _instant(text: str, zone: ZoneInfo) -> float | None:
    try:
        return to_seconds(datetime.fromisoformat(text), zone)
    except ValueError:  # the text is empty, or its month or day is zero
        return None
