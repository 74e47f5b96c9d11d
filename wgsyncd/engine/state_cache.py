"""The books between the agent and the store: the ledger in memory as long as it is sure, commits that are each
complete, and a lost answer settled by looking."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import RevisionConflict, RowsLocked, StoreError
from wgsyncd.ports import Store

BATCH = 250  # devices per transaction: short locks for the web application's own writes, and hardly slower than 500


class LeftOff(Exception):
    """A booking ended between two of its transactions, for what does not wait. The next one books the rest."""


class Between(Protocol):
    """Called between the transactions of a long commit; it may raise :class:`LeftOff` where it is told so."""

    def __call__(self, *, may_leave_off: bool) -> None: ...


def _nothing(*, may_leave_off: bool) -> None:
    pass


class StateCache:
    """One node's books. After any other StoreError than RowsLocked the ledger is dropped and read again before the next
    commit, so what is booked next starts from what the store really has."""

    def __init__(self, store: Store, status: DaemonStatus, state: AgentState) -> None:
        self._store, self._status, self._state = store, status, state
        self._node_state: NodeState | None = None  # a reload may bring another store, so each agent reads it again
        self.between: Between = _nothing

    def queue_audit(self, entry: AuditEvent) -> None:
        """An audit row for the next transaction."""
        self._state.queued_audit.append(entry)

    @property
    def last_known(self) -> NodeState | None:
        """As last seen; the store may be ahead of it."""
        return self._state.last_known

    @property
    def has_notes(self) -> bool:
        """Whether a transaction is wanted for notes alone."""
        return bool(self._state.queued_audit)

    def current(self, calendar: UsageCalendar) -> NodeState:
        """The ledger, from the store where memory is not sure of it."""
        if self._node_state is None:
            self._node_state = self._store.load_state(calendar)
            if self._state.in_doubt is not None:
                revision, notes = self._state.in_doubt
                if self._node_state.revision > revision:  # it has happened, only its answer was lost
                    del self._state.queued_audit[:notes]
                self._state.in_doubt = None
        self._state.last_known = self._node_state
        return self._node_state

    def commit(
        self, writes: WriteBatch, calendar: UsageCalendar, *, may_leave_off: bool = False
    ) -> tuple[frozenset[int], frozenset[int]]:
        """Commit; returns the ids of the rows whose step was taken, and of those left out because they are locked."""
        taken: frozenset[int] = frozenset()
        left_out: frozenset[int] = frozenset()
        parts = list(writes.split(BATCH))
        for index, batch in enumerate(parts, 1):
            if index > 1:
                self.between(may_leave_off=may_leave_off)
            if index == len(parts) and left_out and writes.spool_position:
                # It says that all of the samples is booked: so it must not come before that is.
                raise RowsLocked(len(left_out))
            node_state = self.current(calendar)
            notes = len(self._state.queued_audit) if index == len(parts) else 0
            part = replace(batch, checkpoints={}) if left_out else batch  # of those left out it was not
            try:
                self._node_state, steps, locked = self._store.commit(
                    node_state, part + WriteBatch(audit=tuple(self._state.queued_audit[:notes])), calendar.now
                )
            except RowsLocked:  # refused whole
                raise
            except RevisionConflict:
                self._node_state = None
                raise
            except StoreError:  # it may have happened
                self._node_state, self._state.in_doubt = None, (node_state.revision, notes)
                raise
            self._state.last_known = self._node_state
            del self._state.queued_audit[:notes]
            taken |= steps
            left_out |= locked
            self._status.accounted_rx += sum(b.rx for b in part.postings if b.row_id not in locked)
            self._status.accounted_tx += sum(b.tx for b in part.postings if b.row_id not in locked)
        return taken, left_out
