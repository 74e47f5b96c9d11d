"""The document of `wgsyncd status --json`, part by part.

Times are ISO 8601 with an offset, ages are seconds, and rates are bytes per second. null means unknown.
"""

from enum import StrEnum

from msgspec import Struct

from wgsyncd.core.inspect.finding import Finding
from wgsyncd.engine.reports.plan import PlannedChange, RejectedRow
from wgsyncd.engine.reports.policies import PoliciesReport
from wgsyncd.engine.reports.recent import RecentChange, RefusedRow
from wgsyncd.engine.status import ShapingStatus


class Verdict(StrEnum):
    """One word for a node."""

    OK = "ok"
    DEGRADED = "degraded"  # something needs attention, and the node serves its devices
    FAILING = "failing"


class ConfigurationReport(Struct, frozen=True, kw_only=True):
    """The configuration that the daemon runs with."""

    file: str
    loaded: str | None
    refused: bool  # the last reload found faults, so the configuration before it goes on
    changed_since: bool | None  # the file was written after it was loaded. None: it cannot be read.


class IdentityReport(Struct, frozen=True, kw_only=True):
    """An interface with another public key or port than its clients know."""

    what: str  # in words
    todo: str  # the command that mends it, for root
    approval: str  # `wgsyncd approve` with this id says that the change is right


class InterfaceReport(Struct, frozen=True, kw_only=True):
    """One interface as the last cycle and poll left it."""

    interface: str
    present: bool
    kind: str  # kernel, userspace, or unreadable
    desired: int | None  # null: the rows could not be read since the start
    actual: int
    online: int
    frozen: int
    foreign: int
    drift: int | None
    rx_bytes: int
    tx_bytes: int
    rx_rate: float | None
    tx_rate: float | None
    latest_handshake: str | None
    change: IdentityReport | None
    up: bool | None  # its link. null: it is not known, or there is no interface
    errno: str  # why it is not present, such as "ENODEV". "": that is not known


class CycleReport(Struct, frozen=True, kw_only=True):
    """When a task last succeeded."""

    last_good: str | None
    age: int | None
    every: float | None  # seconds between two runs, as configured


class DatabaseReport(Struct, frozen=True, kw_only=True):
    """Whether the database answers."""

    up: bool
    error: str
    todo: str  # the command that helps against the error, for root. "": `wgsyncd doctor` finds it
    read: str | None  # when all rows were last read
    age: int | None  # of that read
    heartbeat_age: int | None  # of the daemon's last heartbeat in the database
    went_back_age: (
        int | None
    )  # since the database had an older state of the node, as a copy or a dump. null: it had none


class GuardReport(Struct, frozen=True, kw_only=True):
    """Whether the guard withholds changes."""

    tripped: bool
    approved: bool
    plan: str  # the plan id


class StatusReport(Struct, frozen=True, kw_only=True):
    """The state of a node and its daemon."""

    node: str
    version: str
    source: str  # "daemon", or "command" if the command itself read kernel and database
    at: str
    verdict: Verdict
    troubles: list[Finding]  # the worst first
    daemon: str  # whether a daemon runs, in words
    role: str | None  # of a pair of nodes: "active" or "standby". null: there is no pair, or a command made the report
    pid: int | None
    started: str | None
    configuration: ConfigurationReport | None
    interfaces: list[InterfaceReport]
    cycles: dict[str, CycleReport] | None
    last_error: str
    database: DatabaseReport
    pending: dict[str, int]
    withheld: int
    blocked: int
    held: list[PlannedChange]  # the first 200 of these changes
    interface_errors: dict[str, str]
    rejected: list[RejectedRow]
    guard: GuardReport
    waiting_for_adoption: int  # foreign peers that stay until an admin adopts the node
    quarantined: int
    findings: int | None
    spool_pending_counters: int | None
    spool_up: bool | None  # whether the spool can be written
    locked_rows: int | None
    refused_rows: list[RefusedRow] | None
    unwritten_audit_rows: int | None  # audit rows that wait, because the database did not take them
    policies: PoliciesReport | None  # null: the daemon enforces no policies, or the command looked by itself
    preshared_keys: dict[str, int]  # by key id: rows whose preshared key is sealed with that key
    owner_word: str  # what the control plane calls an owner, such as "user"
    shaping: ShapingStatus | None  # null: it is off, or no cycle of the daemon has ended yet
    conditions: dict[str, int] | None  # how many of each type the store reports
    changes: list[RecentChange] | None
    clock_step: float | None  # seconds by which the clock was set in the last hour. Less than 0: back. null: not known
