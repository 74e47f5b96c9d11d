"""The part of the stores in memory that knows which machine holds a node."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Generic

from tests.memorytables import Boot, Tables
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.identity import LOST_TIME, NOBODY, SILENCE, Claimed, Heartbeat, Holder, Identity, OtherNode
from wgsyncd.core.records import DOUBT, doubted
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError


class MemoryHolder(Generic[Tables]):
    """Implements the port HolderStore. ``clock``: the clock of the store."""

    clock: Callable[[], float] = staticmethod(time.time)
    is_active = True
    db: Tables
    _node: str
    _interfaces: frozenset[str]  # which this node serves
    _read: Callable[[str], None]
    _transaction: Callable[[str], AbstractContextManager[Tables]]

    def holder(self) -> Holder | None:
        self._read("holder")
        if self._node not in self.db.seq:
            return None
        self._bring_back()
        identity, heartbeat = self.db.holders.get(self._node, (NOBODY, 0.0))
        age = self.clock() - heartbeat if heartbeat else None
        return Holder(identity, heartbeat, age, self.db.seq[self._node])

    def _bring_back(self) -> None:
        """Let a heartbeat that is in the future by now count from now on."""
        now = self.clock()
        if any(at > now + 1 for _, at in self.db.holders.values()):
            with self._transaction("bring back") as db:
                db.holders = {node: (who, now if at > now + 1 else at) for node, (who, at) in db.holders.items()}

    def claim(
        self, identity: Identity, uptime: float | None, seen: Holder | None, audit: Sequence[AuditEvent],
        calendar: UsageCalendar, displaced: Collection[str] = (),
    ) -> Claimed:  # fmt: skip
        with self._transaction("claim") as db:
            if self._node not in db.seq:
                self._begin(db, calendar)
            known = db.holders.get(self._node, (NOBODY, 0.0))
            expected = (seen.identity, seen.heartbeat) if seen is not None else (NOBODY, 0.0)
            if known != expected:
                return Claimed(done=False)
            now = self.clock()
            db.holders[self._node] = identity, now
            db.serves[self._node] = self._interfaces
            for node in (self._node, *displaced):
                db.seq[node] += 1
            for at, record in db.records.items():
                if at[0] in displaced and record.interface in self._interfaces:
                    db.records[at] = replace(record, epoch=DOUBT)
            self._keep_removals(db, known[0].boot == identity.boot, uptime or 0.0)
            if uptime is None:
                db.boots = {at: b._replace(last_seen=0.0) if at[0] == self._node else b for at, b in db.boots.items()}
            former = known[0].boot if known[0].machine == identity.machine else ""
            came_back = uptime is not None and self._enter_boot(db, identity.boot, uptime, now, former)
            self._write_audit(db, audit)
        return Claimed(done=True, came_back=came_back)

    def _keep_removals(self, db: Tables, same_boot: bool, uptime: float) -> None:
        """Let the guard's memory go on by the uptime of the boot that takes the node."""
        lasted = db.uptime.get(self._node, 0.0)
        if same_boot and lasted:
            latest, add = uptime if uptime > 0 else float("inf"), 0.0
        else:
            latest, add, db.uptime[self._node] = uptime, uptime - lasted, 0.0
        kept = [one._replace(at=min(one.at + add, latest)) for one in db.removals.get(self._node, ())]
        if kept:
            db.removals[self._node] = tuple(kept)

    def _enter_boot(self, db: Tables, boot: str, uptime: float, now: float, former: str) -> bool:
        """Note that the node writes in this boot from now on. Whether the boot has come back.

        ``former``: the boot of the same machine before.
        """
        before = db.boots.get((self._node, boot))
        later = [one for (node, name), one in db.boots.items() if node == self._node and name != boot
                 and before is not None and one.first_seen > before.first_seen]  # fmt: skip
        came_back = before is not None and (
            uptime < before.uptime or now - before.last_seen - (uptime - before.uptime) > LOST_TIME or bool(later)
        )
        last = db.boots.get((self._node, former))
        goes_on = before is None and last is not None and 0 <= now - last.last_seen <= uptime - LOST_TIME
        came_back = came_back or goes_on
        first = now if before is None or came_back else before.first_seen
        db.boots[self._node, boot], db.uptime[self._node] = Boot(first, now, uptime), uptime
        if came_back:
            for at, record in db.records.items():
                if at[0] == self._node:
                    epoch = record.epoch.replace(former, boot) if goes_on else record.epoch
                    db.records[at] = replace(record, epoch=doubted(epoch))
        return came_back

    def _note_uptime(self, db: Tables, uptime: float) -> None:
        """Note the uptime of a commit, for the boot of the holder."""
        db.uptime[self._node] = uptime
        at = self._node, db.holders.get(self._node, (NOBODY, 0.0))[0].boot
        if at in db.boots:
            db.boots[at] = db.boots[at]._replace(uptime=uptime, last_seen=self.clock())

    def _boots(self) -> tuple[str, ...]:
        """The boots in which the node wrote, in the order of their first claims."""
        mine = {boot: one for (node, boot), one in self.db.boots.items() if node == self._node}
        return tuple(sorted(mine, key=lambda boot: mine[boot].first_seen))

    def beat(self, identity: Identity, uptime: float, *, reconciled: bool = False) -> Heartbeat:
        with self._transaction("beat") as db:
            if (other := db.holders.get(self._node, (NOBODY, 0.0))[0]) != identity:
                mine, theirs = (db.boots.get((self._node, one.boot)) for one in (identity, other))
                alive = mine is not None and self.clock() - mine.last_seen < SILENCE
                later = mine and theirs and mine.first_seen < theirs.first_seen
                cloned = alive and later and other.machine == identity.machine
                return Heartbeat.CLONED if cloned else Heartbeat.LOST
            boot = db.boots[self._node, identity.boot]
            if uptime < boot.uptime:
                return Heartbeat.CAME_BACK
            now = self.clock()
            db.holders[self._node], db.serves[self._node] = (identity, now), self._interfaces
            db.boots[self._node, identity.boot] = boot._replace(last_seen=now, uptime=uptime)
            db.uptime[self._node] = uptime
        return Heartbeat.WRITTEN

    def other_nodes(self) -> Sequence[OtherNode]:
        self._read("other nodes")
        self._bring_back()
        return [
            OtherNode(node, Holder(who, at, self.clock() - at if at else None), self.db.serves.get(node, frozenset()),
                      frozenset(boot for one, boot in self.db.boots if one == node))
            for node, (who, at) in self.db.holders.items() if node != self._node
        ]  # fmt: skip

    def take_name_from(self, node: str, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        with self._transaction("rename") as db:
            assert self._node not in db.seq
            some: list[dict[str, Any]] = [db.seq, db.begun, db.approved, db.spool, db.holders, db.removals, db.uptime]
            for by_node in (*some, db.receipts, db.adopted, db.serves):
                if node in by_node:
                    by_node[self._node] = by_node.pop(node)
            for table in ("records", "interfaces", "conditions", "boots", "set_aside"):
                rows = getattr(db, table).items()
                setattr(db, table, {(self._node if at[0] == node else at[0], *at[1:]): row for at, row in rows})
            db.quarantine = {i: (self._node if one == node else one, row) for i, (one, row) in db.quarantine.items()}
            self._write_audit(db, audit)

    def release(self, identity: Identity) -> None:
        with self._transaction("release") as db:
            if db.holders.get(self._node, (None, 0.0))[0] == identity:
                db.holders[self._node] = identity, 0.0

    def approve(self, plan_id: str) -> None:
        with self._transaction("approve") as db:
            if self._node not in db.seq:
                raise StoreError(f"node {self._node} has no node state yet")
            db.approved[self._node] = plan_id

    def adopt(self, *, accepted: bool, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        with self._transaction("adopt") as db:
            if self._node not in db.seq:
                raise StoreError(f"node {self._node} has no node state yet")
            db.adopted[self._node] = accepted
            self._write_audit(db, audit)

    # -- what the whole store has

    def _begin(self, db: Tables, calendar: UsageCalendar) -> None:
        raise NotImplementedError

    def _write_audit(self, db: Tables, events: Sequence[AuditEvent]) -> None:
        raise NotImplementedError
