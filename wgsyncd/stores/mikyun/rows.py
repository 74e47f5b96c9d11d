"""Reads the rows of devices as texts, and decodes only the rows that changed since the last time.

A row is one text, and many rows are one value. To read each column as a value would cost ten times as much, because the
driver handles each value in Python.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_hex
from typing import Any
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DeviceId, DeviceRow, encode_key
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.own_rows import OwnRows, Source
from wgsyncd.stores.mikyun.row_text import Schema, as_text, columns, make_row, parent_of, split

_DIGEST = 16  # bytes
_PAGE = 2_500  # rows in one value, which then has some 500 KB: see connection.MOST_JOINED

# Counts other own rows with one of these keys or addresses. If there are any, these devices cannot be planned alone.
_RIVALS = """
SELECT COUNT(*) FROM {tables}
WHERE {where} AND {device} NOT IN ({devices}) AND ({key} IN ({keys}) OR {ip} IN ({ips}))
"""


@dataclass(slots=True)
class _Page:
    """Some rows in id order, with the digests of their texts in the same order.

    A digest has a fifth of the length of its text. All digests are one string, because a table of them would need as
    much memory as a fifth of the rows.
    """

    rows: list[DeviceRow]
    digests: bytearray
    digest: bytes = b""  # the digest of the page's whole text. Empty: the page was divided since it was read

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
        self._parents: dict[DeviceId, str] = {}
        self.parents: dict[DeviceId, str] | None = {}  # the contract of each parent device. None: unknown
        self._next = token_hex(8)  # separates the texts of rows. It is secret, so no column can imitate a row with it.

    def load(self, connection: Connection, own: OwnRows, schema: Schema) -> tuple[DeviceRow, ...]:
        """Every own row in id order, all of one moment. StoreError: no answer. An empty tuple is an answer."""
        fields = columns(schema, self._qr_lifetime)
        pages = self._load_pages(connection, own, fields, schema.join)
        if pages is None:  # the rows are not kept, because other columns could give the same text
            self.parents = None
            found = connection.stream(_select(fields, own.source(), schema.join))
            return tuple(make_row(one, self._zone) for one in found)
        self._pages = pages
        rows = tuple(row for page in pages for row in page.rows)
        self.parents = {row.id: self._parents[row.id] for row in rows if row.id in self._parents}
        return rows

    def keep(self) -> Callable[[], dict[DeviceId, DeviceRow]]:
        """A function that returns the rows of now by id, also after the next :meth:`load`."""
        pages = self._pages
        return lambda: {row.id: row for page in pages for row in page.rows}

    def by_id(self) -> dict[DeviceId, DeviceRow]:
        """The rows that the last :meth:`load` kept, by id."""
        return self.keep()()

    def _load_pages(self, connection: Connection, own: OwnRows, fields: str, join: str) -> list[_Page] | None:
        """Read one value for each page of the last time. None: a text is too long, or a column holds a separator."""
        bounds = [page.rows[-1].id for page in self._pages[:-1]] if self._pages else _bounds(connection, own)
        before = self._pages or [_Page([], bytearray())] * (len(bounds) + 1)
        pages: list[_Page | None] = [None] * len(before)
        for number, count, text in _texts(connection, _of_pages(fields, join, self._next, own, bounds)):
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

    def some(
        self, connection: Connection, own: OwnRows, devices: frozenset[str], schema: Schema
    ) -> tuple[DeviceRow, ...] | None:
        """The rows of some devices in id order. None: a device has no row, or its row cannot be read as one text.

        None also if another own row has one of their keys or addresses.
        """
        names = sorted(devices)
        fields = as_text(columns(schema, self._qr_lifetime))
        asked = Source("customer_devices d", f"{schema.as_text('d.device_id')} IN ({_places(names)})")
        texts = [split(text) for (text,) in _texts(connection, _select(fields, asked, schema.join), names)]
        rows = tuple(make_row(one, self._zone) for one in texts if one is not None)
        if len(rows) != len(names):
            return None
        own.find(connection)
        own.add(row.id for row in rows if row.interface not in own.ignored)
        keys = [encode_key(key) if isinstance(key := row.public_key, bytes) else key for row in rows]
        hosts = {text.partition("/")[0] for row in rows for text in row.addresses}
        ips = sorted({form for host in hosts for form in (host, f"{host}/32", f"{host}/128")})  # all ways to write it
        tables, where = (text.replace("%", "%%") for text in own.source())
        rivals = _RIVALS.format(
            tables=tables,
            where=where,
            device=schema.as_text("d.device_id"),
            key=schema.as_text("d.public_key"),
            ip=schema.as_text("d.wg_ip"),
            devices=_places(names),
            keys=_places(keys),
            ips=_places(ips),
        )
        return None if connection.query(rivals, (*names, *keys, *ips))[0][0] else rows

    def _of_text(self, text: str | None, before: Mapping[DeviceId, DeviceRow]) -> DeviceRow | None:
        """The row of a text, or None if the text cannot be split into its columns. ``before``: the last rows by id."""
        if (fields := split(text)) is None:
            return None
        row = make_row(fields, self._zone, before.get(int(fields[0])))
        if (contract := parent_of(fields)) is not None:
            self._parents[row.id] = contract
        else:
            self._parents.pop(row.id, None)
        return row


def _select(fields: str, source: Source, join: str) -> str:
    tables, where = source
    return f"SELECT {fields} FROM {tables} {join} WHERE {where} ORDER BY d.id"  # noqa: S608


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


def _bounds(connection: Connection, own: OwnRows) -> Sequence[DeviceId]:
    """The last id of each page but the last one, for the first load."""
    if not own.all:
        return own.bounds(_PAGE)
    ((count, first, last),) = connection.query("SELECT COUNT(*), MIN(id), MAX(id) FROM customer_devices")
    if not count:
        return range(0)
    span = (last - first + 1) * _PAGE // count  # as if the ids were spread evenly
    return range(first + span - 1, last, span)


def _of_pages(columns: str, join: str, separator: str, own: OwnRows, bounds: Sequence[DeviceId]) -> str:
    """The SELECT for all pages: the number of a page, how many rows it has, and their texts.

    It is one statement, so that all rows are of one moment. The server cuts off texts that are too long together.
    ``bounds``: the last id of each page but the last one.
    """
    texts = f"GROUP_CONCAT({as_text(columns)} ORDER BY d.id SEPARATOR '{separator}')"
    pages = enumerate(map(own.source, (None, *bounds), (*bounds, None)))
    selects = (f"SELECT {n}, COUNT(*), {texts} FROM {one.tables} {join} WHERE {one.where}" for n, one in pages)  # noqa: S608
    return " UNION ALL ".join(selects)


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))
