"""Receives the application's notifications that rows of named devices have just been committed.

Only the rows decide what the daemon does. A sender can therefore cause work, but no change of its own. The work is
bounded, because notifications that arrive while the daemon works are merged.

A datagram has device ids in UTF-8, separated by white space. An empty datagram means all rows. The daemon sends no
answer: a sender that wants one asks for a sync over the control socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import UserError

MOST = 200  # devices. A larger number counts as all rows.
LONGEST = 64  # characters of customer_devices.device_id
_SIZE = 65536


class Notification(NamedTuple):
    """The notifications since the last call of :meth:`NotifySocket.take`, as one."""

    devices: frozenset[str]
    everything: bool

    def __bool__(self) -> bool:
        return self.everything or bool(self.devices)


def parse(datagram: bytes) -> frozenset[str]:
    """The device ids of a datagram. ValueError if the datagram is invalid."""
    devices = frozenset(datagram.decode("utf-8").split())
    for device in devices:
        if len(device) > LONGEST or not device.isprintable():
            raise ValueError("is no device id")
    return devices


_ALL: frozenset[str] = frozenset()


class NotifySocket:
    """The socket and the thread that reads it. ``wake`` tells the main thread that there is something to take."""

    def __init__(self, path: Path, status: DaemonStatus, wake: Callable[[], None]) -> None:
        self._path, self._status, self._wake = path, status, wake
        self._lock = threading.Lock()
        self._waiting: list[frozenset[str]] = []
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # left by a process that was killed: the lock proves that no other daemon runs
            self._socket.bind(str(path))
            os.chmod(path, 0o660)  # the directory's group may write
        except OSError as error:
            self._socket.close()
            raise UserError(f"{path}: no notifications can be received: {error.strerror}") from error
        threading.Thread(target=self._listen, name="notify", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(_SIZE)
            except OSError:
                return
            if self._closed:  # a shutdown reads like an empty datagram
                return
            self.put(datagram)

    def put(self, datagram: bytes) -> None:
        """Add a datagram."""
        try:
            devices = parse(datagram)
        except ValueError:
            self._status.invalid_notifications += 1
            return
        self._status.notifications += 1
        with self._lock:  # without it, take() could come between the two steps, and nobody would be woken
            waiting = len(self._waiting)
            if waiting > MOST:
                return  # "all rows" waits already, and the rows are read after it is taken
            self._waiting.append(devices if waiting < MOST else _ALL)
        if not waiting:
            self._wake()

    @property
    def pending(self) -> bool:
        """Whether a notification waits."""
        return bool(self._waiting)

    def take(self) -> Notification:
        """All waiting notifications as one."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        devices = frozenset[str]().union(*taken)
        everything = not all(taken) or len(devices) > MOST
        return Notification(frozenset() if everything else devices, everything)

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
