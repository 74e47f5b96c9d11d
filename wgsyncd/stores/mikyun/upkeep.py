"""Keeps the tables of usage in shape: the columns of rolling and monthly figures, and what is too old."""

from collections.abc import Sequence

from wgsyncd.core.model import Counters, DeviceId
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, UsageCalendar
from wgsyncd.core.usage.halves import Apart, Months
from wgsyncd.errors import StoreErrorCode
from wgsyncd.stores.mikyun.changing import apart
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.pieces import BUCKETS, DAYS, sums_by_row
from wgsyncd.stores.mikyun.row_text import DEVICE_NAME
from wgsyncd.stores.mikyun.targets import skip_locked
from wgsyncd.stores.mikyun.usage_columns import BIGINT_MAX
from wgsyncd.stores.mikyun.writing import StateWriter


def begin_node(writer: StateWriter, calendar: UsageCalendar) -> None:
    """Create the node's first state. Does nothing if the node has one.

    The columns of the rolling window and the month may already hold bytes. They become an opening balance in
    wgsyncd_buckets and wgsyncd_days. Otherwise the first refresh of the windows would set them to zero.
    """
    rx, tx = ("tx", "rx") if writer.columns.swapped else ("rx", "tx")
    # NOT EXISTS: another node may have posted bytes of the device before. A second balance would count twice.
    opening = """INSERT IGNORE INTO {table} SELECT d.device_id, %s, GREATEST(COALESCE(d.{rx}_bytes_{window}, 0), 0),
                 GREATEST(COALESCE(d.{tx}_bytes_{window}, 0), 0) FROM customer_devices d
                 WHERE (d.rx_bytes_{window} > 0 OR d.tx_bytes_{window} > 0)
                   AND NOT EXISTS (SELECT 1 FROM {table} t WHERE t.device = d.device_id)
                   AND NOT EXISTS (SELECT 1 FROM wgsyncd_peers p
                                   WHERE p.device = d.device_id AND p.open_bucket > 0)"""
    with writer.connection.transaction():
        begin = "INSERT IGNORE INTO wgsyncd_nodes (node, revision, accounting_since) VALUES (%s, 0, %s)"
        if not writer.connection.execute(begin, (writer.node, calendar.now)):
            return
        for table, window, at in (
            ("wgsyncd_buckets", "24h", calendar.bucket),
            ("wgsyncd_days", "month", calendar.month[0]),
        ):
            writer.connection.execute(opening.format(table=table, window=window, rx=rx, tx=tx), (at,))


def refresh_windows(writer: StateWriter, own: OwnRows, calendar: UsageCalendar, size: int = 500) -> tuple[int, int]:
    """Set the 24 h and month columns of the own rows to the sums of buckets and days, where they differ.

    Returns how many rows differed, and how many of them still differ because another transaction has them locked. A row
    that the server refuses to change stays as it is until the next call. The columns are derived, so this may run at
    any time and any number of times. Where nothing differs, nothing is written. ``size``: devices in one transaction.
    """
    wrong = locked = 0
    rx, tx = ("tx", "rx") if writer.columns.swapped else ("rx", "tx")
    wanted = (("rx_bytes_24h", f"b.{rx}"), ("tx_bytes_24h", f"b.{tx}"), ("rx_bytes_month", f"m.{rx}"),
              ("tx_bytes_month", f"m.{tx}"))  # fmt: skip

    # A clock that was ahead has left buckets of the future: they are not counted.
    def sums(among: str) -> str:
        rolling, month = (sums_by_row(BUCKETS, among, "<="), sums_by_row(DAYS, among, "<"))
        return f"LEFT JOIN ({rolling}) b ON b.row_id = d.id LEFT JOIN ({month}) m ON m.row_id = d.id"

    differs = " OR ".join(f"NOT d.{c} <=> LEAST(COALESCE({v}, 0), {BIGINT_MAX})" for c, v in wanted)
    values = (calendar.rolling_start, int(calendar.now)) * 2 + calendar.month * 2
    sets = ", ".join(
        f"d.{c} = LEAST(COALESCE({v}, 0), {BIGINT_MAX})" for c, v in wanted
    ) + writer.columns.keep_updated_at("d.")

    def update(some: Sequence[DeviceId]) -> tuple[str, Values]:
        these = f"IN ({', '.join(map(str, some))})"
        joined = f"customer_devices d FORCE INDEX (PRIMARY) {sums(these)}"
        return f"UPDATE {joined} SET {sets} WHERE d.id {these}", values  # noqa: S608

    def change(some: Sequence[DeviceId]) -> None:
        nonlocal locked
        skipped = skip_locked(writer.connection, some)
        left = writer.changer.change(writer.connection, [one for one in some if one not in skipped], update)
        locked += len(skipped) + sum(1 for error in left.values() if error.code is StoreErrorCode.LOCKED)

    for among in own.parts(writer.connection, size):
        # Reading locks nothing. Only the rows that differ are locked, and the UPDATE makes their sums again.
        look = f"SELECT d.id FROM customer_devices d {sums(among)} WHERE d.id {among} AND ({differs})"  # noqa: S608
        found = [row[0] for row in writer.connection.query(look, values)]
        wrong += len(found)
        if found:
            undone = apart(writer.connection, found, change)
            locked += len(undone)
    return wrong, locked


def rows_apart(writer: StateWriter, own: OwnRows, months: Months, size: int = 500) -> dict[DeviceId, Apart]:
    """The own rows with a month column that is not the sum of the days of ``months``. ``size``: rows in one query."""
    sides = ("tx", "rx") if writer.columns.swapped else ("rx", "tx")
    column = ", ".join(f"COALESCE(d.{side}_bytes_month, 0)" for side in sides)
    days = ", ".join(f"LEAST(COALESCE(m.{side}, 0), {BIGINT_MAX})" for side in ("rx", "tx"))
    found: dict[DeviceId, Apart] = {}
    for among in own.parts(writer.connection, size):
        sums = sums_by_row(DAYS, among, "<")
        sql = f"""SELECT d.id, {DEVICE_NAME}, {column}, {days} FROM customer_devices d
                  LEFT JOIN ({sums}) m ON m.row_id = d.id
                  WHERE d.id {among} AND NOT ({column}) = ({days})"""  # noqa: S608
        for row_id, device, *texts in writer.connection.query(sql, months * 2):
            rx, tx, days_rx, days_tx = map(int, texts)
            found[row_id] = Apart(str(device), Counters(rx, tx), Counters(days_rx, days_tx))
    return found


def purge(connection: Connection, calendar: UsageCalendar, keep_days: int, size: int = 10000) -> None:
    """Delete buckets that left the rolling window two days ago, and days older than ``keep_days``.

    ``size``: rows in one DELETE. Each DELETE is a transaction of its own, so no lock lasts long.
    """
    oldest = calendar.day(calendar.now - keep_days * 86400)
    for table, column, before in (
        ("wgsyncd_buckets", "start", calendar.rolling_start - BUCKET_RETENTION),
        ("wgsyncd_days", "day", oldest),
    ):
        # The SELECT takes no lock. Usually it finds nothing, and no DELETE is needed.
        some = f"SELECT 1 FROM {table} WHERE {column} < %s LIMIT 1"  # noqa: S608
        while connection.query(some, (before,)):
            connection.execute(f"DELETE FROM {table} WHERE {column} < %s LIMIT {size}", (before,))  # noqa: S608
    old = "wgsyncd_peers {} WHERE open_bucket > 0 AND open_day < %s"  # open pieces, of a node that is gone
    if connection.query(f"SELECT 1 FROM {old.format('')} LIMIT 1", (oldest,)):  # noqa: S608
        connection.execute(f"UPDATE {old.format('SET open_bucket = 0, open_rx = 0, open_tx = 0')}", (oldest,))
