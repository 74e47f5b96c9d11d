"""Whether somebody has set the clock: seen by the monotonic one, which nobody sets."""

from __future__ import annotations

import time

STEP = 2.0  # seconds by which the wall clock may differ from the monotonic one before it counts as a step
SETTLED = 3600.0  # seconds after which a clock that was set is trusted with work that is done once a day


class ClockStepDetector:
    """Looks at both."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._stepped_at = float("-inf")  # monotonic

    def stepped(self) -> float | None:
        """By how many seconds it was set since the last call; None: it was not."""
        offset = time.time() - time.monotonic()
        step, self._offset = offset - self._offset, offset
        if abs(step) <= STEP:
            return None
        self._stepped_at = time.monotonic()
        return step

    @property
    def trusted(self) -> bool:
        """Whether it has not been set for a while."""
        return time.monotonic() - self._stepped_at >= SETTLED
