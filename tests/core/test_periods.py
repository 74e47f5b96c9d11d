"""Report ranges and their sums are right in time zones with unusual offsets and clock changes."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import NOW, TOKYO
from wgsyncd.core.inspect.periods import Period, by_days, by_hours, by_months, format_bytes, hour_of, make_range, total
from wgsyncd.core.model import Counters

ZONES = [ZoneInfo(name) for name in ("Asia/Tokyo", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "UTC")]
counters = st.builds(Counters, st.integers(0, 2**62), st.integers(0, 2**62))


def at(text: str, zone: ZoneInfo = TOKYO) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1024**2 - 1, "1.00 MiB"), (3 * 2**29, "1.50 GiB"),
     (2**63, "8.00 EiB"), (2**74, "16384.00 EiB")],
)  # fmt: skip
def test_units(number: int, text: str) -> None:
    assert format_bytes(number) == text


# -- the ranges


def test_what_is_left_out() -> None:
    """NOW is 2026-09-21 23:13:20 in Tokyo."""
    days = make_range("day", None, None, NOW, TOKYO)
    assert (days.first, days.last) == (date(2026, 8, 23), date(2026, 9, 21))
    months = make_range("month", None, None, NOW, TOKYO)
    assert (months.first, months.last) == (date(2025, 10, 1), date(2026, 9, 21))
    hours = make_range("hour", None, None, NOW, TOKYO)
    assert (hours.start, hours.end) == (at("2026-09-20 23:00"), at("2026-09-22 00:00"))


def test_days_that_are_named() -> None:
    one = make_range("hour", date(2026, 9, 20), date(2026, 9, 20), NOW, TOKYO)
    assert (one.start, one.end) == (at("2026-09-20"), at("2026-09-21"))
    assert make_range("hour", None, date(2026, 9, 20), NOW, TOKYO) == one
    assert make_range("hour", date(2026, 9, 21), None, NOW, TOKYO).end == at("2026-09-22 00:00")
    assert make_range("day", date(2026, 9, 1), date(2030, 1, 1), NOW, TOKYO).last == date(2026, 9, 21), "not the future"
    assert make_range("month", None, date(2026, 1, 31), NOW, TOKYO).first == date(2025, 2, 1)
    with pytest.raises(ValueError, match="2026-09-21 is after 2026-09-20"):
        make_range("day", date(2026, 9, 21), date(2026, 9, 20), NOW, TOKYO)


def test_months_of_a_span() -> None:
    span = make_range("day", date(2025, 12, 31), date(2026, 2, 1), NOW, TOKYO)
    assert list(span.months()) == [
        ("2025-12-31", "2025-12-31"), ("2026-01-01", "2026-01-31"), ("2026-02-01", "2026-02-01"),
    ]  # fmt: skip


# -- the bytes in each period


def test_empty_days_are_days_too() -> None:
    span = make_range("day", date(2026, 2, 28), date(2026, 3, 1), NOW, TOKYO)
    assert by_days(span, {"2026-03-01": Counters(1, 2)}) == [Period("2026-02-28", 0, 0), Period("2026-03-01", 1, 2)]


def test_empty_months_are_months_too() -> None:
    span = make_range("month", date(2025, 12, 31), date(2026, 2, 1), NOW, TOKYO)
    found = by_months(span, {"2025-12-31": Counters(1, 2), "2026-02-01": Counters(3, 4), "2026-02-02": Counters(5, 6)})
    assert found == [Period("2025-12", 1, 2), Period("2026-01", 0, 0), Period("2026-02", 8, 10)]


def test_hours_from_where_buckets_are_kept() -> None:
    span = make_range("hour", None, None, NOW, TOKYO)
    oldest = int(at("2026-09-21 21:45"))
    found = by_hours(span, {oldest: Counters(1, 2), int(at("2026-09-21 23:00")): Counters(3, 4)}, oldest)
    assert found == [Period("2026-09-21T21:00+09:00", 1, 2), Period("2026-09-21T22:00+09:00", 0, 0),
                     Period("2026-09-21T23:00+09:00", 3, 4)]  # fmt: skip


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 10, 25, 12, tzinfo=berlin).timestamp()
    names = [one.name for one in by_hours(make_range("hour", date(2026, 10, 25), None, now, berlin), {}, None)]
    assert names[1:5] == ["2026-10-25T01:00+02:00", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00",
                          "2026-10-25T03:00+01:00"]  # fmt: skip
    assert len(names) == len(set(names)) == 14


@given(st.integers(1_600_000_000, 2_000_000_000), st.sampled_from(ZONES))
def test_an_hour_begins_at_or_before(instant: int, zone: ZoneInfo) -> None:
    begin = hour_of(instant, zone)
    assert instant - 3600 < begin <= instant
    assert hour_of(begin, zone) == begin
    assert datetime.fromtimestamp(begin, zone).minute in ((0, 30) if zone.key == "Australia/Lord_Howe" else (0,))


@given(
    st.integers(1_700_000_000, 1_900_000_000), st.sampled_from(ZONES), st.sampled_from([60, 900, 1800, 3600]),
    st.dictionaries(st.integers(0, 200), counters),
)  # fmt: skip
def test_hours_add_up_to_the_buckets(now: int, zone: ZoneInfo, width: int, some: dict[int, Counters]) -> None:
    """Every bucket that begins within the range counts in exactly one of its hours."""
    span = make_range("hour", None, None, now, zone)
    buckets = {begin: found for n, found in some.items()
               if span.start <= (begin := (now // width - n) * width) < span.end}  # fmt: skip
    found = by_hours(span, buckets, min(buckets, default=None))
    assert total(found) == total(buckets.values())
    assert [one.name for one in found] == list(dict.fromkeys(one.name for one in found))


@given(st.dictionaries(st.dates(date(2026, 1, 1), date(2026, 9, 21)), counters))
def test_days_and_months_add_up_to_the_days(some: dict[date, Counters]) -> None:
    days = {day.isoformat(): found for day, found in some.items()}
    for by, sums in (("day", by_days), ("month", by_months)):
        span = make_range(by, date(2026, 1, 1), None, NOW, TOKYO)
        assert total(sums(span, days)) == total(days.values())
    assert total([]) == (0, 0)
