"""The spool: a file with samples that are not posted yet, so that no crash loses them.

The file is in the state directory and is always replaced as a whole. A new file is written beside it and synced
(fsync(2)), then renamed over it, and then the directory is synced. rename(2) is atomic, so after a power cut there is
the old file or the new one.

The first line holds a checksum of the rest. The rest is JSON with counters and public keys, and no secret. A file that
is damaged or unreadable is renamed (quarantined) and reported. So is a file of another node, once the store has
answered: it knows whether this node was renamed.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec

from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    InterfaceState,
    PeerConfig,
    PeerState,
    PublicKey,
    decode_key,
    encode_key,
)
from wgsyncd.core.usage.backlog import Backlog, Sample
from wgsyncd.errors import SpoolCorrupt, SpoolError

MAGIC = b"wgsyncd spool 1 "
_DIGEST = 32  # hexadecimal digits of the checksum


def directory() -> Path:
    """The folder of the spool: systemd's StateDirectory= (systemd.exec(5)), else /var/lib/wgsyncd."""
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/wgsyncd").partition(":")[0])


_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # neither a link, nor a pipe that nobody reads
_BLOCK = 4096  # bytes: a file system needs a free block for them
_LARGEST = 1 << 30  # bytes of a file: a full spool has some 60 MB
_Time = Annotated[float, msgspec.Meta(ge=0, lt=1 << 33)]  # UNIX seconds, up to the year 2242
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Name = Annotated[str, msgspec.Meta(max_length=255)]


class _Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: _Count
    since: _Time
    at: _Time
    day: Annotated[str, msgspec.Meta(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")]
    interface: _Name
    epoch: _Name
    peers: dict[str, tuple[_Count, _Count, _Count]]  # rx, tx, latest handshake (UNIX nanoseconds), by public key


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    node: str
    stream: Annotated[str, msgspec.Meta(max_length=32)]
    next_number: _Count
    samples: list[_Sample]
    posted: list[_Sample] = []  # the node state has them, unless it goes back


class FileSpool:
    """Implements :class:`wgsyncd.ports.Spool` on a file. The first :meth:`save` creates folder and file."""

    def __init__(self, folder: Path, node: str) -> None:
        self.file = folder / "spool"
        self._node = node

    def begin(self) -> Backlog:
        return Backlog(secrets.token_hex(5))

    def load(self) -> Backlog | None:
        cause: Exception
        try:
            return decode(_read(self.file), self._node)
        except FileNotFoundError:
            return None
        except OSError as error:
            why, cause = f"cannot be read: {error.strerror}", error
        except ValueError as error:
            why, cause = str(error), error
        # The file does not stay: if it became readable later, its samples would be older than the node state.
        aside = self.set_aside()
        raise SpoolCorrupt(f"{self.file} {why}. It is now {aside}", aside) from cause

    def set_aside(self) -> str:
        with _as_spool_error(self.file):
            aside = self._free_name()
            os.rename(self.file, aside)
        _sync(self.file.parent)
        return aside.name

    def save(self, backlog: Backlog) -> None:
        data = encode(backlog, self._node)
        with _as_spool_error(self.file):
            os.rename(self._write_beside(data, synced=True), self.file)
        _sync(self.file.parent)

    def probe(self) -> None:
        with _as_spool_error(self.file):
            os.unlink(self._write_beside(bytes(_BLOCK), synced=False))

    def _write_beside(self, data: bytes, *, synced: bool) -> Path:
        beside = self.file.with_suffix(".new")
        if not self.file.parent.exists():
            self.file.parent.mkdir(mode=0o700, exist_ok=True)
            _sync(self.file.parent.parent)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _PLAIN, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if synced:
                os.fsync(descriptor)
        return beside

    def _free_name(self) -> Path:
        count = 1
        while (aside := self.file.with_suffix(f".bad{count}")).exists():
            count += 1
        return aside


def _read(file: Path) -> bytes:
    """The bytes of a plain file. ValueError if the name has anything else, which could block or never end."""
    try:
        descriptor = os.open(file, os.O_RDONLY | _PLAIN)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise ValueError("is no plain file") from None
        raise
    with open(descriptor, "rb") as opened:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is no plain file")
        if found.st_size > _LARGEST:
            raise ValueError(f"has {found.st_size} bytes, more than any spool")
        return opened.read(_LARGEST)


def _sync(folder: Path) -> None:
    """Sync a folder, so that the new name of a file in it survives a power cut.

    An error is ignored: without a power cut every process sees the new file anyway. On a disk that is so broken the
    next write fails too.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _as_spool_error(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolError(f"{file} cannot be written: {error.strerror}") from error


def encode(backlog: Backlog, node: str) -> bytes:
    """The content of the spool file of a node, or of ``backlog.other_node``."""
    samples, posted = ([*map(_written, some)] for some in (backlog.samples, backlog.posted))
    body = msgspec.json.encode(_File(backlog.other_node or node, backlog.stream, backlog.next_number, samples, posted))
    return MAGIC + _checksum(body) + b"\n" + body


def decode(data: bytes, node: str) -> Backlog:
    """The backlog in a file's content, as a process of ``node`` finds it.

    ValueError, with the fault in words, if :func:`encode` did not make the content.
    """
    head, newline, body = data.partition(b"\n")
    if not head.startswith(MAGIC) or not newline:
        raise ValueError("is not a spool of this version")
    if head != MAGIC + _checksum(body):
        raise ValueError("is incomplete or was changed: its checksum is wrong")
    try:
        file = msgspec.json.decode(body, type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"does not fit: {error}") from None
    numbers = [one.number for one in (*file.posted, *file.samples)]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= file.next_number):
        raise ValueError("has samples out of order")
    for one in (*file.posted, *file.samples):
        if one.day:
            date.fromisoformat(one.day)
    other_node = "" if file.node == node else file.node
    samples, posted = (tuple(map(_sample, some)) for some in (file.samples, file.posted))
    return Backlog(file.stream, file.next_number, samples, posted, other_node)


def _written(one: Sample) -> _Sample:
    peers = {encode_key(key): (*found.counters, found.latest_handshake) for key, found in one.state.peers.items()}
    return _Sample(one.number, one.since, one.at, one.day, one.state.name, one.state.epoch, peers)


def _sample(one: _Sample) -> Sample:
    peers: dict[PublicKey, PeerState] = {}
    for text, (rx, tx, handshake) in one.peers.items():
        key = PublicKey(decode_key(text))
        if max(rx, tx) >= 1 << 64 or handshake >= 1 << 63:
            raise ValueError("has a counter that no kernel has")
        peers[key] = PeerState(PeerConfig(key, NO_PRESHARED_KEY, ()), rx, tx, handshake)
    return Sample(one.number, one.since, one.at, one.day, InterfaceState(one.interface, one.epoch, None, 0, peers))


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST // 2).hexdigest().encode()
