"""Knows the ids of the rows that this node reads, so that the rows of other nodes cost it nothing.

An own row is a row whose wg_iface is not in `node.ignored_interfaces`. So a row that names no interface, or one that
nobody knows, is an own row of every node. No index of the application leads to these rows. Five ways lead to their ids:

- The newest rows of the table are looked at each time. A row may become visible after rows with higher ids, so a margin
  of :data:`RECENT` rows is looked at again.
- A node that sees a row leave names it in wgsyncd_moves, for the node that serves its new interface.
- A notification names a device.
- The id of a row that is deleted stays known until the next scan, because somebody may restore the row.
- A scan of the whole table finds what the other ways missed: at the start, and every :data:`SCAN_INTERVAL` seconds.

Every statement checks wg_iface again, so an id that is not this node's any more only costs time.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wgsyncd.core.model import DeviceId, DeviceRow
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.reading import BEYOND
from wgsyncd.stores.mikyun.row_text import DEVICE_NAME

RECENT = 250  # rows
SCAN_INTERVAL = 600.0  # seconds
_MOST_NEW = 50_000  # rows. More new rows than these are found by a scan
_BRIDGE = 3  # ids. To read so few rows in vain costs less than to look for one more range
_MOST_RANGES = 100
_AT_ONCE = 1000  # rows in one INSERT
_LOWEST = -(2**63)

_FIND = """
SELECT 0, COUNT(*), GROUP_CONCAT(IF({own}, d.id, NULL)),
       (SELECT id FROM customer_devices ORDER BY id DESC LIMIT 1 OFFSET {recent})
    FROM customer_devices d WHERE d.id > {row_floor}
UNION ALL
SELECT 1, COUNT(*), GROUP_CONCAT(IF({here}, CONCAT(m.id, ':', m.row_id), NULL)),
       (SELECT id FROM wgsyncd_moves ORDER BY id DESC LIMIT 1 OFFSET {recent})
    FROM wgsyncd_moves m WHERE m.id > {move_floor}
"""
_FLOORS = """
SELECT (SELECT id FROM customer_devices ORDER BY id DESC LIMIT 1 OFFSET {recent}),
       (SELECT id FROM wgsyncd_moves ORDER BY id DESC LIMIT 1 OFFSET {recent})
"""
# The rows that this node has a record of, and that another node serves now. It minds case and spaces, as planning does.
_RECORDED = """
SELECT DISTINCT d.id, p.device FROM wgsyncd_peers p JOIN customer_devices d ON d.id = p.row_id
WHERE p.node = {node} AND CONVERT(d.device_id USING utf8mb4) COLLATE utf8mb4_bin = p.device AND {theirs}
"""

_TELL = "INSERT INTO wgsyncd_moves (interface, row_id, node, moved_at) VALUES "


class Source(NamedTuple):
    """Which rows a statement reads: what follows FROM, with the alias ``d`` for the rows, and what follows WHERE."""

    tables: str
    where: str


class OwnRows:
    """Keeps the ids of one node's own rows. ``names`` and ``ignored``: the store's names of interfaces.

    A node that ignores no interface reads the whole table, and keeps no ids.
    """

    def __init__(
        self, node: str, names: Collection[str], ignored: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.all, self.ignored = not ignored, frozenset(ignored)
        self._node, self._clock = node, clock
        self._own = f"(d.wg_iface IS NULL OR {_exact('d.wg_iface')} NOT IN ({_literals(ignored)}))"
        self.theirs = f"{_exact('d.wg_iface')} IN ({_literals(ignored)})"
        self._here = f"{_exact('m.interface')} IN ({_literals(names)})"
        self._ids = self._found = _in_order(())  # which rows are asked for, and which ones of them there were last
        self._whole: Source | None = None  # all own rows, until their ids change
        self.scanned_at: float | None = None  # monotonic: when the last scan ended
        self._row_floor = self._move_floor = _LOWEST  # rows and moves above these ids are looked at
        self._newest: str | None = None  # the ids of the newest own rows, which are all known
        self._handed = ""  # the moves to this node that were followed already
        self._moved: dict[DeviceId, str] = {}  # the device of each row that has left, by row id
        self._untold: dict[DeviceId, str] = {}  # the new interface of rows whose leaving no other node was told

    # -- which rows a statement reads

    def source(self, above: DeviceId | None = None, up_to: DeviceId | None = None) -> Source:
        """The own rows, or those with an id above ``above`` and not above ``up_to``."""
        if above is None and up_to is None:
            self._whole = self._whole or self._part(None, None)
            return self._whole
        return self._part(above, up_to)

    def _part(self, above: DeviceId | None, up_to: DeviceId | None) -> Source:
        if self.all:
            low = "TRUE" if above is None else f"d.id > {above}"
            high = "TRUE" if up_to is None else f"d.id <= {up_to}"
            return Source("customer_devices d FORCE INDEX (PRIMARY)", f"{low} AND {high}")
        first = 0 if above is None else bisect_right(self._ids, above)
        end = len(self._ids) if up_to is None else bisect_right(self._ids, up_to)
        return self._source(self._ids[first:end])

    def _source(self, ids: Sequence[int]) -> Source:
        """The own rows among ``ids``, which are in order. The server finds them by ranges if few are enough."""
        if not ids:
            return Source("customer_devices d", "FALSE")
        rows = "customer_devices d FORCE INDEX (PRIMARY)"
        if (ranges := _ranges(ids)) is not None:
            among = " OR ".join(f"d.id BETWEEN {first} AND {last}" for first, last in ranges)
            return Source(rows, f"({among}) AND {self._own}")
        kind = "BIGINT" if ids[-1] < BEYOND else "BIGINT UNSIGNED"
        listed = f"JSON_TABLE('[{','.join(map(str, ids))}]', '$[*]' COLUMNS (id {kind} PATH '$')) o"
        return Source(f"{listed} STRAIGHT_JOIN {rows} ON d.id = o.id", self._own)

    def bounds(self, size: int) -> Sequence[DeviceId]:
        """The last id of each part of ``size`` rows but the last part."""
        return self._ids[size - 1 : -1 : size]

    def parts(self, connection: Connection, size: int) -> Iterator[str]:
        """A condition for the ids of each part of at most ``size`` own rows, such as ``BETWEEN 1 AND 9``.

        A part of a node that ignores no interface is a range of ids. It may also have rows that came since.
        """
        if self.all:
            yield from (f"BETWEEN {first} AND {last}" for first, last in _pieces(connection, size))
            return
        self.find(connection)
        ids = self._ids[:]
        for at in range(0, len(ids), size):
            part = ids[at : at + size]
            dense = part[-1] - part[0] == len(part) - 1
            yield f"BETWEEN {part[0]} AND {part[-1]}" if dense else f"IN ({', '.join(map(str, part))})"

    # -- which rows there are

    def scan(self, connection: Connection) -> None:
        """Find all own rows in the whole table, and all rows that left since this node recorded their peers."""
        if not self.all:
            floors = connection.query(_FLOORS.format(recent=RECENT))[0]  # first, so that no row is between both
            self._row_floor, self._move_floor = (_LOWEST if one is None else one for one in floors)
            where = f"SELECT d.id FROM customer_devices d WHERE {self._own} ORDER BY d.id"  # noqa: S608
            self._set(_in_order(row[0] for row in connection.stream(where)))
            self._follow(
                connection,
                dict(connection.query(_RECORDED.format(node=Connection.quote(self._node), theirs=self.theirs))),
            )
        self.scanned_at = self._clock()

    def find(self, connection: Connection) -> None:
        """Learn of new rows, and of rows that another node handed over. Scan the whole table if that is due."""
        if self.scanned_at is None or self._clock() - self.scanned_at >= SCAN_INTERVAL:
            self.scan(connection)
            return
        if self.all:
            return
        (_, count, new, row_floor), (_, _, handed, move_floor) = sorted(connection.query(_FIND.format(
            own=self._own, here=self._here, recent=RECENT, row_floor=self._row_floor, move_floor=self._move_floor
        )))  # fmt: skip
        if count > _MOST_NEW or (not count and self._row_floor != _LOWEST):  # an import, or ids that begin at 1 again
            self.scan(connection)
            return
        if new != self._newest:
            self.add(map(int, new.split(",")) if new else ())
            self._newest = new
        if handed and handed != self._handed:
            before = set(self._handed.split(","))
            self.add(int(one.partition(":")[2]) for one in handed.split(",") if one not in before)
        self._handed = handed or ""
        self._row_floor, self._move_floor = (_LOWEST if one is None else one for one in (row_floor, move_floor))

    def add(self, ids: Iterable[Any]) -> None:
        """These rows may be own rows: read them from now on."""
        if self.all:
            return
        known = set(self._ids)
        if more := {one for one in ids if one not in known}:
            self._set(_in_order(known | more))

    def _set(self, ids: array[int]) -> None:
        self._ids, self._whole, self._newest = ids, None, None

    # -- which rows have left

    def take_over(
        self, connection: Connection, rows: Sequence[DeviceRow], before: Callable[[], Mapping[DeviceId, DeviceRow]]
    ) -> Mapping[DeviceId, str]:
        """Take over the ids of ``rows``, which were just read. Returns the interface of each row that has left.

        ``before``: the rows of the last time.
        """
        if self.all:
            return {}
        ids: Iterable[Any] = (row.id for row in rows)
        found = _in_order(dict.fromkeys(ids))
        gone: dict[DeviceId, str] = {}
        if is_changed := found != self._found:
            known, missing = before(), set(self._found).difference(found)
            gone = {one: known[one].device for one in missing if one in known}
        moved = self._follow(connection, self._moved | gone) if gone or self._moved else {}
        if is_changed:
            self._found = found
            self._set(_in_order({*self._ids, *found} - moved.keys()))
        return moved

    def _follow(self, connection: Connection, devices: Mapping[DeviceId, str]) -> Mapping[DeviceId, str]:
        """The interface of each row of ``devices`` that is another node's now. The next commit tells that node.

        A row whose id was used again for another device has not moved. A row that has left before may have come back.
        """
        among = ", ".join(map(str, devices)) or "NULL"
        names = f"{DEVICE_NAME}, CONVERT(wg_iface USING utf8mb4)"
        sql = f"SELECT id, {names} FROM customer_devices d WHERE id IN ({among}) AND {self.theirs}"  # noqa: S608
        now = {one: str(interface) for one, device, interface in connection.query(sql) if device == devices[one]}
        self._untold |= {one: interface for one, interface in now.items() if one not in self._moved}
        self.add(one for one in self._moved if one not in now)
        self._moved = {one: devices[one] for one in now}
        return now

    def tell_others(self, connection: Connection) -> None:
        """Name the rows that have left for the nodes that serve them now. After a failure their scans find the rows."""
        told = [one for one in self._untold.items() if one[0] < BEYOND]
        self._untold = {}
        with contextlib.suppress(StoreError):
            for at in range(0, len(told), _AT_ONCE):
                part = told[at : at + _AT_ONCE]
                places = ", ".join(["(%s, %s, %s, UNIX_TIMESTAMP())"] * len(part))
                values = [value for row_id, interface in part for value in (interface, row_id, self._node)]
                connection.execute(_TELL + places, values)


def purge_moves(connection: Connection) -> None:
    """Delete the moves that are older than a day. Every node has scanned the table since."""
    connection.execute("DELETE FROM wgsyncd_moves WHERE moved_at < UNIX_TIMESTAMP() - 86400")


def _exact(column: str) -> str:
    """A column as text that equals another one only if case and spaces are equal, too."""
    return f"CONVERT({column} USING utf8mb4) COLLATE utf8mb4_nopad_bin"


def _literals(names: Collection[str]) -> str:
    return ", ".join(map(Connection.quote, sorted(names))) or "NULL"


def _in_order(ids: Iterable[int]) -> array[int]:
    """Ids in order. A column with an id beyond a BIGINT has no negative one."""
    some = sorted(ids)
    return array("q" if not some or some[-1] < BEYOND else "Q", some)


def _ranges(ids: Sequence[int]) -> list[tuple[int, int]] | None:
    """The ids as ranges, with few ids between them in vain. None if that needs too many ranges."""
    if ids[-1] - ids[0] < (_BRIDGE + 1) * len(ids):
        return [(ids[0], ids[-1])]
    ranges: list[tuple[int, int]] = []
    first = last = ids[0]
    for one in ids:
        if one - last > _BRIDGE:
            ranges.append((first, last))
            if len(ranges) >= _MOST_RANGES:
                return None
            first = one
        last = one
    return [*ranges, (first, last)]


def _pieces(connection: Connection, size: int) -> Iterable[Any]:
    """The first and the last id of each part of ``size`` rows of the whole table."""
    return connection.query(
        "SELECT MIN(id), MAX(id) FROM (SELECT id, (ROW_NUMBER() OVER (ORDER BY id) - 1) DIV %s AS part"
        " FROM customer_devices) numbered GROUP BY part ORDER BY part",
        (size,),
    )
