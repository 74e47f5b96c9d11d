"""What all stores in memory have in common: wgsyncd's own tables, transactions, and faults that a test provokes.

A control plane in memory adds its own devices to it: see tests/fakestore.py and tests/usersstore.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.fakes import Crash
from tests.memoryaside import MemoryAside
from tests.memoryholder import MemoryHolder
from tests.memorytables import Tables, add_bytes, copy_tables, has_new_counts_only, rename_interfaces
from tests.memoryusage import MemoryUsage
from wgsyncd.config.schema import Node
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceRow, Transition
from wgsyncd.core.records import PeerRecords
from wgsyncd.core.state import CommitResult, Condition, NodeState, Posting, WriteBatch, remembered
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, UsageCalendar
from wgsyncd.core.usage.halves import Apart, Months
from wgsyncd.errors import InDoubt, RevisionConflict, StoreError, StoreErrorCode
from wgsyncd.ports import Snapshot


class MemoryStore(MemoryAside[Tables], MemoryHolder[Tables], MemoryUsage[Tables]):
    """Implements the port Store over tables in memory.

    It counts:

    - ``calls``: calls of each method
    - ``reads``: reads that got an answer
    - ``commits``: transactions that were committed
    - ``statements``: everything that reached the tables

    Each fault stays until the test takes it back:

    - ``down``: no answer at all
    - ``fail_reads``: every read fails
    - ``read_only``: every write fails
    - ``no_conditions``: the conditions of the control plane's own types cannot be read
    - ``locked``: ids of rows that another transaction has locked
    - ``refused``: ids of rows that the server refuses to change, with its error

    ``next_writes`` has the fates of the next writes in order:

    - "ok"
    - "before": StoreError, and nothing is written
    - "during": StoreError, and the transaction is rolled back
    - "after": InDoubt, and everything is written: the answer is lost
    - "deadlock": StoreError, and the transaction is rolled back
    - "crash before", "crash after": the process dies before or after the transaction
    """

    condition_types: frozenset[str] = frozenset()
    locks_rows = True

    def __init__(self, node: Node, database: Tables, interfaces: Iterable[str] = ()) -> None:
        self.db, self._interfaces = database, frozenset(interfaces)
        self.down = self.fail_reads = self.read_only = self.closed = False
        self.no_conditions = False
        self.locked: set[Any] = set()
        self.refused: dict[Any, str] = {}
        self.next_writes: list[str] = []
        self.calls: Counter[str] = Counter()
        self.reads = self.commits = self.statements = self.unwritten = 0
        self._node, self._ignored = node.name, frozenset(node.ignored_interfaces)

    # ---- what a control plane adds

    def _rows(self) -> list[DeviceRow]:
        """All devices, in the order of their ids."""
        raise NotImplementedError

    def _name(self, device: Any) -> str:
        """The name of a device of the control plane's table."""
        raise NotImplementedError

    def _own_conditions(self) -> frozenset[Condition]:
        """The conditions of the control plane's own types."""
        raise NotImplementedError

    def _all_columns(self) -> object:
        """A copy of everything that a plan depends on."""
        raise NotImplementedError

    def _make_transition(self, db: Tables, step: Transition) -> bool:
        """Make a transition, if its row is still the same. Returns whether it was made."""
        raise NotImplementedError

    def _add_to_device(self, db: Tables, posting: Posting, calendar: UsageCalendar) -> None:
        """Add a posting to what its device's row itself keeps. Days and buckets have it already."""
        raise NotImplementedError

    def _write_audit(self, db: Tables, events: Sequence[AuditEvent]) -> None:
        raise NotImplementedError

    def _open(self, db: Tables, calendar: UsageCalendar) -> None:
        """Take over the bytes that devices have before the node state is created. The default takes over none."""

    # ---- reading

    def snapshot(self) -> Snapshot:
        self._read("snapshot")
        conditions = None if self.no_conditions else self._own_conditions()
        own = {(record.row_id, record.device) for (node, _), record in self.db.records.items() if node == self._node}
        left = (row for row in self._rows() if row.interface in self._ignored and (row.id, row.device) in own)
        moved = {row.id: row.interface for row in left}
        approved, adopted = self.db.consent(self._node)
        return Snapshot(tuple(self._own_rows()), conditions, approved, self.db.held(self._node), moved, adopted)

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        self._read("some")
        rows = self._rows()
        named = tuple(row for row in rows if row.device in devices)
        if len(named) != len(devices):
            return None
        mine = {one for row in named for one in _identities(row)}
        others = (one for row in self._own_rows() if row.device not in devices for one in _identities(row))
        return None if any(one in mine for one in others) else named

    def load_state(self, calendar: UsageCalendar, *, create: bool = True) -> NodeState:
        self._read("ledger")
        if self._node not in self.db.seq:
            if not create:
                return NodeState(0, PeerRecords(), {}, frozenset())
            with self._transaction("begin") as work:
                self._begin(work, calendar)
        db = self.db
        return NodeState(
            db.seq[self._node],
            PeerRecords(record for (node, _), record in db.records.items() if node == self._node),
            {name: mark for (node, name), mark in db.interfaces.items() if node == self._node},
            frozenset(one for (node, *_), one in db.conditions.items() if node == self._node),
            db.spool.get(self._node, ""),
            self._boots(),
            db.removals.get(self._node, ()),
            db.receipts.get(self._node, ""),
        )

    def digest(self, *, at_once: bool = False) -> object:
        self._read("digest")
        return self._all_columns(), self.db.consent(self._node), self.db.held(self._node)

    # ---- writing

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        taken: frozenset[Any] = frozenset()
        with self._transaction("commit") as db:
            if db.seq.get(self._node) != node_state.revision:
                raise RevisionConflict(f"node {self._node} is not at revision {node_state.revision}")
            targets = {(b.row_id, b.device) for b in writes.postings}
            targets |= {(step.row.id, step.row.device) for step, _ in writes.transitions}
            held = self._obstacles(db, targets)
            apart = self._known_refused(targets) | held
            assert not writes.counts_only or all(has_new_counts_only(r, node_state) for r in writes.records)
            db.seq[self._node] += 1
            db.spool[self._node] = writes.spool_position or db.spool.get(self._node, "")
            db.receipts[self._node] = writes.receipt or db.receipts.get(self._node, "")
            if writes.uptime is not None:
                self._note_uptime(db, writes.uptime)
            if writes.removals:
                past = (*db.removals.get(self._node, ()), *writes.removals)
                db.removals[self._node] = remembered(past, writes.removals[-1].at)
            if writes.approval_used:
                db.approved[self._node] = None
            steps = [step for step, _ in writes.transitions]
            taken = frozenset(
                step.row.id for step in steps
                if (step.row.id, step.row.device) not in held
                and self._is_of(db, step.row.id, step.row.device)
                and self._make_transition(db, step)
            )  # fmt: skip
            ids = {step.row.id for step in steps} & self.refused.keys()
            nothing = [Posting(*at, ()) for at, (why, _) in held.items() if why is Obstacle.REFUSED and at[0] in ids]
            for posting in (*writes.postings, *nothing):
                if why := apart.get((posting.row_id, posting.device)):
                    self._set_aside(db, posting, why, calendar)
                else:
                    self._post(db, posting, calendar)
            for posting in writes.history:
                self._add_to_history(db, posting)
            self._rename_aside(db, node_state.records.renamed_devices(writes.records))
            db.records |= {(self._node, record.peer_id): record for record in writes.records}
            for slot in writes.removed:
                db.records.pop((self._node, slot), None)
            db.interfaces |= {(self._node, name): mark for name, mark in writes.checkpoints.items()}
            rename_interfaces(db, self._node, writes.renamed)
            for delta in writes.quarantined:
                db.quarantined += 1
                db.quarantine[db.quarantined] = (self._node, delta)
            for one in writes.ended:
                db.conditions.pop((self._node, one.type, one.subject), None)
            db.conditions |= {(self._node, one.type, one.subject): one for one in writes.started}
            events = (event for step, event in writes.transitions if step.row.id in taken and event)
            self._write_audit(db, [*writes.events(), *events])
        return CommitResult(node_state.apply(writes), taken, frozenset(row_id for row_id, _ in apart))

    def _begin(self, db: Tables, calendar: UsageCalendar) -> None:
        db.seq[self._node] = 0
        db.begun[self._node] = calendar.now
        self._open(db, calendar)

    def refresh(self, calendar: UsageCalendar) -> tuple[int, int]:
        """The default keeps no figure that depends on the time."""
        return 0, 0

    def rows_apart(self, months: Months) -> Mapping[Any, Apart]:
        """The default keeps no figure of a month."""
        return {}

    def purge(self, calendar: UsageCalendar, keep_days: int) -> None:
        oldest, before = calendar.day(calendar.now - keep_days * 86400), calendar.rolling_start - BUCKET_RETENTION
        with self._transaction("purge") as db:
            db.days = {at: sums for at, sums in db.days.items() if at[1] >= oldest}
            db.buckets = {at: sums for at, sums in db.buckets.items() if at[1] >= before}

    def close(self) -> None:
        self.closed = True

    # ---- behind the port

    def _own_rows(self) -> list[DeviceRow]:
        """The rows that are not another node's."""
        return [row for row in self._rows() if row.interface not in self._ignored]

    def _row_of(self, db: Tables, row_id: Any, device: str) -> Any:
        """The id of the device's row: ``row_id`` if that row still belongs to it. None: it has no row.

        A row with another name belongs to it if it has the recorded key, and if no other row has the name.
        """
        if self._is_of(db, row_id, device):
            return row_id
        other = next((number for number, row in db.devices.items() if self._name(row) == device), None)
        keys = {row.key for row in self._rows() if row.id == row_id}
        is_renamed = any(
            node == self._node and (one.row_id, one.device) == (row_id, device) and one.public_key in keys
            for (node, _), one in db.records.items()
        )
        return row_id if other is None and is_renamed else other

    def _is_of(self, db: Tables, row_id: Any, device: str) -> bool:
        row = db.devices.get(row_id)
        return row is not None and self._name(row) == device

    def _read(self, name: str) -> None:
        self.calls[name] += 1
        if self.down or self.fail_reads:
            raise StoreError("2013: Lost connection", StoreErrorCode.UNREACHABLE)
        self.reads, self.statements = self.reads + 1, self.statements + 1

    @contextlib.contextmanager
    def _transaction(self, name: str) -> Iterator[Tables]:
        """A copy of the database for a transaction. The copy becomes the database when the transaction ends."""
        self.calls[name] += 1
        if self.down:
            raise StoreError("2003: Can't connect", StoreErrorCode.UNREACHABLE)
        if self.read_only:
            raise StoreError("1290: The server is running with the --read-only option")
        fate = self.next_writes.pop(0) if self.next_writes else "ok"
        if fate == "before":
            raise StoreError("2006: Server has gone away", StoreErrorCode.UNREACHABLE)
        if fate == "crash before":
            raise Crash
        work = copy_tables(self.db)
        self.statements += 1
        yield work
        if fate == "deadlock":
            raise StoreError("1213: Deadlock found", StoreErrorCode.LOCKED)
        if fate == "during":
            raise StoreError("2013: Lost connection during query", StoreErrorCode.UNREACHABLE)
        self.db.__dict__.update(work.__dict__)
        self.commits += 1
        if fate == "after":
            raise InDoubt("2013: Lost connection during COMMIT", StoreErrorCode.UNREACHABLE)
        if fate == "crash after":
            raise Crash

    def _add_to_history(self, db: Tables, posting: Posting) -> None:
        for piece in posting.allocations:
            add_bytes(db.days, (posting.device, piece.day), piece.rx, piece.tx)
            if piece.bucket is not None:
                add_bytes(db.buckets, (posting.device, piece.bucket), piece.rx, piece.tx)

    def _post(self, db: Tables, posting: Posting, calendar: UsageCalendar) -> None:
        self._add_to_history(db, posting)
        row_id = self._row_of(db, posting.row_id, posting.device)
        if row_id is not None:
            self._add_to_device(db, replace(posting, row_id=row_id), calendar)


def _identities(row: DeviceRow) -> set[object]:
    """What no other device may have: the key and the addresses of a row."""
    found: set[object] = {row.public_key, *(text.partition("/")[0] for text in row.addresses)}
    return found - {None, ""}
