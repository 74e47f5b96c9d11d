"""Measures how many bytes per second pass each interface."""

from typing import NamedTuple

MEASURED_OVER = 5.0  # seconds: the shortest time over which a rate is measured


class _Start(NamedTuple):
    """The start of a measurement: a time, and the sums of an interface's counters at that time."""

    at: float  # UNIX seconds
    received: int  # bytes
    sent: int


class Rates(NamedTuple):
    """Bytes per second. None: not measured yet."""

    rx: float | None = None
    tx: float | None = None


class RateMeter:
    """Remembers the running measurement and the last rates of each interface."""

    def __init__(self) -> None:
        self._starts: dict[str, _Start] = {}
        self._rates: dict[str, Rates] = {}

    def measure(self, interface: str, received: int, sent: int, now: float) -> Rates:
        """The rates of an interface whose counters now have these sums. ``now``: UNIX seconds.

        The last rates stay until MEASURED_OVER seconds have passed. If a sum fell, for example because a peer was
        removed, a new measurement starts.
        """
        start = self._starts.setdefault(interface, _Start(now, received, sent))
        seconds = now - start.at
        if seconds < 0 or received < start.received or sent < start.sent:
            self.forget(interface)
            self._starts[interface] = _Start(now, received, sent)
        elif seconds >= MEASURED_OVER:
            self._rates[interface] = Rates((received - start.received) / seconds, (sent - start.sent) / seconds)
            self._starts[interface] = _Start(now, received, sent)
        return self._rates.get(interface, Rates())

    def forget(self, interface: str) -> None:
        """Start again with an interface, for example because it is missing."""
        self._starts.pop(interface, None)
        self._rates.pop(interface, None)
