"""systemd's notification socket, sd_notify(3). The only importer of sdnotify.

sdnotify 0.3.2 encodes latin-1 and swallows every error, so nothing but ASCII is given to it. Without NOTIFY_SOCKET
nothing is sent, and sdnotify is not even started: it would leave an open socket behind.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

from sdnotify import SystemdNotifier

from wgsyncd.redact import redact

_STATUS_LENGTH = 500  # the whole datagram may have 4096 bytes (NOTIFY_BUFFER_MAX)


class Notifier:
    """Tells systemd how the daemon is.

    ``watchdog_interval`` is WatchdogSec in seconds, within which :meth:`watchdog` has to be called again and again;
    None where no watchdog watches this process.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._socket = SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        self._raw = self._status = ""
        self.watchdog_interval = _watchdog_interval(environ)

    def ready(self, status: str = "") -> None:
        """Started, or reloaded."""
        self._send("READY=1", *self._changed(status))

    def status(self, text: str) -> None:
        """What `systemctl status` shows; sent when it differs from the last one."""
        self._send(*self._changed(text))

    def reloading(self) -> None:
        """A reload begins; :meth:`ready` ends it. Both lines have to be in one datagram (systemd.service(5))."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The way out."""
        self._send("STOPPING=1", *self._changed(status))

    def watchdog(self) -> None:
        """Work was finished. To be called by the main thread alone, never by a timer."""
        if self.watchdog_interval is not None:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None and self._socket.socket is not None:
            self._socket.socket.close()
        self._socket = None

    def _changed(self, text: str) -> tuple[str, ...]:
        if text == self._raw:
            return ()
        self._raw = text
        status = re.sub(r"[^ -~]+", "?", redact(text).replace("…", "...").replace("\n", " "))[:_STATUS_LENGTH]
        if not status or status == self._status:
            return ()
        self._status = status
        return (f"STATUS={status}",)

    def _send(self, *lines: str) -> None:
        if lines and self._socket is not None:
            self._socket.notify("\n".join(lines))


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): WATCHDOG_USEC counts for the process named by WATCHDOG_PID, if that is there."""
    try:
        usec = int(environ.get("WATCHDOG_USEC", "0"))
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return usec / 1e6 if usec > 0 and pid == os.getpid() else None
