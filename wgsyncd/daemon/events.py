"""The daemon's one inbox. Scheduler jobs and signal handlers only put; the main thread is the only one that takes.

Light to import: the handlers have to stand before anything slow is loaded, because a SIGHUP that arrives earlier would
end the process.
"""

from __future__ import annotations

import queue
import signal
from enum import IntEnum
from types import FrameType


class Event(IntEnum):
    """What there is to do, in the order in which it is done when several wait."""

    STOP = 0
    RELOAD = 1
    ADMIN = 2
    NOTIFY = 3
    RECONCILE = 4
    ACCOUNT = 5
    PURGE = 6
    VERIFY = 7


class ShutdownTimeout(BaseException):
    """A stop took too long; raised in the main thread wherever it is. Not an Exception: nothing may swallow it."""


_SIGNALS = {
    signal.SIGTERM: Event.STOP,
    signal.SIGINT: Event.STOP,
    signal.SIGHUP: Event.RELOAD,
    signal.SIGUSR1: Event.RECONCILE,
}


class EventQueue:
    """A queue of messages that collapses what is said twice."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()  # put() is safe in a signal handler
        self._stop_after: float | None = None

    def put(self, message: Event) -> None:
        """From any thread, or from a signal handler."""
        self._queue.put(message)

    def take(self, timeout: float) -> list[Event]:
        """Wait up to ``timeout`` seconds (monotonic); all that waits, each message once, in order of urgency. Empty
        where nothing arrived in time."""
        try:
            found = {self._queue.get(timeout=max(0.0, timeout))}
        except queue.Empty:
            return []
        while True:
            try:
                found.add(self._queue.get_nowait())
            except queue.Empty:
                return sorted(found)

    def install_signal_handlers(self, *, stop_within: float) -> None:
        """Install the signal handlers. From SIGTERM on the main thread has ``stop_within`` seconds, then OutOfTime is
        raised in it: a database that hangs must not make systemd kill us."""
        self._stop_after = stop_within
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        message = _SIGNALS[signal.Signals(number)]
        if message is Event.STOP and self._stop_after is not None:
            signal.setitimer(signal.ITIMER_REAL, self._stop_after)
            self._stop_after = None
        self.put(message)

    @staticmethod
    def _on_alarm(_: int, __: FrameType | None) -> None:
        raise ShutdownTimeout
