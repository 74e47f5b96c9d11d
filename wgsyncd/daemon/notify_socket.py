"""Hints from the application: a datagram on a unix socket says which devices' rows have just been committed.

Only a hint: what is done is decided by the rows. So whoever may write to the socket can cause work, never an effect;
and work is bounded, since what arrives while some is being done is collapsed.

A datagram is the device ids, in UTF-8, apart by white space; an empty one means all rows. Nothing is answered: who
wants to know asks for a sync over the control socket.
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

MOST = 200  # devices; more at once are all rows
LONGEST = 64  # characters of customer_devices.device_id
_SIZE = 65536


class Notification(NamedTuple):
    """What was hinted since the last time."""

    devices: frozenset[str]
    everything: bool

    def __bool__(self) -> bool:
        return self.everything or bool(self.devices)


def parse(datagram: bytes) -> frozenset[str]:
    """The device ids. ValueError for what is no hint."""
    devices = frozenset(datagram.decode("utf-8").split())
    for device in devices:
        if len(device) > LONGEST or not device.isprintable():
            raise ValueError("is no device id")
    return devices


_ALL: frozenset[str] = frozenset()


class NotifySocket:
    """The socket, drained by a thread of its own; the main thread is told by ``wake`` and takes."""

    def __init__(self, path: Path, status: DaemonStatus, wake: Callable[[], None]) -> None:
        self._path, self._status, self._wake = path, status, wake
        self._lock = threading.Lock()
        self._waiting: list[frozenset[str]] = []
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # of a process that was killed; the lock says that it is gone
            self._socket.bind(str(path))
            os.chmod(path, 0o660)  # for the directory's group
        except OSError as error:
            self._socket.close()
            raise UserError(f"{path}: no hints can be taken: {error.strerror}") from error
        threading.Thread(target=self._listen, name="hints", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(_SIZE)
            except OSError:
                return
            if self._closed:  # which reads like an empty datagram
                return
            self.put(datagram)

    def put(self, datagram: bytes) -> None:
        """A datagram has come."""
        try:
            devices = parse(datagram)
        except ValueError:
            self._status.invalid_notifications += 1
            return
        self._status.notifications += 1
        with self._lock:  # else what waits could be taken in between, and nobody be told of this one
            waiting = len(self._waiting)
            if waiting > MOST:
                return  # "all rows" waits already, and they are read after it is taken
            self._waiting.append(devices if waiting < MOST else _ALL)
        if not waiting:
            self._wake()

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return bool(self._waiting)

    def take(self) -> Notification:
        """All that was hinted since."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        devices = frozenset[str]().union(*taken)
        everything = not all(taken) or len(devices) > MOST
        return Notification(frozenset() if everything else devices, everything)

    def close(self) -> None:
        """No more of them."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
