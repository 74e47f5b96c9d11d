"""Adapts the interval of the digest query to its cost: at most one percent of a core.

The cost counts both the database server and the daemon.
"""

from __future__ import annotations

import time
from collections import deque

SHARE = 0.01  # of one core
RETRY_INTERVAL = 5.0  # seconds between two queries while the database does not answer
MAX_INTERVAL = 10.0  # seconds: the longest interval, even if a query costs more
_RECENT = 8  # the number of queries and turns that count


class PollInterval:
    """Says when the next query is due. All times are monotonic seconds.

    The cost has two parts. One is the CPU time of the daemon's thread in a turn of its loop that only asks. The other
    is the time until the server answers, which is an upper bound of the server's work. The smallest recent value
    counts, since other programs on the machine only make the values larger.
    """

    def __init__(self, floor: float) -> None:
        self._floor = floor  # 0: never query
        self._server: deque[float] = deque(maxlen=_RECENT)
        self._own: deque[float] = deque(maxlen=_RECENT)
        self._next = 0.0
        self._looked = False

    def due(self, now: float) -> bool:
        """Whether to query now."""
        return bool(self._floor) and now >= self._next

    def delay(self, now: float) -> float:
        """Seconds until the next query."""
        return max(0.0, self._next - now) if self._floor else MAX_INTERVAL

    def record_query(self, began: float, took: float, worked: float, *, answered: bool) -> None:
        """Record a query: when it began, how long it took, and the CPU time of this thread meanwhile."""
        if answered:
            self._server.append(max(0.0, took - worked))
            self._looked = True
        self._next = began + (self.period if answered else max(self.period, RETRY_INTERVAL))

    def record_idle_turn(self, worked: float) -> None:
        """Record the CPU time of a turn of the loop that did nothing but a query, or nothing at all."""
        if self._looked:
            self._own.append(worked)
        self._looked = False

    @property
    def period(self) -> float:
        """Seconds between queries while the database answers."""
        cost = min(self._own, default=0.0) + min(self._server, default=0.0)
        return max(self._floor, min(cost / SHARE, MAX_INTERVAL))


def thread_cpu_time() -> float:
    """The CPU time of this thread in seconds."""
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
