"""Implements the port Store on PostgreSQL, in the tables of NexaVPN and wgsyncd's own."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.identity import Claimed, Heartbeat, Holder, Identity
from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import DeviceId, DeviceRow
from wgsyncd.core.policies.gateways import GATEWAY_DRIFT
from wgsyncd.core.state import CommitResult, NodeState, Posting, WriteBatch
from wgsyncd.core.usage.aside import SetAside
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.core.usage.halves import Apart, Months
from wgsyncd.errors import StoreError
from wgsyncd.ports import Snapshot
from wgsyncd.stores.alike import NodeStore
from wgsyncd.stores.border import at_border
from wgsyncd.stores.nexavpn import usage
from wgsyncd.stores.nexavpn.books import STAGES, StateWriter
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.dialect import POSTGRES
from wgsyncd.stores.nexavpn.digest import Digest
from wgsyncd.stores.nexavpn.eligibility import UNALLOCATED, Requirements
from wgsyncd.stores.nexavpn.listening import Listener
from wgsyncd.stores.nexavpn.pieces import OpenPieces
from wgsyncd.stores.nexavpn.policies import POLICY_FAULTY, PolicyReader
from wgsyncd.stores.nexavpn.psk import open_envelope, read_keys
from wgsyncd.stores.nexavpn.reading import load_state
from wgsyncd.stores.nexavpn.rows import RowCache, count_sealed, load_gateways
from wgsyncd.stores.nexavpn.schema import check_schema
from wgsyncd.stores.nexavpn.settings import nexavpn
from wgsyncd.stores.nexavpn.terms import GroupTerms
from wgsyncd.stores.nexavpn.times import write_synced, write_times
from wgsyncd.stores.nexavpn.trail import AuditTrail


@at_border
class NexaStore(NodeStore):
    """Reads and writes NexaVPN's database for one node. It connects when first asked, and again after every failure."""

    condition_types = frozenset({UNALLOCATED, POLICY_FAULTY, GATEWAY_DRIFT})
    locks_rows = False
    _connection: Connection

    def __init__(self, settings: Settings, on_answer: Callable[[], object] = lambda: None) -> None:
        own = nexavpn(settings)
        super().__init__(settings, Connection(own.database, on_connect=self._prepare), POSTGRES)
        self._connection.on_answer = on_answer
        self._interfaces = settings.interfaces
        self._ignored = frozenset(settings.node.ignored_interfaces)
        self._database = own.database
        self._listener: Listener | None = None
        self._keys = keys = read_keys(own.preshared_keys)
        self._rows = RowCache(self._node, Requirements(
            {}, lambda text, row: open_envelope(text, row, keys), frozenset(own.devices.inactive),
            own.devices.require_approval, own.addresses.allocations == "require",
        ))  # fmt: skip
        self._trail = AuditTrail(self._node, settings.node.zone, self._called)
        self._terms = GroupTerms(settings.shaping)
        self._policies = PolicyReader() if (enforces := own.policies.enforce) else None
        self._digest = Digest(self._node, with_policies=enforces, with_groups=self._terms.are_asked)
        self._writer = StateWriter(self._connection, self._node, self._trail, OpenPieces(self._node))
        self._log, self._changed = log.get("store"), log.OnChange()

    def _prepare(self, connection: Connection) -> None:
        """After each connect: check the tables, make the stages, and find the gateways."""
        check_schema(connection, self._node)
        connection.execute(STAGES)
        self._trail.gateways = load_gateways(connection, self._interfaces)
        self._digest.forget()  # another server may answer
        self._writer.pieces.forget()

    def _called(self, one: str) -> str:
        """What people call the device or policy with this id, "" if the last rows did not say."""
        return self._rows.called(one) or (self._policies.name_of(one) if self._policies is not None else "")

    def _insert_audit(self, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        self._writer.insert_audit(audit, calendar.now)

    def _ensure_prepared(self) -> None:
        """Connect if there is no connection: an audit row names a gateway."""
        if not self._connection.alive:
            self._connection.query("SELECT 1")

    def snapshot(self) -> Snapshot:
        self._ensure_prepared()
        with self._connection.transaction(snapshot=True):
            gateways = load_gateways(self._connection, self._interfaces)
            rows, conditions = self._rows.load(self._connection, gateways)
            state = self._connection.query(
                "SELECT approved_plan, adopted FROM wgsyncd.node_states WHERE node = %s", (self._node,)
            )
            sql = "SELECT count(*) FROM wgsyncd.quarantine WHERE node = %s"
            held = self._connection.query(sql, (self._node,))
            moved = self._moved(rows)
            reader, served = self._policies, sorted(set(gateways.of_interface.values()))
            policies = reader.load(self._connection, served) if reader is not None else None
            conditions |= reader.conditions if reader is not None else frozenset()
            terms = self._terms.load(self._connection)
            sealed = count_sealed(self._connection, self._keys)
        self._trail.gateways = gateways
        approved, adopted = state[0] if state else (None, False)
        own = tuple(row for row in rows if row.interface not in self._ignored) if self._ignored else rows
        held_back = int(held[0][0])
        return Snapshot(
            own, conditions, approved, held_back, moved, bool(adopted), policies, gateways.rows, terms, sealed
        )

    def _moved(self, rows: Sequence[DeviceRow]) -> dict[DeviceId, str]:
        """By row id, the other nodes' interfaces of recorded devices that are seen there now."""
        left = {row.id: row.interface for row in rows if row.interface in self._ignored}
        if not left:
            return {}
        sql = "SELECT DISTINCT row_id FROM wgsyncd.peers WHERE node = %s AND row_id = ANY(%s)"
        return {row_id: left[row_id] for (row_id,) in self._connection.query(sql, (self._node, list(left)))}

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        self._ensure_prepared()
        return self._rows.some(self._connection, self._trail.gateways, devices)

    def digest(self, *, at_once: bool = False) -> object:
        return self._digest.read(self._connection, at_once=at_once)

    def load_state(self, calendar: UsageCalendar, *, create: bool = True) -> NodeState:
        self._writer.pieces.forget()
        rows = self._rows.by_id()
        found = self._load_or_begin(
            lambda: load_state(self._connection, self._node, rows), lambda: self._writer.begin(calendar), create=create
        )
        if create:  # a process that was killed, or a lost answer, may have left them behind
            self._project(lambda: write_times(self._connection, self._node))
        return found

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        """No row has a transition here, and no posting waits for a row."""
        self._ensure_prepared()
        if writes.uptime is not None:  # a daemon's. After a reload it has a new store, and claims nothing again
            self._connection.hold(self._node)
        self._writer.commit(node_state, writes, calendar)
        self.unwritten = self._trail.waiting
        if seen := [one.row_id for one in writes.postings if one.handshake is not None]:
            self._project(lambda: write_times(self._connection, self._node, seen))
        return CommitResult(node_state.apply(writes), frozenset(), frozenset())

    def _project(self, write: Callable[[], None]) -> None:
        """Write columns of the application that nothing depends on. What fails is written by a later poll.

        A standby writes none. Once it is active, the next heartbeat writes what its own devices have meanwhile.
        """
        if not self.is_active:
            return
        why = None
        try:
            write()
        except StoreError as error:
            why = str(error)
        if self._changed("times", why is not None or None):
            if why is not None:
                self._log.warning("devices.last_seen_at cannot be written now: a later poll writes it", why=why)
            else:
                self._log.info("devices.last_seen_at is written again")

    def listen(self, put: Callable[[bytes], None]) -> None:
        if self._listener is not None:
            self._listener.close()
        self._listener = Listener(self._database, put)

    def claim(
        self, identity: Identity, uptime: float | None, seen: Holder | None, audit: Sequence[AuditEvent],
        calendar: UsageCalendar, displaced: Collection[str] = (),
    ) -> Claimed:  # fmt: skip
        self._ensure_prepared()
        if uptime is not None:
            self._connection.hold(self._node)
        if seen is None:
            self._writer.begin(calendar)
        return self._place.claim(identity, uptime, seen, displaced, lambda: self._insert_audit(audit, calendar))

    def beat(self, identity: Identity, uptime: float, *, reconciled: bool = False) -> Heartbeat:
        """It also writes what polls could not write of the application's columns."""
        result = self._place.beat(identity, uptime)
        if result is Heartbeat.WRITTEN:
            self.unwritten = self._trail.write_kept(self._connection)
            self._project(lambda: write_times(self._connection, self._node))
            if reconciled:
                self._project(lambda: write_synced(self._connection, self._trail.gateways.of_interface.values()))
        return result

    def refresh(self, _: UsageCalendar) -> tuple[int, int]:
        """No figure of this store depends on the time."""
        return 0, 0

    def rows_apart(self, _: Months) -> Mapping[DeviceId, Apart]:
        """The application's tables have no figure of a month."""
        return {}

    def post_set_aside(self, _: UsageCalendar, __: Set[DeviceId]) -> Sequence[SetAside]:
        """Nothing is ever set aside."""
        return ()

    def purge(self, calendar: UsageCalendar, keep_days: int) -> None:
        self._writer.pieces.close_older(self._connection, calendar)
        usage.purge(self._connection, self._node, calendar, keep_days)

    def device_totals(self, scope: VerifyRanges) -> Iterator[DeviceTotals]:
        return usage.device_totals(self._connection, self._node, scope)

    def device_usage(self, devices: Collection[str], calendar: UsageCalendar) -> DeviceUsage:
        return usage.device_usage(self._connection, self._node, devices, calendar)

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        return usage.still_quarantined(self._connection, self._node, ids)

    def resolve_quarantine(
        self, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent], calendar: UsageCalendar
    ) -> None:
        self._ensure_prepared()
        usage.resolve_quarantine(self._writer, ids, postings, audit, calendar)

    def close(self) -> None:
        self._connection.close()
        if self._listener is not None:
            self._listener.close()
