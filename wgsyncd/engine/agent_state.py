"""AgentState is the memory that stays when a reload replaces the agent."""

from __future__ import annotations

from dataclasses import dataclass, field

from wgsyncd import log
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceRow, PublicKey
from wgsyncd.core.state import NodeState
from wgsyncd.core.usage.backlog import Backlog


@dataclass(slots=True)
class AgentState:
    """The daemon owns it and hands it to every agent that it makes. A new process begins with an empty one, so nothing
    in here may be needed for a correct result after a restart."""

    # The interfaces: what the log said of each one last.
    interface_log: log.OnChange = field(default_factory=log.OnChange)

    # The planner.
    pending_rows: tuple[DeviceRow, ...] = ()  # rows that a handshake or a deadline can change, as last loaded
    first_handshakes: dict[PublicKey, int] = field(default_factory=dict)  # the earliest seen of the keys of these rows
    rows_loaded: bool = False  # all rows were read once

    # The state cache.
    last_known: NodeState | None = None  # as last seen; the store may be ahead of it
    queued_audit: list[AuditEvent] = field(default_factory=list)  # they go with the next transaction
    in_doubt: tuple[int, int] | None = None  # the revision before, and the queued audit rows in, a commit in doubt

    # Accounting. All that an interface counted until its last sample is posted or kept.
    last_samples: dict[str, float] = field(default_factory=dict)  # by interface, monotonic seconds
    skipped_since: dict[int, dict[str, float]] = field(
        default_factory=dict
    )  # the same by row, for rows that are locked
    sampled_at: dict[str, float] = field(default_factory=dict)  # by interface, UNIX seconds
    backlog: Backlog | None = None  # None: nobody has looked into the spool yet
    durable_position: int = 0  # samples up to this number stand in the file as they do in memory, or are posted
    may_save: bool = True  # False: the file cannot be read, so nobody overwrites it
    spool_up: bool = True  # the last write to the spool worked

    # The guard: who approved the plan that the next cycle carries out.
    approver: str = ""

    # The daily verification.
    verified_at: float = 0.0  # UNIX seconds of the last one that came to its end
    has_findings: bool = False
