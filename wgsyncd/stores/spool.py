"""The spool: samples that are not booked yet, on the disk, so that a reboot or a crash does not lose them.

One file in the state directory, replaced whole (written beside, fsync, rename, fsync of the directory: rename(2) is
atomic), so it is the old one or the new one after a power cut. Its first line carries a checksum of the rest, which is
JSON: counters and public keys, no secret. A file that is torn, foreign or unreadable is set aside and reported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

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
    """Where it is: systemd's StateDirectory=, else /var/lib/wgsyncd."""
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/wgsyncd").partition(":")[0])


class _Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int
    since: float
    at: float
    day: str
    interface: str
    epoch: str
    peers: dict[str, tuple[int, int, int]]  # rx, tx, latest handshake (UNIX nanoseconds), by public key


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: str
    stream: str
    next_number: int
    samples: list[_Sample]


class FileSpool:
    """The port :class:`wgsyncd.ports.Spool` on a file. Nothing is made before something is to be kept."""

    def __init__(self, folder: Path, node: str) -> None:
        self.file = folder / "spool"
        self._node = node

    def begin(self) -> Backlog:
        """See :class:`wgsyncd.ports.Spool`."""
        return Backlog(secrets.token_hex(5))

    def load(self) -> Backlog | None:
        """See :class:`wgsyncd.ports.Spool`."""
        cause: Exception
        try:
            return decode(self.file.read_bytes(), self._node)
        except FileNotFoundError:
            return None
        except OSError as error:
            why, cause = f"cannot be read: {error.strerror}", error
        except ValueError as error:
            why, cause = str(error), error
        # One that can be read again later would be behind the books, so it does not stay where it is.
        with _as_spool_error(self.file):
            aside = self._free_name()
            os.rename(self.file, aside)
        self._sync()
        raise SpoolCorrupt(f"{self.file} {why}; set aside as {aside.name}", aside.name) from cause

    def save(self, backlog: Backlog) -> None:
        """See :class:`wgsyncd.ports.Spool`."""
        data = encode(backlog, self._node)
        beside = self.file.with_suffix(".new")
        with _as_spool_error(self.file):
            self.file.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(descriptor)
            os.rename(beside, self.file)
        self._sync()

    def _sync(self) -> None:
        """The new name outlives a power cut. Where that fails it stands all the same for every process until there is
        one, so it is no failure to replace the file; a disk that is this broken fails the next write too."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _free_name(self) -> Path:
        count = 1
        while (aside := self.file.with_suffix(f".bad{count}")).exists():
            count += 1
        return aside


@contextlib.contextmanager
def _as_spool_error(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolError(f"{file} cannot be written: {error.strerror}") from error


def encode(backlog: Backlog, node: str) -> bytes:
    """The file's content."""
    samples = [
        _Sample(
            one.number, one.since, one.at, one.day, one.state.name, one.state.epoch,
            {encode_key(key): (*found.counters, found.latest_handshake) for key, found in one.state.peers.items()},
        )
        for one in backlog.samples
    ]  # fmt: skip
    body = msgspec.json.encode(_File(node, backlog.stream, backlog.next_number, samples))
    return MAGIC + _checksum(body) + b"\n" + body


def decode(data: bytes, node: str) -> Backlog:
    """What a file says; ValueError (what is wrong, in words) for one that is not exactly what :func:`encode` made."""
    head, newline, body = data.partition(b"\n")
    if not head.startswith(MAGIC) or not newline:
        raise ValueError("is not a spool of this version")
    if head != MAGIC + _checksum(body):
        raise ValueError("is torn or was changed: its checksum is wrong")
    try:
        file = msgspec.json.decode(body, type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"does not fit: {error}") from None
    if file.node != node:
        raise ValueError(f"belongs to node {file.node}")
    return Backlog(file.stream, file.next_number, tuple(map(_sample, file.samples)))


def _sample(one: _Sample) -> Sample:
    peers: dict[PublicKey, PeerState] = {}
    for text, (rx, tx, handshake) in one.peers.items():
        key = PublicKey(decode_key(text))
        peers[key] = PeerState(PeerConfig(key, NO_PRESHARED_KEY, ()), rx, tx, handshake)
    return Sample(one.number, one.since, one.at, one.day, InterfaceState(one.interface, one.epoch, None, 0, peers))


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST // 2).hexdigest().encode()
