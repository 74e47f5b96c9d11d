"""Limits work that others can request as often as they like to a share of the time."""

from __future__ import annotations

LONGEST = 2.0  # seconds: the longest wait for time that others have used up


class TokenBucket:
    """Grants a share of the time, and saves up to ``most`` seconds of unused time.

    A few requests together are served at once. A flood of requests leaves the rest of the time to other work. All times
    are monotonic seconds.
    """

    def __init__(self, share: float, most: float) -> None:
        self._share, self._most = share, most
        self._saved, self._at = most, 0.0  # negative: more time is spent than was granted

    def delay(self, now: float) -> float:
        """Seconds until time is available. Not positive: it is available now."""
        return -self._available(now) / self._share

    def spend(self, began: float, ended: float) -> None:
        """Spend the time from ``began`` to ``ended``."""
        saved = self._available(ended) - (ended - began)
        self._saved, self._at = max(saved, -LONGEST * self._share), ended

    def _available(self, now: float) -> float:
        return min(self._most, self._saved + (now - self._at) * self._share)
