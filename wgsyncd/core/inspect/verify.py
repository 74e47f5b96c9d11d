"""Do the books add up? Kernel, baselines, buckets, daily sums and figures held against each other.

A byte is counted by the kernel, added to a baseline, and in the same transaction to a device's figures, to a bucket
and to a day. So of any one state of the store, whoever works meanwhile:

    baseline <= counter       in one epoch; what is between them waits for the next account
    24 h figure = its buckets    as the window stood when it was last rolled on
    month figure = its days      likewise
    buckets of a day <= the day  equal where nothing older than the rolling window was booked: that has no bucket

What is *not* an equation: a total, which an admin may set; one below its month is told as a note. NULL counts as 0, as
in all that wgsyncd writes. Buckets and days of rows that are gone are history.

The kernel and the store cannot be read at one instant, so a finding about them stands only if a later look finds it
with the same evidence (:attr:`Finding.key`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.model import Counters, InterfaceState, PeerState, fingerprint
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.records import PeerRecord, RecordState
from wgsyncd.core.state import NodeState
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, ROLLING, UsageCalendar

GRACE = 60.0  # seconds round an edge in which the windows of either side are right: a poll is late, clocks differ
HOUR = 3600  # seconds; every width of a bucket divides it, so that a bucket lies in one hour of UTC


class Check(StrEnum):
    """What was held against each other."""

    UNREAD = "unread"  # an interface that could not be: nothing can be said of it
    BASELINE = "baseline"  # counter and baseline
    UNBOOKED = "unbooked"  # the same: bytes that wait too long
    UNRECORDED = "unrecorded"  # a live peer of a row, and the baselines
    ABSENT = "absent"  # a recorded peer, and the kernel
    ROLLING = "rolling"  # 24 h figure and buckets
    MONTH = "month"  # month figure and days
    DAY = "day"  # a day and its buckets
    NEGATIVE = "negative"  # a total, and zero
    TOTAL = "total"  # note: a total below its month
    QUARANTINE = "quarantine"  # note: deltas that wait for an admin


NOTES = frozenset((Check.TOTAL, Check.QUARANTINE))
"""What an admin may want to know though nothing is wrong."""

FAULTS = tuple(check for check in Check if check not in NOTES)


class Amount(NamedTuple):
    """A number with its name."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that does not add up. Holds no key in full."""

    check: Check
    device: str  # "" where it is about none
    text: str  # one sentence, with both numbers
    left: Amount | None = None
    right: Amount | None = None
    key: tuple[object, ...] = ()  # the evidence; what a later look finds with the same stands

    @property
    def note(self) -> bool:
        """Whether nothing is wrong."""
        return self.check in NOTES


# -- figures, buckets and days


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the zone whose buckets are all still kept."""

    name: str  # YYYY-MM-DD
    start: float  # UNIX seconds
    inner: tuple[int, int]  # buckets that begin in [first, second) hold bytes of this day only
    outer: tuple[int, int]  # all bytes of this day that have a bucket are in those that begin here
    whole: bool  # every byte of it has a bucket: it began within the rolling window


@dataclass(frozen=True, slots=True)
class VerifyRanges:
    """The sums that a verification needs of the store, each over a half-open range.

    Of ``rolling`` and ``months`` the first is that of now; the others are right too while an edge is near.
    """

    rolling: tuple[tuple[int, int], ...]  # of bucket starts, UNIX seconds
    months: tuple[tuple[str, str], ...]  # of days
    days: tuple[Day, ...]

    def after(self, begun: float) -> VerifyRanges:
        """Without the days that began before the books did: their opening balances stand in one bucket and one day
        that need not match."""
        return replace(self, days=tuple(day for day in self.days if day.start >= begun))


class DaySums(NamedTuple):
    """One day of one device: what its buckets hold (see :class:`Day`), and its daily sum."""

    day: Day
    inner: Counters
    outer: Counters
    kept: Counters


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """One device's figures, and the sums that a :class:`Scope` asks for, in its order. Bytes; rx is what the server
    received, whatever the figures are called. Sums for figures are cut to what a figure can hold."""

    row_id: int
    device: str
    total: Counters
    rolling: Counters
    month: Counters
    in_buckets: tuple[Counters, ...]
    in_days: tuple[Counters, ...]
    days: tuple[DaySums, ...]


def make_ranges(calendar: UsageCalendar) -> VerifyRanges:
    """What to ask for at ``windows.now``."""
    before, after = (replace(calendar, now=calendar.now + seconds) for seconds in (-GRACE, GRACE))
    # Once an edge has passed, a figure that was not yet rolled on has its old start and gets what is new already.
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
    )


def _days(calendar: UsageCalendar) -> tuple[Day, ...]:
    spans: list[tuple[str, float, float]] = []
    torn: set[str] = set()  # by a clock set back over midnight: days that are not in one piece
    start = calendar.next_midnight(calendar.rolling_start - BUCKET_RETENTION)
    while start <= calendar.now:
        end, name = calendar.next_midnight(start), calendar.day(start)
        seen = {calendar.day(at) for at in range(int(start), int(end), HOUR // 4)}
        torn |= seen if seen != {name} else set()
        if spans and spans[-1][0] == name:  # a clock set back to midnight: one day that has two of them
            start = spans.pop()[1]
        spans.append((name, start, end))
        start = end
    return tuple(
        Day(
            name,
            start,
            inner=(math.ceil(start / HOUR) * HOUR, math.floor(end / HOUR) * HOUR),
            outer=(math.floor(start / HOUR) * HOUR, math.ceil(end / HOUR) * HOUR),
            whole=start >= calendar.rolling_start + calendar.width,  # an edge may pass while the store is asked
        )
        for name, start, end in spans
        if name not in torn
    )


def check_totals(devices: Iterable[DeviceTotals], sides: tuple[str, str]) -> Iterator[Discrepancy]:
    """What does not add up in the store. ``sides``: what the figures of received and of sent bytes are called there."""
    for one in devices:
        for side, name in enumerate(sides):
            total, month = one.total[side], one.month[side]
            buckets, days = ([found[side] for found in some] for some in (one.in_buckets, one.in_days))
            if one.rolling[side] not in buckets:
                yield _finding(Check.ROLLING, one, f"{name} of 24 h", one.rolling[side], "its buckets", buckets[0])
            if month not in days:
                yield _finding(Check.MONTH, one, f"{name} of the month", month, "its days", days[0])
            if total < 0:
                yield _finding(Check.NEGATIVE, one, f"{name} in total", total, "least", 0)
            elif total < month:
                yield _finding(Check.TOTAL, one, f"{name} in total", total, f"{name} of the month", month)
            for sums in one.days:
                yield from _day(one, sums, side)


def _day(one: DeviceTotals, sums: DaySums, side: int) -> Iterator[Discrepancy]:
    name, kept = f"{('received', 'sent')[side]} on {sums.day.name}", sums.kept[side]
    if sums.inner[side] > kept:
        yield _finding(Check.DAY, one, name, kept, "its buckets", sums.inner[side])
    elif sums.day.whole and sums.outer[side] < kept:
        yield _finding(Check.DAY, one, name, kept, "its buckets", sums.outer[side])


def _finding(check: Check, one: DeviceTotals, name: str, value: int, against: str, other: int) -> Discrepancy:
    text = f"{name}: {value}, {against}: {other} ({value - other:+d})"
    return Discrepancy(check, one.device, text, Amount(name, value), Amount(against, other), (check, one.row_id, name))


# -- kernel and baselines


def check_kernel(
    actual: Mapping[str, InterfaceState], node_state: NodeState, desired: Desired
) -> Iterator[Discrepancy]:
    """What does not add up between the dumps and the baselines, both read lately; the ledger before the dumps. While
    traffic flows and peers come and go there are always some: those that stand are wrong."""
    for record in node_state.records.each():
        name, key = record.peer_id
        state = actual.get(name)
        # A foreign peer is recorded only while it goes; in another epoch counters begin at zero.
        if state is None or record.row_id is None or record.epoch != state.epoch:
            continue
        found = state.peers.get(key)
        if found is not None:
            yield from _counters(record, found)
        elif record.state is RecordState.PRESENT:
            text = f"recorded as a peer of {name} ({fingerprint(key)}), but the interface has none"
            yield Discrepancy(Check.ABSENT, record.device, text, key=(Check.ABSENT, name, key))
    for name, state in actual.items():
        for key, want in desired.peers.get(name, {}).items():
            if key in state.peers and key not in node_state.records.of(name):
                text = f"a peer of {name} ({fingerprint(key)}) without a baseline: its bytes are not booked"
                yield Discrepancy(Check.UNRECORDED, want.row.device, text, key=(Check.UNRECORDED, name, key))


def _counters(record: PeerRecord, found: PeerState) -> Iterator[Discrepancy]:
    # A baseline that is moved on, or a peer that is made anew, is other evidence: then somebody has seen to it.
    evidence = (record.peer_id, record.counters, record.sampled_at)
    where = f"{record.interface} ({fingerprint(record.public_key)})"
    for side, counter, baseline in zip(("rx", "tx"), found.counters, record.counters, strict=True):
        if counter == baseline:
            continue
        left, right = Amount(f"{side} counted on {record.interface}", counter), Amount("baseline", baseline)
        if counter < baseline:
            check, what = Check.BASELINE, "somebody made the peer anew"
        else:
            check, what = Check.UNBOOKED, f"{counter - baseline} bytes are not booked"
        text = f"{side} counted on {where}: {counter}, baseline: {baseline}: {what}"
        yield Discrepancy(check, record.device, text, left, right, (check, side, *evidence))


def unread(troubles: Mapping[str, str]) -> Iterator[Discrepancy]:
    """Interfaces that have no dump, and why."""
    for name, why in troubles.items():
        yield Discrepancy(
            Check.UNREAD, "", f"{name} cannot be read, so nothing is known of it: {why}", key=(Check.UNREAD, name)
        )


def waiting(count: int) -> Iterator[Discrepancy]:
    """Deltas in quarantine."""
    if count:
        text = f"{count} delta{'s' if count > 1 else ''} in quarantine, not booked"
        yield Discrepancy(Check.QUARANTINE, "", text, key=(Check.QUARANTINE,))


def confirmed(first: Iterable[Discrepancy], later: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    """What a later look found too, as it found it; notes as they are now."""
    keys = {one.key for one in first}
    return tuple(one for one in later if one.note or one.key in keys)


def faults(findings: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    """Without the notes."""
    return tuple(one for one in findings if not one.note)
