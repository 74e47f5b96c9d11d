"""Writes the node state and the usage of devices to MariaDB: one transaction for each write batch.

The usual batch is one UPDATE (:mod:`wgsyncd.stores.mikyun.usual`). Any other transaction takes its locks in this order:

- first the row of the node in wgsyncd_nodes
- then the node's own rows: records, interfaces, conditions, quarantine
- then the rows of customer_devices in id order, without waiting for any of them
- last the buckets and days of these devices, which all nodes share, and what the node sets aside

So two nodes that share a database cannot deadlock on a device. A node never waits for a device that another node has
locked. The application waits for locked devices, so the node's own rows are written before the devices are locked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from zoneinfo import ZoneInfo

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceId, Transition, encode_key
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import NodeState, Posting, WriteBatch
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import RevisionConflict, StoreError, StoreErrorCode
from wgsyncd.stores.alike import save_removals
from wgsyncd.stores.holding import rename_interfaces
from wgsyncd.stores.mikyun import pieces, records, usual
from wgsyncd.stores.mikyun.changing import TIME_IS_UP, Changer, RolledBack
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.dialect import MARIADB
from wgsyncd.stores.mikyun.reading import stored_id, to_datetime
from wgsyncd.stores.mikyun.row_text import QR_END
from wgsyncd.stores.mikyun.set_aside import Aside, Waiting
from wgsyncd.stores.mikyun.targets import NO_ROW, Target, lock_devices
from wgsyncd.stores.mikyun.trail import AT_ONCE, AuditTrail
from wgsyncd.stores.mikyun.usage_columns import UsageColumns, add_to_history
from wgsyncd.stores.own_values import condition_texts

_KEPT = "COALESCE(NULLIF({}, 0), %s)"  # the zero date means that there is no date
_Ids = frozenset[DeviceId]
_Obstacles = Mapping[Target, tuple[Obstacle, str]]  # why rows cannot be changed, with the server's error


@dataclass(frozen=True, slots=True)
class StateWriter:
    """Writes one node's state, and the bytes, transitions and audit rows of the devices that the node serves."""

    connection: Connection
    node: str
    zone: ZoneInfo
    qr_lifetime: int
    columns: UsageColumns
    trail: AuditTrail
    usual: usual.UsualPosting
    aside: Aside
    changer: Changer

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> tuple[_Ids, _Ids]:
        """Write a batch in one transaction, which also raises the revision by one.

        Returns two sets of row ids. The transitions of the first set were applied. The rows of the second set cannot
        be changed at present: no transition of theirs was applied, and their postings were set aside.

        RevisionConflict: the database has another revision than ``node_state``. Then nothing is written.
        """
        if writes.renamed:
            self.usual.forget()
        undone = unposted = _Ids()
        while True:
            try:
                return self._commit(node_state, writes, calendar, undone, unposted)
            except _Unposted as error:
                unposted |= error.rows
            except RolledBack as error:  # each time for other rows, because these are not changed any more
                undone |= error.rows

    def _commit(
        self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar, undone: _Ids, unposted: _Ids
    ) -> tuple[_Ids, _Ids]:
        """See :meth:`commit`. The server undid the whole transaction for a transition of the rows ``undone``, or for
        postings to the rows ``unposted``.
        """
        run, revision, now = self.connection.execute, node_state.revision, calendar.now
        known = self.aside.refused(self.connection)
        at_once = None
        if not undone and not unposted and not self.changer.is_tired:
            at_once = self.usual.statement(self.connection, self.columns, node_state, writes, calendar, known)
        with self.connection.transaction():
            if at_once is not None:
                found = self.connection.try_change(at_once)
                if found == usual.matches(writes):
                    self._keep_checkpoints(writes)
                    return frozenset(), frozenset()
                run("ROLLBACK AND CHAIN")
                if isinstance(found, int):
                    self.usual.forget()
            # The condition on the revision refuses a second writer. A batch of no spooled samples keeps the position.
            more = usual.uptime_sql(writes) + (", approved_plan = NULL" if writes.approval_used else "")
            sql = f"""UPDATE wgsyncd_nodes SET revision = revision + 1,
                             spool_position = IF(%s = '', spool_position, %s), receipt = IF(%s = '', receipt, %s){more}
                      WHERE node = %s AND revision = %s"""  # noqa: S608
            if run(sql, (*(writes.spool_position,) * 2, *(writes.receipt,) * 2, self.node, revision)) != 1:
                raise RevisionConflict(
                    f"node {self.node} is not at revision {revision}: another writer, or a lost answer"
                )
            targets = {(b.row_id, b.device) for b in writes.postings}
            targets |= {(step.row.id, step.row.device) for step, _ in writes.transitions}
            self._write_node_state(node_state, writes, now)
            locked, replaced = lock_devices(self.connection, self.node, targets)
            locked |= {one for one in targets if replaced.get(one, one[0]) in undone}
            obstacles = {one: (Obstacle.REFUSED, "") for one in targets if one[1] in known}
            obstacles |= dict.fromkeys(locked, (Obstacle.LOCKED, ""))
            applied: set[DeviceId] = set()
            held: list[Waiting] = []
            for step, _ in sorted(writes.transitions, key=lambda one: one[0].row.id):
                target = step.row.id, step.row.device
                if target in locked or target in replaced:  # a row id may be another device's by now
                    continue
                done = self._apply_transition(step)
                if isinstance(done, StoreError):
                    obstacles[target] = _obstacle(done)
                    held.append(Waiting(Posting(*target, ()), *obstacles[target]))
                elif done:
                    applied.add(step.row.id)
            late = {one for one in targets if replaced.get(one, one[0]) in unposted}
            obstacles |= dict.fromkeys(late, (Obstacle.LOCKED, ""))
            try:
                held += self.post(writes.postings, replaced, calendar, obstacles)
            except RolledBack as error:
                raise _Unposted(error, error.rows) from error
            add_to_history(self.connection, writes.history)
            self.aside.hold(self.connection, held, calendar)
            self.insert_audit([event for step, event in writes.transitions if step.row.id in applied and event], now)
        return frozenset(applied), frozenset(one.posting.row_id for one in held) | {row_id for row_id, _ in locked}

    def post(
        self, postings: Sequence[Posting], replaced: Mapping[Target, DeviceId], calendar: UsageCalendar,
        obstacles: _Obstacles,
    ) -> list[Waiting]:  # fmt: skip
        """Add postings to the columns of their rows, and to the history of their devices.

        Returns the postings of rows that cannot be changed. Nothing is written for these.
        """
        targets: dict[DeviceId, Posting] = {}  # an UPDATE that joins a list changes each row only once
        held: list[Waiting] = []
        for one in postings:
            if obstacle := obstacles.get((one.row_id, one.device)):
                held.append(Waiting(one, *obstacle))
                continue
            row_id = replaced.get((one.row_id, one.device), one.row_id)
            moved = replace(one, row_id=row_id)
            if row_id == NO_ROW:
                add_to_history(self.connection, [moved])
            else:
                targets[row_id] = targets[row_id] + moved if row_id in targets else moved

        def update(some: Sequence[DeviceId]) -> tuple[str, Values]:
            return self.columns.update([targets[row_id] for row_id in some], calendar), ()

        left = self.changer.change(self.connection, sorted(targets), update)
        held += [Waiting(targets.pop(row_id), *_obstacle(why)) for row_id, why in left.items()]
        add_to_history(self.connection, pieces.add(self.connection, self.node, targets.values(), calendar))
        return held

    def _write_node_state(self, node_state: NodeState, writes: WriteBatch, now: float) -> None:
        """Write what belongs to this node alone, and the audit rows that depend on no transition."""
        self._keep_records(node_state, writes)
        rename_interfaces(self.connection, MARIADB, self.node, writes.renamed, self._close_pieces)
        for q in writes.quarantined:
            self.connection.execute(
                "INSERT INTO wgsyncd_quarantine (node, interface, row_id, device, rx, tx, since, until)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (self.node, q.interface, stored_id(q.row_id), q.device[:64], q.rx, q.tx, q.since, q.until),
            )
        self._keep_conditions(writes, now)
        save_removals(self.connection, MARIADB, self.node, writes.removals)
        self.insert_audit(writes.events(), now)

    def _close_pieces(self, interface: str) -> None:
        pieces.close(self.connection, "node = %s AND interface = %s", (self.node, interface))

    def insert_audit(self, audit: Iterable[AuditEvent], now: float) -> None:
        self.trail.insert(self.connection, audit, now)

    def _apply_transition(self, step: Transition) -> bool | StoreError:
        """Apply a transition if the row still is what the transition was decided on. Returns whether it was applied.

        An error is returned if the server refuses to change the row.
        A time that the row already has for its first handshake or its activation stays.
        """
        row, at = step.row, to_datetime(step.at, self.zone)
        first, values = "", [] if step.kind is TransitionKind.EXPIRE else [at]
        if step.kind is TransitionKind.EXPIRE:
            first = "status = 'expired'"
        else:
            first = f"first_handshake_at = {_KEPT.format('first_handshake_at')}"
            if step.kind is TransitionKind.ACTIVATE:
                first = f"status = 'active', activated_at = {_KEPT.format('activated_at')}, {first}"
                values.append(at)
        # The status matches in a column that knows the case, too. <=> also finds NULL.
        condition = "id = %s AND CONVERT(status USING utf8mb4) = %s COLLATE utf8mb4_general_ci AND public_key <=> %s"
        key = encode_key(row.public_key) if isinstance(row.public_key, bytes) else row.public_key
        where: list[object] = [row.id, row.status.value, key]
        if step.kind is not TransitionKind.FIRST_HANDSHAKE:  # a QR code that was renewed meanwhile is another one
            condition += f" AND CAST({QR_END.format(d='', seconds=self.qr_lifetime)} AS CHAR) <=> %s"
            where.append(row.version)
        # An UPDATE would refuse a date beyond the year 9999 in its condition. Whether it does depends on its index.
        if not self.connection.query(f"SELECT 1 FROM customer_devices WHERE {condition} FOR UPDATE SKIP LOCKED", where):  # noqa: S608
            return False
        sql = f"UPDATE customer_devices SET {first}{self.columns.keep_updated_at('')} WHERE id = %s"  # noqa: S608
        return self.changer.change(self.connection, [row.id], lambda _: (sql, (*values, row.id))).get(row.id, True)

    def _keep_records(self, node_state: NodeState, writes: WriteBatch) -> None:
        for row_id, old, new in node_state.records.renamed_devices(writes.records):
            self.aside.rename(self.connection, row_id, old, new)
        records.save(self.connection, self.node, node_state, writes.records)
        if writes.removed:
            pieces.close_of(self.connection, self.node, writes.removed)
            places = ", ".join(["(%s, %s)"] * len(writes.removed))
            self.connection.execute(
                f"DELETE FROM wgsyncd_peers WHERE node = %s AND (interface, public_key) IN ({places})",  # noqa: S608
                (self.node, *chain.from_iterable(writes.removed)),
            )
        self._keep_checkpoints(writes)

    def _keep_checkpoints(self, writes: WriteBatch) -> None:
        self._insert(
            "wgsyncd_interfaces (node, interface, epoch, sampled_at)",
            [(self.node, name, mark.epoch, mark.at) for name, mark in writes.checkpoints.items()],
            " ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), sampled_at = VALUES(sampled_at)",
        )

    def _keep_conditions(self, writes: WriteBatch, now: float) -> None:
        for condition in writes.ended:
            self.connection.execute(
                "DELETE FROM wgsyncd_conditions WHERE node = %s AND type = %s AND subject = %s",
                (self.node, condition.type, condition.subject),
            )
        # A condition that is started again, for example with another reason, replaces its row.
        self._insert(
            "wgsyncd_conditions (node, type, subject, name, reason, since)",
            [(self.node, *(text[:255] for text in condition_texts(c)), now) for c in writes.started],
            " ON DUPLICATE KEY UPDATE name = VALUES(name), reason = VALUES(reason), since = VALUES(since)",
        )

    def _insert(self, into: str, rows: Sequence[Values], rest: str = "") -> None:
        for at in range(0, len(rows), AT_ONCE):
            part = rows[at : at + AT_ONCE]
            places = ", ".join([f"({', '.join(['%s'] * len(part[0]))})"] * len(part))
            self.connection.execute(f"INSERT INTO {into} VALUES {places}{rest}", tuple(chain.from_iterable(part)))  # noqa: S608


class _Unposted(RolledBack):
    """The server has undone the whole transaction for a statement of postings."""


def _obstacle(error: StoreError) -> tuple[Obstacle, str]:
    if error is TIME_IS_UP:
        return Obstacle.LATE, ""
    return (Obstacle.LOCKED, "") if error.code is StoreErrorCode.LOCKED else (Obstacle.REFUSED, str(error))
