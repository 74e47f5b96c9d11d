"""The sums under the figures, for holding them against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wgsyncd.core.model import Counters
from wgsyncd.core.verify import DaySums, Figures, Scope
from wgsyncd.errors import StoreError
from wgsyncd.store.connection import Connection
from wgsyncd.store.writing import MOST

CHUNK = 2000  # devices per query: each is answered well within database.timeout, also with three days of full buckets

Sums = dict[int, tuple[Counters, ...]]
NOTHING = Counters(0, 0)


def load_figures(connection: Connection, node: str, scope: Scope, *, swapped: bool) -> Iterator[Figures]:
    """Every device in id order, all as they were at one moment. StoreError where the node has no books."""
    with connection.transaction(snapshot=True):
        (mine, begun), *_ = connection.query("SELECT MAX(node = %s), MAX(begun) FROM wgsyncd_nodes", (node,))
        if not mine:
            raise StoreError(f"node {node} has no books yet: has its daemon ever run?")
        scope = scope.after(float(begun))  # of whichever node: opening balances are taken over by each that is new
        last = -(2**63)
        while devices := _columns(connection, last, swapped):
            ids = devices[0][0], devices[-1][0]
            last = ids[1]
            buckets, days = _buckets(connection, scope, ids), _days(connection, scope, ids)
            for row_id, device, total, rolling, month in devices:
                yield _figures(row_id, device, total, rolling, month, buckets.get(row_id), days.get(row_id), scope)


def _figures(
    row_id: int, device: str, total: Counters, rolling: Counters, month: Counters,
    buckets: Sequence[Counters] | None, days: Sequence[Counters] | None, scope: Scope,
) -> Figures:  # fmt: skip
    first, after = len(scope.rolling), len(scope.months)
    buckets = buckets or (NOTHING,) * (first + 2 * len(scope.days))
    days = days or (NOTHING,) * (after + len(scope.days))
    inner, outer = buckets[first::2], buckets[first + 1 :: 2]
    return Figures(
        row_id, device, total, rolling, month, tuple(map(_cut, buckets[:first])), tuple(map(_cut, days[:after])),
        tuple(map(DaySums, scope.days, inner, outer, days[after:])),
    )  # fmt: skip


def _cut(sums: Counters) -> Counters:
    return Counters(min(sums.rx, MOST), min(sums.tx, MOST))


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


def _buckets(connection: Connection, scope: Scope, ids: tuple[int, int]) -> Sums:
    """Per device: the sums of the rolling windows, then two for each day."""
    ranges = [*scope.rolling, *(one for day in scope.days for one in (day.inner, day.outer))]
    parts = [("start >= %s AND start < %s", one) for one in ranges]
    return _sums(connection, "wgsyncd_buckets", "start >= %s", min(first for first, _ in ranges), parts, ids)


def _days(connection: Connection, scope: Scope, ids: tuple[int, int]) -> Sums:
    """Per device: the sums of the months, then each day's."""
    parts: list[tuple[str, Sequence[object]]] = [("day >= %s AND day < %s", month) for month in scope.months]
    parts += [("day = %s", (day.name,)) for day in scope.days]
    oldest = min([first for first, _ in scope.months] + [day.name for day in scope.days])
    return _sums(connection, "wgsyncd_days", "day >= %s", oldest, parts, ids)


def _sums(
    connection: Connection, table: str, recent: str, oldest: object, parts: Sequence[tuple[str, Sequence[object]]],
    ids: tuple[int, int],
) -> Sums:  # fmt: skip
    columns = ", ".join(f"SUM(IF({part}, {side}, 0))" for part, _ in parts for side in ("rx", "tx"))
    values = [value for _, some in parts for _ in ("rx", "tx") for value in some]
    # By the primary key, in whose order the groups are: the other one would fetch each row of the window singly.
    sql = f"""SELECT row_id, {columns} FROM {table} FORCE INDEX (PRIMARY)
              WHERE row_id BETWEEN %s AND %s AND {recent} GROUP BY row_id"""  # noqa: S608
    found = connection.query(sql, (*values, *ids, oldest))
    return {
        row_id: tuple(Counters(int(rx), int(tx)) for rx, tx in zip(sums[::2], sums[1::2], strict=True))
        for row_id, *sums in found
    }
