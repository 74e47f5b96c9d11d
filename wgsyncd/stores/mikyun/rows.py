"""Reads the rows of devices as texts, and decodes only the rows that changed since the last time.

A row is one text, and many rows are one value. To read each column as a value would cost ten times as much, because the
driver handles each value in Python.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import closing
from hashlib import blake2b
from operator import attrgetter
from secrets import token_hex
from typing import Any
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DeviceId, DeviceRow, encode_key
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.own_rows import OwnRows, Source
from wgsyncd.stores.mikyun.row_text import Schema, as_text, columns, make_row, parent_of, split

_DIGEST = 16  # bytes, a fifth of a text
_ID = attrgetter("id")
_PAGE = 2_500  # rows in one value, which then has some 500 KB: see connection.MOST_JOINED

# Counts other own rows with one of these keys or addresses. If there are any, these devices cannot be planned alone.
_RIVALS = """
SELECT COUNT(*) FROM {tables}
WHERE {where} AND {device} NOT IN ({devices}) AND ({key} IN ({keys}) OR {ip} IN ({ips}))
"""


class RowCache:
    """Reads device rows with the status of their contracts, and keeps them for the next time.

    ``qr_lifetime``: seconds that a QR code lasts if its row has no end for it.
    """

    def __init__(self, zone: ZoneInfo, qr_lifetime: int) -> None:
        self._zone, self._qr_lifetime = zone, qr_lifetime
        self._rows: tuple[DeviceRow, ...] = ()  # the rows of the last time, in id order
        # The digests of their texts, in the same order. A table of them would need a fifth of the rows' memory.
        self._digests = b""
        self._parents: dict[DeviceId, str] = {}
        self.parents: dict[DeviceId, str] | None = {}  # the contract of each parent device. None: unknown
        self._next = token_hex(8)  # separates the texts of rows. It is secret, so no column can imitate a row with it.

    def load(self, connection: Connection, own: OwnRows, schema: Schema) -> tuple[DeviceRow, ...]:
        """Every own row in id order, all of one moment. StoreError: no answer. An empty tuple is an answer."""
        fields = columns(schema, self._qr_lifetime)
        if not self._load_joined(connection, own, fields, schema.join):
            self.parents = None  # the rows are not kept, because other columns could give the same text
            found = connection.stream(_select(fields, own.source(), schema.join))
            return tuple(make_row(one, self._zone) for one in found)
        self.parents = {row.id: self._parents[row.id] for row in self._rows if row.id in self._parents}
        return self._rows

    def keep(self) -> Callable[[], dict[DeviceId, DeviceRow]]:
        """A function that returns the rows of now by id, also after the next :meth:`load`."""
        rows = self._rows
        return lambda: {row.id: row for row in rows}

    def by_id(self) -> dict[DeviceId, DeviceRow]:
        """The rows that the last :meth:`load` kept, by id."""
        return self.keep()()

    def _load_joined(self, connection: Connection, own: OwnRows, fields: str, join: str) -> bool:
        """Read many rows as one value, and keep them. False: a text is too long, or a column holds a separator."""
        rows, size = self._rows, _DIGEST
        bounds = [row.id for row in rows[_PAGE - 1 : -1 : _PAGE]] if rows else _bounds(connection, own)
        pages: list[tuple[list[DeviceRow], bytes]] = [([], b"")] * (len(bounds) + 1)
        is_whole = True
        for number, count, text in _texts(connection, _of_pages(fields, join, self._next, own, bounds)):
            texts = text.split(self._next) if text else []
            digests = [blake2b(one.encode(), digest_size=size).digest() for one in texts]
            # The page's rows of the last time: the bounds are theirs. A table of all 100,000 would take 11 MiB.
            before = enumerate(rows[number * _PAGE : (number + 1) * _PAGE], number * _PAGE)
            known = {self._digests[size * at : size * (at + 1)]: row for at, row in before}
            found = (known.get(one) or self._of_text(text) for one, text in zip(digests, texts, strict=True))
            pages[number] = [row for row in found if row is not None], b"".join(digests)
            # The count matters too: GROUP_CONCAT leaves out a text longer than max_allowed_packet.
            is_whole = is_whole and len(pages[number][0]) == len(texts) == count
        if is_whole:
            self._rows = tuple(row for some, _ in pages for row in some)
            self._digests = b"".join(digests for _, digests in pages)
        return is_whole

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

    def _of_text(self, text: str) -> DeviceRow | None:
        """The row of a text, or None if the text cannot be split into its columns."""
        if (fields := split(text)) is None:
            return None
        at = bisect_left(self._rows, int(fields[0]), key=_ID)
        before = self._rows[at] if at < len(self._rows) and self._rows[at].id == int(fields[0]) else None
        row = make_row(fields, self._zone, before)
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
