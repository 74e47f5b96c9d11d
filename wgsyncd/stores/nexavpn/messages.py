"""Turns audit events into rows of audit_logs, with English messages.

A message holds labels, addresses, counts and reason codes only. So nothing that a row holds by mistake, such as a key
in another column, can reach audit_logs through a message.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from enum import Enum, StrEnum
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from wgsyncd.core.audit import ACCESS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.reasons import AnomalyKind, BandwidthCause, ChangeReason, Inactive, TakeoverCause, UpdatedPart
from wgsyncd.redact import escape_control, redact
from wgsyncd.stores import audit_texts
from wgsyncd.stores.audit_texts import reason_text, row_name
from wgsyncd.stores.nexavpn.policies import POLICY_FAULTY
from wgsyncd.stores.nexavpn.rows import Gateways

MESSAGES = audit_texts.MESSAGES | {
    "device_expired": "Nobody used the device until {at}: expired",
    "unallocated": "The address is not allocated to the device ({detail}), and the configuration accepts that",
    "unallocated_cleared": "The address is allocated to the device",
    "access_withheld": "Nothing was taken away: {count} devices would lose all access. A mistake? See wgsyncd plan."
    " Meant? wgsyncd approve {plan}",
    "access_approved": "{by} approved that {count} devices lose all access (plan {plan})",
    "policy_faulty": "Policy is faulty ({detail}): each doubt is decided against access",
    "policy_faulty_cleared": "Policy is no longer faulty",
    "gateway_drift": "The row of the gateway differs from its interface in {detail}",
    "gateway_drift_cleared": "The row of the gateway is as its interface again",
    "bandwidths_changed": "The bandwidth of {count} users changed at once",
}
_OF_ACCESS = {AuditAction.GUARD_TRIPPED: "access_withheld", AuditAction.GUARD_APPROVED: "access_approved"}
_WARNINGS = frozenset(
    (
        "row_rejected",
        "unallocated",
        "guard_tripped",
        "usage_anomaly",
        "node_went_back",
        "interface_missing",
        "policies_off",
        "shaping_failed",
        "ruleset_restored",
        "access_withheld",
        "policy_faulty",
        "gateway_drift",
    )
)
_FAILURES = frozenset(("config_rejected", "spool_corrupt"))
_WORDS: Mapping[StrEnum, str] = {
    **audit_texts.WORDS,
    AnomalyKind.TABLES_BEHIND: "are posted, but wgsyncd's tables were older",
    AnomalyKind.COLUMNS_BEHIND: "were posted, but are missing in the application's tables",
    TakeoverCause.SILENT: "it was silent for {count} s",
    TakeoverCause.CLONE: "it is a clone of this machine",
    TakeoverCause.ORDERED: "ordered by {by}",
    BandwidthCause.OWNER: "the groups of the user have another one",
    Inactive.OWNER_MISSING: "user {owner} does not exist",
    Inactive.OWNER_INACTIVE: "user {owner} {state}",
    Inactive.DEADLINE_PASSED: "not used in time",
}
_OWNER = ", user {}"


class AuditEntry(NamedTuple):
    """One row of audit_logs, without its id and its time."""

    event_type: str
    entity_type: str
    entity_id: str
    status: str
    message: str
    metadata: dict[str, object]


def entry(
    event: AuditEvent, node: str, gateways: Gateways, zone: ZoneInfo, called: Callable[[str], str] = lambda _: ""
) -> AuditEntry:
    """The row of audit_logs for one event. KeyError: this store does not know the event, or a fact is missing.

    ``called``: what people call the device or policy with an id, "" if nobody knows.
    """
    facts = event.facts
    name = _OF_ACCESS[event.action] if facts.condition == ACCESS else row_name(event)
    status = "warning" if name in _WARNINGS else "failure" if name in _FAILURES else "success"
    interface = facts.interface or event.target
    gateway = gateways.of_interface.get(interface) or gateways.of_node()
    device = device_id(event.target)
    message = _safe(MESSAGES[name].format(**dict(_words(facts, zone))))[:2000]
    metadata = {"gateway_id": gateway, "node": node, **dict(_plain(facts, zone))}
    if device is None:
        metadata["target"] = _safe(event.target)[:64]
    elif label := _safe(called(device)):
        message, metadata["name"] = f"{label}: {message}", label
    entity = "gateway" if device is None else "policy" if name.startswith(POLICY_FAULTY) else "device"
    return AuditEntry(f"gateway.{name}", entity, device or gateway, status, message, metadata)


def device_id(target: str) -> str | None:
    """The id of the device or policy that is the target of an event. None: the target is an interface or the node."""
    try:
        return str(UUID(target))
    except ValueError:
        return None


def _facts(facts: AuditFacts) -> Iterator[tuple[str, object]]:
    for one in _FACTS:
        if (value := getattr(facts, one)) is not None:
            yield one, value


_FACTS = tuple(one.name for one in fields(AuditFacts))


def _words(facts: AuditFacts, zone: ZoneInfo) -> Iterator[tuple[str, object]]:
    """The facts as a message shows them."""
    by = facts.by or "an admin"
    for one, value in _facts(facts):
        match value:
            case float():
                yield one, datetime.fromtimestamp(int(value), zone).strftime("%Y-%m-%d %H:%M:%S")
            case ChangeReason():
                yield one, reason_text(value, _WORDS, _OWNER)
            case AnomalyKind() | BandwidthCause() | TakeoverCause() | UpdatedPart():
                yield one, _WORDS[value].format(count=facts.count, by=by)
            case _:
                yield one, by if one == "by" else value


def _plain(facts: AuditFacts, zone: ZoneInfo) -> Iterator[tuple[str, object]]:
    """The facts as JSON."""
    for one, value in _facts(facts):
        match value:
            case ChangeReason():
                yield one, reason_text(value, _WORDS, _OWNER)
            case Enum():
                yield one, value.value
            case tuple():
                yield one, {"rx": value[0], "tx": value[1]}
            case float():
                yield one, datetime.fromtimestamp(int(value), zone).isoformat()
            case str():
                yield one, _safe(value)[:256]
            case _:
                yield one, value


def _safe(text: str) -> str:
    """The text without keys, and without control characters: the server takes no NUL."""
    return escape_control(redact(text))
