"""Booked bytes by hour, day or month of the node's zone: which periods a span has, and what fell into each.

The books keep sums per bucket (a few days) and per day (``usage.retention``). A period here is always a whole number of
those, so the figures add up to the tables exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from wgsyncd.core.model import NO_BYTES, Counters

K = TypeVar("K")
HOUR = 3600
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def format_bytes(number: int) -> str:
    """Bytes for people, in powers of 1024 as wg(8) prints them: ``512 B``, ``1.50 GiB``."""
    size = float(number)
    for unit in _UNITS:
        if size < 1023.995 or unit == _UNITS[-1]:
            return f"{number} B" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1024
    raise AssertionError


class Period(NamedTuple):
    """One hour, day or month, and what was booked in it."""

    name: str  # "2026-09-21T22:00+09:00", "2026-09-21", "2026-09"
    rx: int
    tx: int


@dataclass(frozen=True, slots=True)
class ReportRange:
    """Whole days ``first`` to ``last`` of ``zone``, both in it, looked at by ``by``. By hour: from ``start`` on (UNIX
    seconds, the beginning of an hour of the zone) until before ``end``."""

    by: str  # "hour", "day" or "month"
    first: date
    last: date
    zone: ZoneInfo
    start: int = 0
    end: int = 0

    def months(self) -> Iterator[tuple[str, str]]:
        """First and last day of each of its calendar months: what one question to the database is about."""
        at = self.first
        while at <= self.last:
            after = _next_month(at)
            yield at.isoformat(), min(after - timedelta(days=1), self.last).isoformat()
            at = after


def make_range(by: str, since: date | None, until: date | None, now: float, zone: ZoneInfo) -> ReportRange:
    """The span of these days, both in it. What is left out: the last 24 hours and the running one, the last 30 days,
    the last 12 months. ValueError where it ends before it begins."""
    today = datetime.fromtimestamp(now, zone).date()
    last = min(until or today, today)
    if by == "hour":
        first = since or (last if until else last - timedelta(days=1))
        start = _midnight(first, zone) if since or until else hour_of(int(now) - 24 * HOUR, zone)
        end = min(_midnight(last + timedelta(days=1), zone), hour_of(int(now), zone) + HOUR)
    else:
        start = end = 0
        back = last - timedelta(days=29) if by == "day" else last.replace(day=1)
        for _ in range(11 if by == "month" else 0):
            back = (back - timedelta(days=1)).replace(day=1)
        first = since or back
    if first > last:
        raise ValueError(f"{first} is after {last}")
    return ReportRange(by, first, last, zone, start, end)


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def hour_of(at: int, zone: ZoneInfo) -> int:
    """The beginning of the zone's hour in which an instant lies. (Some zones are half an hour off.)"""
    local = datetime.fromtimestamp(at, zone)
    return at - local.minute * 60 - local.second


def by_hours(span: ReportRange, buckets: Mapping[int, Counters], oldest: int | None) -> list[Period]:
    """Every hour of the span that the buckets reach back to (``oldest``: the first one that is kept), also the empty
    ones."""
    sums: dict[int, Counters] = {}
    for start, found in buckets.items():
        _add(sums, hour_of(start, span.zone), found)
    reach = span.start if oldest is None else max(span.start, hour_of(oldest, span.zone))
    at = reach
    while at < span.end:
        sums.setdefault(at, NO_BYTES)
        at = hour_of(at + HOUR, span.zone)
    return [
        Period(datetime.fromtimestamp(at, span.zone).isoformat(timespec="minutes"), *sums[at]) for at in sorted(sums)
    ]


def by_days(span: ReportRange, days: Mapping[str, Counters]) -> list[Period]:
    """Every day of the span, also the empty ones."""
    count = (span.last - span.first).days + 1
    names = [(span.first + timedelta(days=n)).isoformat() for n in range(count)]
    return [Period(name, *days.get(name, NO_BYTES)) for name in names]


def by_months(span: ReportRange, days: Mapping[str, Counters]) -> list[Period]:
    """Every month of the span, also the empty ones; of the first and last one the days that the span has."""
    sums = {first[:7]: NO_BYTES for first, _ in span.months()}
    for day, found in days.items():
        _add(sums, day[:7], found)
    return [Period(name, *sums[name]) for name in sorted(sums)]


def _add(sums: dict[K, Counters], key: K, more: Counters) -> None:
    old = sums.get(key, NO_BYTES)
    sums[key] = Counters(old.rx + more.rx, old.tx + more.tx)


def total(sums: Iterable[Counters | Period]) -> Counters:
    """The sum of it all."""
    rx = tx = 0
    for one in sums:
        rx, tx = rx + one.rx, tx + one.tx
    return Counters(rx, tx)
