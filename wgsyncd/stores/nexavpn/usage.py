"""Reads the sums and figures of devices, deletes old rows, and resolves the quarantine."""

from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.core.inspect.verify import Check, DaySums, DeviceTotals, StoredFigure, VerifyRanges
from wgsyncd.core.model import NO_BYTES, Counters, DeviceId
from wgsyncd.core.state import Posting
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, ROLLING, UsageCalendar
from wgsyncd.errors import StoreError, UserError
from wgsyncd.stores.alike import History, ask_aside, hourly, range_of
from wgsyncd.stores.nexavpn.books import StateWriter
from wgsyncd.stores.nexavpn.connection import Connection, Values
from wgsyncd.stores.nexavpn.pieces import BUCKETS, DAYS, everything, lock_node
from wgsyncd.stores.own_values import stored_time

_PURGED = 10_000  # rows in one DELETE
Range = tuple[int, int] | tuple[str, str]
Sums = dict[UUID, dict[Range, Counters]]
_OWN = "SELECT DISTINCT device_id FROM wgsyncd.wireguard_peers"
_TOTALS = f"""
SELECT o.device_id, coalesce(t.rx, 0), coalesce(t.tx, 0), coalesce(t.seen, 0) FROM ({_OWN}) o
LEFT JOIN wgsyncd.totals t ON t.node = %s AND t.device = o.device_id ORDER BY o.device_id
"""  # noqa: S608


def device_totals(connection: Connection, node: str, scope: VerifyRanges) -> Iterator[DeviceTotals]:
    """What the node keeps of its devices, in the order of ids and of one moment. StoreError without a node state."""
    with connection.transaction(snapshot=True):
        since = connection.query("SELECT accounting_since FROM wgsyncd.node_states WHERE node = %s", (node,))
        if not since:
            raise StoreError(f"node {node} has no node state yet: has its daemon ever run?")
        scope = scope.after(float(since[0][0]))
        buckets = _sums(connection, node, BUCKETS, [one for day in scope.days for one in (day.inner, day.outer)])
        always: Range = ("0001-01-01", "9999-01-01")
        days = _sums(connection, node, DAYS, [always, *map(range_of, scope.days)])
        for device, rx, tx, seen in connection.query(_TOTALS, (node,)):
            of_buckets, of_days = buckets.get(device, {}), days.get(device, {})
            figures = [
                StoredFigure(Check.FUTURE, "last handshake", int(stored_time(seen)), "latest possible", (scope.latest,))
            ]
            kept = of_days.get(always, NO_BYTES)
            for name, total, least in (("rx", rx, kept.rx), ("tx", tx, kept.tx)):
                figures.append(StoredFigure(Check.LOW, f"{name} in total", total, "its days", (least,)))
            yield DeviceTotals(device, str(device), tuple(figures), tuple(
                DaySums(day, of_buckets.get(day.inner, NO_BYTES), of_buckets.get(day.outer, NO_BYTES),
                        of_days.get(range_of(day), NO_BYTES))
                for day in scope.days
            ))  # fmt: skip


def _sums(connection: Connection, node: str, history: History, ranges: Sequence[Range]) -> Sums:
    """The bytes of each device in each range, from one history. Devices without bytes in it are left out."""
    distinct = list(dict.fromkeys(ranges))
    if not distinct:
        return {}
    columns = ", ".join(
        f"coalesce(sum({side}) FILTER (WHERE at >= %s AND at < %s), 0)" for _ in distinct for side in ("rx", "tx")
    )
    values: Values = [value for one in distinct for value in one * 2]
    sql = f"SELECT device, {columns} FROM {everything(history)} GROUP BY device"  # noqa: S608
    found = connection.query(sql, (*values, *(node, min(first for first, _ in distinct)) * 2))
    return {
        device: {one: Counters(int(rx), int(tx)) for one, rx, tx in zip(distinct, sums[::2], sums[1::2], strict=True)}
        for device, *sums in found
    }


def device_usage(connection: Connection, node: str, devices: Collection[str], calendar: UsageCalendar) -> DeviceUsage:
    figures: dict[DeviceId, dict[str, Counters]] = {}
    for label, history, first, beyond in (
        ("24h", BUCKETS, calendar.rolling_start, calendar.rolling_start + ROLLING + calendar.width),
        ("month", DAYS, *calendar.month),
    ):
        sql = f"""SELECT o.device_id, coalesce(sum(rx), 0), coalesce(sum(tx), 0) FROM ({_OWN}) o
                  LEFT JOIN {everything(history)} ON device = o.device_id AND at < %s GROUP BY 1"""  # noqa: S608
        for device, rx, tx in ask_aside(connection, sql, (*(node, first) * 2, beyond)):
            figures.setdefault(device, {})[label] = Counters(int(rx), int(tx))
    sql = f"SELECT device, at, rx + tx FROM {everything(BUCKETS)} WHERE device::text = ANY(%s) AND at <= %s"  # noqa: S608
    since = (node, calendar.rolling_start)
    moved = ask_aside(connection, sql, (*since * 2, list(devices), int(calendar.now)))
    return DeviceUsage(figures, hourly(moved, calendar))


def purge(connection: Connection, node: str, calendar: UsageCalendar, keep_days: int) -> None:
    """Delete days older than ``keep_days`` and buckets that left the window long ago, in transactions of their own."""
    for table, column, before in (
        ("buckets", "start", calendar.rolling_start - BUCKET_RETENTION),
        ("days", "day", calendar.day(calendar.now - keep_days * 86400)),
    ):
        sql = f"""DELETE FROM wgsyncd.{table} WHERE ctid = ANY(ARRAY(
                      SELECT ctid FROM wgsyncd.{table} WHERE node = %s AND {column} < %s LIMIT {_PURGED}))"""  # noqa: S608
        while connection.execute(sql, (node, before)) == _PURGED:
            pass


def resolve_quarantine(
    writer: StateWriter, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent],
    calendar: UsageCalendar,
) -> None:  # fmt: skip
    """Delete deltas from the quarantine and post ``postings``, in one transaction.

    UserError: one of the deltas is not in the quarantine any more, or a device of ``postings`` is gone.
    """
    connection, node = writer.connection, writer.node
    with connection.transaction():
        lock_node(connection, node)  # two transactions that post rows in another order could wait for each other
        devices = list({one.row_id for one in postings})
        known = {row[0] for row in connection.query(f"{_OWN} WHERE device_id = ANY(%s)", (devices,))}
        if gone := [one.device for one in postings if one.row_id not in known]:
            raise UserError(f"the row of {gone[0]} is gone, so nothing is done: its delta can only be dropped")
        # Two admins can release the same delta. The slower one deletes fewer rows than it names.
        sql = "DELETE FROM wgsyncd.quarantine WHERE node = %s AND id = ANY(%s)"
        if connection.execute(sql, (node, list(ids))) != len(set(ids)):
            raise UserError(f"one of {sorted(ids)} is no delta in the quarantine of node {node}: nothing is done")
        writer.post(postings)
        writer.insert_audit(audit, calendar.now)


def still_quarantined(connection: Connection, node: str, ids: Collection[int]) -> frozenset[int]:
    """Which of these deltas are still in the quarantine."""
    # The lock waits for a transaction that is deleting them now, so the answer is final.
    sql = "SELECT id FROM wgsyncd.quarantine WHERE node = %s AND id = ANY(%s) FOR UPDATE"
    return frozenset(row[0] for row in connection.query(sql, (node, list(ids))))
