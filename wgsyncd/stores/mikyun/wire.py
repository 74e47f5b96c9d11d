"""The socket to MariaDB: it finds the server, checks who serves it, and limits each answer as a whole.

PyMySQL limits each read alone, so a server that sends a byte now and then could hold the daemon for ever.
"""

import contextlib
import pwd
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from wgsyncd.stores.account import as_account
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.resolving import Resolver

MOST = 64 << 20  # bytes in an answer, or in one row of a stream
_RATE = 2 << 20  # bytes that earn an answer one more second, because a large answer over a slow line takes its time
_MOST_EARNED = 20.0  # seconds. Together with the longest timeout, that is below the time of the watchdog.
_MOST_ADDRESSES = 4
_UCRED = struct.Struct("3i")  # the source is unix(7), SO_PEERCRED

_T = TypeVar("_T")


class Limit:
    """Limits how long one answer may keep this process waiting, and how many bytes it may have."""

    def __init__(self) -> None:
        self._seconds, self._waited = 0.0, 0.0
        self._received = self._earned = 0

    def begin(self, seconds: float) -> None:
        """A statement begins. Its answer may keep this process waiting for so many seconds."""
        self._seconds, self._waited = seconds, 0.0
        self._received = self._earned = 0

    def next_row(self) -> None:
        """A row of a stream was read, and nobody keeps it. So only the next row counts for memory."""
        self._received = 0

    def call(self, one: socket.socket, function: Callable[..., _T], *args: Any) -> _T:
        """Call what waits for the server, for no longer than the time that is left. TimeoutError: none is left."""
        left = self._seconds + min(self._earned / _RATE, _MOST_EARNED) - self._waited
        if left <= 0:
            raise TimeoutError("timed out: the whole answer took too long")
        one.settimeout(left)
        began = time.monotonic()
        try:
            return function(*args)
        finally:
            self.waited(began)

    def waited(self, since: float) -> None:
        """This process has waited for the server since then (monotonic)."""
        self._waited += time.monotonic() - since

    def received(self, count: int) -> int:
        """Count bytes of the answer. Returns ``count``. OSError: the answer is too large."""
        self._earned += count
        self._received += count
        if self._received > MOST:
            raise OSError(f"the answer is larger than {MOST >> 20} MiB")
        return count


class _Plain(socket.socket):
    limit: Limit

    def recv_into(self, *args: Any) -> int:
        return self.limit.received(self.limit.call(self, super().recv_into, *args))

    def sendall(self, *args: Any) -> None:
        self.limit.call(self, super().sendall, *args)


class Wire:
    """Makes the sockets of one connection object, one after the other. They share :attr:`limit`."""

    def __init__(self) -> None:
        self.limit = Limit()
        self._resolver = Resolver()

    def connect(self, database: Database) -> socket.socket:
        """A socket to the server. OSError: there is none, or another account than the server's answers."""
        self.limit.begin(database.timeout)
        if database.socket is not None:
            with as_account(database.user, wanted=not database.password()):
                one = self._open(socket.AF_UNIX, database.socket)
            try:
                _check_peer(one, database.socket)
            except BaseException:
                one.close()
                raise
            return one
        failure: OSError | None = None
        began = time.monotonic()
        found = self._resolver.addresses((database.host,), database.port, database.timeout / 2)
        self.limit.waited(began)
        for _, (family, _, _, _, address) in found[:_MOST_ADDRESSES]:
            try:
                one = self._open(family, address)
            except OSError as error:
                failure = error
                continue
            with contextlib.suppress(OSError):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return one
        try:
            raise failure or OSError("the name has no address")
        finally:
            del failure  # or the error and this frame keep each other until the garbage collector runs

    def _open(self, family: int, address: Any) -> socket.socket:
        one = _Plain(family, socket.SOCK_STREAM)
        try:
            one.limit = self.limit
            self.limit.call(one, one.connect, address)
        except BaseException:
            one.close()  # at once: a refused connect must not wait for the garbage collector
            raise
        return one


def is_dead(one: socket.socket | None) -> bool:
    """Whether the server has ended an idle connection. Between statements a server has nothing else to say."""
    if one is None or one.fileno() < 0:
        return True
    try:
        one.settimeout(0)
        # A TLS socket knows no MSG_PEEK, so the method of the plain socket is called.
        return socket.socket.recv(one, 1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    except OSError:
        return True


def _check_peer(one: socket.socket, path: str) -> None:
    """OSError if the socket is served by another account than root or the owner of the socket's directory."""
    _, uid, _ = _UCRED.unpack(one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    directory = Path(path).parent
    owner = directory.stat().st_uid
    if uid not in (0, owner):
        raise PermissionError(
            f"{path} is served by {_account(uid)}, but {directory} belongs to {_account(owner)}: nothing was sent."
            " Only root and the owner of the directory may serve it"
        )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the account {uid}"
