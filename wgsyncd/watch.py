"""How often to ask whether rows have changed: as often as one percent of a core pays for, server and daemon alike."""

from __future__ import annotations

SHARE = 0.01  # of one core
OWN = 0.0005  # seconds of our own for a look: waking up, sending, and what follows an answer
AWAY = 5.0  # seconds between two looks at a database that is away
RARELY = 10.0  # seconds: never less often, however dear it is
_WEIGHT = 0.2  # of the newest cost in the mean


class Watch:
    """Times the looks. All times are monotonic seconds.

    What a look costs is taken for the time it takes: an upper bound, since a server that waits for something else does
    not work on it meanwhile.
    """

    def __init__(self, floor: float) -> None:
        self._floor = floor  # seconds; 0: never look
        self._cost = 0.0
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether to look now."""
        return bool(self._floor) and now >= self._next

    def patience(self, now: float) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - now) if self._floor else RARELY

    def looked(self, began: float, ended: float, *, answered: bool) -> None:
        """A look began and ended."""
        if answered:
            cost = OWN + ended - began
            self._cost = cost if not self._cost else self._cost + _WEIGHT * (cost - self._cost)
        period = self.period if answered else max(self.period, AWAY)
        self._next = began + period

    @property
    def period(self) -> float:
        """Seconds between looks while the database answers."""
        return max(self._floor, min(self._cost / SHARE, RARELY))
