"""The sums under the figures, for holding them against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from wgsyncd.core.inspect.verify import Day, DaySums, DeviceTotals, VerifyRanges
from wgsyncd.core.model import Counters
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.writing import BIGINT_MAX

# Devices per query: MariaDB answers each query well within mikyun.database.timeout, even with three days of full
# buckets for all of them (half a second on two old cores).
CHUNK = 2000

Range = tuple[Any, Any]  # of bucket starts, or of days; half open
Sums = Mapping[Range, Counters]
NOTHING = Counters(0, 0)


def load_figures(connection: Connection, node: str, scope: VerifyRanges, *, swapped: bool) -> Iterator[DeviceTotals]:
    """Every device in id order, all as they were at one moment. StoreError where the node has no books."""
    with connection.transaction(snapshot=True):
        (mine, begun), *_ = connection.query("SELECT MAX(node = %s), MAX(begun) FROM wgsyncd_nodes", (node,))
        if not mine:
            raise StoreError(f"node {node} has no books yet: has its daemon ever run?")
        scope = scope.after(float(begun))  # of whichever node: opening balances are taken over by each that is new
        ranges = [*scope.rolling, *(one for day in scope.days for one in (day.inner, day.outer))]
        days = [*scope.months, *map(_row_of, scope.days)]
        last = -(2**63)
        while devices := _columns(connection, last, swapped):
            ids = devices[0][0], devices[-1][0]
            last = ids[1]
            in_buckets = _sums(connection, "wgsyncd_buckets", "start", ranges, ids)
            in_days = _sums(connection, "wgsyncd_days", "day", days, ids)
            for row_id, device, *figures in devices:
                yield _figures(row_id, device, figures, in_buckets.get(row_id, {}), in_days.get(row_id, {}), scope)


def _figures(
    row_id: int, device: str, figures: Sequence[Counters], buckets: Sums, days: Sums, scope: VerifyRanges
) -> DeviceTotals:
    def cut(sums: Sums, ranges: Iterable[Range]) -> tuple[Counters, ...]:
        found = (sums.get(one, NOTHING) for one in ranges)
        return tuple(Counters(min(one.rx, BIGINT_MAX), min(one.tx, BIGINT_MAX)) for one in found)

    total, rolling, month = figures
    return DeviceTotals(
        row_id, device, total, rolling, month, cut(buckets, scope.rolling), cut(days, scope.months),
        tuple(
            DaySums(day, buckets.get(day.inner, NOTHING), buckets.get(day.outer, NOTHING),
                    days.get(_row_of(day), NOTHING))
            for day in scope.days
        ),
    )  # fmt: skip


def _row_of(day: Day) -> Range:
    return day.name, (date.fromisoformat(day.name) + timedelta(days=1)).isoformat()


def _columns(connection: Connection, last: int, swapped: bool) -> list[tuple[int, str, Counters, Counters, Counters]]:
    rx, tx = ("tx", "rx") if swapped else ("rx", "tx")
    names = ", ".join(
        f"COALESCE({side}_bytes_{window}, 0)" for window in ("total", "24h", "month") for side in (rx, tx)
    )
    sql = f"SELECT id, device_id, {names} FROM customer_devices WHERE id > %s ORDER BY id LIMIT {CHUNK}"  # noqa: S608
    return [
        (row_id, str(device), Counters(*six[:2]), Counters(*six[2:4]), Counters(*six[4:]))
        for row_id, device, *six in connection.query(sql, (last,))
    ]


def _sums(
    connection: Connection, table: str, at: str, ranges: Sequence[Range], ids: tuple[int, int]
) -> dict[int, dict[Range, Counters]]:
    """By device: the bytes in each of the ranges; devices that have none are left out."""
    distinct = list(dict.fromkeys(ranges))  # two of a day are one where its edges are those of buckets
    columns = ", ".join(
        f"SUM(CASE WHEN {at} >= %s AND {at} < %s THEN {side} ELSE 0 END)" for _ in distinct for side in ("rx", "tx")
    )
    values = [value for one in distinct for value in one * 2]
    # By the primary key, in whose order the groups are: the other one would fetch each row of the window singly.
    sql = f"""SELECT row_id, {columns} FROM {table} FORCE INDEX (PRIMARY)
              WHERE row_id BETWEEN %s AND %s AND {at} >= %s GROUP BY row_id"""  # noqa: S608
    oldest = min(first for first, _ in distinct)
    return {
        row_id: {one: Counters(int(rx), int(tx)) for one, rx, tx in zip(distinct, sums[::2], sums[1::2], strict=True)}
        for row_id, *sums in connection.query(sql, (*values, *ids, oldest))
    }
