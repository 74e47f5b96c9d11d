"""Hints from the application: a datagram on a unix socket says which devices' rows have just been committed.

Only a hint: what is done is decided by the rows. So whoever may write to the socket can cause work, never an effect;
and work is bounded, since what arrives while some is being done is collapsed.

A datagram is the device ids, in UTF-8, apart by white space; an empty one means all rows. One that begins with `?` asks
for an answer, which goes to the sender's own address when it is done: `ok`, or `failed` and why.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from wgsyncd.errors import Refused
from wgsyncd.health import Health

MOST = 200  # devices; more at once are all rows
LONGEST = 64  # characters of customer_devices.device_id
_SIZE = 65536


class Taken(NamedTuple):
    """What was hinted since the last time."""

    devices: frozenset[str]
    everything: bool
    askers: tuple[str | bytes, ...]  # addresses that want an answer

    def __bool__(self) -> bool:
        return self.everything or bool(self.devices)


def parse(datagram: bytes) -> tuple[bool, frozenset[str]]:
    """Whether an answer is wanted, and the device ids. ValueError for what is no hint."""
    text = datagram.decode("utf-8")
    asks = text.startswith("?")
    devices = frozenset(text.removeprefix("?").split())
    for device in devices:
        if len(device) > LONGEST or not device.isprintable():
            raise ValueError("is no device id")
    return asks, devices


_ALL: frozenset[str] = frozenset()


class Hints:
    """The socket, drained by a thread of its own; the main thread is told by ``wake`` and takes."""

    def __init__(self, path: Path, health: Health, wake: Callable[[], None]) -> None:
        self._path, self._health, self._wake = path, health, wake
        self._queue: queue.SimpleQueue[tuple[frozenset[str], str | bytes | None]] = queue.SimpleQueue()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # of a process that was killed; the lock says that it is gone
            self._socket.bind(str(path))
            os.chmod(path, 0o660)  # for the directory's group
        except OSError as error:
            self._socket.close()
            raise Refused(f"{path}: no hints can be taken: {error.strerror}") from error
        threading.Thread(target=self._listen, name="hints", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                datagram, sender = self._socket.recvfrom(_SIZE)
            except OSError:
                return  # closed
            self.put(datagram, sender or None)

    def put(self, datagram: bytes, sender: str | bytes | None = None) -> None:
        """A datagram has come."""
        try:
            asks, devices = parse(datagram)
        except ValueError:
            self._health.hints_ignored += 1
            return
        self._health.hints += 1
        waiting = self._queue.qsize()
        if waiting > MOST:
            return  # "all rows" waits already, and they are read after it is taken
        self._queue.put((devices if waiting < MOST else _ALL, sender if asks else None))
        if not waiting:
            self._wake()

    def take(self) -> Taken:
        """All that was hinted since."""
        devices: set[str] = set()
        askers: list[str | bytes] = []
        everything = False
        with contextlib.suppress(queue.Empty):
            while True:
                some, asker = self._queue.get_nowait()
                devices |= some
                everything |= not some
                askers += [asker] if asker is not None else []
        everything |= len(devices) > MOST
        return Taken(frozenset() if everything else frozenset(devices), everything, tuple(askers))

    def answer(self, askers: Iterable[str | bytes], text: str) -> None:
        """Tell who asked. One that has gone, or does not read, is left alone."""
        for address in askers:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), socket.MSG_DONTWAIT, address)

    def close(self) -> None:
        """No more of them."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def send(path: Path, devices: tuple[str, ...], seconds: float) -> str:
    """Hint, and wait for the answer. Refused where nobody listens, or none comes in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as live:
        live.bind("")  # an abstract address of the kernel's choice, unix(7)
        live.settimeout(seconds)
        try:
            live.sendto(("? " + " ".join(devices)).encode(), str(path))
            return live.recv(_SIZE).decode()
        except TimeoutError:
            raise Refused(f"no answer within {seconds:.0f} s; `wgsyncd status` shows how the daemon is") from None
        except PermissionError:
            raise Refused(f"{path}: not permitted: run this as root or in the group wgsyncd") from None
        except OSError as error:
            raise Refused(f"{path}: nobody listens: {error.strerror}; does wgsyncd run?") from None
