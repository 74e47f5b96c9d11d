"""The English words of audit rows that all control planes have in common."""

from collections.abc import Container, Mapping
from enum import StrEnum

from wgsyncd.core.audit import AuditAction, AuditEvent
from wgsyncd.core.reasons import (
    AnomalyKind,
    BandwidthCause,
    ChangeCause,
    ChangeReason,
    Inactive,
    TakeoverCause,
    UpdatedPart,
)

MESSAGES = {  # by the name of the row
    "device_activated": "First handshake at {at}: activated",
    "peer_added": "Peer added on {interface} with {address}",
    "peer_removed": "Peer removed from {interface} ({address}): {reason}",
    "peer_updated": "Peer updated on {interface}: {updated}",
    "peer_moved": "Peer moved from {previous_interface} to {interface} ({address})",
    "foreign_peer_removed": "Peer {peer} ({address}), which no row names, removed from {interface}",
    "row_rejected": "Row is rejected ({rejection}). Its live peer, if any, stays as it is",
    "row_accepted": "Row is no longer rejected: mended, or it wants no peer any more (was {rejection})",
    "guard_tripped": "Nothing was removed: {count} removals wait. A mistake? See wgsyncd plan."
    " Meant? wgsyncd approve {plan}",
    "guard_approved": "{count} withheld removals (plan {plan}) approved by {by}",
    "interface_restored": "Interface is new: {count} peers restored",
    "interface_missing": "Interface is missing: its peers are without service",
    "usage_anomaly": "Counters on {interface} {anomaly}: rx {previous.rx} -> {current.rx},"
    " tx {previous.tx} -> {current.tx} bytes",
    "spool_corrupt": "The spool was damaged and is now {file}: the bytes in it are not posted",
    "quarantine_released": "Quarantined traffic of {interface} posted by an admin: rx {current.rx},"
    " tx {current.tx} bytes, {since} to {until}",
    "quarantine_dropped": "Quarantined traffic of {interface} dropped by an admin, not posted: rx {current.rx},"
    " tx {current.tx} bytes, {since} to {until}",
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
    "policies_off": "Policies are not enforced any more: the packet filter has no table of wgsyncd",
    "node_active": "This node has {address} now: it is active",
    "node_standby": "This node does not have {address} any more: it is standby",
    "bandwidth_changed": "Bandwidth profile {profile} holds now, instead of {previous_profile}: {bandwidth}",
    "shaping_started": "Bandwidth is limited from now on",
    "shaping_stopped": "Bandwidth is not limited any more: what wgsyncd had made in tc is removed",
    "shaping_failed": "Bandwidth is not limited for everybody ({detail}): see wgsyncd status",
    "shaping_restored": "Bandwidth is limited as it should be again (was {detail})",
}
# The members of all these enums have different values.
WORDS: Mapping[StrEnum, str] = {
    AnomalyKind.RESET: "went back without a known reason and count from zero",
    AnomalyKind.CAME_BACK: "came from an earlier state of the machine, not posted: later bytes go on from here",
    AnomalyKind.WENT_BACK: "are of a node state that the database lost",
    AnomalyKind.QUARANTINED: "moved more than the link can carry, not posted",
    TakeoverCause.STOPPED: "it had stopped",
    BandwidthCause.CAP_REACHED: "monthly cap reached",
    BandwidthCause.CAP_ENDED: "monthly cap ended",
    BandwidthCause.SETTINGS: "the configuration has other rates",
    UpdatedPart.ADDRESS: "address",
    UpdatedPart.KEY: "key",
    UpdatedPart.OTHER: "preshared key or keepalive",
    ChangeCause.KEY_REPLACED: "has a new key",
    ChangeCause.ROW_GONE: "row is gone",
    ChangeCause.GONE_FROM_KERNEL: "gone from the kernel",
    ChangeCause.MOVED_TO: "moved to {interface}",
    Inactive.DEVICE_INACTIVE: "device {state}",
    Inactive.SUPERSEDED: "has another key now",
    Inactive.GATEWAY_INACTIVE: "gateway {state}",
}


def row_name(event: AuditEvent) -> str:
    """The name of an event's row: its action, or the condition of a store's own type that starts or ends."""
    match event.action:
        case AuditAction.STORE_CONDITION_STARTED:
            return str(event.facts.condition)
        case AuditAction.STORE_CONDITION_ENDED:
            return f"{event.facts.condition}_cleared"
    return event.action.value


def is_known(event: AuditEvent, names: Container[str]) -> bool:
    """Whether a store has words for an event. A newer build may have left a condition that this one does not know.

    ``names``: of the rows that the store has words for.
    """
    return event.action is not AuditAction.STORE_CONDITION_ENDED or row_name(event) in names


def reason_text(reason: ChangeReason, words: Mapping[StrEnum, str], owner: str) -> str:
    """Why a peer was changed. ``owner``: what is said of the owner whose row is gone, with {} for its name."""
    if (why := reason.inactive) is not None:
        return words[why.kind].format(owner=why.owner, state=why.state)
    whose = owner.format(reason.owner) if reason.owner else ""
    return words[reason.cause].format(interface=reason.interface) + whose
