"""What a cycle is about to do and has done is written down, in the books and in the log; and who approved of it."""

from __future__ import annotations

from collections.abc import Iterable

from wgsyncd import log
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import ChangeKind
from wgsyncd.core.peers import recording
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.state import Condition, ConditionType, NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.interfaces import Actual
from wgsyncd.engine.state_cache import StateCache
from wgsyncd.ports import Snapshot

_conditions_log = log.get("conditions")


class Recorder:
    """One node's."""

    def __init__(self, node: str, books: StateCache, state: AgentState) -> None:
        self._node, self._books, self._state = node, books, state

    def record_intent(self, decision: Decision, calendar: UsageCalendar) -> None:
        """Baseline zero of who is about to be added, and what else must stand before the kernel is changed."""
        writes = recording.intents(
            self._books.current(calendar),
            decision.plan.changes,
            decision.actual,
            decision.desired,
            calendar.now,
        )
        if decision.approved:
            count = len(decision.plan.of(ChangeKind.REMOVE))
            facts = AuditFacts(count=count, plan=decision.plan_id, by=self._state.approver)
            # The condition ends here, so that removals which fail and are withheld again are told again.
            over = frozenset(
                c for c in self._books.current(calendar).conditions if c.type == ConditionType.GUARD_TRIPPED
            )
            entry = AuditEvent(AuditAction.GUARD_APPROVED, self._node, facts)
            writes += WriteBatch(approval_used=True, audit=(entry,), ended=over)
        if writes:
            self._books.commit(writes, calendar)
        if decision.approved:
            self._state.approver = ""

    def record_outcome(
        self, decision: Decision, after: Actual, snapshot: Snapshot, missing: frozenset[str], calendar: UsageCalendar
    ) -> None:
        """What came of it, by the dump ``after``, and what stands since or no longer."""
        parts = recording.outcomes(self._books.current(calendar), after, decision.desired, calendar.now)
        writes = self._all_but_the_last(parts, calendar)
        node_state = self._books.current(calendar)
        standing = recording.current_conditions(decision, snapshot.conditions, missing, self._node, node_state)
        writes += recording.condition_changes(node_state, standing)
        if snapshot.approved and not decision.approved:
            writes += WriteBatch(approval_used=True)  # for another set of removals than what is wanted now
            self._state.approver = ""
        if writes or self._books.has_notes:
            self._books.commit(writes, calendar)
        _log_conditions(writes, decision)  # once it is written: what fails is tried again, and would be said again

    def record_some_outcomes(
        self, decision: Decision, after: Actual, node_state: NodeState, calendar: UsageCalendar
    ) -> None:
        """The same for a few devices: ``ledger`` and ``after`` have theirs alone, and nothing is said of the rest."""
        parts = recording.outcomes(node_state, after, decision.desired, calendar.now)
        writes = self._all_but_the_last(parts, calendar)
        if writes:
            self._books.commit(writes, calendar)
        _log_conditions(writes, decision)

    def _all_but_the_last(self, parts: Iterable[WriteBatch], calendar: UsageCalendar) -> WriteBatch:
        """Commit these; the last one is left to be committed with more."""
        last = WriteBatch()
        for part in parts:
            if last:
                self._books.commit(last, calendar)
            last = part
        return last


def _log_conditions(writes: WriteBatch, decision: Decision) -> None:
    """Say what begins and what ends with these writes."""
    details = {str(r.row_id): wording.rejection(r) for r in decision.desired.rejections}
    for condition in sorted(writes.started):
        _begins(condition, details.get(condition.subject, ""))
    for condition in sorted(writes.ended):
        _ends(condition)
    if decision.approved:
        _conditions_log.warning("withheld removals approved by an admin", plan=decision.plan_id)


def _begins(condition: Condition, detail: str) -> None:
    if condition.type == ConditionType.ROW_REJECTED:
        event = "row cannot be followed; its live peer, if any, stays as it is"
        _conditions_log.warning(
            event, row=condition.subject, device=condition.name, reason=condition.reason, why=detail
        )
    elif condition.type == ConditionType.GUARD_TRIPPED:
        plan, _, count = condition.reason.partition(":")
        todo = f"look with `wgsyncd plan`, let through with `wgsyncd approve {plan}`"
        _conditions_log.error("too many removals: withheld until an admin approves", removals=int(count), todo=todo)
    elif condition.type == ConditionType.INTERFACE_MISSING:
        _conditions_log.warning("interface missing: its peers are without service", interface=condition.name)
    else:
        _conditions_log.warning("condition begins", type=condition.type, name=condition.name, reason=condition.reason)


def _ends(condition: Condition) -> None:
    if condition.type == ConditionType.ROW_REJECTED:
        _conditions_log.info(
            "row no longer rejected", row=condition.subject, device=condition.name, reason=condition.reason
        )
    elif condition.type == ConditionType.GUARD_TRIPPED:
        _conditions_log.info("no removals withheld any more", plan=condition.reason.partition(":")[0])
    elif condition.type == ConditionType.INTERFACE_MISSING:
        _conditions_log.info("interface is back", interface=condition.name)
    else:
        _conditions_log.info("condition ends", type=condition.type, name=condition.name)
