"""Node state: what the store has recorded about one node, and what one transaction writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar

from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import Counters, DeviceId, InterfaceState, Transition
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.records import PeerId, PeerRecord, PeerRecords, boot_of
from wgsyncd.core.values import peer_value


class ConditionType(StrEnum):
    """The types of conditions that every store has. A store may add types of its own."""

    ROW_REJECTED = "row_rejected"
    GUARD_TRIPPED = "guard_tripped"
    INTERFACE_MISSING = "interface_missing"
    INTERFACE_IDENTITY = "interface_identity"  # always holds: see peers/identities.py


OBSTACLES = frozenset(ConditionType) - {ConditionType.INTERFACE_IDENTITY}  # a row may wait for their end


class Condition(NamedTuple):
    """Something that lasts until it ends, such as a rejected row, a tripped guard or a missing interface."""

    type: str  # a ConditionType, or a type of the store's own
    subject: str  # row id, owner, node or interface
    name: str  # the name of the subject for people
    reason: str = ""  # a reason code or a plan id: nothing that needs a translation
    removals: int = 0  # of a tripped guard: how many removals are withheld

    @property
    def is_of_store(self) -> bool:
        """Whether the condition has a type of the store's own."""
        return self.type not in set(ConditionType)


MEMORY = 3600.0  # seconds: so long the guard remembers a removal


class Removal(NamedTuple):
    """What the guard remembers: how many peers were removed at one time, without those that do not count.

    With ``access``: how many devices lost all access at one time. Their peers stay.

    The wall clock may be set while the guard remembers, so the machine's uptime tells the age.
    """

    at: float  # seconds since the boot of the machine that holds the node. Below 0: before that boot
    removed: int
    demanded: int  # how many of them a row demanded itself
    peers: int  # how many peers the node had before
    access: bool = False


def remembered(removals: Iterable[Removal], now: float) -> tuple[Removal, ...]:
    """The removals of the last hour. ``now``: seconds since the boot. A time that is still to come counts as now."""
    return tuple(one._replace(at=min(one.at, now)) for one in removals if now - one.at <= MEMORY)


@dataclass(frozen=True, slots=True)
class InterfaceCheckpoint:
    """The epoch of an interface, and when the interface was last read completely (``at``, UNIX seconds)."""

    epoch: str
    at: float


@dataclass(frozen=True, slots=True)
class NodeState:
    """Everything that the store has recorded about one node at ``revision``.

    A node state is valid only while nobody else writes. Each transaction compares the revision and adds one to it.
    After a mismatch the daemon discards the node state.
    """

    revision: int
    records: PeerRecords
    interfaces: Mapping[str, InterfaceCheckpoint]
    conditions: frozenset[Condition]
    spool_position: str = ""  # the position of the spooled samples that were posted last
    boots: tuple[str, ...] = ()  # the boots in which the node wrote, in the order of their first claims
    removals: tuple[Removal, ...] = ()  # of the last hour and older ones, in the order of their commits
    receipt: str = ""  # of the last transaction that had one

    def is_outdated(self, epoch: str, baseline: str) -> bool:
        """Whether the boot of an epoch wrote before the boot of a baseline's epoch, and not after it."""
        both = [boot for boot in self.boots if boot in (boot_of(epoch), boot_of(baseline))]
        return len(both) == 2 and both[0] == boot_of(epoch)

    def recorded_name(self, state: InterfaceState) -> str | None:
        """The name that the records of an interface have: another one if it was renamed. None: it has no records."""
        marked = (name for name, mark in self.interfaces.items() if mark.epoch == state.epoch)
        own = self.interfaces.get(state.name)
        name = state.name if own is not None and own.epoch == state.epoch else next(marked, None)
        return name or self.records.interface_of(state.epoch, state.name)  # an outcome may lack its mark

    def after(self, writes: WriteBatch) -> NodeState:
        """The node state once ``writes`` is committed. This object stays unchanged."""
        return replace(self, records=self.records.copy()).apply(writes)

    def apply(self, writes: WriteBatch) -> NodeState:
        """The node state once ``writes`` is committed, without a copy: nobody may use this object afterwards.

        To copy 100,000 records in every transaction of a poll would take as long as the posting itself.
        """
        records = self.records
        records.update(writes.records)
        for peer_id in writes.removed:
            records.discard(peer_id)
        checkpoints = {**self.interfaces, **writes.checkpoints}
        if writes.renamed:
            records.rename(writes.renamed)
            checkpoints = rename_keys(checkpoints, writes.renamed)
        over = {(c.type, c.subject) for c in writes.ended | writes.started}
        lasting = frozenset(c for c in self.conditions if (c.type, c.subject) not in over)
        return NodeState(
            self.revision + 1,
            records,
            checkpoints,
            lasting | writes.started,
            writes.spool_position or self.spool_position,
            self.boots,
            remembered((*self.removals, *writes.removals), writes.removals[-1].at)
            if writes.removals
            else self.removals,
            writes.receipt or self.receipt,
        )


Value = TypeVar("Value")


def rename_keys(some: Mapping[str, Value], renamed: Mapping[str, str | None]) -> dict[str, Value]:
    """The same values by the new names of interfaces. None as the new name: the value is left out."""
    kept = {name: value for name, value in some.items() if name not in renamed and name not in renamed.values()}
    return kept | {new: some[old] for old, new in renamed.items() if new is not None and old in some}


@peer_value(frozen=True, slots=True)
class Allocation:
    """The bytes of one device that fall into one bucket and one day."""

    bucket: int | None  # UNIX seconds of the bucket's start, None if it is older than the rolling window
    day: str  # YYYY-MM-DD in the zone of the node
    rx: int  # bytes, like tx
    tx: int


def merge_allocations(allocations: Sequence[Allocation]) -> tuple[Allocation, ...]:
    """The same bytes, with one allocation for each bucket and day."""
    if len(allocations) < 2:  # the usual case, made fast
        return tuple(allocations)
    merged: dict[tuple[int | None, str], Allocation] = {}
    for one in allocations:
        old = merged.get((one.bucket, one.day))
        merged[one.bucket, one.day] = replace(one, rx=one.rx + old.rx, tx=one.tx + old.tx) if old else one
    return tuple(merged.values())


@peer_value(frozen=True, slots=True)
class Posting:
    """What one transaction adds for one device: bytes by bucket and day, and a handshake if there is a newer one.

    No two allocations have the same bucket and day. ``device`` is the name of the device that moved the bytes. A row id
    may be used again, so the row with this id may belong to another device by now. Such a row gets no bytes.
    """

    row_id: DeviceId
    device: str
    allocations: tuple[Allocation, ...]
    handshake: float | None = None  # UNIX seconds of a newer handshake, None if there is none

    @property
    def rx(self) -> int:
        return sum(one.rx for one in self.allocations)

    @property
    def tx(self) -> int:
        return sum(one.tx for one in self.allocations)

    def __add__(self, other: Posting) -> Posting:
        """The sum of two postings of one device.

        A transaction needs one posting for each device: an UPDATE that joins a list changes each row only once.
        """
        latest = max((h for h in (self.handshake, other.handshake) if h is not None), default=None)
        return Posting(self.row_id, self.device, merge_allocations(self.allocations + other.allocations), latest)


def merge_postings(postings: Sequence[Posting]) -> tuple[Posting, ...]:
    """The same bytes, with one posting for each device."""
    if len({one.row_id for one in postings}) == len(postings):  # the usual case, made fast
        return tuple(postings)
    sums: dict[tuple[DeviceId, str], Posting] = {}
    for one in postings:
        old = sums.get((one.row_id, one.device))
        sums[one.row_id, one.device] = old + one if old else one
    return tuple(sums.values())


def total(postings: Iterable[Posting]) -> Counters:
    allocations = [one for posting in postings for one in posting.allocations]
    return Counters(sum([one.rx for one in allocations]), sum([one.tx for one in allocations]))


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """What one transaction writes, besides the new revision."""

    postings: tuple[Posting, ...] = ()
    records: tuple[PeerRecord, ...] = ()
    removed: tuple[PeerId, ...] = ()
    checkpoints: Mapping[str, InterfaceCheckpoint] = field(default_factory=dict)
    # The store writes the audit row of a transition only if it makes the transition.
    transitions: tuple[tuple[Transition, AuditEvent | None], ...] = ()
    quarantined: tuple[QuarantinedDelta, ...] = ()
    # The ids of the rows that audit or quarantine rows of this batch are about.
    commit_last: frozenset[DeviceId] = frozenset()
    started: frozenset[Condition] = frozenset()
    ended: frozenset[Condition] = frozenset()
    approval_used: bool = False
    audit: tuple[AuditEvent, ...] = ()
    spool_position: str = ""  # the position of the spooled samples that this batch posts
    receipt: str = ""  # a random text by which the writer knows later that this transaction took place
    # New names of interfaces by the old name, for records and checkpoints. They are changed after everything else.
    # None: the interface is gone for good, and ``removed`` has its records.
    renamed: Mapping[str, str | None] = field(default_factory=dict)
    uptime: float | None = None  # seconds since the boot of the machine that writes. None: a command writes
    removals: tuple[Removal, ...] = ()  # what the guard has to remember
    history: tuple[Posting, ...] = ()  # bytes that the columns have already: only buckets and days get them
    counts_only: bool = False  # the records differ from the node state's in counters, handshake and time only
    added: tuple[PeerRecord, ...] = ()  # the records of the peers whose addition is audited

    def __bool__(self) -> bool:
        return self != WriteBatch()

    def __add__(self, other: WriteBatch) -> WriteBatch:
        """Both batches as one transaction. If both have a record of one peer, the record of ``other`` wins."""
        records, postings = self.records or other.records, self.postings or other.postings
        if self.records and other.records:
            records = tuple({r.peer_id: r for r in self.records + other.records}.values())
        if self.postings and other.postings:
            postings = merge_postings(self.postings + other.postings)
        return WriteBatch(
            postings,
            records,
            self.removed + other.removed,
            {**self.checkpoints, **other.checkpoints},
            self.transitions + other.transitions,
            self.quarantined + other.quarantined,
            self.commit_last | other.commit_last,
            self.started | other.started,
            self.ended | other.ended,
            self.approval_used or other.approval_used,
            self.audit + other.audit,
            other.spool_position or self.spool_position,
            other.receipt or self.receipt,
            {**self.renamed, **other.renamed},
            self.uptime if other.uptime is None else other.uptime,
            self.removals + other.removals,
            self.history + other.history,
            bool(records) and all(one.counts_only for one in (self, other) if one.records),
            self.added + other.added,
        )

    def events(self) -> Iterator[AuditEvent]:
        """What to audit. Additions come one by one, because the events of 100,000 would take 40 MiB."""
        yield from self.audit
        for one in self.added:
            yield AuditEvent(AuditAction.PEER_ADDED, one.device, AuditFacts(one.interface, address=one.address))

    @property
    def is_paired(self) -> bool:
        """Whether each posting has one record: ``records[i]`` is the baseline of ``postings[i]``, in row id order.

        Only records of rows without a posting may follow. Nearly all batches are paired.
        """
        count = len(self.postings)
        rows, records = [one.row_id for one in self.postings], self.records[:count]
        return (
            rows == [one.row_id for one in records]
            and [one.device for one in self.postings] == [one.device for one in records]
            and rows == sorted(rows)
            and set(rows).isdisjoint([one.row_id for one in self.records[count:]])
        )


class CommitResult(NamedTuple):
    """The result of one transaction."""

    node_state: NodeState
    applied: frozenset[DeviceId]  # ids of the rows whose transition was made
    set_aside: frozenset[DeviceId]  # locked or refused rows: their transition is not made, their posting is set aside
