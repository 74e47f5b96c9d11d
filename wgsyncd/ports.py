"""The ports: what the agent needs of WireGuard, of a store, of a spool. Declared by their consumer's side, implemented
at the edges (wireguard/, store/, spool.py) and by the tests' fakes; the same contract tests run on all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import Change, Counters, DeviceRow, InterfaceState
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.state import Condition, NodeState, Posting, QuarantineEntry, WriteBatch
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import UsageCalendar


@dataclass(frozen=True, slots=True)
class Clock:
    """UNIX seconds, which may step; and seconds that only go forward."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class FailedChange:
    """A change that the interface refused: the errno's name and its text."""

    change: Change
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class NewInterface:
    """How to make an interface that is missing."""

    interface: str
    private_key_file: Path
    listen_port: int
    addresses: tuple[str, ...]  # "10.200.0.1/24"
    mtu: int  # 0: the kernel's choice


class WireGuard(Protocol):
    """The WireGuard interfaces of this machine (of this network namespace)."""

    @property
    def retries(self) -> int:
        """Dumps read again since start because they were torn."""

    def read(self, interface: str) -> InterfaceState:
        """One complete, untorn dump. InterfaceMissing, DumpTorn or WireGuardError where there is none."""

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Make the changes, in order, in as few messages as fit; what one of them meets is returned, not raised, and
        does not stop the others. Only what differs is sent: never REPLACE_PEERS; an UPDATE carries UPDATE_ONLY and the
        attributes that differ; a PSK is cleared by 32 zero bytes. WireGuardError where the interface itself fails."""

    def create(self, creation: NewInterface) -> None:
        """Make the interface with key, port, addresses and MTU, and set it up; half-made ones are taken away again.
        Never prints or raises with a key. WireGuardError where it cannot be made."""

    def close(self) -> None:
        """Give back sockets."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store wants and knows at one moment."""

    rows: tuple[DeviceRow, ...]
    conditions: frozenset[Condition] | None  # of the store's own kinds; None: the store cannot see them
    approved: str | None  # id of the set of removals that an admin let through the guard
    quarantined: int  # deltas waiting for an admin


class Phase(Enum):
    """The phases in which a cycle applies its plans, in their order. So nobody is ever unshaped or unfiltered."""

    WITHDRAW = "withdraw"  # access that ends
    PREPARE = "prepare"  # what must stand before a peer comes in
    PEERS = "peers"  # peers go, change and come
    GRANT = "grant"  # access that begins
    CLEAN_UP = "clean up"  # what no peer uses any more


Found = TypeVar("Found")
Planned = TypeVar("Planned")


class Plane(Protocol[Found, Planned]):
    """A planner and its data plane, beside the peers. WireGuardError where the data plane fails: the cycle goes on, but
    no peer comes in before every plane is prepared."""

    name: str  # for the log

    def read(self) -> Found:
        """What the data plane has now."""

    def plan(self, snapshot: Snapshot, decision: Decision, found: Found) -> Planned:
        """What has to change, in all phases. Pure: it reads nothing else and changes nothing."""

    def apply(self, phase: Phase, plan: Planned, actual: Mapping[str, InterfaceState]) -> None:
        """Do the part of a plan that belongs to a phase; nothing where it has none. ``actual``: the peers as they were
        read last, after the phase PEERS as they are then. An interface that could not be read back is not in it."""


class CommitResult(NamedTuple):
    """What a transaction did."""

    node_state: NodeState  # the books after it
    applied: frozenset[int]  # ids of the rows whose step was taken
    skipped: frozenset[int]  # ids of the rows that somebody else has locked: not booked, as if not in the dump


class DeviceSource(Protocol):
    """The devices that the control plane wants. StoreError where there is no answer; an empty answer is one."""

    def snapshot(self) -> Snapshot:
        """The rows and what goes with them."""

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        """The rows of these devices; None where one of them is not there, or another row has a key or an address of
        theirs."""

    def digest(self) -> object:
        """Changes when something that a plan depends on does; cheap."""

    def approve(self, plan_id: str) -> None:
        """Let exactly that set of removals through the guard, once."""


class StateStore(Protocol):
    """The recorded state of this node. Every method raises StoreError where there is no answer."""

    def load_state(self, calendar: UsageCalendar, *, create: bool = True) -> NodeState:
        """The node's books as committed: this is what settles a commit whose answer was lost. Where there are none
        they are begun, or (``begin`` false: a dry run) empty ones returned."""

    def commit(self, node_state: NodeState, writes: WriteBatch, now: float) -> CommitResult:
        """One transaction. A device whose row somebody else has locked is left out; where that cannot be (it is among
        ``odd``, or the samples are spooled ones) nothing is written: StoreError. StaleLedger if ``ledger`` is not what
        the store has; any StoreError: drop the ledger, it may or may not have happened. The new ledger goes on with
        the records of ``ledger``, which is not to be used any more."""


class UsageStore(Protocol):
    """The accounted traffic of all devices. Every method raises StoreError where there is no answer."""

    def refresh_windows(self, calendar: UsageCalendar) -> tuple[int, int]:
        """Set the rolling and monthly figures that are not what the books say: how many devices' were not, and how many
        of them still are not, because somebody else has their rows locked."""

    def purge(self, calendar: UsageCalendar, keep_days: int) -> None:
        """Forget buckets and days that are older than they are kept."""

    def device_totals(self, scope: VerifyRanges) -> Iterator[DeviceTotals]:
        """Every device's figures and the sums under them, in one view of the store, to be gone through before anything
        else is asked of it. The days from before any node's books were begun are left out of ``scope``."""

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        """The node's deltas that wait for an admin."""

    def resolve_quarantine(
        self, ids: Collection[int], booked: Sequence[Posting], audit: Sequence[AuditEvent], now: float
    ) -> None:
        """One transaction: those deltas leave the quarantine, and what is booked of them is added to the devices.
        Refused, with nothing done, where one of them does not wait (any more), or a device of ``booked`` is gone;
        InDoubt where it may have happened."""

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        """Which of these deltas wait still: this is what settles a discharge that is in doubt."""


class Store(DeviceSource, StateStore, UsageStore, Protocol):
    """All that the engine needs of a control plane."""

    def close(self) -> None:
        """Give the connection back."""


class Link(NamedTuple):
    """A network interface. ``addresses`` are texts such as "10.200.0.1/24"."""

    up: bool
    addresses: frozenset[str]


class Coverage(NamedTuple):
    """How far back the books go."""

    first_day: str | None  # YYYY-MM-DD; None: there is none
    first_bucket: int | None  # UNIX seconds
    begun: Mapping[str, float]  # by node, UNIX seconds: bytes from before are one opening balance


@dataclass(frozen=True, slots=True)
class DeviceDetails:
    """What a device's row says besides, for people. Times are UNIX seconds, None: never. Bytes are as the columns have
    them, in the configured perspective."""

    role: str
    parent: bool
    platform: str
    app: str
    created: float | None
    issued: float | None
    activated: float | None
    paused: float | None
    first_handshake: float | None
    last_handshake: float | None
    total: Counters
    last_24h: Counters
    month: Counters


class Rule(NamedTuple):
    """One of the rules by which the store lets a device have a peer, and whether the device's row keeps it."""

    text: str
    holds: bool
    value: str


class AuditRow(NamedTuple):
    """One of wgsyncd's own rows of the audit trail."""

    at: str  # YYYY-MM-DD HH:MM:SS in the node's zone
    action: str
    message: str


class Reports(Protocol):
    """What the admin's commands ask of a store besides. Reads only; every method raises StoreError where there is no
    answer. Bytes are as the books have them, the server's view. ``rows``: of these devices only (ids), None: of all."""

    def names(self) -> Sequence[DeviceName]:
        """Every device's."""

    def coverage(self) -> Coverage:
        """How far back the books go."""

    def days(self, first: str, last: str, rows: Collection[int] | None = None) -> Mapping[str, Counters]:
        """Bytes by day, of the days from ``first`` to ``last`` (both in it) on which there were any."""

    def buckets(self, start: int, end: int, rows: Collection[int] | None = None) -> Mapping[int, Counters]:
        """Bytes by bucket, of those that begin at or after ``start`` and before ``end``."""

    def rows_of_days(self, first: str, last: str) -> Mapping[int, Counters]:
        """Bytes by device, of these days."""

    def rows_of_buckets(self, start: int, end: int) -> Mapping[int, Counters]:
        """Bytes by device, of these buckets."""

    def details(self, row_id: int) -> DeviceDetails | None:
        """What else a row says; None if it is gone."""

    def rules(self, row: DeviceRow, now: float) -> Sequence[Rule]:
        """The store's rules for a peer, held against a row at ``now`` (UNIX seconds)."""

    def audit(self, device: str, most: int) -> Sequence[AuditRow]:
        """The last audit rows that wgsyncd wrote about a device, the latest first."""

    def close(self) -> None:
        """Give the connection back."""


class Backend(Protocol):
    """One control plane. Nothing connects before it is asked."""

    def store(self) -> Store:
        """What the engine needs."""

    def reports(self) -> Reports:
        """What the admin's commands ask besides."""

    def check(self) -> Iterator[Finding]:
        """What `wgsyncd doctor` finds in the control plane's database."""


class Spool(Protocol):
    """Where samples outlive the process that could not book them."""

    def begin(self) -> Backlog:
        """An empty backlog with a numbering that nobody had before."""

    def load(self) -> Backlog | None:
        """What was saved last; None if nothing was. SpoolDamaged where it is not exactly that: it is set aside then,
        and the next call returns None. SpoolError where it cannot be read."""

    def save(self, backlog: Backlog) -> None:
        """Keep this instead of what was kept before: after the call, or not at all. SpoolError where it cannot be."""
