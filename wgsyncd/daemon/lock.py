"""Ensures by a lock file and abstract addresses that a node, or an interface, has one wgsyncd only.

The lock file also names its holder. Only one process in a network namespace can have an abstract socket address. That
holds even if two daemons have directories of their own. The sockets of the daemon lie beside the lock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

from wgsyncd.errors import UserError


def path() -> Path:
    """The lock file: in systemd's RuntimeDirectory= if it is set, else in /run/wgsyncd."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "/run/wgsyncd").partition(":")[0]) / "lock"


def acquire(file: Path) -> int:
    """Hold the lock until the process ends. Its file descriptor. UserError if another process holds the lock."""
    try:
        file.parent.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{file}: the lock file cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _holder_of(descriptor)
        os.close(descriptor)
        raise UserError(f"another wgsyncd runs for this node: pid {pid or 'unknown'} holds {file}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def holder(file: Path) -> int | None:
    """The pid of the daemon that holds the lock. None: no daemon does. UserError if the file cannot be opened."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file}: cannot tell whether wgsyncd runs: {error.strerror}. Run this as root") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder_of(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder_of(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else None


class Claims:
    """The abstract socket addresses that this process has: one for its node, and one for each of its interfaces.

    Two daemons with two node names would post the bytes of one interface twice. So each interface has an address too.
    An abstract address belongs to the network namespace and vanishes with its process, see unix(7).
    """

    def __init__(self, node: str, interfaces: Iterable[str]) -> None:
        """Claim all. UserError, with nothing claimed, if another process has one of them."""
        self._node = _claim(f"wgsyncd.{node}", f"for node {node}", "stop it first, or give this one another node.name")
        self._interfaces: dict[str, socket.socket] = {}
        try:
            self.add(interfaces)
        except UserError:
            self.close()
            raise

    def add(self, interfaces: Iterable[str]) -> None:
        """Claim more interfaces. UserError, with nothing changed, if another process has one of them."""
        more: dict[str, socket.socket] = {}
        try:
            for name in interfaces:
                if name not in self._interfaces:
                    todo = f"stop it first, or take interfaces.{name} out of one of the two configurations"
                    more[name] = _claim(f"wgsyncd.if.{name}", f"on interface {name}", todo)
        except UserError:
            for one in more.values():
                one.close()
            raise
        self._interfaces |= more

    def keep(self, interfaces: Collection[str]) -> None:
        """Give all interfaces back but these."""
        for name in self._interfaces.keys() - set(interfaces):
            self._interfaces.pop(name).close()

    def close(self) -> None:
        """Give everything back."""
        self.keep(())
        self._node.close()


def _claim(name: str, where: str, todo: str) -> socket.socket:
    """A socket with the abstract address ``name``. UserError if another process in this network namespace has it."""
    address = f"\0{name}"[:100]
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claimed.bind(address)
        claimed.listen(1)
    except OSError:
        claimed.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.setblocking(False)
            try:
                other.connect(address)
                pid = str(peer_credentials(other)[0])
            except OSError:
                pid = "unknown"
        raise UserError(f"another wgsyncd runs {where} in this network namespace: pid {pid}: {todo}") from None
    return claimed


def peer_credentials(connected: socket.socket) -> tuple[int, int, int]:
    """Pid, user id and group id of the process at the other end of a unix socket (SO_PEERCRED in unix(7))."""
    pid, uid, gid = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


def bind(file: Path, kind: socket.SocketKind, failure: str) -> socket.socket:
    """A unix socket at ``file`` for the owner and the group. UserError, with ``failure``, if it cannot be made.

    A killed process may have left the file. The lock proves that the process is gone.
    """
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        file.unlink(missing_ok=True)
        bound.bind(str(file))
        os.chmod(file, 0o660)
    except OSError as error:
        bound.close()
        raise UserError(f"{file}: {failure}: {error.strerror}") from error
    return bound
