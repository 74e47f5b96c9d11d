"""The books between the agent and the store: the ledger in memory as long as it is sure, commits that are each
complete, and a lost answer settled by looking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import RevisionConflict, RowsLocked, StoreError
from wgsyncd.ports import Store

BATCH = 250  # devices per transaction: short locks for the web application's own writes, and hardly slower than 500


Until = Callable[[], bool]  # answers whether something urgent waits; it changes nothing of the engine


def never() -> bool:
    """Nothing is urgent."""
    return False


class StateCache:
    """One node's books. After any other StoreError than RowsLocked the ledger is dropped and read again before the next
    commit, so what is booked next starts from what the store really has."""

    def __init__(self, store: Store, status: DaemonStatus, state: AgentState) -> None:
        self._store, self._status, self._state = store, status, state
        self._node_state: NodeState | None = None  # a reload may bring another store, so each agent reads it again
        self.devices_posted = 0  # since this agent began

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
        self, writes: WriteBatch, calendar: UsageCalendar, until: Until = never
    ) -> tuple[frozenset[int], frozenset[int]] | None:
        """Commit; returns the ids of the rows whose step was taken, and of those left out because they are locked.

        ``until`` is asked between two transactions. Where it says yes the rest is not committed: None. The last
        transaction holds the steps, so then none was taken."""
        taken: frozenset[int] = frozenset()
        left_out: frozenset[int] = frozenset()
        parts = list(writes.split(BATCH))
        for index, batch in enumerate(parts, 1):
            if index > 1 and until():
                return None
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
            posted = [one for one in part.postings if one.row_id not in locked]
            self.devices_posted += len(posted)
            self._status.accounted_rx += sum(one.rx for one in posted)
            self._status.accounted_tx += sum(one.tx for one in posted)
        return taken, left_out
