"""Reads what `wgsyncd devices` shows of the bytes of devices. Nothing depends on these figures."""

from collections.abc import Collection

from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.core.model import Counters
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.stores.alike import ask_aside, hourly
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.pieces import BUCKETS

FIGURES = ("24h", "month")


def load_usage(
    connection: Connection, own: OwnRows, devices: Collection[str], calendar: UsageCalendar, *, swapped: bool
) -> DeviceUsage:
    """See :class:`wgsyncd.ports.UsageStore`. ``swapped``: `mikyun.perspective` is "device"."""
    tables, where = own.source()
    rx, tx = ("tx", "rx") if swapped else ("rx", "tx")
    columns = ", ".join(f"COALESCE(d.{side}_bytes_{name}, 0)" for name in FIGURES for side in (rx, tx))
    figures = {
        row_id: {name: Counters(int(four[2 * at]), int(four[2 * at + 1])) for at, name in enumerate(FIGURES)}
        for row_id, *four in ask_aside(connection, f"SELECT d.id, {columns} FROM {tables} WHERE {where}")  # noqa: S608
    }
    hours: dict[str, list[int]] = {}
    if names := sorted(devices):
        among = f"device IN ({', '.join(['%s'] * len(names))})"
        table, time, open_time = BUCKETS
        sql = f"""SELECT device, {time}, rx + tx FROM {table} WHERE {among} AND {time} BETWEEN %s AND %s
                  UNION ALL SELECT device, {open_time}, open_rx + open_tx FROM wgsyncd_peers
                  WHERE {among} AND {open_time} BETWEEN %s AND %s"""  # noqa: S608
        span = (calendar.rolling_start, int(calendar.now))
        hours = hourly(ask_aside(connection, sql, (*names, *span) * 2), calendar)
    return DeviceUsage(figures, hours)
