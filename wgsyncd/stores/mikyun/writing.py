"""Writes the node state and the usage of devices to MariaDB: one transaction for each write batch.

A commit takes its locks in this order:

- first the row of the node in wgsyncd_nodes
- then the node's own rows: records, interfaces, conditions, quarantine
- then the rows of customer_devices in id order, without waiting for any of them
- last the buckets and days of these devices, which all nodes share

So two nodes that share a database cannot deadlock on a device. A node never waits for a device that another node has
locked. The application waits for locked devices, so the node's own rows are written before the devices are locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceId, Transition, encode_key
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import NodeState, Posting, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import RevisionConflict, RowsLocked, StoreError, StoreErrorCode, UserError
from wgsyncd.stores.mikyun import records
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.identity import rename_interfaces
from wgsyncd.stores.mikyun.messages import AuditMessages
from wgsyncd.stores.mikyun.reading import condition_texts, to_datetime
from wgsyncd.stores.mikyun.rows import QR_END

BIGINT_MAX = 2**63 - 1  # a column that already holds this number must not make the posting of all devices fail

# Rows in one INSERT. A row of admin_logs has at most 8 KB: 1000 of them stay below max_allowed_packet (default 16 MB).
AT_ONCE = 1000
_Ids = frozenset[DeviceId]


@dataclass(frozen=True, slots=True)
class StateWriter:
    """Writes one node's state, and the bytes, transitions and audit rows of the devices that the node serves."""

    connection: Connection
    node: str
    zone: ZoneInfo
    qr_lifetime: int
    swapped: bool  # mikyun.perspective is "device": the rx_* columns get what the server sent
    has_updated_at: bool
    messages: AuditMessages

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> tuple[_Ids, _Ids]:
        """Write a batch in one transaction, which also raises the revision by one.

        Returns two sets of row ids. The transitions of the first set were applied. The rows of the second set were
        skipped, because another transaction has them locked.

        RevisionConflict: the database has another revision than ``node_state``. RowsLocked: a locked row cannot be
        skipped, because it is in ``commit_last`` or the samples come from the spool. In both cases nothing is written.
        """
        run, seq, now = self.connection.execute, node_state.revision, calendar.now
        ids = {b.row_id for b in writes.postings} | {step.row.id for step, _ in writes.transitions}
        with self.connection.transaction():
            # The condition on the revision refuses a second writer. A batch of no spooled samples keeps the position.
            used = ", approved = NULL" if writes.approval_used else ""
            sql = f"""UPDATE wgsyncd_nodes SET seq = seq + 1, spool = IF(%s = '', spool, %s){used}
                      WHERE node = %s AND seq = %s"""  # noqa: S608
            if run(sql, (writes.spool_position, writes.spool_position, self.node, seq)) != 1:
                raise RevisionConflict(f"node {self.node} is not at revision {seq}: another writer, or a lost answer")
            if ids:  # only a batch with devices can find one of them locked, and has to be written again without it
                run("SAVEPOINT nothing_kept")
            self._write_node_state(node_state, writes, now)
            # The statement is made before the locks, because others wait from there on.
            sums = self._usage_update_sql(writes.postings, calendar)
            locked = self.lock_devices(ids)
            if locked & writes.commit_last or (locked and writes.spool_position):
                raise RowsLocked(len(locked))
            if locked:
                run("ROLLBACK TO SAVEPOINT nothing_kept")
                writes = writes.excluding(locked)
                self._write_node_state(node_state, writes, now)
                sums = self._usage_update_sql(writes.postings, calendar)
            steps = sorted(writes.transitions, key=lambda one: one[0].row.id)
            applied = frozenset(step.row.id for step, _ in steps if self._apply_transition(step))
            if sums:
                run(sums)
                self._add_allocations(writes.postings)
            self._insert_audit([event for step, event in writes.transitions if step.row.id in applied and event], now)
        return applied, locked

    def _write_node_state(self, node_state: NodeState, writes: WriteBatch, now: float) -> None:
        """Write what belongs to this node alone, and the audit rows that depend on no transition."""
        self._keep_records(node_state, writes)
        rename_interfaces(self.connection, self.node, writes.renamed)
        for q in writes.quarantined:
            self.connection.execute(
                "INSERT INTO wgsyncd_quarantine (node, interface, row_id, device, rx, tx, since, until)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (self.node, q.interface, q.row_id, q.device[:64], q.rx, q.tx, q.since, q.until),
            )
        self._keep_conditions(writes, now)
        self._insert_audit(writes.audit, now)

    def lock_devices(self, ids: Iterable[DeviceId]) -> _Ids:
        """Lock rows of customer_devices for this transaction. Returns the ids that another transaction has locked.

        Waiting for these would delay the posting of all other devices until that transaction ends.
        """
        wanted = sorted(ids)
        if not wanted:
            return frozenset()
        among = f"FROM customer_devices FORCE INDEX (PRIMARY) WHERE id IN ({', '.join(map(str, wanted))})"
        # The primary key makes the server find and lock the rows in id order. Usually no row is locked by another
        # transaction, and then a count is the whole answer.
        if self.connection.query(f"SELECT COUNT(*) {among} FOR UPDATE SKIP LOCKED")[0][0] == len(wanted):
            return frozenset()
        got = {row[0] for row in self.connection.query(f"SELECT id {among} FOR UPDATE SKIP LOCKED")}
        there = {row[0] for row in self.connection.query(f"SELECT id {among}")}  # deleted rows are not locked
        return frozenset(there - got)

    def resolve_quarantine(
        self, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent], calendar: UsageCalendar
    ) -> None:
        """Delete deltas from the quarantine and post ``postings``, in one transaction.

        UserError: one of the deltas is not in the quarantine any more, or a device of ``postings`` is gone. StoreError:
        a device's row is locked. In both cases nothing is written.
        """
        places = ", ".join(["%s"] * len(ids))
        which = f"FROM wgsyncd_quarantine WHERE node = %s AND id IN ({places})"
        with self.connection.transaction():
            found = {row[0] for row in self.connection.query(f"SELECT id {which}", (self.node, *ids))}
            if unknown := sorted(set(ids) - found):
                raise UserError(f"{unknown[0]} is no delta in the quarantine of node {self.node}: nothing is done")
            if locked := self.lock_devices(one.row_id for one in postings):
                raise StoreError(f"another program has locked row {min(locked)}: try again", StoreErrorCode.LOCKED)
            if postings and self.connection.execute(self._usage_update_sql(postings, calendar)) != len(postings):
                gone = self._missing(postings)
                raise UserError(f"row {gone} is gone, so nothing is done: its delta can only be dropped")
            self._add_allocations(postings)
            # Two admins can release the same delta. The slower one deletes fewer rows than it names, and everything
            # that its transaction has posted is rolled back.
            if self.connection.execute(f"DELETE {which}", (self.node, *ids)) != len(set(ids)):
                raise UserError("another admin released or dropped one of them meanwhile: nothing is done")
            self._insert_audit(audit, calendar.now)

    def _missing(self, postings: Sequence[Posting]) -> DeviceId | None:
        rows = [one.row_id for one in postings]
        sql = f"SELECT id FROM customer_devices WHERE id IN ({', '.join(['%s'] * len(rows))})"  # noqa: S608
        return min(set(rows) - {row[0] for row in self.connection.query(sql, rows)}, default=None)

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        """Which of these deltas are still in the quarantine."""
        # The shared lock waits for a transaction that is deleting them now, so the answer is final.
        places = ", ".join(["%s"] * len(ids))
        sql = f"SELECT id FROM wgsyncd_quarantine WHERE node = %s AND id IN ({places}) LOCK IN SHARE MODE"  # noqa: S608
        return frozenset(row[0] for row in self.connection.query(sql, (self.node, *ids)))

    def _insert_audit(self, audit: Iterable[AuditEvent], now: float) -> None:
        at = to_datetime(now, self.zone)
        self._insert(
            "admin_logs (action_type, target_type, target_id, message, created_at)",
            [(*e, at) for e in self.messages.entries(audit)],
        )

    def _apply_transition(self, step: Transition) -> bool:
        """Apply a transition if the row still is what the transition was decided on. Returns whether it was applied.

        A time that the row already has for its first handshake or its activation stays.
        """
        row, at = step.row, to_datetime(step.at, self.zone)
        first, values = "", [] if step.kind is TransitionKind.EXPIRE else [at]
        if step.kind is TransitionKind.EXPIRE:
            first = "status = 'expired'"
        else:
            first = "first_handshake_at = COALESCE(first_handshake_at, %s)"
            if step.kind is TransitionKind.ACTIVATE:
                first = f"status = 'active', activated_at = COALESCE(activated_at, %s), {first}"
                values.append(at)
        condition = "id = %s AND status = %s AND public_key <=> %s"  # <=> also finds a key that is NULL
        key = encode_key(row.public_key) if isinstance(row.public_key, bytes) else row.public_key
        where: list[object] = [row.id, row.status.value, key]
        if step.kind is not TransitionKind.FIRST_HANDSHAKE:  # a QR code that was renewed meanwhile is another one
            condition += f" AND CAST({QR_END.format(d='', seconds=self.qr_lifetime)} AS CHAR) <=> %s"
            where.append(row.version)
        sql = f"UPDATE customer_devices SET {first}{self.keep_updated_at_sql('')} WHERE {condition}"  # noqa: S608
        return self.connection.execute(sql, (*values, *where)) == 1

    def keep_updated_at_sql(self, prefix: str) -> str:
        # The column belongs to the application. ON UPDATE CURRENT_TIMESTAMP moves it unless the statement sets it.
        return f", {prefix}updated_at = {prefix}updated_at" if self.has_updated_at else ""

    def _usage_update_sql(self, postings: Sequence[Posting], calendar: UsageCalendar) -> str:
        """The UPDATE that adds bytes and handshakes to the columns of customer_devices. Empty if there is no posting.

        The UPDATE joins a list of values. So it needs grants on columns only, and it cannot create again a row that
        was deleted meanwhile.
        """
        if not postings:
            return ""
        rx, tx = ("tx", "rx") if self.swapped else ("rx", "tx")
        # A sum may be larger than a BIGINT: it is made as DECIMAL and then cut to BIGINT_MAX.
        sums = ", ".join(
            f"d.{column}_bytes_{window} ="
            f" LEAST(CAST(COALESCE(d.{column}_bytes_{window}, 0) AS DECIMAL(20)) + v.{side}_{window}, {BIGINT_MAX})"
            for window in ("total", "24h", "month")
            for column, side in (("rx", rx), ("tx", tx))
        )
        # The values are numbers and times that wgsyncd made, so they are safe as text. The driver needs more time to
        # put values into a statement than the server needs to execute it.
        rows = ", ".join(self._values(one, calendar) for one in postings)
        # The first SELECT gives the list its column names and types. Id 0 belongs to no device. STRAIGHT_JOIN and the
        # primary key let the server read the list first and each device by its id. An older handshake changes nothing.
        return f"""UPDATE (SELECT 0 AS id, 0 AS rx_total, 0 AS tx_total, 0 AS rx_24h, 0 AS tx_24h, 0 AS rx_month,
                                  0 AS tx_month, CAST(NULL AS DATETIME) AS handshake UNION ALL VALUES {rows}) v
                   STRAIGHT_JOIN customer_devices d FORCE INDEX (PRIMARY) ON v.id = d.id
                   SET {sums}, d.last_handshake_at = IF(v.handshake IS NULL OR d.last_handshake_at >= v.handshake,
                                                        d.last_handshake_at, v.handshake)
                       {self.keep_updated_at_sql("d.")}"""  # noqa: S608

    def _values(self, posting: Posting, calendar: UsageCalendar) -> str:
        every, (first, beyond) = posting.allocations, calendar.month
        in_24h = [one for one in every if one.bucket is not None and one.bucket >= calendar.rolling_start]
        in_month = [one for one in every if first <= one.day < beyond]
        sums = [f"{sum(one.rx for one in some)},{sum(one.tx for one in some)}" for some in (every, in_24h, in_month)]
        handshake = "NULL" if posting.handshake is None else repr(to_datetime(posting.handshake, self.zone))
        return f"({posting.row_id:d},{','.join(sums)},{handshake})"

    def _add_allocations(self, postings: Sequence[Posting]) -> None:
        """Add the same bytes to the buckets and days of the devices.

        A bucket or a day may exist already, for example from another node: then the bytes are added to it.
        """
        pieces = [(one.row_id, part) for one in postings for part in one.allocations]
        buckets = [f"({i:d},{p.bucket},{p.rx},{p.tx})" for i, p in pieces if p.bucket is not None]
        days = [f"({i:d},'{p.day}',{p.rx},{p.tx})" for i, p in pieces]
        for table, values in (
            ("wgsyncd_buckets (row_id, start, rx, tx)", buckets),
            ("wgsyncd_days (row_id, day, rx, tx)", days),
        ):
            if values:
                add = "ON DUPLICATE KEY UPDATE rx = rx + VALUES(rx), tx = tx + VALUES(tx)"
                self.connection.execute(f"INSERT INTO {table} VALUES {', '.join(values)} {add}")  # noqa: S608

    def _keep_records(self, node_state: NodeState, writes: WriteBatch) -> None:
        records.save(self.connection, self.node, node_state, writes.records)
        if writes.removed:
            places = ", ".join(["(%s, %s)"] * len(writes.removed))
            self.connection.execute(
                f"DELETE FROM wgsyncd_peers WHERE node = %s AND (interface, public_key) IN ({places})",  # noqa: S608
                (self.node, *_flat(writes.removed)),
            )
        self._insert(
            "wgsyncd_interfaces (node, interface, epoch, sampled_at)",
            [(self.node, name, mark.epoch, mark.at) for name, mark in writes.checkpoints.items()],
            " ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), sampled_at = VALUES(sampled_at)",
        )

    def _keep_conditions(self, writes: WriteBatch, now: float) -> None:
        for condition in writes.ended:
            self.connection.execute(
                "DELETE FROM wgsyncd_conditions WHERE node = %s AND kind = %s AND subject = %s",
                (self.node, condition.type, condition.subject),
            )
        # A condition that is started again, for example with another reason, replaces its row.
        self._insert(
            "wgsyncd_conditions (node, kind, subject, label, detail, since)",
            [(self.node, *(text[:255] for text in condition_texts(c)), now) for c in writes.started],
            " ON DUPLICATE KEY UPDATE label = VALUES(label), detail = VALUES(detail), since = VALUES(since)",
        )

    def _insert(self, into: str, rows: Sequence[Values], rest: str = "") -> None:
        for at in range(0, len(rows), AT_ONCE):
            part = rows[at : at + AT_ONCE]
            places = ", ".join([f"({', '.join(['%s'] * len(part[0]))})"] * len(part))
            self.connection.execute(f"INSERT INTO {into} VALUES {places}{rest}", _flat(part))  # noqa: S608

    def begin_node(self, calendar: UsageCalendar) -> None:
        """Create the node's first state. Does nothing if the node has one.

        The columns of the rolling window and the month may already hold bytes. They become an opening balance in
        wgsyncd_buckets and wgsyncd_days. Otherwise the first refresh of the windows would set them to zero.
        """
        rx, tx = ("tx", "rx") if self.swapped else ("rx", "tx")
        # NOT EXISTS: another node may have applied over a device's columns before. A second balance would count twice.
        opening = """INSERT IGNORE INTO {table} SELECT d.id, %s, GREATEST(COALESCE(d.{rx}_bytes_{window}, 0), 0),
                     GREATEST(COALESCE(d.{tx}_bytes_{window}, 0), 0) FROM customer_devices d
                     WHERE (d.rx_bytes_{window} > 0 OR d.tx_bytes_{window} > 0)
                       AND NOT EXISTS (SELECT 1 FROM {table} t WHERE t.row_id = d.id)"""
        with self.connection.transaction():
            begin = "INSERT IGNORE INTO wgsyncd_nodes (node, seq, begun) VALUES (%s, 0, %s)"
            if not self.connection.execute(begin, (self.node, calendar.now)):
                return
            bucket = int(calendar.now // calendar.width) * calendar.width
            for table, window, at in (("wgsyncd_buckets", "24h", bucket), ("wgsyncd_days", "month", calendar.month[0])):
                self.connection.execute(opening.format(table=table, window=window, rx=rx, tx=tx), (at,))


def _flat(rows: Iterable[Values]) -> tuple[object, ...]:
    return tuple(value for row in rows for value in row)
