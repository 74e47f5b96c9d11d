"""The books: what the database says of this node's peers, and what one transaction writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import Counters, PublicKey, Transition
from wgsyncd.core.records import PeerId, PeerRecord, PeerRecords


class ConditionType(StrEnum):
    """The kinds of conditions that every store has. A store may add kinds of its own."""

    ROW_REJECTED = "row_rejected"
    GUARD_TRIPPED = "guard_tripped"
    INTERFACE_MISSING = "interface_missing"


_COMMON = frozenset(ConditionType)


class Condition(NamedTuple):
    """Something that stands until it ends, such as a rejected row, a tripped guard or a missing interface."""

    type: str  # a ConditionType, or a word of the store's own
    subject: str  # row id, owner, node, interface
    name: str  # what people call the subject
    reason: str  # reason code, count, plan id: language-free

    @property
    def is_of_store(self) -> bool:
        """Whether the condition is of a kind of the store's own."""
        return self.type not in _COMMON


@dataclass(frozen=True, slots=True)
class InterfaceCheckpoint:
    """An interface's life and when it was last read completely (UNIX seconds)."""

    epoch: str
    at: float


@dataclass(frozen=True, slots=True)
class NodeState:
    """The books as the database has them at ``seq``. Valid only as long as nobody else writes: each transaction
    compares and counts ``seq`` up, and a mismatch throws the ledger away."""

    revision: int
    records: PeerRecords
    interfaces: Mapping[str, InterfaceCheckpoint]
    conditions: frozenset[Condition]
    spool_position: str = ""  # name of the spooled samples that were booked last

    def installed_keys(self) -> dict[int, frozenset[PublicKey]]:
        """The keys of the recorded peers of each row."""
        keys: dict[int, frozenset[PublicKey]] = {}
        for record in self.records.each():
            if record.row_id is not None:
                keys[record.row_id] = keys.get(record.row_id, frozenset()) | {record.public_key}
        return keys

    def after(self, writes: WriteBatch) -> NodeState:
        """The books once ``writes`` is committed."""
        return replace(self, records=self.records.copy()).apply(writes)

    def apply(self, writes: WriteBatch) -> NodeState:
        """The same without a copy: the records are the new ledger's, and this one is not to be used any more. (To copy
        100,000 for each transaction of a booking takes as long as the booking.)"""
        records = self.records
        for record in writes.records:
            records.add(record)
        for slot in writes.removed:
            records.discard(slot)
        over = {(c.type, c.subject) for c in writes.ended | writes.started}
        standing = frozenset(c for c in self.conditions if (c.type, c.subject) not in over)
        return NodeState(
            self.revision + 1,
            records,
            {**self.interfaces, **writes.checkpoints},
            standing | writes.started,
            writes.spool_position or self.spool_position,
        )


class Allocation(NamedTuple):
    """Bytes of one device in one bucket (None: older than the rolling window) and one day of the zone."""

    bucket: int | None  # UNIX seconds of the bucket's start
    day: str  # YYYY-MM-DD
    rx: int
    tx: int


@dataclass(frozen=True, slots=True)
class Posting:
    """Bytes and handshake to add to one device's columns."""

    row_id: int
    rx: int
    tx: int
    in_24h: Counters
    in_month: Counters
    allocations: tuple[Allocation, ...]
    handshake: float | None  # UNIX seconds of a newer handshake

    def __add__(self, other: Posting) -> Posting:
        """Both of one device: an UPDATE that joins a list takes each row of the table once only."""
        pieces: dict[tuple[int | None, str], Allocation] = {}
        for p in self.allocations + other.allocations:
            old = pieces.get((p.bucket, p.day))
            pieces[p.bucket, p.day] = p._replace(rx=p.rx + old.rx, tx=p.tx + old.tx) if old else p
        return Posting(
            self.row_id,
            self.rx + other.rx,
            self.tx + other.tx,
            Counters(self.in_24h.rx + other.in_24h.rx, self.in_24h.tx + other.in_24h.tx),
            Counters(self.in_month.rx + other.in_month.rx, self.in_month.tx + other.in_month.tx),
            tuple(pieces.values()),
            max((h for h in (self.handshake, other.handshake) if h is not None), default=None),
        )


@dataclass(frozen=True, slots=True)
class QuarantinedDelta:
    """A delta that the link cannot have carried."""

    interface: str
    row_id: int | None
    device: str
    rx: int
    tx: int
    since: float
    until: float

    @property
    def rate(self) -> float | None:
        """Bits per second that the link would have carried, in the busier direction; None if it had no time."""
        return max(self.rx, self.tx) * 8 / (self.until - self.since) if self.until > self.since else None


class QuarantineEntry(NamedTuple):
    """A delta in quarantine, by the number that an admin names it with."""

    id: int
    delta: QuarantinedDelta


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """What one transaction writes, besides ``seq``."""

    postings: tuple[Posting, ...] = ()
    records: tuple[PeerRecord, ...] = ()
    removed: tuple[PeerId, ...] = ()
    checkpoints: Mapping[str, InterfaceCheckpoint] = field(default_factory=dict)
    transitions: tuple[
        tuple[Transition, AuditEvent | None], ...
    ] = ()  # each with its audit row, written only if the step is taken
    quarantined: tuple[QuarantinedDelta, ...] = ()
    commit_last: frozenset[int] = frozenset()  # row ids of which audit or quarantine rows in here speak
    started: frozenset[Condition] = frozenset()
    ended: frozenset[Condition] = frozenset()
    approval_used: bool = False
    audit: tuple[AuditEvent, ...] = ()
    spool_position: str = ""  # name of the spooled samples that are booked herewith

    def __bool__(self) -> bool:
        return self != WriteBatch()

    def __add__(self, other: WriteBatch) -> WriteBatch:
        """Both in one transaction; of two records of one peer the later one stands."""
        records, booked = self.records or other.records, self.postings or other.postings
        if self.records and other.records:
            records = tuple({r.peer_id: r for r in self.records + other.records}.values())
        if self.postings and other.postings:
            sums: dict[int, Posting] = {}
            for one in self.postings + other.postings:
                sums[one.row_id] = sums[one.row_id] + one if one.row_id in sums else one
            booked = tuple(sums.values())
        return WriteBatch(
            booked,
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
        )

    def excluding(self, row_ids: Set[int]) -> WriteBatch:
        """Without the booking of some devices and without their steps, as if they had not been in the dump. That the
        interface was sampled is not said then: of these devices it was not."""
        if not row_ids:
            return self
        left = {b.row_id for b in self.postings} & row_ids
        return replace(
            self,
            postings=tuple(b for b in self.postings if b.row_id not in left),
            records=tuple(r for r in self.records if r.row_id not in left),
            transitions=tuple(step for step in self.transitions if step[0].row.id not in row_ids),
            checkpoints={},
        )

    def split(self, size: int) -> Iterator[WriteBatch]:
        """The same writes as transactions that book at most ``size`` devices each, every one complete in itself: a
        device's bytes, windows and baseline stand together. What is said of the whole (when it was sampled, conditions,
        audit) comes last, so that a crash in between leaves a state that the next cycle finishes; with it all records
        that book nothing, since audit rows are the difference to them (and they lock no row of anybody else), the
        devices of ``odd``, whose audit and quarantine rows must stand or fall with their baselines, and those that take
        a step: once a handshake is booked nobody would look for the step any more."""
        by_row: dict[int, list[PeerRecord]] = {}
        loose: list[PeerRecord] = []
        booked_rows = {b.row_id for b in self.postings}
        for record in self.records:
            if record.row_id in booked_rows and record.row_id is not None:
                by_row.setdefault(record.row_id, []).append(record)
            else:
                loose.append(record)
        # In id order, so that two writers cannot deadlock on rows; those of the last transaction at the end.
        last = self.commit_last | {step.row.id for step, _ in self.transitions}
        booked = sorted(self.postings, key=lambda b: (b.row_id in last, b.row_id))
        at = 0
        while len(booked) - at > size and booked[at + size - 1].row_id not in last:
            part = booked[at : at + size]
            yield WriteBatch(postings=tuple(part), records=tuple(r for b in part for r in by_row.pop(b.row_id, ())))
            at += size
        rest = tuple(r for rs in by_row.values() for r in rs)
        yield replace(self, postings=tuple(booked[at:]), records=rest + tuple(loose))
