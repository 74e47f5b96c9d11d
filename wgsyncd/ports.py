"""The ports: what the engine needs. The same contract tests run on each implementation."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wgsyncd.core.audit import AuditEvent, Happening
from wgsyncd.core.identity import Claimed, Heartbeat, Holder, Identity, OtherNode
from wgsyncd.core.inspect.answers import AuditRow, Coverage, DeviceDetails, DeviceUsage, Rule
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import Change, Counters, DeviceId, DeviceRow, InterfaceState
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.core.policies.model import GatewayRow, PolicyTables
from wgsyncd.core.quarantine import QuarantineEntry
from wgsyncd.core.shaping.profiles import Terms
from wgsyncd.core.state import CommitResult, Condition, NodeState, Posting, WriteBatch
from wgsyncd.core.usage.aside import SetAside
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.core.usage.halves import Apart, Months


class Clock(NamedTuple):
    """Tells the time: ``now`` in UNIX seconds, which may jump, and ``monotonic`` in seconds that never go back."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


class NewInterface(NamedTuple):
    """Describes an interface that is missing and must be made."""

    interface: str
    private_key_file: Path
    listen_port: int
    addresses: tuple[str, ...]  # "10.200.0.1/24"
    mtu: int  # bytes. 0: the kernel's choice


class WireGuard(Protocol):
    """Reads and changes the WireGuard interfaces of this network namespace."""

    @property
    def retries(self) -> int:
        """How many dumps were read again since start, because they were interrupted or incomplete."""

    def read(self, interface: str) -> InterfaceState:
        """One complete, uninterrupted dump. InterfaceMissing, DumpInterrupted or WireGuardError if it fails."""

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Make the changes in order. Refused ones are returned and stop no others. WireGuardError: it fails itself."""

    def create(self, creation: NewInterface) -> None:
        """Make the interface and set it up. WireGuardError if this fails: nothing is left. No output contains a key."""

    def close(self) -> None:
        """Close the sockets."""


class Snapshot(NamedTuple):
    """All that a plan needs from the store, as the store has it when it is read."""

    rows: tuple[DeviceRow, ...]  # of this node, and those that name neither this node nor another one
    conditions: frozenset[Condition] | None  # of the store's own kinds. None: the store cannot read them
    approved: str | None  # plan id that an admin approved
    quarantined: int  # deltas of this node in quarantine
    moved: Mapping[DeviceId, str] = {}  # row id of a recorded device: another node's interface
    adopted: bool = True  # whether an admin let wgsyncd remove the foreign peers of this node
    policies: PolicyTables | None = None  # what devices may reach. None: the store has no policies
    gateways: Mapping[str, GatewayRow] = {}  # by interface, if the store has them
    terms: Mapping[str, Terms] = {}  # by owner. The store reads them only if shaping is on
    sealed: Mapping[str, int] = {}  # rows by the id of the key that sealed their preshared key, of configured keys


class Phase(Enum):
    """The phases of applying, in their order. The order ensures that no peer is ever without its limits and filters."""

    WITHDRAW = "withdraw"  # end access
    PREPARE = "prepare"  # set up what a peer needs before it is added
    PEERS = "peers"  # remove, update and add peers
    GRANT = "grant"  # begin access
    CLEAN_UP = "clean up"  # delete what no peer uses any more


class Plane(Protocol):
    """A part beside the peers. After its WireGuardError no peer gets an address. If only peers go, it acts later."""

    name: str  # as the log shows it
    judges: bool  # whether its plan is an AccessPlan
    rests: bool  # its last plan changed nothing, and the same rows and peers lead to the same plan again
    happenings: list[Happening]  # for the audit trail. The engine takes them from here
    descriptor: int | None  # where news come in when somebody changes this part: then call `mend`. None: there are none

    def read(self) -> Any:
        """The present state of this part of the data plane."""

    def plan(self, snapshot: Snapshot, decision: Decision, found: Any) -> Any:
        """The changes of all phases. This function is pure: it reads only its arguments and changes nothing."""

    def apply(self, phase: Phase, plan: Any, actual: Mapping[str, InterfaceState]) -> None:
        """Apply a plan's part of one phase. ``actual``: the peers as last read, if their interface could be read."""

    def poll(self) -> bool:
        """Take away at once what cuts devices off. True: a cycle must mend something. Each poll calls this once."""

    def mend(self) -> bool:
        """Put right what another program changed, if a look is cheap. True: a cycle should follow. Called often."""


class DeviceSource(Protocol):
    """Reads the rows of the control plane. Methods raise StoreError if it does not answer. No rows is an answer."""

    condition_types: frozenset[str]  # the types of the store's own conditions
    is_active: bool  # False: a standby, so another node writes the control plane's columns
    unwritten: int  # audit rows that wait, because the control plane did not take them
    locks_rows: bool  # a commit of postings locks rows of the application until its end

    def snapshot(self) -> Snapshot:
        """The rows, with the conditions, the approved plan and the size of the quarantine."""

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        """The devices' rows, of any node. None if one is missing, unreadable, or has another row's key or address."""

    def digest(self, *, at_once: bool = False) -> object:
        """Changes with anything that a plan depends on. It may be late, to stay cheap, but not with ``at_once``."""

    def listen(self, put: Callable[[bytes], None]) -> None:
        """Call ``put`` with each notification of the database, from a thread, until the store is closed, if it can."""

    def approve(self, plan_id: str) -> None:
        """Approve exactly the set of removals that this plan id names, once."""

    def adopt(self, *, accepted: bool, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        """Let foreign peers of this node be removed from now on, or not any more. StoreError without a node state."""


class StateStore(Protocol):
    """Reads and writes the node state of this node. Methods raise StoreError if the store does not answer."""

    def load_state(self, calendar: UsageCalendar, *, create: bool = True) -> NodeState:
        """The node state as committed. If there is none, it is created, or without ``create`` an empty one returned."""

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        """Write a batch in one transaction. RevisionConflict: ``node_state`` is old. StoreError: load it again."""


class UsageStore(Protocol):
    """Keeps the posted bytes of all devices. Methods raise StoreError if the store does not answer."""

    def refresh(self, calendar: UsageCalendar) -> tuple[int, int]:
        """Bring figures up to date that depend on the time. Returns how many devices had old ones, or keep them."""

    def rows_apart(self, months: Months) -> Mapping[DeviceId, Apart]:
        """The own rows with a figure of a month that is not the sum of the days of ``months``. None without figures."""

    def post_set_aside(self, calendar: UsageCalendar, blocked: Set[DeviceId]) -> Sequence[SetAside]:
        """Post what was set aside, if its row can be changed. Returns the rest. ``blocked``: rows that wait."""

    def purge(self, calendar: UsageCalendar, keep_days: int) -> None:
        """Delete days older than ``keep_days``, and buckets that left the rolling window BUCKET_RETENTION ago."""

    def device_totals(self, scope: VerifyRanges) -> Iterator[DeviceTotals]:
        """What the store keeps of every device and the sums it must agree with, of one moment. Read it to the end."""

    def device_usage(self, devices: Collection[str], calendar: UsageCalendar) -> DeviceUsage:
        """The figures of the own rows, and the hours of ``devices``. Nothing depends on it: it ends after a second."""

    def quarantine(self) -> tuple[QuarantineEntry, ...]:
        """The deltas of this node in quarantine."""

    def resolve_quarantine(self, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent],
                           calendar: UsageCalendar) -> None:  # fmt: skip
        """Post these instead of the deltas, in one transaction. UserError: a delta or a device is gone. Or InDoubt."""

    def still_quarantined(self, ids: Collection[int]) -> frozenset[int]:
        """The ids that are still in quarantine. This settles a :meth:`resolve_quarantine` in doubt."""


class Machine(Protocol):
    """Tells which machine this is."""

    has_address: Callable[[str], bool]  # whether an interface of this namespace has it. OSError: no answer
    revision: int  # of the node state, as this machine last noted it. Restarts and reboots do not change it.

    def identity(self) -> Identity:
        """The machine, network namespace and boot of this process."""

    def uptime(self) -> float:
        """Seconds since the boot, suspended time included."""


class HolderStore(Protocol):
    """Keeps which machine holds this node. Methods raise StoreError if the store does not answer."""

    def holder(self) -> Holder | None:
        """The holder. None: the store has no state of this node yet."""

    def claim(self, identity: Identity, uptime: float | None, seen: Holder | None, audit: Sequence[AuditEvent],
              calendar: UsageCalendar, displaced: Collection[str] = ()) -> Claimed:  # fmt: skip
        """Make ``identity`` the holder, if it still is ``seen``, and raise the revision. No ``uptime``: note no boot.
        Records of a boot of before become doubted. Records that ``displaced`` have of our interfaces: DOUBT alone."""

    def beat(self, identity: Identity, uptime: float, *, reconciled: bool = False) -> Heartbeat:
        """Write a heartbeat if ``identity`` is the holder. ``reconciled``: since the last one, a reconcile was good."""

    def other_nodes(self) -> Sequence[OtherNode]:
        """The nodes of this store with another name that had a holder."""

    def take_name_from(self, node: str, audit: Sequence[AuditEvent], calendar: UsageCalendar) -> None:
        """Let all that the store has of ``node`` go on under this node's name, which has no state yet."""

    def release(self, identity: Identity) -> None:
        """Write that the holder has stopped, if it is ``identity``."""


class Store(DeviceSource, StateStore, UsageStore, HolderStore, Protocol):
    """Gives the engine all that it needs from a control plane."""

    def close(self) -> None:
        """Close the connection."""


class ReportSource(Protocol):
    """Answers the admin's commands. StoreError: no answer. ``devices``: whose bytes count, None counts all devices."""

    @property
    def perspective(self) -> Perspective:
        """Who received rx, in all bytes that this source reports."""

    def names(self, *, gone: bool = False) -> Sequence[DeviceName]:
        """The names of every device, or of each one that is ``gone``: it has stored bytes, but no row and no owner."""

    def coverage(self) -> Coverage:
        """How far back the stored bytes go."""

    def days(self, first: str, last: str, devices: Collection[str] | None = None) -> Mapping[str, Counters]:
        """Bytes by day from ``first`` to ``last``, both included. Days without bytes are left out."""

    def buckets(self, start: int, end: int, devices: Collection[str] | None = None) -> Mapping[int, Counters]:
        """Bytes by bucket, for buckets that begin at or after ``start`` and before ``end`` (UNIX seconds)."""

    def devices_of_days(self, first: str, last: str) -> Mapping[str, Counters]:
        """Bytes by device name, for the days from ``first`` to ``last``, both included."""

    def devices_of_buckets(self, start: int, end: int) -> Mapping[str, Counters]:
        """Bytes by device name, for buckets that begin at or after ``start`` and before ``end`` (UNIX seconds)."""

    def details(self, row_id: DeviceId) -> DeviceDetails | None:
        """What the store knows besides about a device. None if the row is gone."""

    def rules(self, row: DeviceRow, now: float) -> Sequence[Rule]:
        """The store's rules for having a peer, checked for a row at ``now`` (UNIX seconds)."""

    def audit(self, device: str, most: int) -> Sequence[AuditRow]:
        """The last audit rows (at most ``most``) that wgsyncd wrote about a device, the latest first."""


class Backend(Protocol):
    """Makes the ports of one control plane, and installs its tables. Nothing connects before its first use."""

    def install(self, options: Any) -> Iterator[str]:
        """Create the tables and grant the rights, as a command's options say. Yields what was done. May run again."""

    def check(self) -> Iterator[Finding]:
        """The findings of `wgsyncd doctor` about the database."""

    def store(self, on_answer: Callable[[], object]) -> Store:
        """The store for the engine. It calls ``on_answer`` after each statement, answered or given up."""

    def reports(self) -> ReportSource:
        """The reports for the admin's commands."""


class Spool(Protocol):
    """Keeps samples that are not posted yet, so that they survive the process."""

    def begin(self) -> Backlog:
        """An empty backlog with a new stream, which no backlog had before."""

    def probe(self) -> None:
        """Write a little, and remove it. SpoolError if nothing can be written, for example on a full disk."""

    def load(self) -> Backlog | None:
        """The last backlog, or None. SpoolCorrupt: it was damaged, and is put aside. SpoolError: even that failed."""

    def set_aside(self) -> str:
        """Put aside what is saved, and return its new name. SpoolError if this fails."""

    def save(self, backlog: Backlog) -> None:
        """Replace the saved backlog by this one, as a whole or not at all. SpoolError if it cannot be written."""
