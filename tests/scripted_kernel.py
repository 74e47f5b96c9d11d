"""A scripted kernel: it gives the answers on its netlink socket that a test tells it to give."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from tests import netlink_server
from wgsyncd.core.model import NO_PRESHARED_KEY, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network

FAMILY, MULTI, DUMP_INTR = 33, 0x2, 0x10
CTRL, ERROR, DONE = 16, 2, 3

Datagram = bytes | OSError
# Arguments: the family, the sequence number and the payload of a request. Result: the answer.
Script = Callable[[int, int, bytes], list[Datagram]]


class ScriptedKernel:
    """Replaces the sockets that `kernel` opens, and counts how many are opened and closed."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.family = FAMILY
        self.asked: list[bytes] = []
        self.answers: list[Script] = []  # these are for WireGuard's requests: each is used once, and the last one stays

    def open(self) -> ScriptedSocket:
        self.opened += 1
        return ScriptedSocket(self)

    def answer(self, kind: int, seq: int, payload: bytes) -> list[Datagram]:
        if kind == CTRL:
            if not self.family:
                return [error(errno.ENOENT, seq)]
            found = netlink_server.message(
                CTRL, 0, seq, bytes(4) + netlink_server.attr(1, struct.pack("=H", self.family))
            )
            return [found + error(0, seq)]
        if kind != self.family:
            return [error(errno.ENOENT, seq)]
        self.asked.append(payload)
        script = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return script(kind, seq, payload)


class ScriptedSocket:
    def __init__(self, kernel_: ScriptedKernel) -> None:
        self.kernel = kernel_
        self.queue: list[Datagram] = []

    def send(self, data: bytes) -> int:
        length, kind, flags, seq, _ = struct.unpack_from("=IHHII", data)
        assert length == len(data)
        assert flags & 1  # the flag is NLM_F_REQUEST
        self.queue += self.kernel.answer(kind, seq, data[16:])
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self.queue:
            raise TimeoutError
        first = self.queue.pop(0)
        if isinstance(first, OSError):
            raise first
        return first[:size]

    def close(self) -> None:
        self.kernel.closed += 1


def peer(n: int) -> PeerConfig:
    return PeerConfig(PublicKey(n.to_bytes(4) * 8), NO_PRESHARED_KEY, (Network(bytes([10, 0, n >> 8, n & 255]), 32),))


STATES = [PeerState(peer(n), n, n, 0) for n in range(1, 8)]


def error(number: int, seq: int) -> bytes:
    return netlink_server.message(ERROR, 0, seq, struct.pack("=i", -number) + bytes(16))


def done(seq: int, flags: int = MULTI, number: int = 0) -> bytes:
    return netlink_server.message(DONE, flags, seq, struct.pack("=i", -number))


def dump(torn_at: int | None = None, torn_done: bool = False, number: int = 0) -> Script:
    def script(kind: int, seq: int, _: bytes) -> list[Datagram]:
        parts: list[Datagram] = [
            netlink_server.message(kind, MULTI | (DUMP_INTR if n == torn_at else 0), seq, payload)
            for n, payload in enumerate(netlink_server.dump(STATES))
        ]
        assert len(parts) == 3
        return [*parts, done(seq, MULTI | (DUMP_INTR if torn_done else 0), number)]

    return script


def fails(number: int) -> Script:
    return lambda _kind, seq, _payload: [error(number, seq)]


def raises(number: int) -> Script:
    return lambda _kind, _seq, _payload: [OSError(number, "from the socket")]
