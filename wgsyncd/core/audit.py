"""Audit events: what happened to whom, as an action with facts.

An event holds no sentence and no key. The store words an event in the language of its own audit trail.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wgsyncd.core.model import Counters
from wgsyncd.core.reasons import AnomalyKind, ChangeReason, UpdatedPart


class AuditAction(StrEnum):
    """What happened."""

    DEVICE_ACTIVATED = "device_activated"
    DEVICE_EXPIRED = "device_expired"
    PEER_ADDED = "peer_added"
    PEER_REMOVED = "peer_removed"
    PEER_UPDATED = "peer_updated"
    PEER_MOVED = "peer_moved"
    FOREIGN_PEER_REMOVED = "foreign_peer_removed"
    ROW_REJECTED = "row_rejected"
    ROW_ACCEPTED = "row_accepted"
    STORE_CONDITION_STARTED = "store_condition_started"  # a condition of the store's own kind
    STORE_CONDITION_ENDED = "store_condition_ended"
    GUARD_TRIPPED = "guard_tripped"
    GUARD_APPROVED = "guard_approved"
    INTERFACE_RESTORED = "interface_restored"
    INTERFACE_MISSING = "interface_missing"
    USAGE_ANOMALY = "usage_anomaly"
    SPOOL_CORRUPT = "spool_set_aside"
    QUARANTINE_RELEASED = "quarantine_released"
    QUARANTINE_DROPPED = "quarantine_dropped"
    CONFIG_RELOADED = "config_reloaded"
    CONFIG_REJECTED = "config_rejected"
    DAEMON_STARTED = "daemon_started"
    DAEMON_STOPPED = "daemon_stopped"


@dataclass(frozen=True, slots=True)
class AuditFacts:
    """The facts of an event. Each action has its own few; None means that the action does not have the fact."""

    interface: str | None = None
    previous_interface: str | None = None
    address: str | None = None
    peer: str | None = None  # a fingerprint
    reason: ChangeReason | None = None
    updated: UpdatedPart | None = None
    rejection: str | None = None  # the code of a Reason
    condition: str | None = None  # the type of a condition of the store's own kind
    detail: str | None = None  # the reason of such a condition
    anomaly: AnomalyKind | None = None
    count: int | None = None
    plan: str | None = None
    by: str | None = None  # who approved; "" where nobody knows
    at: float | None = None  # UNIX seconds, as all times
    since: float | None = None
    until: float | None = None
    previous: Counters | None = None
    current: Counters | None = None
    file: str | None = None
    version: str | None = None
    keys: str | None = None  # of the configuration


NO_FACTS = AuditFacts()


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that the audit trail is to hold. ``target`` names the device, owner, interface or node."""

    action: AuditAction
    target: str
    facts: AuditFacts = NO_FACTS
