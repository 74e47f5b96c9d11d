"""AgentState is the memory that stays when a reload replaces the agent."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from wgsyncd import log
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceRow, PublicKey
from wgsyncd.core.peers.lifecycle import IssueId
from wgsyncd.core.records import PeerId
from wgsyncd.core.shaping.profiles import Choice
from wgsyncd.core.state import NodeState, Removal
from wgsyncd.core.usage.backlog import Backlog


@dataclass(slots=True)
class AgentState:
    """Keeps what outlives one agent. The daemon owns this object and hands it to each agent that it makes.

    A new process begins with an empty one. So no result after a restart may depend on it.
    """

    # The interfaces: the last state of each one, so that the log names an error once.
    interface_log: log.OnChange = field(default_factory=log.OnChange)
    identities: dict[str, tuple[int, PublicKey]] = field(default_factory=dict)  # port and public key when last seen

    # The store: what the daemon does after each statement, because the database may be slow.
    on_answer: Callable[[], object] = lambda: None
    wait: Callable[[float], object] = time.sleep  # until somebody has loaded the rest of a dump, in seconds

    # The planner.
    pending_rows: tuple[DeviceRow, ...] = ()  # rows that a handshake or a deadline can change, as last loaded
    first_handshakes: dict[PublicKey, int] = field(default_factory=dict)  # by key: the earliest seen, UNIX ns
    issues_read_at: dict[IssueId, float] = field(default_factory=dict)  # of a future date: when it was read first
    rows_loaded: bool = False  # all rows were read once

    # The holder: this process has claimed the node.
    holds_node: bool = False
    is_active: bool | None = None  # False: another node of the pair is the active one. None: nobody has looked yet
    reconciled: bool = False  # since the last heartbeat, a reconcile has left all peers as the rows want them
    put_back_at: float | None = None  # UNIX seconds when it last found a revision that it did not write

    # The state cache.
    last_known: NodeState | None = None  # as last seen. The store may have a newer one.
    former: NodeState | None = None  # what was known before the store had an older one
    went_back: bool = False  # the store has an older node state, and not all that follows from it is done
    queued_audit: list[AuditEvent] = field(default_factory=list)  # The next transaction writes these.
    in_doubt: tuple[str, int] | None = None  # of a commit in doubt: its receipt, and its number of queued audit rows

    # Accounting. All that an interface counted until its last sample is posted or kept.
    last_samples: dict[str, float] = field(default_factory=dict)  # by interface, monotonic seconds
    sampled_at: dict[str, float] = field(default_factory=dict)  # by interface, UNIX seconds
    refreshed: tuple[int, str] | None = None  # the version of the calendar at the last refresh of the usage windows
    compared: tuple[int, str] | None = None  # the version of the calendar when columns and days were last compared
    backlog: Backlog | None = None  # None: the spool was not read yet
    first_number: int = 1  # samples with this number or a higher one are of this process
    durable_position: int = 0  # samples up to this number are durable: they are in the file as in memory, or posted
    may_save: bool = True  # False: the file cannot be read, so it must not be overwritten
    spool_up: bool = True  # the last write to the spool worked

    # The guard: the admin who approved the plan that the next cycle applies.
    approver: str = ""
    approved_removals: frozenset[PeerId] = frozenset()  # approved, and not recorded yet
    losses: tuple[Removal, ...] = ()  # of access. They are remembered here until a commit records them
    access_recorded: frozenset[str] = frozenset()  # ids of devices whose loss is remembered, and maybe not done yet

    # The recorder: the peers that somebody else removed within the hour, with the time when that was told.
    taken_out: dict[PeerId, float] = field(default_factory=dict)

    # Shaping: what held for each contract in the last cycle. None: no cycle has looked at tc yet.
    bandwidths: dict[str, Choice] | None = None
    shaping_fault: str = ""  # the code of what was wrong then

    # The daily verification.
    verified_at: float = 0.0  # UNIX seconds of the last complete verification
    has_findings: bool = False  # it found discrepancies

    def forget_node_state(self) -> None:
        """Forget what belongs to a node state that the store does not have any more. Only :attr:`former` keeps it."""
        self.last_known, self.former, self.last_samples, self.refreshed = None, self.last_known, {}, None
        if self.backlog is not None:
            samples = tuple(replace(one, since=0.0) for one in self.backlog.samples)
            self.backlog = replace(self.backlog, samples=samples)
