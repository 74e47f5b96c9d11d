"""Keeps a second wgsyncd of this machine away by lock files and abstract addresses.

The lock file also names its holder. Only one process in a network namespace can have an abstract socket address. That
holds even if two daemons have directories of their own. The sockets of the daemon lie beside the lock.

An abstract address is open to everybody, so it only tells early. That no two daemons post one counter is the work of
:mod:`wgsyncd.engine.holding`, which asks the database.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import secrets
import socket
import struct
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from wgsyncd import log
from wgsyncd.errors import UserError

_PREFIX = "wgsyncd."
_LONGEST = 107  # bytes of an abstract address, see unix(7)
_ACCOUNT = "wgsyncd"  # User= of the unit
_ATTEMPTS = 20  # to lock the file
_WAITING = 64  # processes that may ask for the owner of an address between two turns of the loop


class Credentials(NamedTuple):
    """A process, as the kernel describes it."""

    pid: int
    uid: int
    gid: int


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
    for left in reversed(range(_ATTEMPTS)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if left:
                time.sleep(0.01)  # A command may be in holder(), which locks the file for a moment.
                continue
            pid = _holder_of(descriptor)
            os.close(descriptor)
            raise UserError(f"another wgsyncd runs for this node: pid {pid or 'unknown'} holds {file}") from None
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def lock_folder(folder: Path) -> str:
    """Lock the state directory until the process ends. Returns a digest by which its next process knows it.

    The directory itself is locked, because a file in it may have another owner. UserError if another process has the
    lock. If the directory cannot be locked, the digest is random: then nothing proves that the former process is gone.
    """
    descriptor = -1
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another wgsyncd runs with the state directory {folder}: stop it first") from None
    except OSError as error:
        log.get("daemon").warning(
            "the state directory cannot be locked: after a crash, the next start waits three minutes",
            directory=str(folder), why=error.strerror, todo="wgsyncd doctor",
        )  # fmt: skip
        return secrets.token_hex(8)
    found = os.fstat(descriptor)
    return hashlib.blake2b(f"{found.st_dev}:{found.st_ino}".encode(), digest_size=8).hexdigest()


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
    An abstract address belongs to the network namespace and vanishes with its process, see unix(7). Every user may take
    one. So a process of a stranger does not count as another wgsyncd. It is reported.
    """

    def __init__(self, node: str, interfaces: Iterable[str]) -> None:
        """Claim all. UserError, with nothing claimed, if another wgsyncd has one of them."""
        self._node = _claim(f"{_PREFIX}{node}", f"for node {node}", "stop it first, or give this one another node.name")
        self._interfaces: dict[str, socket.socket] = {}
        try:
            self.add(interfaces)
        except UserError:
            self.close()
            raise

    def add(self, interfaces: Iterable[str]) -> None:
        """Claim more interfaces. UserError, with nothing changed, if another wgsyncd has one of them."""
        more: dict[str, socket.socket] = {}
        try:
            for name in interfaces:
                if name not in self._interfaces:
                    todo = f"stop it first, or take interfaces.{name} out of one of the two configurations"
                    claimed = _claim(f"{_PREFIX}if.{name}", f"on interface {name}", todo)
                    if claimed is not None:
                        more[name] = claimed
        except UserError:
            for one in more.values():
                one.close()
            raise
        self._interfaces |= more

    def keep(self, interfaces: Collection[str]) -> None:
        """Give all interfaces back but these."""
        for name in self._interfaces.keys() - set(interfaces):
            self._interfaces.pop(name).close()

    def answer(self) -> None:
        """Let those go who have asked for the owner. Otherwise they would fill the queue."""
        for one in (self._node, *self._interfaces.values()):
            with contextlib.suppress(OSError):
                while one is not None:
                    one.accept()[0].close()

    def close(self) -> None:
        """Give everything back."""
        self.keep(())
        if self._node is not None:
            self._node.close()


def _address(name: str) -> bytes:
    """The abstract address of a name, or of its digest if the name is too long."""
    address = name.encode("utf-8", "surrogateescape")
    if len(address) > _LONGEST:
        address = f"{_PREFIX}{hashlib.blake2b(address, digest_size=16).hexdigest()}".encode()
    return b"\0" + address


def _claim(name: str, where: str, todo: str) -> socket.socket | None:
    """A socket with the abstract address ``name``. None if a stranger has it.

    UserError if another wgsyncd in this network namespace has it.
    """
    address = _address(name)
    try:
        claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"no socket can be made that keeps another wgsyncd out {where}: {error.strerror}") from error
    try:
        claimed.bind(address)
        claimed.listen(_WAITING)
        claimed.setblocking(False)
    except OSError as error:
        claimed.close()
        owner = _owner(address)
        if owner is None:
            time.sleep(0.1)  # Another wgsyncd may be between its bind() and its listen().
            owner = _owner(address)
        if owner is not None and _is_ours(owner):
            text = f"another wgsyncd runs {where} in this network namespace: pid {owner.pid}: {todo}"
            raise UserError(text) from None
        said = "unknown" if owner is None else f"uid {owner.uid}, pid {owner.pid}"
        log.get("daemon").warning(
            "another user's program has this address, so only the database keeps a second wgsyncd out",
            address=f"@{address[1:].decode(errors='replace')}", who=said, why=error.strerror,
        )  # fmt: skip
        return None
    return claimed


def _owner(address: bytes) -> Credentials | None:
    """Who listens at an abstract address. None if nobody does, or if its queue is full."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.setblocking(False)
            other.connect(address)
            return peer_credentials(other)
    except OSError:
        return None


def _is_ours(owner: Credentials) -> bool:
    """Whether this may be another wgsyncd: a process of root, of this user, or of the unit's account."""
    if owner.uid in (0, os.geteuid()):
        return True
    with contextlib.suppress(KeyError):
        return owner.uid == pwd.getpwnam(_ACCOUNT).pw_uid
    return False


def running(node: str) -> int | None:
    """The pid of the wgsyncd that has claimed ``node``, even if its files are gone. None: nobody has."""
    owner = _owner(_address(f"{_PREFIX}{node}"))
    return owner.pid if owner is not None and _is_ours(owner) else None


def peer_credentials(connected: socket.socket) -> Credentials:
    """The process at the other end of a unix socket (SO_PEERCRED in unix(7))."""
    return Credentials(*struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def bind(file: Path, kind: socket.SocketKind, failure: str) -> socket.socket:
    """A unix socket at ``file`` for the owner and the group. UserError, with ``failure``, if it cannot be made.

    A killed process may have left the file. The lock proves that the process is gone.
    """
    bound: socket.socket | None = None
    try:
        bound = socket.socket(socket.AF_UNIX, kind)
        file.unlink(missing_ok=True)
        bound.bind(str(file))
        os.chmod(file, 0o660)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise UserError(f"{file}: {failure}: {error.strerror}") from error
    return bound
