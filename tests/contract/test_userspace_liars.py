"""A userspace interface that lies, or answers without end, is passing trouble of that interface alone."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsyncd.core.model import EARLIEST
from wgsyncd.dataplane.wireguard import userspace
from wgsyncd.dataplane.wireguard.userspace import UserspaceWireGuard
from wgsyncd.errors import WireGuardError

KEY = "07" * 32
GOOD = (
    f"private_key={KEY}\nlisten_port=51820\npublic_key={KEY}\npreshared_key={KEY}\nprotocol_version=1\n"
    "endpoint=192.0.2.1:5\nlast_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=1\nrx_bytes=2\n"
    "persistent_keepalive_interval=25\nallowed_ip=10.0.0.1/32\nerrno=0\n\n"
)
LIES = {
    "a foreign protocol": (f"own_public_key={KEY}\n{GOOD}", "EPROTO"),
    "an errno of 5,000 digits": (GOOD.replace("errno=0", f"errno={'9' * 5000}"), "EBADMSG"),
    "a counter of 5,000 digits": (GOOD.replace("rx_bytes=2", f"rx_bytes={'9' * 5000}"), "EBADMSG"),
    "a counter beyond 64 bits": (GOOD.replace("rx_bytes=2", f"rx_bytes={1 << 64}"), "EBADMSG"),
    "a negative counter": (GOOD.replace("rx_bytes=2", "rx_bytes=-2"), "EBADMSG"),
    "a counter with an underscore": (GOOD.replace("rx_bytes=2", "rx_bytes=2_0"), "EBADMSG"),
    "no counter": (GOOD.replace("rx_bytes=2\n", ""), "EBADMSG"),
    "a handshake in the year 9999": (GOOD.replace("sec=1700000000", "sec=253402300799"), "EBADMSG"),
    "a second of more than 10^9 ns": (GOOD.replace("nsec=5", "nsec=1000000000"), "EBADMSG"),
    "a prefix of 33 bits": (GOOD.replace("/32", "/33"), "EBADMSG"),
    "a negative prefix": (GOOD.replace("/32", "/-1"), "EBADMSG"),
    "a port beyond 16 bits": (GOOD.replace("51820", "65536"), "EBADMSG"),
    "a keepalive beyond 16 bits": (GOOD.replace("interval=25", "interval=65536"), "EBADMSG"),
    "one peer twice": (GOOD.replace("errno", f"public_key={KEY}\ntx_bytes=1\nrx_bytes=1\nerrno"), "EBADMSG"),
}


class Liar:
    """Answers each request with ``text``. ``times``: how often, while the client reads."""

    def __init__(self, folder: Path) -> None:
        self.text, self.times = b"", 1
        self.wg = UserspaceWireGuard("boot", 5.0, folder)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "lo.sock"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                with client:
                    while not client.recv(65536).endswith(b"\n\n"):
                        pass
                    for _ in range(self.times):
                        client.sendall(self.text)
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    made = Liar(tmp_path)
    yield made
    made.close()


def test_the_true_answer_is_taken(liar: Liar) -> None:
    liar.text = GOOD.encode()
    assert len(liar.wg.read("lo").peers) == 1


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_trouble_of_this_interface(liar: Liar, lie: str) -> None:
    text, name = LIES[lie]
    liar.text = text.encode()
    with pytest.raises(WireGuardError) as trouble:
        liar.wg.read("lo")
    assert trouble.value.name == name
    assert KEY not in str(trouble.value)


def test_a_handshake_before_the_clock_was_set_is_one(liar: Liar) -> None:
    """A handshake that is gone would say that the counters began at zero again."""
    liar.text = GOOD.replace("sec=1700000000", "sec=95").encode()
    [peer] = liar.wg.read("lo").peers.values()
    assert 0 < peer.latest_handshake < EARLIEST


def test_an_answer_without_end_is_cut(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userspace, "_LARGEST", 1 << 20)
    liar.text, liar.times = b"fwmark=1\n" * 7000, 1000
    with pytest.raises(WireGuardError, match="EMSGSIZE: its process answers more than 1048576 bytes"):
        liar.wg.read("lo")


def test_no_more_descriptors_are_trouble_that_passes(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", none)
        with pytest.raises(WireGuardError, match="EMFILE"):
            liar.wg.read("lo")
    liar.text = GOOD.encode()
    assert liar.wg.carries("lo")


def test_spoiled_answers_are_a_state_or_trouble() -> None:
    """Bytes and lines of the corpus are exchanged, removed and doubled."""
    chance = random.Random(16)
    texts = [GOOD, *(text for text, _ in LIES.values() if len(text) < 2000)]
    for _ in range(3000):
        lines = chance.choice(texts).split("\n")[:-3]
        for _ in range(chance.randrange(1, 4)):
            at, other = chance.randrange(len(lines)), chance.choice(chance.choice(texts).split("\n"))
            lines[at : at + chance.randrange(2)] = [other] * chance.randrange(3)
            lines = lines or [other]
            spoiled = lines[at % len(lines)]
            cut = chance.randrange(len(spoiled) + 1)
            lines[at % len(lines)] = (
                spoiled[:cut] + chance.choice(("", "-", "9" * 30, "\x00", "=")) + spoiled[cut + 1 :]
            )
        try:
            state = userspace._decode("lo", "boot:1", lines)
        except ValueError:
            continue
        for key, peer in state.peers.items():
            assert len(key) == 32
            assert all(0 <= one < 1 << 64 for one in peer.counters)
            assert 0 <= peer.latest_handshake < userspace._LATEST * 10**9
            assert all(0 <= one.prefixlen <= 8 * len(one.packed) for one in peer.config.allowed_ips)
