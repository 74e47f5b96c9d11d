"""What the daemon knows of itself. The main thread writes it; metrics, /readyz and STATUS= read it.

Every field is replaced whole (an int, a float, a tuple, a new dict), never changed in place, so a reader in another
thread sees an old value or a new one, never half of one. Times are UNIX seconds, durations seconds, 0.0 = never.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from wgsyncd.core.model import Counters, Rejection

REMEMBERED = 10  # last changes


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One live peer, for the per-peer series."""

    public_key: str  # base64
    allowed_ips: str  # "10.200.0.5/32", comma-separated, sorted
    device: str  # "" for a foreign peer
    counters: Counters
    latest_handshake: float  # UNIX seconds, 0 = never


class Event(NamedTuple):
    """One of the last changes."""

    at: float  # UNIX seconds
    what: str  # add, update, remove; activate, expire, first_handshake; config
    interface: str
    device: str
    text: str


class RateSample(NamedTuple):
    """From where a rate is measured: when the counters were read, and what they said."""

    at: float  # UNIX seconds
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class InterfaceStatus:
    """One interface as the last cycle left it."""

    present: bool
    kind: str = ""  # "kernel" or "userspace"
    desired: int = 0
    actual: int = 0
    online: int = 0  # latest handshake less than 180 s ago (REJECT_AFTER_TIME, WireGuard paper)
    frozen: int = 0
    foreign: int = 0
    withheld: int = 0  # removals that the guard holds back
    blocked: int = 0  # removals that wait until a row's unreadable key is mended
    drift: int = 0  # peers that differed after apply
    received: int = 0  # bytes, sum of the live peers' counters
    sent: int = 0
    latest_handshake: float = 0.0  # of any peer, UNIX seconds
    rx_rate: float | None = None  # bytes per second, between two polls; None: there was only one
    tx_rate: float | None = None
    mark: RateSample | None = None
    peers: tuple[PeerStatus, ...] = ()  # only where per-peer series are asked for


Key = TypeVar("Key", str, tuple[str, str])


def _plus(counts: Mapping[Key, int], key: Key, amount: int = 1) -> Mapping[Key, int]:
    return {**counts, key: counts.get(key, 0) + amount}


@dataclass(slots=True)
class DaemonStatus:
    """The whole picture. It is output only: nothing is decided by it, what a decision needs has an owner elsewhere."""

    interfaces: Mapping[str, InterfaceStatus] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)  # rows by reason
    rejections: tuple[Rejection, ...] = ()  # the same, one by one
    pending: Mapping[str, int] = field(default_factory=dict)  # changes that the last reconcile left, by add, update …
    withheld: int = 0  # changes that wait for an admin
    interface_errors: Mapping[str, str] = field(default_factory=dict)  # why interfaces could not be read, the last time
    recent: tuple[Event, ...] = ()  # the last changes, the latest last
    started_at: float = 0.0
    store_conditions: Mapping[str, int] = field(default_factory=dict)  # conditions of the store's own kinds, by type
    peers_without_metrics: int = 0  # live peers beyond metrics.per_peer_limit
    quarantined: int = 0  # deltas waiting for an admin
    findings: Mapping[str, int] = field(default_factory=dict)  # of the last verification, by check; without notes
    guard_tripped: bool = False
    plan_id: str = ""  # of the withheld plan

    runs: Mapping[str, int] = field(default_factory=dict)  # by task: account, reconcile, watch, verify …
    failures: Mapping[str, int] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)  # of the last run, by task
    duration_sums: Mapping[str, float] = field(default_factory=dict)
    succeeded_at: Mapping[str, float] = field(default_factory=dict)

    changes: Mapping[tuple[str, str], int] = field(default_factory=dict)  # applied, by (interface, add|update|remove)
    change_failures: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by (interface, errno name)
    dump_retries: int = 0
    transitions: Mapping[str, int] = field(default_factory=dict)  # by kind: activate, expire
    anomalies: Mapping[str, int] = field(default_factory=dict)  # by kind: reset, quarantined
    sampled_at: Mapping[str, float] = field(default_factory=dict)  # by interface: what was counted until then is kept,
    # in the database or in the spool
    notifications: int = 0  # datagrams of the application
    invalid_notifications: int = 0  # that were none
    locked_rows: int = 0  # devices not booked the last time because somebody else has their row locked
    spool_pending_counters: int = 0  # counters in the spool
    spooled_since: float = 0.0  # of its oldest sample, 0.0 = it is empty
    spool_up: bool = True  # the last write to it worked
    spool_corruptions: int = 0  # damaged ones
    removal_gaps: int = 0  # times that peers were taken out after a last look at their counters
    removal_gap_sum: float = 0.0  # seconds between look and removal, of all
    removal_gap_longest: float = 0.0
    accounted_rx: int = 0  # bytes committed since start
    accounted_tx: int = 0

    last_error: str = ""  # what the last failed piece of work failed of
    database_up: bool = False
    database_error: str = ""  # what it said last, without values
    database_errors: int = 0
    database_read_at: float = 0.0
    config_ok: bool = True
    config_loaded_at: float = 0.0
    reconciled: bool = False  # one complete reconcile since start
    intervals: Mapping[str, float] = field(default_factory=dict)  # configured, by task

    def count_run(self, task: str) -> None:
        """A task begins."""
        self.runs = _plus(self.runs, task)

    def count_failure(self, task: str) -> None:
        """A task failed."""
        self.failures = _plus(self.failures, task)

    def record_duration(self, task: str, seconds: float) -> None:
        """A task is over, well or not, and took so long."""
        self.durations = {**self.durations, task: seconds}
        self.duration_sums = {**self.duration_sums, task: self.duration_sums.get(task, 0.0) + seconds}

    def record_success(self, task: str, at: float) -> None:
        """A task succeeded at that time."""
        self.succeeded_at = {**self.succeeded_at, task: at}

    def record_interval(self, task: str, seconds: float) -> None:
        """So much time lies between two runs of a task."""
        self.intervals = {**self.intervals, task: seconds}

    def count_changes(self, interface: str, kind: str, peers: int) -> None:
        """An interface took changes of so many peers."""
        self.changes = _plus(self.changes, (interface, kind), peers)

    def count_change_failure(self, interface: str, errno_name: str) -> None:
        """An interface refused a change, or a batch of changes."""
        self.change_failures = _plus(self.change_failures, (interface, errno_name))

    def count_transition(self, kind: str) -> None:
        """A device took a step in its life."""
        self.transitions = _plus(self.transitions, kind)

    def count_anomaly(self, kind: str) -> None:
        """A counter did something that an admin should know."""
        self.anomalies = _plus(self.anomalies, kind)

    def record_removal_gap(self, seconds: float) -> None:
        """Peers were taken out so long after the last look at their counters."""
        self.removal_gaps += 1
        self.removal_gap_sum += seconds
        self.removal_gap_longest = max(self.removal_gap_longest, seconds)

    def add_event(self, what: str, *, interface: str = "", device: str = "", text: str = "", at: float = 0.0) -> None:
        """One of the last changes; ``at``: UNIX seconds, 0 for now."""
        event = Event(at or time.time(), what, interface, device, text)
        self.recent = (*self.recent, event)[-REMEMBERED:]
