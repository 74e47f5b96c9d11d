"""The calendar: buckets, the rolling window, days and months, and how bytes are shared out over them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd.core.model import Counters
from wgsyncd.core.state import Allocation

ROLLING = 86400  # seconds of the rolling window
BOUNDARY_GRACE = 1.0  # seconds: a poll this soon after a boundary belongs wholly to the period before it
BUCKET_RETENTION = 2 * 86400  # seconds that a bucket is kept after it left the rolling window


@dataclass(frozen=True, slots=True)
class UsageCalendar:
    """Knows the periods at one instant: buckets of ``width`` seconds, days and months of ``zone``."""

    now: float  # UNIX seconds
    width: int  # seconds
    zone: ZoneInfo

    @property
    def rolling_start(self) -> int:
        """The first second of the rolling window, in UNIX seconds.

        The bucket that contains ``now - 24 h`` counts as a whole. So the 24 h figure covers from 24 h to 24 h plus one
        bucket.
        """
        return self.bucket - ROLLING

    @property
    def bucket(self) -> int:
        """The first second of the present bucket, in UNIX seconds."""
        return int(self.now // self.width) * self.width

    @property
    def today(self) -> str:
        """The zone's date, as YYYY-MM-DD."""
        return self.day(self.now)

    def day(self, at: float) -> str:
        """The zone's date at an instant (UNIX seconds), as YYYY-MM-DD."""
        return datetime.fromtimestamp(at, self.zone).date().isoformat()

    def format_local(self, at: float) -> str:
        """An instant (UNIX seconds) as the zone's date and time: YYYY-MM-DD HH:MM:SS."""
        return datetime.fromtimestamp(int(at), self.zone).strftime("%Y-%m-%d %H:%M:%S")

    @property
    def month(self) -> tuple[str, str]:
        """The first day of this month and of the next month, as YYYY-MM-DD."""
        first = datetime.fromtimestamp(self.now, self.zone).date().replace(day=1)
        return first.isoformat(), (first + timedelta(days=32)).replace(day=1).isoformat()

    @property
    def last_month(self) -> str:
        """The first day of last month, as YYYY-MM-DD."""
        return (date.fromisoformat(self.month[0]) - timedelta(days=1)).replace(day=1).isoformat()

    @property
    def version(self) -> tuple[int, str]:
        """A value that changes whenever the rolling window or the month moves on."""
        return self.rolling_start, self.month[0]

    @property
    def closes_a_day(self) -> bool:
        """Whether a poll at ``now`` belongs to the day before: it is within BOUNDARY_GRACE after midnight."""
        return self.day(self.now) != self.day(self.now - BOUNDARY_GRACE)

    def next_midnight(self, at: float) -> float:
        """The zone's next midnight after an instant. Both are UNIX seconds."""
        day = datetime.fromtimestamp(at, self.zone).date() + timedelta(days=1)
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
        first = midnight.timestamp()
        # A clock that is set back over midnight has two midnights (St John's until 2011). After the first comes the
        # second.
        return first if first > at else midnight.replace(fold=1).timestamp()

    def _boundaries(self, since: float, until: float) -> Iterator[float]:
        at = since
        while at < until:
            bucket = (int(at // self.width) + 1) * self.width if at >= self.rolling_start else self.rolling_start
            at = min(float(bucket), self.next_midnight(at))
            if at < until - BOUNDARY_GRACE:
                yield at

    def parts(self, since: float, until: float | None = None) -> "tuple[SpanPart, ...]":
        """The parts of the span between two instants (UNIX seconds), cut at buckets and days.

        ``until`` None means now. A part that is older than the rolling window has no bucket. A boundary in the last
        BOUNDARY_GRACE of the span does not cut it.
        """
        end = self.now if until is None else min(until, self.now)
        start = min(since, end)
        edges = [start, *self._boundaries(start, end), end]
        parts: list[SpanPart] = []
        for left, right in itertools.pairwise(edges):
            whole = right is edges[-1] or end == start
            bucket = int(left // self.width) * self.width
            known = bucket if bucket >= self.rolling_start else None
            parts.append(SpanPart(known, self.day(left), 1.0 if whole else (right - start) / (end - start)))
        return tuple(parts)

    def allocate(self, delta: Counters, since: float, until: float | None = None) -> tuple[Allocation, ...]:
        """Shares a delta out by time over the buckets and days between two instants (UNIX seconds)."""
        return allocate_parts(*delta, self.parts(since, until))


class SpanPart(NamedTuple):
    """A part of a span of time that lies in one bucket and on one day."""

    bucket: int | None  # UNIX seconds of the bucket's start. None: the part is older than the rolling window
    day: str
    until: float  # the end of the part as a share of the span: 1.0 for the last part


def allocate_parts(rx: int, tx: int, parts: Sequence[SpanPart]) -> tuple[Allocation, ...]:
    """Shares a delta out by time. The parts add up to the delta exactly. A part without bytes is left out."""
    if not (rx or tx):
        return ()
    if len(parts) == 1:  # the usual case, made fast
        return (Allocation(parts[0].bucket, parts[0].day, rx, tx),)
    pieces: list[Allocation] = []
    done_rx = done_tx = 0
    for bucket, day, until in parts:
        to_rx, to_tx = (rx, tx) if until == 1.0 else (int(rx * until), int(tx * until))
        if to_rx > done_rx or to_tx > done_tx:
            pieces.append(Allocation(bucket, day, to_rx - done_rx, to_tx - done_tx))
        done_rx, done_tx = to_rx, to_tx
    return tuple(pieces)
