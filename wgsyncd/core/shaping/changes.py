"""Which contracts have other rates than before, and why, as audit events."""

from collections.abc import Mapping

from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.reasons import BandwidthCause
from wgsyncd.core.shaping.profiles import Choice

MOST = 10  # contracts that change at once and are told one by one


def bandwidth_changes(before: Mapping[str, Choice], now: Mapping[str, Choice], node: str) -> tuple[AuditEvent, ...]:
    """The events of a cycle. ``before`` and ``now``: what holds for each contract.

    Contracts that are in one of the two only have not changed: their devices came or went. More than :data:`MOST`
    changes are one event of the node.
    """
    changed = [(name, before[name], one) for name, one in now.items() if name in before and _differ(before[name], one)]
    if len(changed) > MOST:
        return (AuditEvent(AuditAction.BANDWIDTHS_CHANGED, node, AuditFacts(count=len(changed))),)
    return tuple(_event(*one) for one in sorted(changed, key=lambda one: one[0]))


def _differ(before: Choice, now: Choice) -> bool:
    return before._replace(unknown="") != now._replace(unknown="")


def _event(contract: str, before: Choice, now: Choice) -> AuditEvent:
    facts = AuditFacts(profile=now.held, previous_profile=before.held, bandwidth=_cause(before, now))
    return AuditEvent(AuditAction.BANDWIDTH_CHANGED, contract, facts)


def _cause(before: Choice, now: Choice) -> BandwidthCause:
    if before.name != now.name:
        return BandwidthCause.OWNER
    if bool(before.beyond) != bool(now.beyond):
        return BandwidthCause.CAP_REACHED if now.beyond else BandwidthCause.CAP_ENDED
    return BandwidthCause.SETTINGS
