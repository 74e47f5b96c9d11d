"""A verification asks for the right ranges and reports the discrepancies in the answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.test_usage import ZONES, stamp
from tests.samples import NOW, actual, calendar, dump, key, peer, record, records, row, state, wants
from wgsyncd.core.inspect.verify import (
    GRACE,
    Check,
    Day,
    DaySums,
    DeviceTotals,
    Discrepancy,
    StoredFigure,
    check_kernel,
    check_totals,
    confirmed,
    faults,
    make_ranges,
    unread,
    waiting,
)
from wgsyncd.core.model import Counters, InterfaceState, encode_key
from wgsyncd.core.records import PeerRecord, RecordState
from wgsyncd.core.state import NodeState
from wgsyncd.core.usage.calendar import BUCKET_RETENTION, UsageCalendar
from wgsyncd.engine import wording

# -- the ranges that are asked for


def test_in_the_middle_of_everything_one_window_and_one_month_are_right() -> None:
    now = stamp("Asia/Tokyo", 2026, 9, 21, 10, 7)
    asked = make_ranges(calendar(now))
    edge = int(stamp("Asia/Tokyo", 2026, 9, 20, 10, 0))
    assert asked.rolling == ((edge, edge + 86400 + 1),)
    assert asked.months == (("2026-09-01", "2026-10-01"),)
    assert [(day.name, day.whole) for day in asked.days] == [
        ("2026-09-19", False), ("2026-09-20", False), ("2026-09-21", True)
    ]  # fmt: skip


@pytest.mark.parametrize("past", [-GRACE + 1, GRACE - 1])
def test_near_an_edge_those_of_both_sides_are_right(past: float) -> None:
    """The ranges of both sides are right.

    So is the range of a sum that got new bytes before its window was refreshed.
    """
    first = stamp("Asia/Tokyo", 2026, 10, 1)
    asked = make_ranges(calendar(first + past))
    old, new = int(first) - 86400 - 900, int(first) - 86400
    now = (new, new + 86401) if past > 0 else (old, old + 86401)
    assert asked.rolling[0] == now
    assert set(asked.rolling) == {(old, old + 86401), (new, new + 86401), (old, new + 86401)}
    september, october = ("2026-09-01", "2026-10-01"), ("2026-10-01", "2026-11-01")
    assert asked.months[0] == (october if past > 0 else september)
    assert set(asked.months) == {september, october, ("2026-09-01", "2026-11-01")}


@settings(max_examples=100, deadline=None)
@given(st.floats(1.2e9, 2.2e9), st.sampled_from(ZONES), st.sampled_from((60, 300, 900, 3600)), st.floats(0, 300_000))
@example(stamp("America/St_Johns", 2010, 11, 7, 12), "America/St_Johns", 900, 200_000)
@example(stamp("America/Havana", 2026, 11, 1, 12), "America/Havana", 900, 80_000)
@example(stamp("Australia/Lord_Howe", 2026, 4, 5, 12), "Australia/Lord_Howe", 3600, 80_000)
def test_the_days_that_are_asked_for_are_whole_kept_and_exact(now: float, zone: str, width: int, back: float) -> None:
    frame = UsageCalendar(now, width, ZoneInfo(zone))
    days = make_ranges(frame).days
    assert [day.name for day in days] == sorted({day.name for day in days})
    for day in days:
        assert frame.day(day.start) == day.name
        assert frame.rolling_start - BUCKET_RETENTION <= day.start <= now
        assert day.outer[0] <= day.start and day.inner[0] - day.start < 3600
        assert day.inner[1] <= day.outer[1] <= day.inner[1] + 3600
        assert all(edge % 3600 == 0 for edge in day.inner + day.outer)
    # However late bytes arrive, the day and its buckets agree with the bounds of that day.
    pieces = frame.allocate(Counters(10**9, 1), now - back)
    for day in days:
        buckets = [(p.bucket, p.rx) for p in pieces if p.bucket is not None]
        inner, outer = (sum(rx for b, rx in buckets if first <= b < beyond) for first, beyond in (day.inner, day.outer))
        kept = sum(p.rx for p in pieces if p.day == day.name)
        assert inner <= kept
        assert not day.whole or kept <= outer


def test_days_from_before_the_books_are_left_out() -> None:
    asked = make_ranges(calendar(NOW))
    assert [day.name for day in asked.after(asked.days[1].start).days] == [day.name for day in asked.days[1:]]
    assert [day.name for day in asked.after(asked.days[1].start + 1).days] == [day.name for day in asked.days[2:]]


# -- totals

TODAY = Day("2026-09-21", 0.0, (0, 0), (0, 0), True)
YESTERDAY = replace(TODAY, name="2026-09-20", whole=False)


def figures(*some: StoredFigure, days: tuple[DaySums, ...] | None = None) -> DeviceTotals:
    well = (DaySums(TODAY, Counters(5, 1), Counters(5, 1), Counters(5, 1)),)
    return DeviceTotals(5, "0001-DEV-005", some, well if days is None else days)


def figure(value: int, *expected: int, check: Check = Check.FIGURE) -> StoredFigure:
    return StoredFigure(check, "rx of 24 h", value, "its buckets", expected)


def said(one: DeviceTotals) -> list[tuple[str, str]]:
    return [(found.check.value, wording.discrepancy(found)) for found in check_totals([one])]


def sums(day: Day, inner: int, outer: int, kept: int) -> DeviceTotals:
    return figures(days=(DaySums(day, Counters(inner, 0), Counters(outer, 0), Counters(kept, 0)),))


FIGURES: dict[str, tuple[DeviceTotals, list[tuple[str, str]]]] = {
    "all is well": (figures(figure(10, 10), figure(1, 1)), []),
    "no figures": (figures(), []),
    "a figure and its sum": (figures(figure(2, 1)), [("figure", "rx of 24 h: 2, its buckets: 1 (+1)")]),
    "one of two": (figures(figure(1, 1), figure(2, 1)), [("figure", "rx of 24 h: 2, its buckets: 1 (+1)")]),
    "as before the edge": (figures(figure(10, 3, 10, 0)), []),
    "neither side of the edge": (figures(figure(10, 3, 4)), [("figure", "rx of 24 h: 10, its buckets: 3 (+7)")]),
    "at least": (figures(figure(0, 0, check=Check.NEGATIVE), figure(100, 100, check=Check.LOW)), []),
    "more": (figures(figure(1, 0, check=Check.NEGATIVE), figure(101, 100, check=Check.LOW)), []),
    "low": (figures(figure(99, 100, check=Check.LOW)), [("low", "rx of 24 h: 99, its buckets: 100 (-1)")]),
    "below zero": (figures(figure(-1, 0, check=Check.NEGATIVE)), [("negative", "rx of 24 h: -1, its buckets: 0 (-1)")]),
    "more in today's buckets": (sums(TODAY, 6, 6, 5), [("day", "received on 2026-09-21: 5, its buckets: 6 (-1)")]),
    "less in today's buckets": (sums(TODAY, 4, 4, 5), [("day", "received on 2026-09-21: 5, its buckets: 4 (+1)")]),
    "bucket over midnight": (sums(TODAY, 4, 6, 5), []),
    "more in yesterday's": (sums(YESTERDAY, 6, 6, 5), [("day", "received on 2026-09-20: 5, its buckets: 6 (-1)")]),
    "late bytes without bucket": (sums(YESTERDAY, 4, 4, 5), []),
}


@pytest.mark.parametrize(("one", "findings"), FIGURES.values(), ids=FIGURES.keys())
def test_figures(one: DeviceTotals, findings: list[tuple[str, str]]) -> None:
    assert said(one) == findings


def test_figures_are_called_what_the_store_calls_them() -> None:
    (found,) = check_totals([figures(StoredFigure(Check.FIGURE, "Empfang im Monat", 11, "Tage", (10,)))])
    assert (found.device, wording.numbers(found)) == (
        "0001-DEV-005", {"Empfang im Monat": 11, "Tage": 10}
    )  # fmt: skip


def test_notes_are_no_faults() -> None:
    found = [*check_totals([figures(figure(0, 1, check=Check.LOW))]), *waiting(2)]
    assert [(one.check, one.note) for one in found] == [(Check.LOW, True), (Check.QUARANTINE, True)]
    assert faults(found) == ()
    assert wording.discrepancy(found[-1]) == "2 deltas in quarantine, not posted"
    assert list(waiting(0)) == []


# -- kernel


def node_state(*some: PeerRecord) -> NodeState:
    return NodeState(1, records(*some), {}, frozenset())


def at_kernel(books: NodeState, kernel: dict[str, InterfaceState]) -> list[Discrepancy]:
    return list(check_kernel(kernel, books, wants([row(5)], kernel)))


BOOKED = record(5, counters=Counters(70, 7))
KERNEL: dict[str, tuple[NodeState, dict[str, InterfaceState], list[Check]]] = {
    "all is well": (node_state(BOOKED), actual(dump(state(peer(5), 70, 7))), []),
    "bytes on their way": (node_state(BOOKED), actual(dump(state(peer(5), 71, 8))), [Check.UNPOSTED] * 2),
    "below": (node_state(BOOKED), actual(dump(state(peer(5), 69, 7))), [Check.BASELINE]),
    "another epoch": (node_state(BOOKED), actual(dump(state(peer(5), 1, 1), epoch="b")), []),
    "no dump": (node_state(BOOKED), actual(dump(name="wg1")), []),
    "absent": (node_state(BOOKED), actual(dump()), [Check.ABSENT]),
    "not yet added": (node_state(replace(BOOKED, state=RecordState.ADDING)), actual(dump()), []),
    "added, not yet written down": (node_state(record(5, state=RecordState.ADDING)), actual(dump(state(peer(5), 1))), [Check.UNPOSTED]),
    "a foreign one that goes": (node_state(replace(BOOKED, row_id=None)), actual(dump()), []),
    "wanted, without a baseline": (node_state(), actual(dump(peer(5))), [Check.UNRECORDED]),
    "of nobody, without a baseline": (node_state(), actual(dump(peer(6))), []),
}  # fmt: skip


@pytest.mark.parametrize(("books", "kernel", "checks"), KERNEL.values(), ids=KERNEL.keys())
def test_kernel(books: NodeState, kernel: dict[str, InterfaceState], checks: list[Check]) -> None:
    found = at_kernel(books, kernel)
    assert [one.check for one in found] == checks
    assert all(
        encode_key(key(5)) not in wording.discrepancy(one) and encode_key(key(5))[:8] in wording.discrepancy(one)
        for one in found
    )
    assert {one.device for one in found} <= {"0001-DEV-005"}


def test_an_interface_that_cannot_be_read_is_a_fault() -> None:
    (found,) = unread({"wg1": "wg1: EPERM"})
    assert (found.note, wording.discrepancy(found)) == (
        False,
        "wg1 cannot be read, so nothing is known about its peers: wg1: EPERM",
    )


# -- confirmed discrepancies


def test_bytes_that_were_booked_meanwhile_stand_no_more() -> None:
    first = at_kernel(node_state(BOOKED), actual(dump(state(peer(5), 80, 7))))
    more = actual(dump(state(peer(5), 95, 7)))
    assert wording.discrepancy(confirmed(first, at_kernel(node_state(BOOKED), more))[0]).endswith(
        "25 bytes are not posted"
    )
    moved_on = replace(BOOKED, rx=80, sampled_at=NOW)
    assert confirmed(first, at_kernel(node_state(moved_on), more)) == ()
    made_anew = replace(BOOKED, sampled_at=NOW)
    assert confirmed(first, at_kernel(node_state(made_anew), more)) == ()


def test_figures_that_were_put_right_stand_no_more() -> None:
    wrong = list(check_totals([figures(figure(11, 10))]))
    worse = list(check_totals([figures(figure(12, 10), figure(0, 100)._replace(name="month"))]))
    assert [wording.discrepancy(one) for one in confirmed(wrong, worse)] == ["rx of 24 h: 12, its buckets: 10 (+2)"]
    assert confirmed(wrong, check_totals([figures(figure(10, 10))])) == ()
    assert len(confirmed([], waiting(1))) == 1, "notes are as they are"


def test_the_day_of_a_zone_whose_clock_is_set_back_to_midnight() -> None:
    """Havana's day has two midnights and is one day.

    In St. John's the clock goes back over midnight, so the day before is in two parts. Only 2010-11-05 is asked for
    then.
    """
    havana = ZoneInfo("America/Havana")
    noon = datetime(2026, 11, 1, 12, tzinfo=havana).timestamp()
    (today,) = [day for day in make_ranges(UsageCalendar(noon, 900, havana)).days if day.name == "2026-11-01"]
    assert today.outer[1] - today.outer[0] == 25 * 3600
    johns = ZoneInfo("America/St_Johns")
    noon = datetime(2010, 11, 7, 12, tzinfo=johns).timestamp()
    assert {day.name for day in make_ranges(UsageCalendar(noon, 900, johns)).days} == {"2010-11-05"}
