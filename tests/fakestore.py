"""A store in memory, which behaves like the store on MariaDB and fails when told to.

Its tables are dicts with the columns of mikyun_cloud. So the same tests run on both (tests/contract/test_store.py).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.fakes import Crash
from tests.tables import MOST, Device, FakeDatabase, Sums, figures, word
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import Counters, DeviceRow, Status, Transition, read_key
from wgsyncd.core.records import PeerRecords
from wgsyncd.core.state import Condition, NodeState, Posting, QuarantineEntry, WriteBatch
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, UsageCalendar
from wgsyncd.errors import InDoubt, RevisionConflict, RowsLocked, StoreError, UserError
from wgsyncd.ports import CommitResult, Snapshot
from wgsyncd.stores.mikyun.eligibility import inactive_reasons
from wgsyncd.stores.mikyun.messages import AuditMessages

CONTRACT_WORDS = (None, "active", "paused", "terminated", "deleted")
PLANNED = ("id", "device_id", "contract_id", "wg_iface", "wg_ip", "public_key", "preshared_key", "status", "is_parent",
           "qr_expires_at", "issued_at", "created_at", "deleted_at")  # fmt: skip


class FakeStore:
    """Implements the port Store over a database in memory.

    It counts:

    - ``calls``: calls of each method
    - ``reads``: reads that got an answer
    - ``commits``: transactions that were committed
    - ``statements``: everything that reached the tables

    Each fault stays until the test takes it back:

    - ``down``: no answer at all
    - ``fail_reads``: every read fails
    - ``read_only``: error 1290 for every write
    - ``no_conflicts``: the view of parent conflicts cannot be read
    - ``locked``: ids of rows that another transaction has locked

    ``next_writes`` has the fates of the next writes in order:

    - "ok"
    - "before": StoreError, and nothing is written
    - "during": StoreError, and the transaction is rolled back
    - "after": InDoubt, and everything is written: the answer is lost
    - "deadlock": error 1213, and the transaction is rolled back
    - "crash before", "crash after": the process dies before or after the transaction
    """

    def __init__(self, settings: Settings, database: FakeDatabase | None = None) -> None:
        self.db = database or FakeDatabase()
        self.down = self.fail_reads = self.read_only = self.closed = False
        self.no_conflicts = False
        self.locked: set[int] = set()
        self.next_writes: list[str] = []
        self.calls: Counter[str] = Counter()
        self.reads = self.commits = self.statements = 0
        self._node, self._zone = settings.node.name, settings.node.zone
        self._messages = AuditMessages(settings.mikyun.language, self._zone)
        self._lifetime = int(settings.mikyun.qr.lifetime)
        self._sides = ("tx", "rx") if settings.mikyun.perspective == "device" else ("rx", "tx")

    # ---- reading

    def snapshot(self) -> Snapshot:
        self._read("snapshot")
        parents = Counter(d["contract_id"] for d in self.db.devices.values() if d["is_parent"] and not d["deleted_at"])
        held = sum(1 for node, _ in self.db.quarantine.values() if node == self._node)
        return Snapshot(
            tuple(self._row(self.db.devices[number]) for number in sorted(self.db.devices)),
            None
            if self.no_conflicts
            else frozenset(
                Condition("parent_conflict", contract, contract, str(count))
                for contract, count in parents.items()
                if count > 1
            ),
            self.db.approved.get(self._node),
            held,
        )

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        self._read("some")
        named = [self.db.devices[n] for n in sorted(self.db.devices) if self.db.devices[n]["device_id"] in devices]
        if len(named) != len(devices):
            return None
        keys = {d["public_key"] for d in named} - {None}
        hosts = {(d["wg_ip"] or "").partition("/")[0] for d in named}
        for other in self.db.devices.values():
            if other["device_id"] not in devices and (
                other["public_key"] in keys or (other["wg_ip"] or "~").partition("/")[0] in hosts
            ):
                return None
        return tuple(map(self._row, named))

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
        )

    def digest(self) -> object:
        self._read("digest")
        rows = [
            (*(device[column] for column in PLANNED), self.db.contracts.get(device["contract_id"]))
            for _, device in sorted(self.db.devices.items())
        ]
        return rows, self.db.approved.get(self._node)

    def device_totals(self, scope: VerifyRanges) -> Iterator[DeviceTotals]:
        self._read("figures")
        db = self.db
        if self._node not in db.seq:
            raise StoreError(f"node {self._node} has no books yet")
        scope = scope.after(max(db.begun.values()))
        return iter([figures(db, number, scope, self._sides) for number in sorted(db.devices)])

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        self._read("quarantine")
        return tuple(
            QuarantineEntry(number, one) for number, (node, one) in self.db.quarantine.items() if node == self._node
        )

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        return frozenset(one.id for one in self.quarantine() if one.id in ids)

    # ---- writing

    def resolve_quarantine(
        self, ids: Collection[int], booked: Sequence[Posting], audit: Sequence[AuditEvent], now: float
    ) -> None:
        with self._transaction("discharge") as db:
            if any(db.quarantine.get(number, ("",))[0] != self._node for number in ids):
                raise UserError("one of them is no delta in the quarantine")
            if any(one.row_id not in db.devices for one in booked):
                raise UserError("a row is gone")
            if any(one.row_id in self.locked for one in booked):
                raise StoreError("1205: a row is locked by somebody else", 1205)
            for one in booked:
                self._book(db, one)
            for number in set(ids):
                del db.quarantine[number]
            db.logs += self._messages.entries(audit)

    def commit(self, node_state: NodeState, writes: WriteBatch, now: float) -> CommitResult:
        taken: frozenset[int] = frozenset()
        with self._transaction("commit") as db:
            if db.seq.get(self._node) != node_state.revision:
                raise RevisionConflict(f"the books of node {self._node} are not at {node_state.revision}")
            ids = {b.row_id for b in writes.postings} | {step.row.id for step, _ in writes.transitions}
            left_out = frozenset(ids & self.locked & db.devices.keys())
            if left_out & writes.commit_last or (left_out and writes.spool_position):
                raise RowsLocked(len(left_out))
            writes = writes.excluding(left_out)
            db.seq[self._node] += 1
            db.spool[self._node] = writes.spool_position or db.spool.get(self._node, "")
            if writes.approval_used:
                db.approved[self._node] = None
            taken = frozenset(step.row.id for step, _ in writes.transitions if self._take(db, step))
            for booked in writes.postings:
                self._book(db, booked)
            db.records |= {(self._node, record.peer_id): record for record in writes.records}
            for slot in writes.removed:
                db.records.pop((self._node, slot), None)
            db.interfaces |= {(self._node, name): mark for name, mark in writes.checkpoints.items()}
            for delta in writes.quarantined:
                db.quarantined += 1
                db.quarantine[db.quarantined] = (self._node, delta)
            for one in writes.ended:
                db.conditions.pop((self._node, one.type, one.subject), None)
            db.conditions |= {(self._node, one.type, one.subject): one for one in writes.started}
            steps = (event for step, event in writes.transitions if step.row.id in taken and event)
            db.logs += self._messages.entries([*writes.audit, *steps])
        return CommitResult(node_state.apply(writes), taken, left_out)

    def refresh_windows(self, calendar: UsageCalendar) -> tuple[int, int]:
        self._read("roll")
        wrong = {number: want for number in self.db.devices if (want := self._windows_differ(number, calendar))}
        if wrong:
            with self._transaction("roll") as db:
                for number in wrong.keys() - self.locked:
                    db.devices[number] |= wrong[number]
        return len(wrong), len(wrong.keys() & self.locked)

    def purge(self, calendar: UsageCalendar, keep_days: int) -> None:
        oldest, before = calendar.day(calendar.now - keep_days * 86400), calendar.rolling_start - BUCKET_RETENTION
        with self._transaction("purge") as db:
            db.days = {at: sums for at, sums in db.days.items() if at[1] >= oldest}
            db.buckets = {at: sums for at, sums in db.buckets.items() if at[1] >= before}

    def approve(self, plan_id: str) -> None:
        with self._transaction("approve") as db:
            if self._node not in db.seq:
                raise StoreError(f"node {self._node} has no books yet")
            db.approved[self._node] = plan_id

    def close(self) -> None:
        self.closed = True

    # ---- behind the port

    def _read(self, name: str) -> None:
        self.calls[name] += 1
        if self.down or self.fail_reads:
            raise StoreError("2013: Lost connection", 2013)
        self.reads += 1
        self.statements += 1

    @contextlib.contextmanager
    def _transaction(self, name: str) -> Iterator[FakeDatabase]:
        """A copy of the database for a transaction. The copy becomes the database when the transaction ends."""
        self.calls[name] += 1
        if self.down:
            raise StoreError("2003: Can't connect", 2003)
        if self.read_only:
            raise StoreError("1290: The server is running with the --read-only option", 1290)
        fate = self.next_writes.pop(0) if self.next_writes else "ok"
        if fate == "before":
            raise StoreError("2006: Server has gone away", 2006)
        if fate == "crash before":
            raise Crash
        work = self.db.copy()
        self.statements += 1
        yield work
        if fate == "deadlock":
            raise StoreError("1213: Deadlock found", 1213)
        if fate == "during":
            raise StoreError("2013: Lost connection during query", 2013)
        self.db.__dict__.update(work.__dict__)
        self.commits += 1
        if fate == "after":
            raise InDoubt("2013: Lost connection during COMMIT", 2013)
        if fate == "crash after":
            raise Crash

    def _begin(self, db: FakeDatabase, calendar: UsageCalendar) -> None:
        db.seq[self._node] = 0
        db.begun[self._node] = calendar.now
        bucket = int(calendar.now // calendar.width) * calendar.width
        for table, window, at in ((db.buckets, "24h", bucket), (db.days, "month", calendar.month[0])):
            begun = {number for number, _ in table}
            for number, device in db.devices.items():
                rx, tx = (max(device[f"{side}_bytes_{window}"] or 0, 0) for side in self._sides)
                if (rx or tx) and number not in begun:
                    table[number, at] = Counters(rx, tx)

    def _row(self, d: Device) -> DeviceRow:
        status, contract = word(d["status"]), self.db.contracts.get(d["contract_id"])
        known = status in ("issued", "active", "paused", "revoked", "expired", "deleted")
        standing = None if contract is None else word(contract)
        return DeviceRow(
            id=d["id"],
            device=d["device_id"],
            owner=d["contract_id"],
            interface=d["wg_iface"] or "",
            address=d["wg_ip"] or "",
            public_key=read_key(d["public_key"]),
            preshared_key=read_key(d["preshared_key"]),
            status=Status(status) if status in ("issued", "active") else Status.OFF,
            status_text=status if known else "of unknown status",
            inactive=inactive_reasons(
                d["contract_id"],
                standing if standing in CONTRACT_WORDS else "of unknown status",
                deleted=d["deleted_at"] is not None,
            ),
            activation_deadline=_seconds(
                end := self._qr_end(d) if status in ("issued", "expired") else None, self._zone
            ),
            version=end,
            first_handshake_known=d["first_handshake_at"] is not None or d["last_handshake_at"] is not None,
            has_no_usage=not d["rx_bytes_total"] and not d["tx_bytes_total"] and d["last_handshake_at"] is None,
        )

    def _qr_end(self, d: Device) -> str | None:
        for column, after in (("qr_expires_at", 0), ("issued_at", self._lifetime), ("created_at", self._lifetime)):
            at = _datetime(d[column])
            with contextlib.suppress(OverflowError):  # MariaDB gives NULL
                if at is not None:
                    return (at + timedelta(seconds=after)).isoformat(" ")
        return None

    def _text(self, seconds: float) -> str:
        return datetime.fromtimestamp(int(seconds), self._zone).strftime("%Y-%m-%d %H:%M:%S")

    def _take(self, db: FakeDatabase, step: Transition) -> bool:
        row, device = step.row, db.devices.get(step.row.id)
        if (
            device is None
            or word(device["status"]) != row.status.value
            or read_key(device["public_key"]) != row.public_key
        ):
            return False
        if step.kind != "first_handshake" and self._qr_end(device) != row.version:
            return False
        if step.kind == "expire":
            device["status"] = "expired"
            return True
        device["first_handshake_at"] = device["first_handshake_at"] or self._text(step.at)
        if step.kind == "activate":
            device["status"] = "active"
            device["activated_at"] = device["activated_at"] or self._text(step.at)
        return True

    def _book(self, db: FakeDatabase, booked: Posting) -> None:
        for piece in booked.allocations:
            _add(db.days, (booked.row_id, piece.day), piece.rx, piece.tx)
            if piece.bucket is not None:
                _add(db.buckets, (booked.row_id, piece.bucket), piece.rx, piece.tx)
        device = db.devices.get(booked.row_id)
        if device is None:
            return
        for window, sums in (("total", (booked.rx, booked.tx)), ("24h", booked.in_24h), ("month", booked.in_month)):
            for side, more in zip(self._sides, sums, strict=True):
                column = f"{side}_bytes_{window}"
                device[column] = min((device[column] or 0) + more, MOST)
        if booked.handshake is not None:
            at = self._text(booked.handshake)
            device["last_handshake_at"] = max(device["last_handshake_at"] or at, at)

    def _windows_differ(self, number: int, calendar: UsageCalendar) -> dict[str, int]:
        first, beyond = calendar.month
        recent = [
            s
            for (row, at), s in self.db.buckets.items()
            if row == number and calendar.rolling_start <= at <= calendar.now
        ]
        month = [s for (row, day), s in self.db.days.items() if row == number and first <= day < beyond]
        want = {
            f"{side}_bytes_{window}": min(sum(s[index] for s in some), MOST)
            for window, some in (("24h", recent), ("month", month))
            for index, side in enumerate(self._sides)
        }
        have = {column: self.db.devices[number][column] for column in want}
        return want if want != have else {}


def _add(sums: Sums, at: tuple[int, Any], rx: int, tx: int) -> None:
    old = sums.get(at, Counters(0, 0))
    sums[at] = Counters(old.rx + rx, old.tx + tx)


def _datetime(text: str | None) -> datetime | None:
    return None if text is None or text.startswith("0000") else datetime.fromisoformat(text)


def _seconds(text: str | None, zone: ZoneInfo) -> float | None:
    at = _datetime(text)
    if at is None or not 1970 <= at.year < 9999:
        return None
    return max(0.0, at.replace(tzinfo=zone).timestamp())
