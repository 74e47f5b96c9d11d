"""Conditions in the log: once when one begins, once when it ends, in words for whoever reads them at night."""

from __future__ import annotations

from wgsyncd import log
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.state import Condition, ConditionType, WriteBatch
from wgsyncd.engine import wording

_log = log.get("conditions")


def log_conditions(writes: WriteBatch, decision: Decision) -> None:
    """Say what begins and what ends with these writes."""
    details = {str(r.row_id): wording.rejection(r) for r in decision.desired.rejections}
    for condition in sorted(writes.started):
        _begins(condition, details.get(condition.subject, ""))
    for condition in sorted(writes.ended):
        _ends(condition)
    if decision.approved:
        _log.warning("withheld removals approved by an admin", plan=decision.plan_id)


def _begins(condition: Condition, detail: str) -> None:
    if condition.type == ConditionType.ROW_REJECTED:
        event = "row cannot be followed; its live peer, if any, stays as it is"
        _log.warning(event, row=condition.subject, device=condition.name, reason=condition.reason, why=detail)
    elif condition.type == ConditionType.GUARD_TRIPPED:
        plan, _, count = condition.reason.partition(":")
        todo = f"look with `wgsyncd plan`, let through with `wgsyncd approve {plan}`"
        _log.error("too many removals: withheld until an admin approves", removals=int(count), todo=todo)
    elif condition.type == ConditionType.INTERFACE_MISSING:
        _log.warning("interface missing: its peers are without service", interface=condition.name)
    else:
        _log.warning("condition begins", type=condition.type, name=condition.name, reason=condition.reason)


def _ends(condition: Condition) -> None:
    if condition.type == ConditionType.ROW_REJECTED:
        _log.info("row no longer rejected", row=condition.subject, device=condition.name, reason=condition.reason)
    elif condition.type == ConditionType.GUARD_TRIPPED:
        _log.info("no removals withheld any more", plan=condition.reason.partition(":")[0])
    elif condition.type == ConditionType.INTERFACE_MISSING:
        _log.info("interface is back", interface=condition.name)
    else:
        _log.info("condition ends", type=condition.type, name=condition.name)
