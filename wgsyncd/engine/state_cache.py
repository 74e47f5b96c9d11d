"""The books between the agent and the store: the ledger in memory as long as it is sure, commits that are each
complete, and a lost answer settled by looking."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from wgsyncd.core.audit import Entry
from wgsyncd.core.state import Ledger, Writes
from wgsyncd.core.usage.calendar import Windows
from wgsyncd.engine.status import Health
from wgsyncd.errors import RowsLocked, StaleLedger, StoreError
from wgsyncd.ports import Store

BATCH = 250  # devices per transaction: short locks for the web application's own writes, and hardly slower than 500


class LeftOff(Exception):
    """A booking ended between two of its transactions, for what does not wait. The next one books the rest."""


class Between(Protocol):
    """Called between the transactions of a long commit; it may raise :class:`LeftOff` where it is told so."""

    def __call__(self, *, may_leave_off: bool) -> None: ...


def _nothing(*, may_leave_off: bool) -> None:
    pass


class Books:
    """One node's books. After any other StoreError than RowsLocked the ledger is dropped and read again before the next
    commit, so what is booked next starts from what the store really has."""

    def __init__(self, store: Store, health: Health) -> None:
        self._store, self._health = store, health
        self._ledger: Ledger | None = None
        self.known: Ledger | None = None  # as last seen; the store may be ahead of it
        self._notes: list[Entry] = []  # audit rows about the daemon itself: they go with the next transaction
        self.between: Between = _nothing
        self._in_doubt: tuple[int, int] | None = None  # seq before, and notes in, a commit whose answer was lost

    def inherit(self, old: Books) -> None:
        """Take over the notes of the books before."""
        self._notes, self._in_doubt, self.known = old._notes, old._in_doubt, old.known
        self.between = old.between

    def note(self, entry: Entry) -> None:
        """An audit row for the next transaction."""
        self._notes.append(entry)

    @property
    def has_notes(self) -> bool:
        """Whether a transaction is wanted for notes alone."""
        return bool(self._notes)

    def ledger(self, windows: Windows) -> Ledger:
        """The ledger, from the store where memory is not sure of it."""
        if self._ledger is None:
            self._ledger = self._store.ledger(windows)
            if self._in_doubt is not None:
                seq, notes = self._in_doubt
                if self._ledger.seq > seq:  # it has happened, only its answer was lost
                    del self._notes[:notes]
                self._in_doubt = None
        self.known = self._ledger
        return self._ledger

    def commit(
        self, writes: Writes, windows: Windows, *, may_leave_off: bool = False
    ) -> tuple[frozenset[int], frozenset[int]]:
        """Commit; returns the ids of the rows whose step was taken, and of those left out because they are locked."""
        taken: frozenset[int] = frozenset()
        left_out: frozenset[int] = frozenset()
        parts = list(writes.batches(BATCH))
        for index, batch in enumerate(parts, 1):
            if index > 1:
                self.between(may_leave_off=may_leave_off)
            if index == len(parts) and left_out and writes.spool:
                # It says that all of the samples is booked: so it must not come before that is.
                raise RowsLocked(len(left_out))
            ledger = self.ledger(windows)
            notes = len(self._notes) if index == len(parts) else 0
            part = replace(batch, sampled={}) if left_out else batch  # of those left out it was not
            try:
                self._ledger, steps, locked = self._store.commit(
                    ledger, part + Writes(audit=tuple(self._notes[:notes])), windows.now
                )
            except RowsLocked:  # refused whole
                raise
            except StaleLedger:
                self._ledger = None
                raise
            except StoreError:  # it may have happened
                self._ledger, self._in_doubt = None, (ledger.seq, notes)
                raise
            self.known = self._ledger
            del self._notes[:notes]
            taken |= steps
            left_out |= locked
            self._health.booked_rx += sum(b.rx for b in part.booked if b.row_id not in locked)
            self._health.booked_tx += sum(b.tx for b in part.booked if b.row_id not in locked)
        return taken, left_out
