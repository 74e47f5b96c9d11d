"""Audit events: what happened to a device, an interface or a node, as an action with facts.

An event holds no sentence and no key. The store writes the sentence, in the language of its own audit trail.
"""

from enum import StrEnum

from wgsyncd.core.model import Counters
from wgsyncd.core.reasons import AnomalyKind, BandwidthCause, ChangeReason, TakeoverCause, UpdatedPart
from wgsyncd.core.values import peer_value


class AuditAction(StrEnum):
    """The kinds of events that an audit row can report."""

    DEVICE_ACTIVATED = "device_activated"
    DEVICE_EXPIRED = "device_expired"
    PEER_ADDED = "peer_added"
    PEER_REMOVED = "peer_removed"
    PEER_UPDATED = "peer_updated"
    PEER_MOVED = "peer_moved"
    FOREIGN_PEER_REMOVED = "foreign_peer_removed"
    ROW_REJECTED = "row_rejected"
    ROW_ACCEPTED = "row_accepted"
    STORE_CONDITION_STARTED = "store_condition_started"  # a condition of a type of the store's own
    STORE_CONDITION_ENDED = "store_condition_ended"
    GUARD_TRIPPED = "guard_tripped"
    GUARD_APPROVED = "guard_approved"
    INTERFACE_RESTORED = "interface_restored"
    INTERFACE_MISSING = "interface_missing"
    USAGE_ANOMALY = "usage_anomaly"
    SPOOL_CORRUPT = "spool_corrupt"
    QUARANTINE_RELEASED = "quarantine_released"
    QUARANTINE_DROPPED = "quarantine_dropped"
    CONFIG_RELOADED = "config_reloaded"
    CONFIG_REJECTED = "config_rejected"
    DAEMON_STARTED = "daemon_started"
    DAEMON_STOPPED = "daemon_stopped"
    NODE_TAKEN_OVER = "node_taken_over"
    NODE_RENAMED = "node_renamed"
    NODE_WENT_BACK = "node_went_back"
    NODE_ADOPTED = "node_adopted"
    ADOPTION_UNDONE = "adoption_undone"
    POLICIES_OFF = "policies_off"
    BANDWIDTH_CHANGED = "bandwidth_changed"
    BANDWIDTHS_CHANGED = "bandwidths_changed"  # of so many contracts that nobody wants a row for each
    SHAPING_STARTED = "shaping_started"
    SHAPING_STOPPED = "shaping_stopped"
    SHAPING_FAILED = "shaping_failed"
    SHAPING_RESTORED = "shaping_restored"
    ACCESS_CHANGED = "access_changed"
    RULESET_RESTORED = "ruleset_restored"
    NODE_ACTIVE = "node_active"
    NODE_STANDBY = "node_standby"


ABOUT_ROWS = frozenset((
    AuditAction.PEER_ADDED, AuditAction.PEER_REMOVED, AuditAction.PEER_UPDATED, AuditAction.PEER_MOVED,
    AuditAction.ROW_REJECTED, AuditAction.ROW_ACCEPTED, AuditAction.STORE_CONDITION_STARTED,
    AuditAction.STORE_CONDITION_ENDED, AuditAction.BANDWIDTH_CHANGED, AuditAction.BANDWIDTHS_CHANGED,
    AuditAction.ACCESS_CHANGED,
))  # fmt: skip
"""What follows from the rows, so both nodes of a pair do it. Only the active node tells of it."""


@peer_value(frozen=True, slots=True)
class AuditFacts:
    """The facts of an event. An action uses only some of them: None means that the action does not have the fact."""

    interface: str | None = None
    previous_interface: str | None = None
    address: str | None = None
    peer: str | None = None  # the fingerprint of the peer's key
    reason: ChangeReason | None = None
    updated: UpdatedPart | None = None
    rejection: str | None = None  # the code of a Reason
    condition: str | None = None  # the type of a condition, where the type is the store's own
    detail: str | None = None  # the reason of this condition, or the code of a fault of shaping
    anomaly: AnomalyKind | None = None
    count: int | None = None
    plan: str | None = None
    by: str | None = None  # the name of the admin who approved or adopted, "" if unknown
    at: float | None = None  # UNIX seconds, like all times of this class
    since: float | None = None
    until: float | None = None
    previous: Counters | None = None
    current: Counters | None = None
    file: str | None = None
    version: str | None = None
    keys: str | None = None  # names of configuration keys
    host: str | None = None  # the host that runs the node now
    previous_host: str | None = None
    takeover: TakeoverCause | None = None  # with ``count``: seconds since the last heartbeat of the previous host
    previous_node: str | None = None
    profile: str | None = None  # of bandwidth
    previous_profile: str | None = None
    bandwidth: BandwidthCause | None = None
    gained: int | None = None  # devices with their first access
    lost: int | None = None  # devices without any access now
    changed: int | None = None  # devices with other access
    program: str | None = None  # the name of the program that had changed the packet filter, and its process id


NO_FACTS = AuditFacts()
ACCESS = "access"  # as the condition of an event of the guard: it is about access, not about peers
Happening = tuple[AuditAction, AuditFacts]
"""What happened to the node itself."""


@peer_value(frozen=True, slots=True)
class AuditEvent:
    """One event for the audit trail. ``target`` names the device, owner, interface or node."""

    action: AuditAction
    target: str
    facts: AuditFacts = NO_FACTS
