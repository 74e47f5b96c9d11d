"""How often to ask whether rows have changed: as often as one percent of a core pays for, server and daemon alike."""

from __future__ import annotations

import time
from collections import deque

SHARE = 0.01  # of one core
RETRY_INTERVAL = 5.0  # seconds between two looks at a database that is away
MAX_INTERVAL = 10.0  # seconds: never less often, however dear it is
_RECENT = 8  # looks and turns


class PollInterval:
    """Times the looks. All times are seconds; those that are given are monotonic.

    The cost is what the daemon's thread works for a turn of its loop that brings nothing but a look, and what the
    server takes for its answer, an upper bound of its work. Of the recent ones the least counts: whatever else runs on
    the machine only adds to it.
    """

    def __init__(self, floor: float) -> None:
        self._floor = floor  # 0: never look
        self._server: deque[float] = deque(maxlen=_RECENT)
        self._own: deque[float] = deque(maxlen=_RECENT)
        self._next = 0.0
        self._looked = False

    def due(self, now: float) -> bool:
        """Whether to look now."""
        return bool(self._floor) and now >= self._next

    def delay(self, now: float) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - now) if self._floor else MAX_INTERVAL

    def record_query(self, began: float, took: float, worked: float, *, answered: bool) -> None:
        """A look began, took so long, and meanwhile this thread worked for so long."""
        if answered:
            self._server.append(max(0.0, took - worked))
            self._looked = True
        self._next = began + (self.period if answered else max(self.period, RETRY_INTERVAL))

    def record_idle_turn(self, worked: float) -> None:
        """A turn of the loop is over that brought nothing but a look, or nothing; this thread worked so long for it."""
        if self._looked:
            self._own.append(worked)
        self._looked = False

    @property
    def period(self) -> float:
        """Seconds between looks while the database answers."""
        cost = min(self._own, default=0.0) + min(self._server, default=0.0)
        return max(self._floor, min(cost / SHARE, MAX_INTERVAL))


def thread_cpu_time() -> float:
    """Seconds that this thread has worked, of whatever beginning."""
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
