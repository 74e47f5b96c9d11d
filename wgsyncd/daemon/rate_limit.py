"""A share of the time for what others may ask for as often as they like."""

from __future__ import annotations

LONGEST = 2.0  # seconds: so long somebody waits at most for what others have used up


class TokenBucket:
    """So much of the time, saved up to ``most`` seconds: a few that come together are served at once, and a flood of
    them leaves the rest of the time to everything else. All times are monotonic seconds."""

    def __init__(self, share: float, most: float) -> None:
        self._share, self._most = share, most
        self._saved, self._at = most, 0.0  # negative: used ahead of time

    def delay(self, now: float) -> float:
        """Seconds until there is some; not positive: there is."""
        return -self._available(now) / self._share

    def spend(self, began: float, ended: float) -> None:
        """Something took from then until then."""
        saved = self._available(ended) - (ended - began)
        self._saved, self._at = max(saved, -LONGEST * self._share), ended

    def _available(self, now: float) -> float:
        return min(self._most, self._saved + (now - self._at) * self._share)
