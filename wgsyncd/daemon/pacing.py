"""Says when work is due, by the cost of a query, by a share of the time, and by the clocks."""

import time
from collections import deque

QUERY_SHARE = 0.01  # of one core, of the database server and the daemon together
RETRY_INTERVAL = 5.0  # seconds between two queries while the database does not answer
MAX_INTERVAL = 10.0  # seconds: the longest interval, even if a query costs more
_RECENT = 8  # the number of queries and turns that count
MAX_DELAY = 2.0  # seconds: the longest wait for time that others have used up
STEP = 2.0  # seconds: a larger difference between the two clocks counts as a step
SETTLED = 3600.0  # seconds after a step until daily work trusts the clock again


class PollInterval:
    """Adapts the interval of a query to its cost. All times are monotonic seconds.

    The cost has two parts. One is the CPU time of the daemon's thread in a turn of its loop that only asks. The other
    is the time until the server answers, which is an upper bound of the server's work. The smallest recent value
    counts, since other programs on the machine only make the values larger.
    """

    def __init__(self, min_interval: float) -> None:
        self._min_interval = min_interval  # 0: never query
        self._server: deque[float] = deque(maxlen=_RECENT)
        self._own: deque[float] = deque(maxlen=_RECENT)
        self._next = 0.0
        self._has_queried = False

    def due(self, now: float) -> bool:
        """Whether to query now."""
        return bool(self._min_interval) and now >= self._next

    def delay(self, now: float) -> float:
        """Seconds until the next query."""
        return max(0.0, self._next - now) if self._min_interval else MAX_INTERVAL

    def record_query(self, began: float, took: float, worked: float, *, answered: bool) -> None:
        """Record a query: when it began, how long it took, and the CPU time of this thread meanwhile."""
        if answered:
            self._server.append(max(0.0, took - worked))
            self._has_queried = True
        self._next = began + (self.period if answered else max(self.period, RETRY_INTERVAL))

    def record_idle_turn(self, worked: float) -> None:
        """Record the CPU time of a turn of the loop that did nothing but a query, or nothing at all."""
        if self._has_queried:
            self._own.append(worked)
        self._has_queried = False

    @property
    def period(self) -> float:
        """Seconds between queries while the database answers."""
        cost = min(self._own, default=0.0) + min(self._server, default=0.0)
        return max(self._min_interval, min(cost / QUERY_SHARE, MAX_INTERVAL))


def thread_cpu_time() -> float:
    """The CPU time of this thread in seconds."""
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


class TokenBucket:
    """Grants a share of the time, and keeps up to ``capacity`` seconds of unused time.

    A few requests together are served at once. A flood of requests leaves the rest of the time to other work. All times
    are monotonic seconds.
    """

    def __init__(self, share: float, capacity: float = 1.0) -> None:
        self._share, self._capacity = share, capacity
        self._tokens, self._at = capacity, 0.0  # seconds. Negative: more time is spent than was granted.

    def delay(self, now: float) -> float:
        """Seconds until time is available. Not positive: it is available now."""
        return -self._available(now) / self._share

    def spend(self, began: float, ended: float) -> None:
        left = self._available(ended) - (ended - began)
        self._tokens, self._at = max(left, -MAX_DELAY * self._share), ended

    def _available(self, now: float) -> float:
        return min(self._capacity, self._tokens + (now - self._at) * self._share)


class ClockStepDetector:
    """Detects steps of the wall clock by comparing it with the monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._stepped_at, self._step = float("-inf"), 0.0  # monotonic, and seconds

    def stepped(self) -> float | None:
        """The seconds by which the wall clock was set since the last call. None: it was not set."""
        offset = time.time() - time.monotonic()
        step, self._offset = offset - self._offset, offset
        if abs(step) <= STEP:
            return None
        self._stepped_at, self._step = time.monotonic(), step
        return step

    @property
    def trusted(self) -> bool:
        """Whether the last step is at least an hour old."""
        return time.monotonic() - self._stepped_at >= SETTLED

    @property
    def step(self) -> float:
        """The last step in seconds, as long as the clock is not trusted again. 0: there is none."""
        return 0.0 if self.trusted else self._step
