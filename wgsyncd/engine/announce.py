"""Conditions in the log: once when one begins, once when it ends, in words for whoever reads them at night."""

from __future__ import annotations

from wgsyncd import log
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.state import Condition, Writes

_log = log.get("conditions")


def announce(writes: Writes, outlook: Outlook) -> None:
    """Say what begins and what ends with these writes."""
    details = {str(r.row_id): r.detail for r in outlook.desired.rejections}
    for condition in sorted(writes.started):
        _begins(condition, details.get(condition.subject, ""))
    for condition in sorted(writes.ended):
        _ends(condition)
    if outlook.approved:
        _log.warning("withheld removals approved by an admin", plan=outlook.plan_id)


def _begins(condition: Condition, detail: str) -> None:
    if condition.kind == "row_rejected":
        event = "row cannot be followed; its live peer, if any, stays as it is"
        _log.warning(event, row=condition.subject, device=condition.label, reason=condition.detail, why=detail)
    elif condition.kind == "guard_tripped":
        plan, _, count = condition.detail.partition(":")
        todo = f"look with `wgsyncd plan`, let through with `wgsyncd approve {plan}`"
        _log.error("too many removals: withheld until an admin approves", removals=int(count), todo=todo)
    elif condition.kind == "parent_conflict":
        _log.warning("several parent devices in one contract", contract=condition.label, devices=condition.detail)
    else:
        _log.warning("interface missing: its peers are without service", interface=condition.label)


def _ends(condition: Condition) -> None:
    if condition.kind == "row_rejected":
        _log.info("row no longer rejected", row=condition.subject, device=condition.label, reason=condition.detail)
    elif condition.kind == "guard_tripped":
        _log.info("no removals withheld any more", plan=condition.detail.partition(":")[0])
    elif condition.kind == "parent_conflict":
        _log.info("no longer several parent devices", contract=condition.label)
    else:
        _log.info("interface is back", interface=condition.label)
