"""Polls the daemon's metrics all the time, from inside the server's network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

SAMPLED = "wgsyncd_interface_sampled_timestamp_seconds"
PORT = 9586
_CLONE_NEWNET = 0x40000000  # the source is linux/sched.h
_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """Holds one scrape."""

    asked: float = 0.0  # this is in monotonic seconds
    values: dict[str, float] = field(default_factory=dict)

    def successes(self, *tasks: str) -> float:
        """Returns the number of successful runs of these tasks since the process began. A present run counts, too."""
        return sum(
            self.values.get(f'wgsyncd_task_runs_total{{task="{task}"}}', 0)
            - self.values.get(f'wgsyncd_task_failures_total{{task="{task}"}}', 0)
            for task in tasks
        )


class Eyes(threading.Thread):
    """Keeps the latest scrape in :attr:`seen`. If the daemon does not answer, the last scrape stays."""

    def __init__(self, pid: int, pace: float, port: int = PORT) -> None:
        super().__init__(daemon=True)
        self.seen, self._pid, self._every, self._closed = Seen(), pid, _EVERY * pace, False
        self._port = port

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
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * self._every / _EVERY)
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


class AllEyes:
    """Polls one daemon of each node. :attr:`seen` has the metrics of all, of which a task has those of the first."""

    def __init__(self, pid: int, pace: float, ports: Iterable[int]) -> None:
        self.each = [Eyes(pid, pace, port) for port in ports]

    @property
    def seen(self) -> Seen:
        """Returns the latest scrapes as one, as old as the oldest of them."""
        scrapes = [one.seen for one in self.each]
        values = {name: value for one in reversed(scrapes) for name, value in one.values.items()}
        return Seen(min(one.asked for one in scrapes), values)

    def start(self) -> None:
        """Begins to poll."""
        for one in self.each:
            one.start()

    def close(self) -> None:
        """Ends the threads."""
        for one in self.each:
            one.close()


def labelled(name: str, **labels: str) -> str:
    """Returns a metric's name with its labels, as an exposition shows it."""
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
