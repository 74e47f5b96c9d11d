"""Windows of time: the rolling 24 hours, days and months of a zone, and how bytes are shared out over them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd.core.model import Counters
from wgsyncd.core.state import Allocation

ROLLING = 86400  # seconds of the rolling window
BOUNDARY_GRACE = 1.0  # seconds: a poll within them after an edge was made for that edge, and closes what came before it
BUCKET_RETENTION = 2 * 86400  # seconds that buckets are kept after they left it


@dataclass(frozen=True, slots=True)
class UsageCalendar:
    """The windows at one instant: buckets of ``width`` seconds, days and months of ``zone``."""

    now: float
    width: int
    zone: ZoneInfo

    @property
    def rolling_start(self) -> int:
        """The first second of the 24 h figure: the bucket in which ``now - 24 h`` lies counts in whole, so the figure
        covers at least 24 h and at most 24 h and one bucket."""
        return int(self.now // self.width) * self.width - ROLLING

    def day(self, at: float) -> str:
        """The zone's date at an instant."""
        return datetime.fromtimestamp(at, self.zone).date().isoformat()

    def format_local(self, at: float) -> str:
        """An instant as the zone writes it, to the second."""
        return datetime.fromtimestamp(int(at), self.zone).strftime("%Y-%m-%d %H:%M:%S")

    @property
    def month(self) -> tuple[str, str]:
        """First day of this month and of the next."""
        first = datetime.fromtimestamp(self.now, self.zone).date().replace(day=1)
        return first.isoformat(), (first + timedelta(days=32)).replace(day=1).isoformat()

    @property
    def version(self) -> tuple[int, str]:
        """Changes when a window has to be rolled on."""
        return self.rolling_start, self.month[0]

    @property
    def closes_a_day(self) -> bool:
        """Whether a poll now was made for a midnight, and closes the day before it."""
        return self.day(self.now) != self.day(self.now - BOUNDARY_GRACE)

    def next_midnight(self, at: float) -> float:
        """The zone's next midnight after an instant."""
        day = datetime.fromtimestamp(at, self.zone).date() + timedelta(days=1)
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
        first = midnight.timestamp()
        # A clock set back over midnight (St John's until 2011) has two of them: after the first the second is next.
        return first if first > at else midnight.replace(fold=1).timestamp()

    def _boundaries(self, since: float, until: float) -> Iterator[float]:
        at = since
        while at < until:
            bucket = (int(at // self.width) + 1) * self.width if at >= self.rolling_start else self.rolling_start
            at = min(float(bucket), self.next_midnight(at))
            if at < until - BOUNDARY_GRACE:
                yield at

    def shares(self, since: float, until: float | None = None) -> tuple[Share, ...]:
        """The buckets and days between two instants (``until`` None: now). What is older than the rolling window gets
        no bucket. An edge in the span's last second does not split it."""
        end = self.now if until is None else min(until, self.now)
        start = min(since, end)
        edges = [start, *self._boundaries(start, end), end]
        shares: list[Share] = []
        for left, right in itertools.pairwise(edges):
            whole = right is edges[-1] or end == start
            bucket = int(left // self.width) * self.width
            known = bucket if bucket >= self.rolling_start else None
            shares.append(Share(known, self.day(left), 1.0 if whole else (right - start) / (end - start)))
        return tuple(shares)

    def allocate(self, delta: Counters, since: float, until: float | None = None) -> tuple[Allocation, ...]:
        """A delta that came in between two instants, shared out over their buckets and days by time."""
        return allocate_shares(delta, self.shares(since, until))


class Share(NamedTuple):
    """A part of a span of time that lies in one bucket and on one day."""

    bucket: int | None  # see Piece
    day: str
    until: float  # its end, as a share of the span: 1.0 for the last


def allocate_shares(delta: Counters, shares: Sequence[Share]) -> tuple[Allocation, ...]:
    """A delta shared out; the pieces add up to it."""
    pieces: list[Allocation] = []
    done_rx = done_tx = 0
    for bucket, day, until in shares:
        rx, tx = (delta.rx, delta.tx) if until == 1.0 else (int(delta.rx * until), int(delta.tx * until))
        if rx > done_rx or tx > done_tx:
            pieces.append(Allocation(bucket, day, rx - done_rx, tx - done_tx))
        done_rx, done_tx = rx, tx
    return tuple(pieces)
