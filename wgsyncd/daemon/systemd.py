"""Sends states to systemd's notification socket, sd_notify(3).

sdnotify 0.3.2 encodes latin-1 and swallows every error, so this module gives it ASCII only. Without NOTIFY_SOCKET,
sdnotify is not started, since it would leave an open socket behind. No other module imports sdnotify.
"""

import os
import re
import time
from collections.abc import Mapping

from sdnotify import SystemdNotifier

from wgsyncd.redact import redact

_STATUS_LENGTH = 500  # the whole datagram may have 4096 bytes (NOTIFY_BUFFER_MAX)


class Notifier:
    """Tells systemd the state of the daemon.

    The main thread must call :meth:`watchdog` every ``watchdog_interval`` seconds. None: systemd does not watch.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._socket = SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        self._status = ""
        self.watchdog_interval = _watchdog_interval(environ)

    def ready(self, status: str = "") -> None:
        """The start or the reload is complete."""
        self._send("READY=1", *self._changed(status))

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows. It is sent if it differs from the last one."""
        self._send(*self._changed(text))

    def reloading(self) -> None:
        """A reload begins, and :meth:`ready` ends it. One datagram must have both lines, see systemd.service(5)."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The daemon stops."""
        self._send("STOPPING=1", *self._changed(status))

    def watchdog(self) -> None:
        """Work was finished. Only the main thread may call this, and never a timer."""
        if self.watchdog_interval is not None:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None and self._socket.socket is not None:
            self._socket.socket.close()
        self._socket = None

    def _changed(self, text: str) -> tuple[str, ...]:
        status = re.sub(r"[^ -~]+", "?", redact(text).replace("…", "...").replace("\n", " "))[:_STATUS_LENGTH]
        if not status or status == self._status:
            return ()
        self._status = status
        return (f"STATUS={status}",)

    def _send(self, *lines: str) -> None:
        if lines and self._socket is not None:
            self._socket.notify("\n".join(lines))


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): WATCHDOG_USEC applies to the process in WATCHDOG_PID, if that is set."""
    try:
        usec = int(environ.get("WATCHDOG_USEC", "0"))
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return usec / 1e6 if usec > 0 and pid == os.getpid() else None
