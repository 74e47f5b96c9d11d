"""The conditions of a cycle: which conditions hold, and which ones start and end."""

from collections.abc import Iterable

from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import ChangeKind
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.state import Condition, ConditionType, NodeState, WriteBatch


def current_conditions(
    decision: Decision,
    of_store: frozenset[Condition] | None,
    missing: Iterable[str],
    node: str,
    node_state: NodeState,
) -> frozenset[Condition]:
    """The conditions that hold after a cycle. ``missing``: the names of the missing interfaces.

    ``of_store``: the conditions of the store's own types. None means that the store could not read them. Then the
    conditions that the node state has still hold.
    """
    rejected = {
        Condition(ConditionType.ROW_REJECTED, str(r.row_id), r.device, r.reason.value)
        for r in decision.desired.rejections
    }
    if of_store is None:
        of_store = frozenset(c for c in node_state.conditions if c.is_of_store)
    lost = {Condition(ConditionType.INTERFACE_MISSING, name, name) for name in missing}
    guard: set[Condition] = set()
    if decision.is_withholding:
        count = sum(1 for change in decision.plan.withheld if change.kind is ChangeKind.REMOVE)
        guard = {Condition(ConditionType.GUARD_TRIPPED, node, node, decision.plan_id, count)}
    return frozenset(rejected | of_store | lost | guard)


def condition_changes(node_state: NodeState, now_stands: frozenset[Condition]) -> WriteBatch:
    """The conditions that start and end, with their audit rows. A condition with a new name or reason starts again.

    The end of two types has no audit row here. `interface_restored` reports the end of a missing interface.
    A tripped guard ends with `guard_approved`, or without an audit row once the plan is small again.
    """
    started = now_stands - node_state.conditions
    subjects = {(c.type, c.subject) for c in now_stands}
    others = (c for c in node_state.conditions if c.type != ConditionType.INTERFACE_IDENTITY)
    ended = frozenset(c for c in others if (c.type, c.subject) not in subjects)
    held = max((c.removals for c in node_state.conditions if c.type == ConditionType.GUARD_TRIPPED), default=0)
    # A loop that revokes row by row makes another plan with each row. It is told again once the removals have doubled.
    told = [c for c in sorted(started) if c.type != ConditionType.GUARD_TRIPPED or c.removals >= 2 * held]
    events = [_started(c) for c in told]
    events += [event for c in sorted(ended) if (event := _ended(c)) is not None]
    return WriteBatch(started=started, ended=ended, audit=tuple(events))


def _started(condition: Condition) -> AuditEvent:
    name = condition.name
    match condition.type:
        case ConditionType.ROW_REJECTED:
            return AuditEvent(AuditAction.ROW_REJECTED, name, AuditFacts(rejection=condition.reason))
        case ConditionType.GUARD_TRIPPED:
            facts = AuditFacts(plan=condition.reason, count=condition.removals)
            return AuditEvent(AuditAction.GUARD_TRIPPED, name, facts)
        case ConditionType.INTERFACE_MISSING:
            return AuditEvent(AuditAction.INTERFACE_MISSING, name)
    facts = AuditFacts(condition=condition.type, detail=condition.reason)
    return AuditEvent(AuditAction.STORE_CONDITION_STARTED, name, facts)


def _ended(condition: Condition) -> AuditEvent | None:
    if condition.type == ConditionType.ROW_REJECTED:
        return AuditEvent(AuditAction.ROW_ACCEPTED, condition.name, AuditFacts(rejection=condition.reason))
    if not condition.is_of_store:
        return None
    facts = AuditFacts(condition=condition.type, detail=condition.reason)
    return AuditEvent(AuditAction.STORE_CONDITION_ENDED, condition.name, facts)
