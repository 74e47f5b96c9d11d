"""Turns audit events into rows of audit_logs, with English messages.

A message holds labels, addresses, counts and reason codes only. So nothing that a row holds by mistake, such as a key
in another column, can reach audit_logs through a message.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from wgsyncd.core.audit import ACCESS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.policies.gateways import GATEWAY_DRIFT
from wgsyncd.core.reasons import (
    AnomalyKind,
    BandwidthCause,
    ChangeCause,
    ChangeReason,
    Inactive,
    TakeoverCause,
    UpdatedPart,
)
from wgsyncd.redact import escape_control, redact
from wgsyncd.stores.nexavpn.eligibility import UNALLOCATED
from wgsyncd.stores.nexavpn.policies import POLICY_FAULTY
from wgsyncd.stores.nexavpn.rows import Gateways

_MESSAGES = {
    "device_activated": "First handshake at {at}: activated",
    "device_expired": "Nobody used the device until {at}: expired",
    "peer_added": "Peer added on {interface} with {address}",
    "peer_removed": "Peer removed from {interface} ({address}): {reason}",
    "peer_updated": "Peer updated on {interface}: {updated}",
    "peer_moved": "Peer moved from {previous_interface} to {interface} ({address})",
    "foreign_peer_removed": "Peer {peer} ({address}), which no row names, removed from {interface}",
    "row_rejected": "Row is rejected ({rejection}). Its live peer, if any, stays as it is",
    "row_accepted": "Row is no longer rejected: mended, or it wants no peer any more (was {rejection})",
    "unallocated": "The address is not allocated to the device ({detail}), and the configuration accepts that",
    "unallocated_cleared": "The address is allocated to the device",
    "guard_tripped": "Nothing was removed: {count} removals wait. A mistake? See wgsyncd plan."
    " Meant? wgsyncd approve {plan}",
    "guard_approved": "{count} withheld removals (plan {plan}) approved by {by}",
    "interface_restored": "Interface is new: {count} peers restored",
    "interface_missing": "Interface is missing: its peers are without service",
    "usage_anomaly": "Counters on {interface} {anomaly}: rx {previous.rx} -> {current.rx},"
    " tx {previous.tx} -> {current.tx} bytes",
    "spool_corrupt": "The spool was damaged and is now {file}: the bytes in it are not posted",
    "quarantine_released": "Quarantined traffic of {interface} posted by an admin:"
    " rx {current.rx}, tx {current.tx} bytes, {since} to {until}",
    "quarantine_dropped": "Quarantined traffic of {interface} dropped by an admin, not posted:"
    " rx {current.rx}, tx {current.tx} bytes, {since} to {until}",
    "config_reloaded": "Configuration reloaded",
    "config_rejected": "New configuration has {count} faults, the old one goes on: {keys}",
    "daemon_started": "wgsyncd {version} started",
    "daemon_stopped": "wgsyncd stopped. Peers stay in place",
    "node_taken_over": "Host {host} runs this node now, taken over from host {previous_host}: {takeover}",
    "node_renamed": "Node {previous_node} has this name now: its records go on",
    "node_went_back": "The database lost commits of this node. Bytes since then are posted again",
    "node_adopted": "{by} adopted this node: wgsyncd removes peers that no row names",
    "adoption_undone": "{by} undid the adoption: peers that no row names stay",
    "access_changed": "Access changed: {gained} devices gained it, {lost} lost all of it, {changed} have another one",
    "ruleset_restored": "Program {program} had changed the packet filter: put right, {count} addresses",
    "access_withheld": "Nothing was taken away: {count} devices would lose all access. A mistake? See wgsyncd plan."
    " Meant? wgsyncd approve {plan}",
    "access_approved": "{by} approved that {count} devices lose all access (plan {plan})",
    "policy_faulty": "Policy is faulty ({detail}): each doubt is decided against access",
    "policy_faulty_cleared": "Policy is no longer faulty",
    "gateway_drift": "The row of the gateway differs from its interface in {detail}",
    "gateway_drift_cleared": "The row of the gateway is as its interface again",
    "policies_off": "Policies are not enforced any more: the packet filter has no table of wgsyncd",
    "bandwidth_changed": "Bandwidth profile {profile} holds now, instead of {previous_profile}: {bandwidth}",
    "bandwidths_changed": "The bandwidth of {count} users changed at once",
    "shaping_started": "Bandwidth is limited from now on",
    "shaping_stopped": "Bandwidth is not limited any more: what wgsyncd had made in tc is removed",
    "shaping_failed": "Bandwidth is not limited for everybody ({detail}): see wgsyncd status",
    "shaping_restored": "Bandwidth is limited as it should be again (was {detail})",
    "node_active": "This node has {address} now: it is active",
    "node_standby": "This node does not have {address} any more: it is standby",
}
_CONDITIONS = {
    (AuditAction.STORE_CONDITION_STARTED, UNALLOCATED): "unallocated",
    (AuditAction.STORE_CONDITION_ENDED, UNALLOCATED): "unallocated_cleared",
    (AuditAction.STORE_CONDITION_STARTED, POLICY_FAULTY): "policy_faulty",
    (AuditAction.STORE_CONDITION_ENDED, POLICY_FAULTY): "policy_faulty_cleared",
    (AuditAction.STORE_CONDITION_STARTED, GATEWAY_DRIFT): "gateway_drift",
    (AuditAction.STORE_CONDITION_ENDED, GATEWAY_DRIFT): "gateway_drift_cleared",
    (AuditAction.GUARD_TRIPPED, ACCESS): "access_withheld",
    (AuditAction.GUARD_APPROVED, ACCESS): "access_approved",
}
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
_ANOMALIES = {
    AnomalyKind.RESET: "went back without a known reason and count from zero",
    AnomalyKind.CAME_BACK: "came from an earlier state of the machine, not posted: later bytes go on from here",
    AnomalyKind.TABLES_BEHIND: "are posted, but wgsyncd's tables were older",
    AnomalyKind.COLUMNS_BEHIND: "were posted, but are missing in the application's tables",
    AnomalyKind.WENT_BACK: "are of a node state that the database lost",
    AnomalyKind.QUARANTINED: "moved more than the link can carry, not posted",
}
_TAKEOVERS = {
    TakeoverCause.STOPPED: "it had stopped",
    TakeoverCause.SILENT: "it was silent for {count} s",
    TakeoverCause.CLONE: "it is a clone of this machine",
    TakeoverCause.ORDERED: "ordered by {by}",
}
_BANDWIDTHS = {
    BandwidthCause.CONTRACT: "the groups of the user have another one",
    BandwidthCause.CAP_REACHED: "monthly cap reached",
    BandwidthCause.CAP_ENDED: "monthly cap ended",
    BandwidthCause.SETTINGS: "the configuration has other rates",
}
_UPDATED = {
    UpdatedPart.ADDRESS: "address",
    UpdatedPart.KEY: "key",
    UpdatedPart.OTHER: "preshared key or keepalive",
}
_CAUSES = {
    ChangeCause.KEY_REPLACED: "has a new key",
    ChangeCause.ROW_GONE: "row is gone",
    ChangeCause.GONE_FROM_KERNEL: "gone from the kernel",
    ChangeCause.MOVED_TO: "moved to {interface}",
}
_INACTIVE = {
    Inactive.OWNER_MISSING: "user {owner} does not exist",
    Inactive.OWNER_INACTIVE: "user {owner} {state}",
    Inactive.DEVICE_INACTIVE: "device {state}",
    Inactive.DEADLINE_PASSED: "not used in time",
    Inactive.SUPERSEDED: "has another key now",
    Inactive.GATEWAY_INACTIVE: "gateway {state}",
}
EVENTS = frozenset(_MESSAGES)
"""The event types of the rows that wgsyncd writes, without their prefix ``gateway.``."""


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
    name = event.action.value if facts.condition is None else _CONDITIONS[event.action, facts.condition]
    status = "warning" if name in _WARNINGS else "failure" if name in _FAILURES else "success"
    interface = facts.interface or event.target
    gateway = gateways.of_interface.get(interface) or gateways.of_node()
    device = _device(event.target)
    message = _safe(_MESSAGES[name].format(**dict(_words(facts, zone))))[:2000]
    metadata = {"gateway_id": gateway, "node": node, **dict(_plain(facts, zone))}
    if device is None:
        metadata["target"] = _safe(event.target)[:64]
    elif label := _safe(called(device)):
        message, metadata["name"] = f"{label}: {message}", label
    entity = "gateway" if device is None else "policy" if name.startswith(POLICY_FAULTY) else "device"
    return AuditEntry(f"gateway.{name}", entity, device or gateway, status, message, metadata)


def _device(target: str) -> str | None:
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
                yield one, reason_text(value)
            case UpdatedPart():
                yield one, _UPDATED[value]
            case AnomalyKind():
                yield one, _ANOMALIES[value]
            case BandwidthCause():
                yield one, _BANDWIDTHS[value]
            case TakeoverCause():
                yield one, _TAKEOVERS[value].format(count=facts.count, by=by)
            case _:
                yield one, by if one == "by" else value


def _plain(facts: AuditFacts, zone: ZoneInfo) -> Iterator[tuple[str, object]]:
    """The facts as JSON."""
    for one, value in _facts(facts):
        match value:
            case ChangeReason():
                yield one, reason_text(value)
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


def reason_text(reason: ChangeReason) -> str:
    if reason.inactive is None:
        owner = reason.owner and f", user {reason.owner}"
        return _CAUSES[reason.cause].format(interface=reason.interface) + owner
    why = reason.inactive
    return _INACTIVE[why.kind].format(owner=why.owner, state=why.state)


def _safe(text: str) -> str:
    """The text without keys, and without control characters: the server takes no NUL."""
    return escape_control(redact(text))
