"""The daemon's status of itself, for metrics, /readyz, `wgsyncd status` and systemd's status line.

Only the main thread writes the status, and other threads read it. A field is replaced as a whole (an int, a float, a
tuple, a new dict) and never changed in place. So a reader sees an old value or a new value, never half of one. Times
are UNIX seconds, durations are seconds, and 0.0 means never.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wgsyncd.core.model import Counters, DeviceRow, Rejection
from wgsyncd.core.peers.guard import ReadError
from wgsyncd.core.peers.identities import IdentityChange
from wgsyncd.core.policies.status import FilterStatus
from wgsyncd.core.shaping.profiles import Terms
from wgsyncd.core.usage.aside import Obstacle, SetAside

if TYPE_CHECKING:
    from wgsyncd.engine.last_dumps import LastDumps
from wgsyncd.engine.reports.plan import PlannedChange

QUARTER, QUARTERS = 900, 96  # seconds, and how many of them are 24 hours
REMEMBERED = 10  # the number of last changes that are kept

Key = TypeVar("Key")


def changed_at(file: Path) -> float | None:
    """When the file was last changed, in UNIX seconds. None: it cannot be seen."""
    try:
        return file.stat().st_mtime
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One actual peer, for the metrics of single peers."""

    public_key: str  # base64
    allowed_ips: str  # "10.200.0.5/32", comma-separated, sorted
    device: str  # "" for a foreign peer
    counters: Counters
    latest_handshake: float  # UNIX seconds, 0 = never


@dataclass(frozen=True, slots=True)
class ShapingStatus:
    """Whose traffic is limited, as the last cycle left it."""

    ok: bool
    devices: Mapping[str, int]  # that are shaped, by profile
    owners: int  # with shaped devices
    slowed: int  # owners that have reached their monthly cap
    unknown: int  # owners whose profile the configuration does not have
    drift: int  # objects of tc that were not as wanted after apply
    trouble: str  # what is wrong, in words. "" if nothing is


class LinkState(Enum):
    """The state of a network interface."""

    UP = "up"
    DOWN = "down"  # nobody can connect
    MISSING = "missing"


class Quarter(NamedTuple):
    """The bytes of an interface in QUARTER seconds."""

    start: int  # UNIX seconds
    rx: int
    tx: int


class Event(NamedTuple):
    """One of the last changes."""

    at: float  # UNIX seconds
    what: str  # add, update, remove, activate, expire, first_handshake or config
    interface: str
    device: str
    text: str


@dataclass(frozen=True, slots=True)
class InterfaceStatus:
    """One interface as the last cycle left it."""

    present: bool
    kind: str = ""  # "kernel" or "userspace"
    desired: int | None = 0  # None: the rows could not be read since the start
    actual: int = 0
    online: int = 0  # latest handshake less than 180 s ago (REJECT_AFTER_TIME, WireGuard paper)
    frozen: int = 0
    foreign: int = 0
    withheld: int = 0  # removals that the guard holds back
    blocked: int = 0  # removals that wait until the unreadable key of a row is fixed
    drift: int = 0  # peers that differed after apply
    received: int = 0  # bytes, sum of the actual peers' counters
    sent: int = 0
    latest_handshake: float = 0.0  # of any peer, UNIX seconds
    change: IdentityChange | None = None  # clients know another key or port
    link: LinkState | None = None  # None: nobody has looked, see DaemonStatus.now
    rx_rate: float | None = None  # bytes per second between two polls. None: there was only one poll.
    tx_rate: float | None = None
    peers: tuple[PeerStatus, ...] = ()  # empty unless metrics.per_peer is on


class Counts(Mapping[Key, int]):
    """Counts by key. Each count makes a new dict, so another thread may read at any time."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def add(self, key: Key, amount: int = 1) -> None:
        self._counts = {**self._counts, key: self._counts.get(key, 0) + amount}

    def __getitem__(self, key: Key) -> int:
        return self._counts[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


@dataclass(slots=True)
class DaemonStatus:
    """Holds everything that the daemon shows of itself. It is output only: no decision is made from it."""

    interfaces: Mapping[str, InterfaceStatus] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)  # rows by reason
    rejections: tuple[Rejection, ...] = ()  # the rejected rows one by one
    pending: Mapping[str, int] = field(default_factory=dict)  # drift after the last reconcile, by add, update, remove
    withheld: int = 0  # changes that wait for an admin
    interface_errors: Mapping[str, ReadError] = field(default_factory=dict)  # by interface: why the last read failed
    rows: Sequence[DeviceRow] | None = None  # as the store keeps them. None: they were not read yet
    dumps: "LastDumps | None" = None  # the last ones
    history: Mapping[str, tuple[Quarter, ...]] = field(default_factory=dict)  # by interface: at most the last 24 hours
    held: tuple[PlannedChange, ...] = ()  # the first removals that wait, for the page
    recent: tuple[Event, ...] = ()  # the last changes, the latest one at the end
    started_at: float = 0.0
    sealed: Mapping[str, int] = field(default_factory=dict)  # rows by the id of the key of their preshared key
    store_conditions: Mapping[str, int] = field(default_factory=dict)  # conditions of the store's own kinds, by type
    peers_without_metrics: int = 0  # actual peers beyond metrics.per_peer_limit
    quarantined: int = 0  # deltas that wait for an admin
    findings: Mapping[str, int] = field(default_factory=dict)  # discrepancies of the last verification, by check
    guard_tripped: bool = False
    plan_id: str = ""  # of the withheld plan
    waiting_for_adoption: int = 0  # foreign peers that would go if an admin had adopted the node

    runs: Counts[str] = field(default_factory=Counts)  # by task: account, reconcile, watch, verify …
    failures: Counts[str] = field(default_factory=Counts)
    durations: Mapping[str, float] = field(default_factory=dict)  # of the last run, by task
    duration_sums: Mapping[str, float] = field(default_factory=dict)
    succeeded_at: Mapping[str, float] = field(default_factory=dict)

    changes: Counts[tuple[str, str]] = field(default_factory=Counts)  # applied, by (interface, add|update|remove)
    change_failures: Counts[tuple[str, str]] = field(default_factory=Counts)  # by (interface, errno name)
    peers_taken_out: Counts[tuple[str]] = field(default_factory=Counts)  # by (interface,)
    dump_retries: int = 0
    shaping: ShapingStatus | None = None  # None: shaping is off, or no cycle has ended yet
    terms: Mapping[str, Terms] = field(default_factory=dict)  # by owner, as last read
    shaper_sent: Mapping[str, int] = field(default_factory=dict)  # bytes by direction, since the tree was made
    shaper_dropped: Mapping[str, int] = field(default_factory=dict)  # packets, also by direction
    shaping_changes: Counts[str] = field(default_factory=Counts)  # by kind: "add filter"
    shaping_failures: Counts[str] = field(default_factory=Counts)  # by errno name
    policies: FilterStatus | None = None  # None: this process enforces no policies
    plane_errors: Mapping[str, str] = field(default_factory=dict)  # by plane: why it could not be read or changed
    transitions: Counts[str] = field(default_factory=Counts)  # by kind: activate, expire
    anomalies: Counts[str] = field(default_factory=Counts)  # by kind: reset, quarantined
    sampled_at: Mapping[str, float] = field(default_factory=dict)  # by interface: bytes counted until then are kept,
    # in the database or in the spool
    notifications: int = 0  # valid datagrams of the application
    invalid_notifications: int = 0  # datagrams that are no notification
    set_aside: Sequence[SetAside] = ()  # devices with bytes or transitions that wait, because their row is not changed
    unwritten_audit_rows: int = 0  # they wait in the store, because the control plane did not take them
    spool_pending_counters: int = 0  # counters in the backlog
    spooled_since: float = 0.0  # the time of its oldest sample. 0.0: the backlog is empty.
    spool_up: bool = True  # the last write to the spool's file worked
    spool_corruptions: int = 0  # spool files that were damaged
    removal_gaps: int = 0  # batches of removals, each after a last sample of its peers
    removal_gap_sum: float = 0.0  # seconds between sample and removal, of all batches
    removal_gap_longest: float = 0.0
    accounted_rx: int = 0  # bytes committed since start
    accounted_tx: int = 0

    heartbeat_at: float = 0.0  # UNIX seconds of the last heartbeat in the database
    taken_over_at: float = 0.0  # when this process took the node over from another machine. 0.0: it did not

    is_active: bool | None = None  # False: standby. None: the node has no pair

    clock_step: float = 0.0  # seconds by which the wall clock was set in the last hour, less than 0: back
    last_error: str = ""  # of the last task that failed
    database_up: bool = False
    database_error: str = ""  # its last error, without values
    database_todo: str = ""  # the command that helps against it, if the error itself tells
    database_errors: int = 0
    database_read_at: float = 0.0
    went_back_at: float = 0.0  # when the database last had an older state of this node. 0.0: not since the start
    config_ok: bool = True
    config_loaded_at: float = 0.0
    config_time: float | None = None  # the file's time of change when it was loaded. None: not known
    reconciled: bool = False  # one complete reconcile since start
    intervals: Mapping[str, float] = field(default_factory=dict)  # seconds between two runs, by task

    @property
    def compares(self) -> bool:
        """Whether the last cycle could read an interface. A cycle that read none compared nothing."""
        return any(one.present for one in self.interfaces.values())

    def now(self, link: Callable[[str], LinkState]) -> "DaemonStatus":
        """This status with each interface's ``link`` of now, which may be another one than at the last poll."""
        links = {name: link(name) for name in self.interfaces}
        there = {
            name: replace(one, present=one.present and links[name] is not LinkState.MISSING, link=links[name])
            for name, one in self.interfaces.items()
        }
        gone = [name for name, one in links.items() if one is LinkState.MISSING]
        errors = {name: ReadError("ENODEV", f"{name}: ENODEV: it was deleted") for name in gone}
        return replace(self, interfaces=there, interface_errors=errors | dict(self.interface_errors))

    def note_configuration(self, file: Path) -> None:
        """Record that this file is loaded. Its time is compared with no clock, which may be wrong at the boot."""
        self.config_ok, self.config_loaded_at, self.config_time = True, time.time(), changed_at(file)

    def rows_set_aside(self, *obstacles: Obstacle) -> list[SetAside]:
        """The devices with a row that cannot be changed for one of these reasons."""
        return [one for one in self.set_aside if one.obstacle in obstacles]

    def record_duration(self, task: str, seconds: float) -> None:
        """Record how long a run of a task took, whether it succeeded or not."""
        self.durations = {**self.durations, task: seconds}
        self.duration_sums = {**self.duration_sums, task: self.duration_sums.get(task, 0.0) + seconds}

    def record_removal_gap(self, seconds: float) -> None:
        """Record the seconds between the last sample of removed peers and their removal."""
        self.removal_gaps += 1
        self.removal_gap_sum += seconds
        self.removal_gap_longest = max(self.removal_gap_longest, seconds)

    def add_event(self, what: str, *, interface: str = "", device: str = "", text: str = "", at: float = 0.0) -> None:
        """Add one change to the last changes, and drop the oldest one. ``at``: UNIX seconds, 0 for now."""
        event = Event(at or time.time(), what, interface, device, text)
        self.recent = (*self.recent, event)[-REMEMBERED:]
