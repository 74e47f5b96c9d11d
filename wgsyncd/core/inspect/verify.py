"""Checks that counters, baselines, buckets, days and a store's own figures agree.

The kernel counts a byte. Then one transaction adds the byte to a baseline, to a bucket and to a day. A store may keep
figures of its own, which the transaction changes too. So these rules hold in every committed state of the store, also
while other programs write:

    baseline <= counter          in one epoch. The next poll posts the difference
    a figure = its sum           over the window as it was when the figure was last refreshed
    buckets of a day <= the day  equal if no bytes older than the rolling window were posted: these have no bucket

A figure that an admin may set has no such rule: to be lower than a sum that it includes is only a note. Buckets and
days of deleted rows are history and are not checked.

Nobody can read kernel and store at the same instant. So a discrepancy between them counts only if a later check finds
it with the same evidence (:attr:`Discrepancy.key`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.model import Counters, DeviceId, InterfaceState, PeerState, PublicKey, fingerprint
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.records import PeerRecord, RecordState
from wgsyncd.core.state import NodeState
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, ROLLING, UsageCalendar

GRACE = 60.0  # seconds before and after a boundary in which both periods are right: polls are late, clocks differ
SKEW = 120.0  # seconds by which clocks may differ
HOUR = 3600  # seconds. Every bucket width divides an hour, so a bucket lies in one hour of UTC


class Check(StrEnum):
    """What was compared, and so which rule does not hold."""

    UNREAD = "unread"  # an interface could not be read, so nothing is known about it
    BASELINE = "baseline"  # a counter is below its baseline
    UNPOSTED = "unposted"  # a counter is above its baseline for too long
    UNRECORDED = "unrecorded"  # an actual peer of a row has no baseline
    ABSENT = "absent"  # a recorded peer is not in the kernel
    FIGURE = "figure"  # a figure of the store differs from the sum that it must equal
    DAY = "day"  # a day differs from its buckets
    NEGATIVE = "negative"  # a figure of the store is below zero
    FUTURE = "future"  # a time of the store lies ahead of now
    SHAPING = "shaping"  # tc differs from what contracts and devices ask for
    LOW = "low"  # note: a figure of the store is below a sum that it includes
    QUARANTINE = "quarantine"  # note: deltas are in quarantine


NOTES = frozenset((Check.LOW, Check.QUARANTINE))
"""These checks only inform an admin: nothing is wrong."""

FAULTS = tuple(check for check in Check if check not in NOTES)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Two numbers that should agree and do not, or a note. The check says which facts there are."""

    check: Check
    device: str = ""  # "" if it is about no device
    key: tuple[object, ...] = ()  # the evidence: only a discrepancy that a later check finds with the same key counts
    interface: str = ""
    peer: str = ""  # the fingerprint of the peer's key
    side: str = ""  # "rx" or "tx", as the server sees it
    name: str = ""  # the store's word for its figure
    source: str = ""  # the store's word for where the expected number comes from
    day: str = ""  # YYYY-MM-DD
    value: int = 0  # the counter or the stored number. Of a quarantine: the number of deltas
    expected: int = 0  # the number to compare it with, such as the baseline or the sum of the buckets
    error: str = ""  # why the interface could not be read, or what tc lacks

    @property
    def note(self) -> bool:
        """Whether this is only a note, so nothing is wrong."""
        return self.check in NOTES


# -- figures, buckets and days


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the zone with all its buckets still kept. Ranges are bucket starts in UNIX seconds, half open."""

    name: str  # YYYY-MM-DD
    start: float  # UNIX seconds
    inner: tuple[int, int]  # buckets that begin in this range have bytes of this day only
    outer: tuple[int, int]  # buckets that begin in this range have all bytes of this day that have a bucket
    whole: bool  # every byte of this day has a bucket, because the day began within the rolling window


@dataclass(frozen=True, slots=True)
class VerifyRanges:
    """The sums that a verification needs from the store, each over a half-open range.

    The first range of ``rolling`` and of ``months`` is right now. The others are also right while a boundary is near.
    """

    rolling: tuple[tuple[int, int], ...]  # ranges of bucket starts, UNIX seconds
    months: tuple[tuple[str, str], ...]  # ranges of days, YYYY-MM-DD
    days: tuple[Day, ...]
    latest: int  # UNIX seconds: a handshake cannot be later

    def after(self, begun: float) -> "VerifyRanges":
        """These ranges without the days that began before ``begun`` (UNIX seconds), when a node state was created.

        The opening balances of that time are in one bucket and in one day, which need not agree.
        """
        return replace(self, days=tuple(day for day in self.days if day.start >= begun))


class DaySums(NamedTuple):
    """One day of one device, in bytes: the sums of its buckets (see :class:`Day`), and the stored sum of the day."""

    day: Day
    inner: Counters
    outer: Counters
    kept: Counters


class StoredFigure(NamedTuple):
    """A number of bytes that a store keeps for one device, and the numbers that it must agree with.

    The names are the store's own words. ``check`` says how both are compared: a FIGURE must be one of ``expected``. A
    NEGATIVE or LOW figure must not be below the first of them, and a FUTURE one (UNIX seconds) not above it.
    """

    check: Check
    name: str  # such as "rx of 24 h"
    value: int
    source: str  # where the expected numbers come from, such as "its buckets"
    expected: tuple[int, ...]  # the first is right now. The others are right too while a boundary is near

    @property
    def agrees(self) -> bool:
        """Whether the figure is what it must be."""
        if self.check is Check.FUTURE:
            return self.value <= self.expected[0]
        return self.value in self.expected if self.check is Check.FIGURE else self.value >= self.expected[0]


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """What a store keeps of one device besides its baselines: figures of its own, and the days with their buckets."""

    row_id: DeviceId
    device: str
    figures: tuple[StoredFigure, ...]
    days: tuple[DaySums, ...]


def make_ranges(calendar: UsageCalendar) -> VerifyRanges:
    """The ranges for a verification at ``calendar.now``."""
    before, after = (replace(calendar, now=calendar.now + seconds) for seconds in (-GRACE, GRACE))
    # After a boundary, a figure keeps its old start until it is refreshed, but postings already add new bytes to it.
    frames = (
        (calendar, calendar),
        (before, before),
        (after, after),
        (before, calendar),
        (calendar, after),
        (before, after),
    )
    return VerifyRanges(
        tuple(dict.fromkeys((a.rolling_start, b.rolling_start + ROLLING + 1) for a, b in frames)),
        tuple(dict.fromkeys((a.month[0], b.month[1]) for a, b in frames)),
        _days(calendar),
        int(calendar.now + SKEW + _doubled(calendar)),
    )


def _doubled(calendar: UsageCalendar) -> float:
    """Seconds that a local time near ``calendar.now`` may stand for twice, because the clock is set back."""
    before, after = (
        datetime.fromtimestamp(calendar.now + hours * HOUR, calendar.zone).utcoffset() or timedelta()
        for hours in (-3, 3)
    )
    return max(0.0, (before - after).total_seconds())


def _days(calendar: UsageCalendar) -> tuple[Day, ...]:
    spans: list[tuple[str, float, float]] = []
    divided: set[str] = set()  # days that are not in one piece, because the clock was set back over midnight
    start = calendar.next_midnight(calendar.rolling_start - BUCKET_RETENTION)
    while start <= calendar.now:
        end, name = calendar.next_midnight(start), calendar.day(start)
        seen = {calendar.day(at) for at in range(int(start), int(end), HOUR // 4)}
        divided |= seen if seen != {name} else set()
        if spans and spans[-1][0] == name:  # the clock was set back to midnight, so this day has two midnights
            start = spans.pop()[1]
        spans.append((name, start, end))
        start = end
    return tuple(
        Day(
            name,
            start,
            inner=(math.ceil(start / HOUR) * HOUR, math.floor(end / HOUR) * HOUR),
            outer=(math.floor(start / HOUR) * HOUR, math.ceil(end / HOUR) * HOUR),
            whole=start >= calendar.rolling_start + calendar.width,  # a boundary may pass during the query
        )
        for name, start, end in spans
        if name not in divided
    )


def check_totals(devices: Iterable[DeviceTotals]) -> Iterator[Discrepancy]:
    """Find discrepancies within the store."""
    for one in devices:
        for figure in one.figures:
            if not figure.agrees:
                yield Discrepancy(
                    figure.check, one.device, (figure.check, one.row_id, figure.name), name=figure.name,
                    source=figure.source, value=figure.value, expected=figure.expected[0],
                )  # fmt: skip
        for index, side in enumerate(("rx", "tx")):
            for sums in one.days:
                kept = sums.kept[index]
                if sums.inner[index] > kept:
                    yield _of_day(one, side, kept, sums.inner[index], sums.day.name)
                elif sums.day.whole and sums.outer[index] < kept:
                    yield _of_day(one, side, kept, sums.outer[index], sums.day.name)


def _of_day(one: DeviceTotals, side: str, value: int, expected: int, day: str) -> Discrepancy:
    key = (Check.DAY, one.row_id, side, day)
    return Discrepancy(Check.DAY, one.device, key, side=side, day=day, value=value, expected=expected)


# -- kernel and baselines


def check_kernel(
    actual: Mapping[str, InterfaceState], node_state: NodeState, desired: Desired
) -> Iterator[Discrepancy]:
    """Find discrepancies between the counters and the baselines.

    Read the node state first and the samples (``actual``) soon afterwards. While traffic flows and peers change, there
    are always discrepancies. Only those that :func:`confirmed` keeps are faults.
    """
    for record in node_state.records.each():
        name, key = record.peer_id
        state = actual.get(name)
        # A foreign peer has a record only during its removal. In another epoch the counters began at zero.
        if state is None or record.row_id is None or record.epoch != state.epoch:
            continue
        found = state.peers.get(key)
        if found is not None:
            yield from _counters(record, found)
        elif record.state is RecordState.PRESENT:
            yield _of_peer(Check.ABSENT, record.device, name, key)
    for name, state in actual.items():
        for key, want in desired.peers.get(name, {}).items():
            if key in state.peers and key not in node_state.records.of(name):
                yield _of_peer(Check.UNRECORDED, want.row.device, name, key)


def _of_peer(check: Check, device: str, name: str, key: PublicKey) -> Discrepancy:
    return Discrepancy(check, device, (check, name, key), interface=name, peer=fingerprint(key))


def _counters(record: PeerRecord, found: PeerState) -> Iterator[Discrepancy]:
    # If the baseline has moved or the peer was added again, the evidence differs: the old discrepancy is settled.
    evidence = (record.peer_id, record.counters, record.sampled_at)
    for side, counter, baseline in zip(("rx", "tx"), found.counters, record.counters, strict=True):
        if counter != baseline:
            check = Check.BASELINE if counter < baseline else Check.UNPOSTED
            yield Discrepancy(
                check, record.device, (check, side, *evidence), record.interface, fingerprint(record.public_key), side,
                value=counter, expected=baseline,
            )  # fmt: skip


def unread(errors: Mapping[str, str]) -> Iterator[Discrepancy]:
    """A discrepancy for each interface that could not be read. ``errors``: the reasons by interface."""
    for name, error in errors.items():
        yield Discrepancy(Check.UNREAD, key=(Check.UNREAD, name), interface=name, error=error)


def waiting(count: int) -> Iterator[Discrepancy]:
    """A note with the number of deltas in quarantine, if there are any."""
    if count:
        yield Discrepancy(Check.QUARANTINE, key=(Check.QUARANTINE,), value=count)


def confirmed(first: Iterable[Discrepancy], later: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    """The discrepancies in ``later`` whose key is also in ``first``, and all notes in ``later``."""
    keys = {one.key for one in first}
    return tuple(one for one in later if one.note or one.key in keys)


def faults(findings: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    """The discrepancies that are no notes."""
    return tuple(one for one in findings if not one.note)
