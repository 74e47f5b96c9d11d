"""Reads the columns of devices, and the sums of buckets and days, for `wgsyncd verify`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wgsyncd.core.inspect.verify import Check, DaySums, DeviceTotals, StoredFigure, VerifyRanges
from wgsyncd.core.model import NO_BYTES, Counters
from wgsyncd.errors import StoreError
from wgsyncd.stores.alike import History, range_of
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.pieces import BUCKETS, DAYS
from wgsyncd.stores.mikyun.row_text import DEVICE_NAME
from wgsyncd.stores.mikyun.usage_columns import BIGINT_MAX

# Devices in one query. With three days of full buckets for all of them MariaDB answers in half a second on two old
# cores: well within mikyun.database.timeout.
CHUNK = 900  # a list of 1,000 ids or more would become a temporary table

Range = tuple[Any, Any]  # first and end, half open: starts of buckets (UNIX seconds), or days (YYYY-MM-DD)
Sums = Mapping[Range, Counters]


def load_totals(
    connection: Connection, node: str, own: OwnRows, scope: VerifyRanges, *, swapped: bool
) -> Iterator[DeviceTotals]:
    """The columns and sums of the own rows in id order, all of one moment. StoreError if the node has no state.

    ``scope``: the ranges of time to sum. ``swapped``: `mikyun.perspective` is "device".
    """
    with connection.transaction(snapshot=True):
        # The answer is one row even without nodes: then both values are NULL.
        (mine, since), *_ = connection.query("SELECT MAX(node = %s), MAX(accounting_since) FROM wgsyncd_nodes", (node,))
        if not mine:
            raise StoreError(f"node {node} has no node state yet: has its daemon ever run?")
        scope = scope.after(float(since))  # the latest start of any node: each new node takes over opening balances
        ranges = [*scope.rolling, *(one for day in scope.days for one in (day.inner, day.outer))]
        days = [*scope.months, *map(range_of, scope.days)]
        for among in own.parts(connection, CHUNK):
            in_buckets = _sums(connection, BUCKETS, ranges, among)
            in_days = _sums(connection, DAYS, days, among)
            for row_id, device, handshake, *columns in _columns(connection, among, swapped):
                buckets, day_sums = in_buckets.get(row_id, {}), in_days.get(row_id, {})
                yield totals(row_id, device, columns, buckets, day_sums, scope, handshake, swapped=swapped)


def totals(
    row_id: int, device: str, columns: Sequence[Counters], buckets: Sums, days: Sums, scope: VerifyRanges,
    handshake: int, *, swapped: bool,
) -> DeviceTotals:  # fmt: skip
    """One device's columns, and its days, beside the sums that they must agree with.

    ``columns``: total, last 24 hours and month, as the server sees them. Sums are cut to the largest BIGINT, as the
    columns are. ``handshake``: UNIX seconds of the last one, 0 = never.
    """

    def cut(sums: Sums, ranges: Iterable[Range], side: int) -> tuple[int, ...]:
        return tuple(min(sums.get(one, NO_BYTES)[side], BIGINT_MAX) for one in ranges)

    figures = [StoredFigure(Check.FUTURE, "last handshake", handshake, "latest possible", (scope.latest,))]
    for side, name in enumerate(("tx", "rx") if swapped else ("rx", "tx")):
        total, rolling, month = (column[side] for column in columns)
        in_total, in_month = f"{name} in total", f"{name} of the month"
        figures += [
            StoredFigure(Check.FIGURE, f"{name} of 24 h", rolling, "its buckets", cut(buckets, scope.rolling, side)),
            StoredFigure(Check.FIGURE, in_month, month, "its days", cut(days, scope.months, side)),
            StoredFigure(Check.NEGATIVE, in_total, total, "least", (0,)),
        ]
        if total >= 0:  # an admin may set a total
            figures.append(StoredFigure(Check.LOW, in_total, total, in_month, (month,)))
    return DeviceTotals(row_id, device, tuple(figures), tuple(
        DaySums(day, buckets.get(day.inner, NO_BYTES), buckets.get(day.outer, NO_BYTES),
                days.get(range_of(day), NO_BYTES))
        for day in scope.days
    ))  # fmt: skip


def _columns(
    connection: Connection, among: str, swapped: bool
) -> list[tuple[int, str, int, Counters, Counters, Counters]]:
    rx, tx = ("tx", "rx") if swapped else ("rx", "tx")
    names = ", ".join(
        f"COALESCE({side}_bytes_{window}, 0)" for window in ("total", "24h", "month") for side in (rx, tx)
    )
    handshake = "COALESCE(UNIX_TIMESTAMP(last_handshake_at), 0)"  # in the session's zone, which is the node's
    sql = f"SELECT id, {DEVICE_NAME}, {handshake}, {names} FROM customer_devices WHERE id {among} ORDER BY id"  # noqa: S608
    return [
        (row_id, str(device), int(handshake), Counters(*six[:2]), Counters(*six[2:4]), Counters(*six[4:]))
        for row_id, device, handshake, *texts in connection.query(sql)
        for six in (list(map(int, texts)),)  # an unsigned column gives a Decimal
    ]


def _sums(
    connection: Connection, history: History, ranges: Sequence[Range], among: str
) -> dict[int, dict[Range, Counters]]:
    """Row id: the bytes of the device in each range. Devices without a row in the table are left out.

    ``among``: which rows, such as ``BETWEEN 1 AND 9``.
    """
    distinct = list(dict.fromkeys(ranges))  # the two ranges of a day are equal if buckets begin at its boundaries
    oldest = min(first for first, _ in distinct)
    table, time, open_time = history
    sums: dict[int, dict[Range, Counters]] = {}
    for source, at, rx, tx, more in (
        (f"{table} h FORCE INDEX (PRIMARY)", time, "rx", "tx", ""),
        ("wgsyncd_peers h FORCE INDEX (device)", open_time, "open_rx", "open_tx", " AND h.open_bucket > 0"),
    ):
        # CASE sums all ranges in one pass over the rows.
        columns = ", ".join(
            f"SUM(CASE WHEN h.{at} >= %s AND h.{at} < %s THEN h.{side} ELSE 0 END)"
            for _ in distinct
            for side in (rx, tx)
        )
        values = [value for one in distinct for value in one * 2]
        sql = f"""SELECT r.id, {columns} FROM customer_devices r STRAIGHT_JOIN {source} ON h.device = r.device_id
                  WHERE r.id {among} AND h.{at} >= %s{more} GROUP BY r.id"""  # noqa: S608
        for row_id, *found in connection.query(sql, (*values, oldest)):
            of_row = sums.setdefault(row_id, {})
            for one, received, sent in zip(distinct, found[::2], found[1::2], strict=True):
                old = of_row.get(one, NO_BYTES)
                of_row[one] = Counters(old.rx + int(received), old.tx + int(sent))
    return sums
