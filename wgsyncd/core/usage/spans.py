"""Spans: when the bytes of a delta came, and how many bytes the line can carry in that time."""

from math import inf
from typing import NamedTuple

from wgsyncd.core.usage.calendar import SpanPart, UsageCalendar

SLACK = 5.0  # seconds added to a span before its capacity is computed: to read a dump takes time


class DeltaSpan(NamedTuple):
    """The span of time in which the bytes of a delta came, until the sample."""

    since: float  # UNIX seconds
    capacity: float  # the bytes that the line carries in this span, in each direction. Infinite if nobody knows
    parts: tuple[SpanPart, ...]


class Spans:
    """The spans of the deltas of one interface. Nearly all its peers have the same span.

    ``now``: when the sample was taken, or the time of the calendar if that is earlier. ``recorded_at``: the time of the
    interface's checkpoint, 0.0 if it has none. Both are UNIX seconds. ``rate``: the bits per second that the line
    carries.
    """

    def __init__(self, calendar: UsageCalendar, now: float, recorded_at: float, rate: float) -> None:
        self._calendar, self._now, self._recorded_at, self._rate = calendar, now, recorded_at, rate
        self._known: dict[tuple[float | None, float], DeltaSpan] = {}

    def of(self, started: float | None, peer_recorded_at: float) -> DeltaSpan:
        """The span of a peer. ``started``: when the interface was last sampled. None: the records have the time."""
        found = self._known.get((started, peer_recorded_at))
        if found is None:
            found = self._known[started, peer_recorded_at] = self._make(started, peer_recorded_at)
        return found

    def _make(self, started: float | None, peer_recorded_at: float) -> DeltaSpan:
        now, is_known = self._now, True
        if started is None:
            started = max(peer_recorded_at, self._recorded_at)
            is_known = started <= now
        started = min(started, now)  # the clock may go back: a negative span would put every delta into quarantine
        # An interrupted posting may have sampled this peer later than its interface.
        since = max(started, peer_recorded_at) if peer_recorded_at <= now else started
        capacity = self._rate / 8 * (now - started + SLACK) if is_known else inf
        return DeltaSpan(since, capacity, self._calendar.parts(since, now))
