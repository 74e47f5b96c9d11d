"""Receives the application's notifications that rows of named devices have just been committed.

Only the rows decide what the daemon does. A sender can therefore cause work, but no change of its own. The work is
bounded, because notifications that arrive while the daemon works are merged.

A datagram has device ids in UTF-8, separated by white space. An empty datagram means all rows. The daemon sends no
answer: a sender that wants one asks for a sync over the control socket.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from wgsyncd.daemon import lock
from wgsyncd.engine.status import DaemonStatus

MAX_DEVICES = 200  # A larger number counts as all rows.
MAX_LENGTH = 64  # characters of a device id
ALL: frozenset[str] = frozenset()  # no devices stand for all rows


def parse(datagram: bytes) -> frozenset[str]:
    """The device ids of a datagram. ValueError if the datagram is invalid."""
    devices = frozenset(datagram.decode("utf-8").split())
    for device in devices:
        if len(device) > MAX_LENGTH or not device.isprintable():
            raise ValueError("is no device id")
    return devices


def path() -> Path:
    """The socket's file: in /run/wgsyncd-notify of the package, else beside the lock.

    The package's directory is of a group that may only notify. The directory's set-group-ID bit gives the socket this
    group, see inode(7).
    """
    beside = lock.path().parent
    own = beside.with_name(f"{beside.name}-notify")
    return (own if own.is_dir() else beside) / "notify.sock"


class NotifySocket:
    """The socket and the thread that reads it. ``wake`` tells the main thread that there is something to take."""

    def __init__(self, path: Path, status: DaemonStatus, wake: Callable[[], None]) -> None:
        self.path, self._status, self._wake = path, status, wake
        self._lock = threading.Lock()
        self._waiting: list[frozenset[str]] = []
        self._closed = False
        self._socket = lock.bind(path, socket.SOCK_DGRAM, "no notifications can be received")
        threading.Thread(target=self._listen, name="notify", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(65536)
            except OSError:
                return
            if self._closed:  # A shutdown reads like an empty datagram.
                return
            self.put(datagram)

    def put(self, datagram: bytes) -> None:
        try:
            devices = parse(datagram)
        except ValueError:
            self._status.invalid_notifications += 1
            return
        self._status.notifications += 1
        with self._lock:  # Without the lock, take() could come between the two steps, and nobody would be woken.
            waiting = len(self._waiting)
            if waiting > MAX_DEVICES:
                return  # "all rows" waits already, and the rows are read after it is taken.
            self._waiting.append(devices if waiting < MAX_DEVICES else ALL)
        if not waiting:
            self._wake()

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    def take(self) -> frozenset[str] | None:
        """The devices of all waiting notifications, or ALL. None: no notification waits."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        devices = ALL.union(*taken)
        if not taken:
            return None
        return devices if all(taken) and len(devices) <= MAX_DEVICES else ALL

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
