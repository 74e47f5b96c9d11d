"""Polls the daemon's metrics all the time, from inside the server's network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import threading
import time
from dataclasses import dataclass, field

SAMPLED = "wgsyncd_interface_sampled_timestamp_seconds"
_PORT = 9586
_CLONE_NEWNET = 0x40000000  # the source is linux/sched.h
_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """Holds one scrape."""

    asked: float = 0.0  # this is in monotonic seconds
    values: dict[str, float] = field(default_factory=dict)

    def successes(self, *tasks: str) -> float:
        """Returns the number of successful runs of these tasks since the process began."""
        return sum(
            self.values.get(f'wgsyncd_task_runs_total{{task="{task}"}}', 0)
            - self.values.get(f'wgsyncd_task_failures_total{{task="{task}"}}', 0)
            for task in tasks
        )


class Eyes(threading.Thread):
    """Keeps the latest scrape in :attr:`seen`. If the daemon does not answer, the last scrape stays."""

    def __init__(self, pid: int, pace: float) -> None:
        super().__init__(daemon=True)
        self.seen, self._pid, self._every, self._closed = Seen(), pid, _EVERY * pace, False

    def run(self) -> None:
        """Scrapes until the thread is closed. It runs as a thread."""
        with open(f"/proc/{self._pid}/ns/net", "rb") as namespace:  # setns(2) applies to this thread only
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        while not self._closed:
            asked = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self.seen = Seen(asked, self._scrape())
            time.sleep(self._every)

    def _scrape(self) -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=2 * self._every / _EVERY)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self.join(5)
