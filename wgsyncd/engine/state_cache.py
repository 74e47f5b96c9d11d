"""The state cache keeps the node state in memory and commits changes to the store in batches.

Each batch is complete in itself. After a commit whose result is unknown, the cache reads the node state again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from secrets import token_hex

from wgsyncd import log
from wgsyncd.core.audit import ABOUT_ROWS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.batches import split
from wgsyncd.core.model import DeviceId
from wgsyncd.core.reasons import AnomalyKind
from wgsyncd.core.state import NodeState, WriteBatch, total
from wgsyncd.core.usage import halves
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.core.usage.halves import Mending
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.holding import UNFINISHED, Holding
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import RevisionConflict, StoreError
from wgsyncd.ports import Store

BATCH = 250  # devices per transaction. Short locks let the web application write, and 500 would hardly be faster.
SETTLED = 5.0  # seconds: a node state that went back counts once it has stayed the same for so long
FREE = 10  # times as many, where a transaction locks no row of the application: each transaction costs the server much

_log = log.get("accounting")

Until = Callable[[], bool]  # whether something urgent waits. The call changes nothing in the engine.


def never() -> bool:
    """The answer that nothing is urgent: False, always."""
    return False


class StateCache:
    """Caches the node state of one node and commits changes of it.

    After any StoreError, the cached node state is dropped. It is read again before the next commit, so the next posting
    starts from what the store really has.
    """

    def __init__(self, store: Store, status: DaemonStatus, state: AgentState, holding: Holding) -> None:
        self._store, self._status, self._state, self._holding = store, status, state, holding
        self.recall: Callable[[str], object] = lambda _: None  # called with the position after a state went back
        self._refused: int | None = None  # the revision that the store did not have at the last commit
        self._is_claimed_anew = False
        self._node_state: NodeState | None = None  # A reload may bring another store, so each agent reads it again.
        self.loads = 0  # how often the node state was read
        self.devices_posted = 0  # since this agent was made

    def queue_audit(self, entry: AuditEvent) -> None:
        """Queue an audit row. The next transaction writes it."""
        self._state.queued_audit.append(entry)

    @property
    def last_known(self) -> NodeState | None:
        """The node state as last seen. The store may have a newer one. None: it was never read in this process."""
        return self._state.last_known

    @property
    def has_queued_audit(self) -> bool:
        return bool(self._state.queued_audit)

    def current(self, calendar: UsageCalendar) -> NodeState:
        """The node state, read from the store if the cache has none. StoreError if the store does not answer.

        NotHolder if another machine holds the node.
        """
        if self._node_state is None:
            self._node_state = self._load(calendar)
            self.loads += 1
            if self._state.in_doubt is not None:
                receipt, queued = self._state.in_doubt
                if self._node_state.receipt == receipt:  # The commit took place, and only its answer was lost.
                    del self._state.queued_audit[:queued]
                self._state.in_doubt = None
        self._state.last_known = self._node_state
        self._holding.revision = self._node_state.revision
        return self._node_state

    def _load(self, calendar: UsageCalendar) -> NodeState:
        claims = int(self._is_claimed_anew)  # each one raises the revision
        before: NodeState | None = None  # an older node state, as the last turn of this loop found it
        while True:
            claims += self._holding.ensure(calendar)
            node_state = self._store.load_state(calendar)
            # The holder is checked after the load: a later takeover raises the revision, and the next commit fails.
            refused, self._refused = self._refused, None
            if not self._holding.beat(calendar):
                self._is_claimed_anew = True
                claims += 1
                continue
            # Only a daemon adds to the revision, and this one did not.
            is_strange = refused is not None and node_state.revision > refused
            if is_strange and self._holding.meet_strange_revision(calendar):
                continue
            now = node_state.revision - claims
            self._state.went_back = self._state.went_back or now < self._was
            if not self._state.went_back or (before is not None and _is_same(node_state, before)):
                return self._mend(node_state, now, calendar)
            # A dump is loaded one table after the other. Until the last one is there, nothing can be told from it.
            before = node_state
            self._state.wait(SETTLED)

    def _mend(self, node_state: NodeState, now: int, calendar: UsageCalendar) -> NodeState:
        """Let own tables that are older than the columns follow them. See :mod:`wgsyncd.core.usage.halves`.

        ``now``: the revision without what this load added to it.

        The revision tells that the node state went back. Otherwise the baselines are right, and columns that somebody
        changed move none.
        Older columns are looked for once in each process, and whenever the node state went back.
        """
        before, was = self._state.last_known, self._was
        if self._state.went_back or (before is not None and self._is_claimed_anew):
            _log.warning("the node's state went back or was claimed again", revision=now, was=was)
            if before is not None:
                self._state.forget_node_state()
            if self._state.went_back:
                self._status.went_back_at = calendar.now
                self.recall(node_state.spool_position)
        self._is_claimed_anew = False
        if self._state.last_known is not None:
            return node_state
        if not self._state.went_back and not halves.is_exact(node_state, calendar):
            return node_state
        found = []
        for months in halves.spans(calendar, halves.sampled_at(node_state)):
            found.append(self._store.rows_apart(months))
            if not found[-1] and not self._state.went_back:
                break
        if self._state.went_back:
            self._holding.revision = node_state.revision + UNFINISHED  # A process that begins again goes on with it.
            devices = list(halves.mend(node_state, found, self._state.former, calendar))
            if not devices:
                self._status.anomalies.add(AnomalyKind.WENT_BACK)
                self.queue_audit(AuditEvent(AuditAction.NODE_WENT_BACK, self._holding.node))
        else:
            devices = halves.older_columns(found)
        for at in range(0, len(devices), BATCH):
            some = devices[at : at + BATCH]
            records = tuple(record for one in some for record in one.records)
            history = tuple(posting for one in some for posting in one.history)
            audit = tuple(_event(one) for one in some if one.is_told)
            writes = WriteBatch(records=records, history=history, audit=audit, uptime=self._holding.uptime())
            node_state, _, _ = self._store.commit(node_state, writes, calendar)
            self._tell([one for one in some if one.is_told])
        self._state.went_back = False
        return node_state

    @property
    def _was(self) -> int:
        """The revision as this process or the one before it last knew it."""
        return self._state.last_known.revision if self._state.last_known is not None else self._holding.revision

    def look_at_revision(self, calendar: UsageCalendar) -> None:
        """Read the node state again if the store has another one, as after a dump was put back.

        Call this before columns are set to what own tables say: columns alone may tell what is posted already.
        """
        known, holder = self.current(calendar).revision, self._store.holder()
        if holder is None or holder.revision != known:
            self._node_state, self._refused = None, known
            self.current(calendar)

    def look_for_older_columns(self, calendar: UsageCalendar) -> None:
        """Tell of rows with a month column below the sum of its days, which the next refresh would hide.

        The column may be of last month, too. Then it lacks the days of this month.
        """
        waits = {one.device for one in self._status.set_aside}
        apart = self._store.rows_apart(calendar.month)
        if any(not one.is_behind for one in apart.values()):
            since_last = self._store.rows_apart((calendar.last_month, calendar.month[1]))
            apart = {row_id: one if one.is_behind else since_last.get(row_id, one) for row_id, one in apart.items()}
        behind = [one for one in apart.values() if one.is_behind and one.device not in waits]
        found = [Mending(AnomalyKind.COLUMNS_BEHIND, one) for one in behind]
        self._state.queued_audit += map(_event, found)
        self._tell(found)

    def _tell(self, found: Sequence[Mending]) -> None:
        for one in found:
            self._status.anomalies.add(one.kind)
            _log.error(
                "columns and wgsyncd's tables do not belong together", kind=one.kind, device=one.apart.device,
                days=sum(one.apart.days), column=sum(one.apart.column),
            )  # fmt: skip

    def beat(self, calendar: UsageCalendar) -> None:
        """Write a heartbeat. NotHolder if another machine holds the node."""
        if not self._holding.beat(calendar):
            self._node_state, self._is_claimed_anew = None, True

    def commit(self, writes: WriteBatch, calendar: UsageCalendar, until: Until = never) -> frozenset[DeviceId] | None:
        """Commit in batches. Returns the ids of the rows whose transition was committed.

        ``until`` is asked between two transactions. If it says yes, the rest is not committed, and None is returned.
        Then no transition was committed, because all transitions are in the last transaction. StoreError if a
        transaction failed.
        """
        applied: frozenset[DeviceId] = frozenset()
        parts = list(split(writes, BATCH if self._store.locks_rows else FREE * BATCH))
        for index, batch in enumerate(parts, 1):
            if index > 1 and until():
                return None
            node_state = self.current(calendar)
            queued = len(self._state.queued_audit) if index == len(parts) else 0
            audit, receipt = tuple(self._state.queued_audit[:queued]), token_hex(8) if queued else ""
            more = WriteBatch(audit=audit, receipt=receipt, uptime=self._holding.uptime())
            whole = batch + more
            if not self._state.is_active:
                audit = tuple(one for one in whole.audit if one.action not in ABOUT_ROWS)
                whole = replace(whole, audit=audit, added=())
            try:
                self._node_state, done, _ = self._store.commit(node_state, whole, calendar)
            except RevisionConflict:
                self._node_state, self._refused = None, node_state.revision
                raise
            except StoreError:  # The commit may have taken place. Another claim may raise the revision meanwhile.
                self._node_state, self._state.in_doubt = None, (receipt, queued) if queued else None
                raise
            self._state.last_known = self._node_state
            self._holding.revision = self._node_state.revision
            del self._state.queued_audit[:queued]
            applied |= done
            self.devices_posted += len(batch.postings)
            rx, tx = total(batch.postings)
            self._status.accounted_rx += rx
            self._status.accounted_tx += tx
        return applied


def _is_same(one: NodeState, other: NodeState) -> bool:
    """Whether two reads of the node state found the same, as far as bytes are concerned."""
    return (
        one.revision == other.revision
        and one.interfaces == other.interfaces
        and set(one.records.each()) == set(other.records.each())
    )


def _event(one: Mending) -> AuditEvent:
    interface = one.records[0].interface if one.records else "-"
    facts = AuditFacts(interface=interface, anomaly=one.kind, previous=one.apart.days, current=one.apart.column)
    return AuditEvent(AuditAction.USAGE_ANOMALY, one.apart.device, facts)
