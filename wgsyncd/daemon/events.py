"""The daemon's event queue, and the signal handlers that put events into it.

Any thread and any signal handler may put an event. Only the main thread takes events. This module imports little: the
handlers must be installed before slow imports, since an earlier SIGHUP would end the process.
"""

import queue
import signal
from enum import IntEnum
from types import FrameType


class Event(IntEnum):
    """Something to do. If several events wait, the lowest number is done first."""

    STOP = 0
    RELOAD = 1
    ADMIN = 2
    NOTIFY = 3
    HEARTBEAT = 4
    SYNC = 5
    RECONCILE = 6
    ACCOUNT = 7
    PURGE = 8
    VERIFY = 9


class ShutdownTimeout(BaseException):
    """The shutdown took too long. Raised in the main thread, and no Exception, so that no handler swallows it."""


_SIGNALS = {
    signal.SIGTERM: Event.STOP,
    signal.SIGINT: Event.STOP,
    signal.SIGHUP: Event.RELOAD,
    signal.SIGUSR1: Event.SYNC,
}


class EventQueue:
    """A queue of events that yields each waiting event once."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()  # put() is safe in a signal handler.
        self._stop_within: float | None = None
        self._stops = False
        # ShutdownTimeout was raised. Another exception may have taken its place on the way up.
        self.has_timed_out = False

    def put(self, event: Event) -> None:
        """Add an event, from any thread or from a signal handler."""
        self._queue.put(event)

    @property
    def is_stopping(self) -> bool:
        """Whether SIGTERM has come: the main thread has little time left."""
        return self._stops

    def take(self, timeout: float) -> list[Event]:
        """Wait up to ``timeout`` seconds. All waiting events, each once, the most urgent first, or none."""
        found: set[Event] = set()
        try:
            found.add(self._queue.get(timeout=max(0.0, timeout)))
            while True:
                found.add(self._queue.get_nowait())
        except queue.Empty:
            return sorted(found)

    def install_signal_handlers(self, *, stop_within: float) -> None:
        """Install the signal handlers. The main thread has ``stop_within`` seconds after SIGTERM.

        Then ShutdownTimeout is raised there, so that systemd does not have to kill a daemon whose database hangs.
        """
        self._stop_within = stop_within
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        event = _SIGNALS[signal.Signals(number)]
        if event is Event.STOP and self._stop_within is not None:
            signal.setitimer(signal.ITIMER_REAL, self._stop_within)
            self._stop_within, self._stops = None, True
        self.put(event)

    def _on_alarm(self, _: int, __: FrameType | None) -> None:
        if self._stops:  # Any other SIGALRM is a stranger's.
            self.has_timed_out = True
            raise ShutdownTimeout
