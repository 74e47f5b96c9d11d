"""Posted bytes by hour, day or month of the node's zone.

The store keeps sums per bucket (a few days) and per day (``usage.retention``). A period is always a whole number of
buckets or days, so the sums of all periods agree exactly with the tables.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd.core.model import NO_BYTES, Counters

HOUR = 3600
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def format_bytes(number: int) -> str:
    """A number of bytes as text, in powers of 1024 as wg(8) prints it: ``512 B``, ``1.50 GiB``."""
    size = float(number)
    for unit in _UNITS:
        if size < 1023.995 or unit == _UNITS[-1]:
            return f"{number} B" if unit == "B" else f"{size:.2f} {unit}"
        size /= 1024
    raise AssertionError


class Perspective(StrEnum):
    """Who received the bytes that a report calls rx."""

    SERVER = "server"
    DEVICE = "device"


class Period(NamedTuple):
    """One hour, day or month, and the bytes that were posted to it."""

    name: str  # "2026-09-21T22:00+09:00", "2026-09-21", "2026-09"
    rx: int
    tx: int


@dataclass(frozen=True, slots=True)
class ReportRange:
    """The days that a report covers, and the length of its periods.

    The days go from ``first`` to ``last`` in ``zone``, both included. A report by hour covers the hours from ``start``
    until before ``end``. Both are UNIX seconds at the beginning of an hour of the zone.
    """

    by: str  # "hour", "day" or "month"
    first: date
    last: date
    zone: ZoneInfo
    start: int = 0
    end: int = 0

    def months(self) -> Iterator[tuple[str, str]]:
        """The first and last day of each calendar month in the range. One query to the database covers one month."""
        at = self.first
        while at <= self.last:
            after = _next_month(at)
            yield at.isoformat(), min(after - timedelta(days=1), self.last).isoformat()
            at = after


def make_range(by: str, since: date | None, until: date | None, now: float, zone: ZoneInfo) -> ReportRange:
    """The range from day ``since`` to day ``until``, both included. ``now`` is in UNIX seconds.

    Without them, the range is the last 24 hours and the present hour, the last 30 days, or the last 12 months.
    ValueError if the range ends before it begins.
    """
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
    """The beginning of the hour of the zone that contains an instant. Some zones are half an hour off from UTC.

    Both instants are UNIX seconds.
    """
    local = datetime.fromtimestamp(at, zone)
    return at - local.minute * 60 - local.second


def by_hours(span: ReportRange, buckets: Mapping[int, Counters], oldest: int | None) -> list[Period]:
    """Every hour of the range for which buckets are kept, also the empty hours.

    ``buckets``: bytes by the bucket's start in UNIX seconds. ``oldest``: the start of the oldest bucket that is kept.
    """
    sums: dict[int, Counters] = {}
    for start, found in buckets.items():
        hour = hour_of(start, span.zone)
        sums[hour] = total((sums.get(hour, NO_BYTES), found))
    at = span.start if oldest is None else max(span.start, hour_of(oldest, span.zone))
    while at < span.end:
        sums.setdefault(at, NO_BYTES)
        at = hour_of(at + HOUR, span.zone)
    return [
        Period(datetime.fromtimestamp(at, span.zone).isoformat(timespec="minutes"), *sums[at]) for at in sorted(sums)
    ]


def by_days(span: ReportRange, days: Mapping[str, Counters]) -> list[Period]:
    """Every day of the range, also the empty days. ``days``: bytes by YYYY-MM-DD."""
    count = (span.last - span.first).days + 1
    names = [(span.first + timedelta(days=n)).isoformat() for n in range(count)]
    return [Period(name, *days.get(name, NO_BYTES)) for name in names]


def by_months(span: ReportRange, days: Mapping[str, Counters]) -> list[Period]:
    """Every month of the range, also the empty months. The first and last month count only days in the range."""
    sums = {first[:7]: NO_BYTES for first, _ in span.months()}
    for day, found in days.items():
        sums[day[:7]] = total((sums.get(day[:7], NO_BYTES), found))
    return [Period(name, *sums[name]) for name in sorted(sums)]


def total(sums: Iterable[Counters | Period]) -> Counters:
    """The sum of all these bytes."""
    rx = tx = 0
    for one in sums:
        rx, tx = rx + one.rx, tx + one.tx
    return Counters(rx, tx)
