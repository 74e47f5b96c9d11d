"""Reads and writes what the databases of all control planes have alike."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.identity import Holder, Identity, OtherNode
from wgsyncd.core.inspect.answers import HOURS
from wgsyncd.core.inspect.verify import Day
from wgsyncd.core.quarantine import QuarantineEntry
from wgsyncd.core.records import PeerRecords
from wgsyncd.core.state import MEMORY, InterfaceCheckpoint, NodeState, Removal
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError
from wgsyncd.stores.border import at_border
from wgsyncd.stores.holding import AnyConnection, Dialect, NodeHolder
from wgsyncd.stores.own_values import quarantine_entry, spool_position, stored_condition, stored_time


class History(NamedTuple):
    """A table of bytes by device and time, with the column of its time and the one of an open piece's time."""

    table: str
    time: str
    open_time: str


@at_border
class NodeStore:
    """Implements what the stores of all control planes do alike. A store also has ``close`` and ``_insert_audit``."""

    unwritten = 0
    is_active = True

    def __init__(self, settings: Settings, connection: AnyConnection, dialect: Dialect) -> None:
        self._node, self._connection, self._dialect = settings.node.name, connection, dialect
        self._place = NodeHolder(connection, dialect, self._node, tuple(settings.interfaces))

    def _insert_audit(self, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        """Write audit rows in the open transaction."""
        raise NotImplementedError

    def _load_or_begin(
        self, load: Callable[[], NodeState | None], begin: Callable[[], object], *, create: bool
    ) -> NodeState:
        """See :meth:`wgsyncd.ports.StateStore.load_state`. ``begin`` creates the node state."""
        found = load()
        if found is None and not create:
            return NodeState(0, PeerRecords(), {}, frozenset())
        if found is None:
            begin()
            found = load()
        if found is None:
            raise StoreError(f"the state of node {self._node} could not be created")
        return found

    def holder(self) -> Holder | None:
        return self._place.load()

    def other_nodes(self) -> Sequence[OtherNode]:
        return self._place.others()

    def take_name_from(self, node: str, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        self._place.take_name_from(node, lambda: self._insert_audit(audit, calendar))

    def release(self, identity: Identity) -> None:
        self._place.release(identity)

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        return load_quarantine(self._connection, self._dialect, self._node)

    def approve(self, plan_id: str) -> None:
        self._place.approve(plan_id)

    def adopt(self, *, accepted: bool, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        self._place.adopt(lambda: self._insert_audit(audit, calendar), accepted=accepted)


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


def node_state(
    connection: AnyConnection, dialect: Dialect, node: str, row: Sequence[Any], records: PeerRecords
) -> NodeState:
    """The node state in the open transaction. ``row``: the revision, the spool's position and the receipt."""

    def rows(columns: str, table: str, order: str = "") -> Sequence[tuple[Any, ...]]:
        return connection.query(f"SELECT {columns} FROM {dialect.prefix}{table} WHERE node = %s{order}", (node,))  # noqa: S608

    revision, spool, receipt = row
    marks = rows("interface, epoch, sampled_at", "interfaces")
    return NodeState(
        int(revision),
        records,
        {name: InterfaceCheckpoint(epoch, stored_time(at)) for name, epoch, at in marks},
        frozenset(stored_condition(*values) for values in rows("type, subject, name, reason", "conditions")),
        spool_position(spool, dialect.nodes, node),
        tuple(boot for (boot,) in rows("boot", "boots", " ORDER BY first_seen")),
        tuple(Removal(*values) for values in rows(dialect.removals, "removals", " ORDER BY id")),
        receipt,
    )


def load_quarantine(connection: AnyConnection, dialect: Dialect, node: str) -> tuple[QuarantineEntry, ...]:
    """The node's deltas in quarantine, oldest first."""
    columns, table = "id, interface, row_id, device, rx, tx, since, until", f"{dialect.prefix}quarantine"
    found = connection.query(f"SELECT {columns} FROM {table} WHERE node = %s ORDER BY id", (node,))  # noqa: S608
    return tuple(quarantine_entry(*values) for values in found)


def save_removals(connection: AnyConnection, dialect: Dialect, node: str, removals: Sequence[Removal]) -> None:
    """Add to the memory in the open transaction, and forget what is too old, as :func:`remembered` does."""
    if not removals:
        return
    table, columns, now = f"{dialect.prefix}removals", dialect.removals, removals[-1].at
    count = len(columns.split(","))
    connection.execute(f"DELETE FROM {table} WHERE node = %s AND uptime < %s", (node, now - MEMORY))  # noqa: S608
    connection.execute(f"UPDATE {table} SET uptime = %s WHERE node = %s AND uptime > %s", (now, node, now))  # noqa: S608
    for one in removals:
        into = f"INSERT INTO {table} (node, {columns}) VALUES (%s{', %s' * count})"  # noqa: S608
        connection.execute(into, (node, *one[:count]))
