"""Detects steps of the wall clock by comparing it with the monotonic clock."""

from __future__ import annotations

import time

STEP = 2.0  # seconds: a larger difference between the two clocks counts as a step
SETTLED = 3600.0  # seconds after a step until daily work trusts the clock again


class ClockStepDetector:
    """Remembers the offset between the two clocks."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._stepped_at = float("-inf")  # monotonic

    def stepped(self) -> float | None:
        """The seconds by which the wall clock was set since the last call. None: it was not set."""
        offset = time.time() - time.monotonic()
        step, self._offset = offset - self._offset, offset
        if abs(step) <= STEP:
            return None
        self._stepped_at = time.monotonic()
        return step

    @property
    def trusted(self) -> bool:
        """Whether the last step is at least an hour old."""
        return time.monotonic() - self._stepped_at >= SETTLED
