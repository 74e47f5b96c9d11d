"""The daemons' wall clock steps as the script says. No other process has it."""

from __future__ import annotations

import time
from pathlib import Path

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's package libfaketime has it

_SLACK = 0.05  # seconds between a step and its time in the history


class Clock:
    """Keeps the daemon's wall clock, which is the real one plus an offset."""

    def __init__(self, file: Path) -> None:
        self.file, self.offset, self.ever = file, 0.0, False
        self.history: list[tuple[float, float]] = []  # since when, in UNIX seconds, and the offset
        self.set(0.0)

    def set(self, offset: float) -> None:
        """Sets the offset in seconds, which makes the clock step."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+.3f}\n")
        new.rename(self.file)
        self.ever = self.ever or offset != 0
        self.offset = offset
        self.history.append((time.time(), offset))

    def moments(self, at: float) -> list[float]:
        """Returns when this clock may have shown ``at``, in UNIX seconds. It shows a time twice if it was set back."""
        now = time.time()
        ends = [since for since, _ in self.history[1:]] + [now]
        found = [(at - offset, since, end) for (since, offset), end in zip(self.history, ends, strict=True)]
        return [moment for moment, since, end in found if since - _SLACK <= moment <= end + _SLACK]

    def now(self) -> float:
        """Returns the time as the daemon sees it."""
        return time.time() + self.offset

    @property
    def environment(self) -> dict[str, str]:
        """Returns the environment of a process that uses this clock."""
        return {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
