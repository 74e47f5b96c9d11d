"""Records in the store and in the log what a cycle is about to do, what it did, and who approved it."""

from collections.abc import Callable, Generator, Set

from wgsyncd import log
from wgsyncd.core.audit import ACCESS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.inspect.names import DeviceName, Labels
from wgsyncd.core.model import ChangeKind
from wgsyncd.core.peers import recording
from wgsyncd.core.peers.conditions import condition_changes, current_conditions
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.identities import to_remember
from wgsyncd.core.peers.removals import unrecorded
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.records import PeerId, RecordState
from wgsyncd.core.state import MEMORY, Condition, ConditionType, NodeState, Removal, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.interfaces import Actual
from wgsyncd.engine.planes import Cycle
from wgsyncd.engine.state_cache import StateCache
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.ports import Snapshot

TOLD = 3600.0  # seconds: so long a peer that somebody removes again is not told again
_log = log.get("conditions")


class Recorder:
    """Commits the intents, outcomes and conditions of one node's cycles. ``uptime``: seconds since the boot."""

    def __init__(
        self, node: str, cache: StateCache, state: AgentState, status: DaemonStatus, uptime: Callable[[], float]
    ) -> None:
        self._node, self._cache, self._state, self._status, self._uptime = node, cache, state, status, uptime
        self._changed = log.OnChange()

    def record_intent(self, decision: Decision, calendar: UsageCalendar, access: AccessPlan | None = None) -> None:
        """Commit what must be stored before the kernel is changed, above all baseline zero of each peer to be added.

        An approval that this plan uses is marked as used in the same transaction, so it works once. A loss of access
        is remembered before it happens. So no kill hides it from the guard.
        """
        writes = recording.intents(
            self._cache.current(calendar),
            decision.plan.changes,
            decision.actual,
            decision.desired,
            calendar.now,
            self._note_taken_out(decision, calendar),
        )
        if decision.approved:
            facts = AuditFacts(count=decision.counted, plan=decision.plan_id, by=self._state.approver)
            # The condition ends here. If the removals fail and are withheld again, a new condition reports that.
            over = frozenset(
                c for c in self._cache.current(calendar).conditions if c.type == ConditionType.GUARD_TRIPPED
            )
            entry = AuditEvent(AuditAction.GUARD_APPROVED, self._node, facts)
            writes += WriteBatch(approval_used=True, audit=(entry,), ended=over)
        writes += WriteBatch(removals=self._peers_before_additions(decision, calendar))
        self.note_loss(access)
        writes += WriteBatch(removals=self._state.losses)
        if writes:
            self._cache.commit(writes, calendar)
        self._state.losses = ()
        if decision.approved:
            self._state.approver, self._state.approved_removals = "", decision.asked

    def note_loss(self, access: AccessPlan | None) -> None:
        """Let the guard remember which devices are about to lose all access. The next intent records it.

        Until then, only this process knows it. None: nobody judges access, or the judge has failed.
        """
        if access is None:
            return
        going = frozenset[str]() if access.verdict.tripped else access.verdict.counted
        if fresh := going - self._state.access_recorded:
            loss = Removal(self._uptime(), len(fresh), 0, access.verdict.devices, access=True)
            self._state.losses += (loss,)
        self._state.access_recorded = going

    def _note_taken_out(self, decision: Decision, calendar: UsageCalendar) -> frozenset[PeerId]:
        """Count and log the peers that somebody else removed. Returns the ones that were told within the hour.

        A program that removes them in each cycle would otherwise fill the audit trail.
        """
        now, node_state = calendar.now, self._cache.current(calendar)
        taken = recording.taken_out(node_state, decision.plan.changes, decision.actual)
        told = {one: at for one, at in self._state.taken_out.items() if abs(now - at) < TOLD}
        for name in sorted({name for name, _ in taken}):
            peers = sum(one[0] == name for one in taken)
            self._status.peers_taken_out.add((name,), peers)
            if any(one[0] == name and one not in told for one in taken):
                _log.warning("another program removed peers: they are added again", interface=name, peers=peers)
        self._state.taken_out = dict.fromkeys(taken, now) | told
        return taken & told.keys()

    def record_outcome(
        self, decision: Decision, after: Actual, calendar: UsageCalendar, *,
        node_state: NodeState | None = None, snapshot: Snapshot | None = None, missing: frozenset[str] = frozenset(),
        planes: Cycle | None = None,
    ) -> None:  # fmt: skip
        """Commit the outcome of a cycle: records, audit rows, and conditions that start or end.

        ``after``: the peers read back. ``node_state``: the part of the node state that has the same peers, None for the
        whole. ``snapshot`` and ``missing`` (interfaces that do not exist): of a complete cycle. Without a snapshot, no
        condition changes. An approval that this plan did not use is marked as used. But if a plane failed that judges
        access, what was approved may not be done yet, so the approval stays.
        """
        known, live = node_state or self._cache.current(calendar), decision.plan.live_count
        left = live - sum(
            key not in state.peers for name, state in after.items() for key in decision.actual[name].peers
        )
        approved = self._state.approved_removals
        removals = unrecorded(known, after, decision.desired, self._uptime(), left, approved)
        if snapshot is not None and decision.is_withholding:
            removals += self._peers_that_there_were(known, decision.peers)
        parts = recording.outcomes(known, after, decision.desired, calendar.now)
        del known  # each commit makes another one
        writes = self._commit_all_but_last(parts, calendar) + WriteBatch(removals=removals)
        memory = WriteBatch()
        if snapshot is not None:
            known = self._cache.current(calendar)
            lasting = current_conditions(decision, snapshot.conditions, missing, self._node, known)
            writes += condition_changes(known, lasting)
            memory = WriteBatch(started=to_remember(decision.actual, decision.identity_changes) - known.conditions)
            access = planes.access if planes is not None and not planes.judge_failed else None
            if access is not None and access.verdict.approved:
                counted, plan = len(access.verdict.counted), access.plan_id
                facts = AuditFacts(condition=ACCESS, count=counted, plan=plan, by=self._state.approver)
                writes += WriteBatch(audit=(AuditEvent(AuditAction.GUARD_APPROVED, self._node, facts),))
            if snapshot.approved and not decision.approved and not (planes is not None and planes.judge_failed):
                writes += WriteBatch(approval_used=True)  # It was for other removals, or this plan needs none.
                self._state.approver = ""
        if writes or memory or (snapshot is not None and self._cache.has_queued_audit):
            self._cache.commit(writes + memory, calendar)
        self._state.approved_removals = frozenset()
        # After the commit: a failed commit is repeated, and would log it again.
        _log_conditions(writes, decision, snapshot)
        if snapshot is not None and self._changed("identity", dict(decision.identity_changes) or None):
            for name, change in decision.identity_changes.items():
                what, todo = wording.identity_change(name, change)
                _log.error("NOBODY CAN CONNECT: clients know another interface", interface=name, what=what, todo=todo)
            if not decision.identity_changes:
                _log.info("interfaces are as their clients know them")

    def _peers_before_additions(self, decision: Decision, calendar: UsageCalendar) -> tuple[Removal, ...]:
        """What the guard remembers before new peers are added. A peer that is put back is not new. The first peers of
        a node make room for nothing."""
        known, added = self._cache.current(calendar), decision.plan.of(ChangeKind.ADD)
        records = [known.records.of(one.interface).get(one.public_key) for one in added]
        back = sum(record is not None and record.state is not RecordState.ADDING for record in records)
        peers = decision.plan.live_count + back
        return self._peers_that_there_were(known, peers) if peers and back < len(added) else ()

    def _peers_that_there_were(self, known: NodeState, peers: int) -> tuple[Removal, ...]:
        """Nothing is removed, but the guard remembers how many peers there were before others are added. It remembers
        this twice an hour."""
        now = self._uptime()
        told = any(now - one.at < MEMORY / 2 and not one.removed and one.peers <= peers for one in known.removals)
        return () if told else (Removal(now, 0, 0, peers),)

    def _commit_all_but_last(
        self, parts: Generator[WriteBatch, None, WriteBatch], calendar: UsageCalendar
    ) -> WriteBatch:
        """Commit each batch before the next one is made. Returns the last one, to be committed with more."""
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                last: WriteBatch = end.value
                return last
            self._cache.commit(part, calendar)


def _log_conditions(writes: WriteBatch, decision: Decision, snapshot: Snapshot | None) -> None:
    """Log the conditions that start and end with these writes, and an approval."""
    labels = _labels({one.name for one in (*writes.started, *writes.ended)}, snapshot)
    details = {str(r.row_id): wording.rejection(r) for r in decision.desired.rejections}
    for one in sorted(writes.started):
        if one.type == ConditionType.GUARD_TRIPPED:
            if not any(entry.action is AuditAction.GUARD_TRIPPED for entry in writes.audit):
                continue
            gone = (change.device for change in decision.plan.withheld if change.kind is ChangeKind.REMOVE)
            todo = f"{wording.if_a_mistake(gone)}. Look: wgsyncd plan. Meant? wgsyncd approve {one.reason}"
            _log.error("NOTHING WAS REMOVED: the guard keeps peers that would go", removals=one.removals, todo=todo)
        elif one.type == ConditionType.ROW_REJECTED:
            _log.warning(_BEGINS[one.type], **_facts(one, labels), why=details.get(one.subject, ""))
        else:
            _log.warning(_BEGINS.get(one.type, f"condition begins: {one.type}"), **_facts(one, labels))
    for one in sorted(writes.ended):
        _log.info(_ENDS.get(one.type, f"condition ends: {one.type}"), **_facts(one, labels))
    if decision.approved:
        _log.warning("withheld removals approved by an admin", plan=decision.plan_id)


def _labels(ids: Set[str], snapshot: Snapshot | None) -> Labels:
    """What people call these devices and policies."""
    if snapshot is None or not ids:
        return Labels(())
    policies = snapshot.policies.policies if snapshot.policies is not None else ()
    named = [DeviceName(row.id, row.device, row.owner, row.name) for row in snapshot.rows if row.device in ids]
    named += [DeviceName(one.id, str(one.id), "", one.name) for one in policies if str(one.id) in ids]
    return Labels(named)


_BEGINS: dict[str, str] = {
    ConditionType.ROW_REJECTED: "row is rejected, and its live peer, if any, stays as it is",
    ConditionType.INTERFACE_MISSING: "interface missing: its peers are without service",
}
_ENDS: dict[str, str] = {
    ConditionType.ROW_REJECTED: "row no longer rejected",
    ConditionType.GUARD_TRIPPED: "no removals withheld any more",
    ConditionType.INTERFACE_MISSING: "interface is back",
}


def _facts(one: Condition, labels: Labels) -> dict[str, object]:
    more = labels.fact(one.name)
    match one.type:
        case ConditionType.ROW_REJECTED:
            return {"row": one.subject, "device": one.name, **more, "reason": one.reason}
        case ConditionType.GUARD_TRIPPED:
            return {"plan": one.reason}
        case ConditionType.INTERFACE_MISSING:
            return {"interface": one.name}
    return {"name": one.name, **more, "reason": one.reason}
