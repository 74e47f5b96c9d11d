"""What waits in a store in memory: postings that it has set aside, and deltas in quarantine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Generic, TypeVar

from tests.memorytables import OwnTables
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.quarantine import QuarantineEntry
from wgsyncd.core.state import Posting
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError, StoreErrorCode, UserError

Tables = TypeVar("Tables", bound=OwnTables)
Why = tuple[Obstacle, str]


class MemoryAside(Generic[Tables]):
    """The part of a store in memory that keeps what waits. Some rows are locked, and some cannot be changed."""

    db: Tables
    locked: set[Any]  # ids of rows that another transaction has locked
    refused: dict[Any, str]  # by id of the row: the error with which the server refuses to change it
    _node: str

    def _read(self, name: str) -> None:
        raise NotImplementedError

    def _write_audit(self, db: Tables, events: Sequence[AuditEvent]) -> None:
        raise NotImplementedError

    def _row_of(self, db: Tables, row_id: Any, device: str) -> Any:
        raise NotImplementedError

    def _post(self, db: Tables, posting: Posting, calendar: UsageCalendar) -> None:
        raise NotImplementedError

    def _transaction(self, name: str) -> AbstractContextManager[Tables]:
        raise NotImplementedError

    def _obstacles(self, db: Tables, targets: Iterable[tuple[Any, str]]) -> dict[tuple[Any, str], Why]:
        """Why rows cannot be changed. ``targets``: row ids, each with its device."""
        found = {target: self._row_of(db, *target) for target in targets}
        refused = {at: (Obstacle.REFUSED, self.refused[row]) for at, row in found.items() if row in self.refused}
        return refused | {at: (Obstacle.LOCKED, "") for at, row in found.items() if row in self.locked}

    def _known_refused(self, targets: Iterable[tuple[Any, str]]) -> dict[tuple[Any, str], Why]:
        kept = {device: one for (node, device), (one, _) in self.db.set_aside.items() if node == self._node}
        return {
            at: (Obstacle.REFUSED, "") for at in targets if at[1] in kept and kept[at[1]].obstacle is Obstacle.REFUSED
        }

    def _set_aside(self, db: Tables, posting: Posting, why: Why, calendar: UsageCalendar) -> None:
        at = self._node, posting.device
        before, held = db.set_aside.get(at, (SetAside(posting.device, *why, calendar.now), None))
        told = before._replace(obstacle=max(before.obstacle, why[0]), detail=why[1] or before.detail)
        db.set_aside[at] = told, held + posting if held is not None else posting

    def _rename_aside(self, db: Tables, renamed: Iterable[tuple[Any, str, str]]) -> None:
        for row_id, old, new in renamed:
            one, held = db.set_aside.get((self._node, old), (None, None))
            if one is not None and held is not None and held.row_id == row_id:
                del db.set_aside[self._node, old]
                _, before = db.set_aside.get((self._node, new), (one, Posting(row_id, new, ())))
                db.set_aside[self._node, new] = one._replace(device=new), before + replace(held, device=new)

    def post_set_aside(self, calendar: UsageCalendar, blocked: Set[Any]) -> Sequence[SetAside]:
        mine = {at: held for at, held in self.db.set_aside.items() if at[0] == self._node}
        if mine:
            with self._transaction("set aside") as db:
                for at, (one, posting) in mine.items():
                    if posting.row_id in blocked:
                        continue
                    target = posting.row_id, posting.device
                    if why := self._obstacles(db, [target]).get(target):
                        db.set_aside[at] = one._replace(obstacle=why[0], detail=why[1]), posting
                    else:
                        self._post(db, posting, calendar)
                        del db.set_aside[at]
        return [one for (node, _), (one, _) in sorted(self.db.set_aside.items()) if node == self._node]

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        self._read("quarantine")
        return tuple(
            QuarantineEntry(number, one) for number, (node, one) in self.db.quarantine.items() if node == self._node
        )

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        return frozenset(one.id for one in self.quarantine() if one.id in ids)

    def resolve_quarantine(
        self, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent], calendar: UsageCalendar
    ) -> None:
        with self._transaction("discharge") as db:
            if any(db.quarantine.get(number, ("",))[0] != self._node for number in ids):
                raise UserError("one of them is no delta in the quarantine")
            if any(self._row_of(db, one.row_id, one.device) is None for one in postings):
                raise UserError("a row is gone")
            if any(one.row_id in self.locked for one in postings):
                raise StoreError("another program has locked a row", StoreErrorCode.LOCKED)
            for one in postings:
                self._post(db, one, calendar)
            for number in set(ids):
                del db.quarantine[number]
            self._write_audit(db, audit)
