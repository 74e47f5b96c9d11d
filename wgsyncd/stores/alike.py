"""Reads and writes what the databases of all control planes have alike."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from wgsyncd.core.inspect.answers import HOURS
from wgsyncd.core.inspect.verify import Day
from wgsyncd.core.quarantine import QuarantineEntry
from wgsyncd.core.state import MEMORY, Removal
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError
from wgsyncd.stores.holding import AnyConnection
from wgsyncd.stores.own_values import quarantine_entry


class History(NamedTuple):
    """A table of bytes by device and time, with the column of its time and the one of an open piece's time."""

    table: str
    time: str
    open_time: str


def ask_aside(connection: AnyConnection, sql: str, values: Sequence[object] = ()) -> Sequence[tuple[Any, ...]]:
    """The rows of a SELECT that nothing depends on. StoreError also if the server refuses it."""
    found = connection.side_query(sql, values)
    if isinstance(found, StoreError):
        raise found
    return found


def hourly(moved: Iterable[tuple[Any, ...]], calendar: UsageCalendar) -> dict[str, list[int]]:
    """Bytes by device, for each of the last hours, the present one last. ``moved``: device, bucket and bytes."""
    hours: dict[str, list[int]] = {}
    for device, at, amount in moved:
        hour = max(0, HOURS - 1 - (calendar.bucket - at) // 3600)
        hours.setdefault(str(device), [0] * HOURS)[hour] += int(amount)
    return hours


def range_of(day: Day) -> tuple[str, str]:
    """The range of a day's row: its date, and the date after it."""
    return day.name, (date.fromisoformat(day.name) + timedelta(days=1)).isoformat()


def load_quarantine(connection: AnyConnection, table: str, node: str) -> tuple[QuarantineEntry, ...]:
    """The node's deltas in quarantine, oldest first."""
    columns = "id, interface, row_id, device, rx, tx, since, until"
    found = connection.query(f"SELECT {columns} FROM {table} WHERE node = %s ORDER BY id", (node,))  # noqa: S608
    return tuple(quarantine_entry(*values) for values in found)


def load_removals(connection: AnyConnection, table: str, columns: str, node: str) -> tuple[Removal, ...]:
    """What the guard remembers. Some may be older than an hour. ``columns``: of the fields of a removal, in order."""
    found = connection.query(f"SELECT {columns} FROM {table} WHERE node = %s ORDER BY id", (node,))  # noqa: S608
    return tuple(Removal(*values) for values in found)


def save_removals(connection: AnyConnection, table: str, columns: str, node: str, removals: Sequence[Removal]) -> None:
    """Add to the memory in the open transaction, and forget what is too old, as :func:`remembered` does."""
    if not removals:
        return
    now, count = removals[-1].at, len(columns.split(","))
    connection.execute(f"DELETE FROM {table} WHERE node = %s AND uptime < %s", (node, now - MEMORY))  # noqa: S608
    connection.execute(f"UPDATE {table} SET uptime = %s WHERE node = %s AND uptime > %s", (now, node, now))  # noqa: S608
    for one in removals:
        into = f"INSERT INTO {table} (node, {columns}) VALUES (%s{', %s' * count})"  # noqa: S608
        connection.execute(into, (node, *one[:count]))
