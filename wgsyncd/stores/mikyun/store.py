"""Implements the port Store on MariaDB, in the tables of mikyun_cloud and wgsyncd's own."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.identity import Claimed, Heartbeat, Holder, Identity
from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.core.inspect.finding import Severity
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import DeviceId, DeviceRow
from wgsyncd.core.state import CommitResult, NodeState, Posting, WriteBatch
from wgsyncd.core.usage.aside import SetAside
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.core.usage.halves import Apart, Months
from wgsyncd.errors import SchemaError, StoreError
from wgsyncd.ports import Snapshot
from wgsyncd.stores.alike import NodeStore
from wgsyncd.stores.border import at_border
from wgsyncd.stores.mikyun.changing import Changer
from wgsyncd.stores.mikyun.conflicts import PARENT_CONFLICT, ParentConflicts
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.device_usage import load_usage
from wgsyncd.stores.mikyun.dialect import MARIADB
from wgsyncd.stores.mikyun.digest import Digest
from wgsyncd.stores.mikyun.later import post_set_aside, resolve_quarantine, still_quarantined
from wgsyncd.stores.mikyun.own_rows import OwnRows, purge_moves
from wgsyncd.stores.mikyun.probing import PROBE_AT_START, Probe, open_probe
from wgsyncd.stores.mikyun.reading import load_state
from wgsyncd.stores.mikyun.row_text import Schema
from wgsyncd.stores.mikyun.rows import RowCache
from wgsyncd.stores.mikyun.set_aside import Aside
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.shape import CONFLICTS, CONTRACTS, DEVICES, LOGS, check_schema, read_shape
from wgsyncd.stores.mikyun.terms import ContractTerms
from wgsyncd.stores.mikyun.totals import load_totals
from wgsyncd.stores.mikyun.trail import AuditTrail
from wgsyncd.stores.mikyun.upkeep import begin_node, purge, refresh_windows, rows_apart
from wgsyncd.stores.mikyun.usage_columns import UsageColumns
from wgsyncd.stores.mikyun.usual import UsualPosting
from wgsyncd.stores.mikyun.writing import StateWriter

LOOK_AGAIN = 600.0  # seconds: the application may change its tables


@at_border
class MariaDBStore(NodeStore):
    """Reads and writes mikyun_cloud for one node. It connects when first asked, and again after every failure."""

    locks_rows = True
    _connection: Connection

    def __init__(self, settings: Settings, on_answer: Callable[[], object] = lambda: None) -> None:
        own, self._zone = mikyun(settings), settings.node.zone
        super().__init__(settings, Connection(own.database, self._zone, on_connect=self._inspect), MARIADB)
        self._connection.on_answer = on_answer
        names = [one.store_name for one in settings.interfaces.values()]
        self._own = OwnRows(self._node, names, settings.node.ignored_interfaces)
        self._qr_lifetime, self._swapped = int(own.qr.lifetime), own.perspective == "device"
        self._rows = RowCache(self._zone, self._qr_lifetime)
        self._schema, self._language, self._is_loaded, self._probed = Schema(), own.language, False, False
        self._inspected_at = 0.0  # monotonic
        self._log = log.get("store")
        self._trail = AuditTrail(self._node, self._zone, own.language)
        self._usual, self._aside = UsualPosting(self._node, self._zone), Aside(self._node)
        self._changer, self._has_updated_at = Changer(), False
        self._terms = ContractTerms(settings, swapped=self._swapped)
        self.condition_types = self._terms.condition_types | {PARENT_CONFLICT}
        self._digest, self._conflicts = Digest(self._node), ParentConflicts()

    def _inspect(self, connection: Connection) -> None:
        """After each connect: check the version of the tables, and find the optional columns of this installation."""
        self._inspected_at = time.monotonic()
        check_schema(connection)
        shape = read_shape(connection)
        if inexact := next(Probe(connection, shape, "", "", 0.0).inexact(), None):
            raise SchemaError(f"{inexact.check} cannot be written exactly: {inexact.message}. See `wgsyncd doctor`")
        if not shape.of(DEVICES):
            connection.query("SELECT 1 FROM customer_devices LIMIT 0")  # The server says what is wrong with it.
        had, schema = self._schema.has_deleted_at, shape.schema
        if (had or (CONFLICTS, "contract_id") in shape.columns) and not schema.has_deleted_at:
            # The view filters on this column, so the column exists. If it is not read, deleted devices get peers.
            raise StoreError("customer_devices.deleted_at cannot be read. `sudo wgsyncd doctor` tells how to grant it")
        self._schema, self._has_updated_at = schema, (DEVICES, "updated_at") in shape.columns
        self._terms.use_columns({column for table, column in shape.columns if table == CONTRACTS})
        message = shape.columns.get((LOGS, "message"))
        self._trail.use_charset(message.charset if message is not None else None)
        self._conflicts.forget()  # another server may answer, and the view may be another one

    def _writer(self) -> StateWriter:
        self._ensure_inspected()
        return StateWriter(
            self._connection,
            self._node,
            self._zone,
            self._qr_lifetime,
            UsageColumns(self._zone, self._swapped, self._has_updated_at),
            self._trail,
            self._usual,
            self._aside,
            self._changer,
        )

    def _insert_audit(self, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        self._writer().insert_audit(audit, calendar.now)

    def _ensure_inspected(self) -> None:
        """Connect if there is no connection: what :meth:`_inspect` finds decides how statements are written."""
        if not self._connection.alive:
            self._connection.query("SELECT 1")

    def snapshot(self) -> Snapshot:
        state = self._connection.query(
            "SELECT approved_plan, adopted FROM wgsyncd_nodes WHERE node = %s", (self._node,)
        )
        self._own.find(self._connection)
        before = self._rows.keep()
        rows = self._rows.load(self._connection, self._own, self._schema)
        moved = self._own.take_over(self._connection, rows, before)
        held = self._connection.query("SELECT COUNT(*) FROM wgsyncd_quarantine WHERE node = %s", (self._node,))
        whole = self._own.all or "d.contract_id" not in self._schema.utf8
        conflicts = self._conflicts.load(self._connection, self._own, self._rows.parents, rows, whole=whole)  # may fail
        approved, adopted = state[0] if state else (None, 0)
        snapshot = Snapshot(rows, conflicts, approved, int(held[0][0]), moved, bool(adopted))
        return self._terms.add_to(snapshot, self._connection, self._own, self._schema)

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        self._ensure_inspected()
        rows = self._rows.some(self._connection, self._own, devices, self._schema)
        return rows and self._terms.mark_full(rows, self._connection, self._schema)

    def load_state(self, calendar: UsageCalendar, *, create: bool = True) -> NodeState:
        self._aside.forget()
        self._usual.forget()  # another server may answer, or this one was put back: rows may have other numbers
        if create and self._is_loaded:  # something failed. After a first load, the peers come first (see refresh)
            self._probe()
        self._is_loaded = True
        return self._load_or_begin(
            lambda: load_state(self._connection, self._node, self._rows.by_id()),
            lambda: begin_node(self._writer(), calendar),
            create=create,
        )

    def _probe(self) -> None:
        """Log what is wrong with the application's tables and the server, once in the life of this store."""
        if self._probed:
            return
        self._ensure_inspected()
        self._probed = True
        try:
            for one in open_probe(self._connection, self._language, PROBE_AT_START).findings():
                tell = self._log.error if one.severity is Severity.FAULT else self._log.warning
                tell("the database is not as wgsyncd needs it", what=one.check, why=one.message, todo=one.fix)
        except StoreError as error:  # if it matters to serving, the next statement meets it, too
            self._log.warning("the database was not probed to the end", why=str(error), todo="wgsyncd doctor")

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        applied, set_aside = self._writer().commit(node_state, writes, calendar)
        self._own.tell_others(self._connection)
        self.unwritten = self._trail.write_kept(self._connection)
        return CommitResult(node_state.apply(writes), applied, set_aside)

    def listen(self, put: Callable[[bytes], None]) -> None:
        """MariaDB has no notifications."""

    def claim(
        self, identity: Identity, uptime: float | None, seen: Holder | None, audit: Sequence[AuditEvent],
        calendar: UsageCalendar, displaced: Collection[str] = (),
    ) -> Claimed:  # fmt: skip
        if seen is None:
            begin_node(self._writer(), calendar)
        return self._place.claim(identity, uptime, seen, displaced, lambda: self._insert_audit(audit, calendar))

    def beat(self, identity: Identity, uptime: float, *, reconciled: bool = False) -> Heartbeat:  # noqa: ARG002
        result = self._place.beat(identity, uptime)
        self.unwritten = self._trail.write_kept(self._connection)  # On a node where nothing changes, no commit does.
        return result

    def refresh(self, calendar: UsageCalendar) -> tuple[int, int]:
        self._probe()
        return refresh_windows(self._writer(), self._own, calendar)

    def rows_apart(self, months: Months) -> Mapping[DeviceId, Apart]:
        return rows_apart(self._writer(), self._own, months)

    def post_set_aside(self, calendar: UsageCalendar, blocked: Set[DeviceId]) -> Sequence[SetAside]:
        return post_set_aside(self._writer(), calendar, blocked)

    def purge(self, calendar: UsageCalendar, keep_days: int) -> None:
        self._ensure_inspected()
        purge(self._connection, calendar, keep_days)
        purge_moves(self._connection)

    def digest(self, *, at_once: bool = False) -> object:  # noqa: ARG002
        """It is never late. But a column that the tables get while a connection lasts is found after LOOK_AGAIN."""
        self._ensure_inspected()
        if time.monotonic() - self._inspected_at > LOOK_AGAIN:
            try:  # On the same connection: a server may have no place for another one.
                self._inspect(self._connection)
            except StoreError:
                self._connection.close()  # The next connect meets the same error.
                raise
        return self._digest.read(self._connection, self._own, self._schema, self._terms.columns)

    def device_totals(self, scope: VerifyRanges) -> Iterator[DeviceTotals]:
        return load_totals(self._connection, self._node, self._own, scope, swapped=self._swapped)

    def device_usage(self, devices: Collection[str], calendar: UsageCalendar) -> DeviceUsage:
        return load_usage(self._connection, self._own, devices, calendar, swapped=self._swapped)

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        return still_quarantined(self._writer(), ids)

    def resolve_quarantine(
        self, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent], calendar: UsageCalendar
    ) -> None:
        resolve_quarantine(self._writer(), ids, postings, audit, calendar)

    def close(self) -> None:
        self._connection.close()
