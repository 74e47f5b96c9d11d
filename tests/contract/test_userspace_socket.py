"""Userspace processes may be gone, silent or answer nonsense, and the client reports it."""

from __future__ import annotations

import base64
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsyncd.core.model import NO_BYTES, NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PublicKey
from wgsyncd.dataplane.wireguard import userspace
from wgsyncd.dataplane.wireguard.userspace import UserspaceWireGuard, x25519_public_key
from wgsyncd.errors import InterfaceMissing, WireGuardError

KEY = PublicKey(b"\x07" * 32)
SECRET = "5e" * 32


class Process:
    """Listens on NAME.sock. It answers each request with ``answer`` and hangs up, or stays silent if that is None."""

    def __init__(self, path: Path, answer: bytes | None, read_first: bool = True) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._read_first = read_first
        self._silent: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._answer is None:
                self._silent.append(connection)
                continue
            with connection:
                data = b""
                while self._read_first and not data.endswith(b"\n\n"):
                    part = connection.recv(65536)
                    if not part:
                        break
                    data += part
                if data:
                    self.requests.append(data)
                if data or not self._read_first:
                    connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._silent:
            connection.close()


class Machine:
    def __init__(self, sockets: Path) -> None:
        self.sockets = sockets
        self.wg = UserspaceWireGuard("boot", timeout=0.3, sockets=sockets)
        self.processes: list[Process] = []

    def process(self, answer: bytes | None, *, read_first: bool = True) -> Process:
        """Starts a process for the loopback, because every machine has an interface index for it."""
        self.processes.append(Process(self.sockets / "lo.sock", answer, read_first))
        return self.processes[-1]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for process in made.processes:
        process.close()


def test_nobody_listens(machine: Machine) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(machine.sockets / "lo.sock"))
    stale.close()
    (machine.sockets / "wg1.sock").write_text("no socket")
    for name in ("lo", "wg1", "wg2"):
        assert not machine.wg.carries(name)
        with pytest.raises(InterfaceMissing, match=f"{name}: ENODEV"):
            machine.wg.read(name)


def test_whole_answer(machine: Machine) -> None:
    process = machine.process(
        f"private_key={SECRET}\nlisten_port=51820\nfwmark=1\npublic_key={KEY.hex()}\npreshared_key={'00' * 32}\n"
        "protocol_version=1\nendpoint=[2001:db8::1%eth0]:5\nlast_handshake_time_sec=1700000000\n"
        "last_handshake_time_nsec=5\ntx_bytes=18446744073709551615\nrx_bytes=2\npersistent_keepalive_interval=25\n"
        f"allowed_ip=10.0.0.1/32\nallowed_ip=fd00::1/128\nsomething_new=1\npublic_key={'08' * 32}\n"
        "tx_bytes=0\nrx_bytes=0\nerrno=0\n\n".encode()
    )
    found = machine.wg.read("lo")
    assert process.requests[-1] == b"get=1\n\n"
    assert (found.kind, found.epoch, found.listen_port) == ("userspace", "boot:1", 51820)
    first = found.peers[KEY]
    assert str(first.config) == "Peer(BwcHBwcH… 10.0.0.1/32,fd00::1/128 keepalive=25)"
    assert first.counters == (2, 2**64 - 1)
    assert (first.latest_handshake, first.endpoint) == (1_700_000_000_000_000_005, "[2001:db8::1%eth0]:5")
    second = found.peers[PublicKey(b"\x08" * 32)]
    assert (second.config.preshared_key, second.config.allowed_ips, second.counters) == (
        NO_PRESHARED_KEY,
        (),
        NO_BYTES,
    )


def test_an_unchanged_peer_has_the_same_configuration_object(machine: Machine) -> None:
    peers = [f"public_key={n:02}{'08' * 31}\nallowed_ip=10.0.0.{n}/32\nrx_bytes=1\ntx_bytes=2\n" for n in (1, 2)]
    machine.process("".join([*peers, "errno=0\n\n"]).encode())
    before, after = (machine.wg.read("lo").peers for _ in range(2))
    assert [one.config for one in before.values()] == [one.config for one in after.values()]
    assert {id(one.config) for one in before.values()} == {id(one.config) for one in after.values()}
    assert {id(key) for key in after} == {id(one.config.public_key) for one in before.values()}
    machine.processes.pop().close()
    (machine.sockets / "lo.sock").unlink()
    machine.process("".join([peers[0], peers[1].replace("0.2/", "0.3/"), "errno=0\n\n"]).encode())
    changed = list(machine.wg.read("lo").peers.values())
    assert changed[0].config is next(iter(after.values())).config
    assert [str(one) for one in changed[1].config.allowed_ips] == ["10.0.0.3/32"]


def test_interface_that_is_gone_while_its_process_still_answers(machine: Machine) -> None:
    process = machine.process(b"listen_port=0\nerrno=0\n\n")
    (machine.sockets / "wg7.sock").symlink_to(machine.sockets / "lo.sock")
    with pytest.raises(InterfaceMissing, match="wg7: ENODEV"):
        machine.wg.read("wg7")
    assert process.requests


def test_process_that_never_answers(machine: Machine) -> None:
    machine.process(None)
    began = time.monotonic()
    with pytest.raises(WireGuardError, match="lo: ETIMEDOUT"):
        machine.wg.read("lo")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"", "EPIPE"),
        (b"private_key=" + SECRET.encode(), "EPIPE"),
        (b"\n\n", "EBADMSG"),
        (b"errno=zero\n\n", "EBADMSG"),
        (f"private_key={SECRET}\n\n".encode(), "EBADMSG"),
        (f"private_key={SECRET}00\nerrno=0\n\n".encode(), "EBADMSG"),
        (f"private_key={SECRET}\n{SECRET}\nerrno=0\n\n".encode(), "EBADMSG"),
        (f"public_key={SECRET}\nallowed_ip={SECRET}/8\nerrno=0\n\n".encode(), "EBADMSG"),
        (f"public_key={SECRET}\nrx_bytes={SECRET}x\nerrno=0\n\n".encode(), "EBADMSG"),
        (f"public_key={SECRET}\npublic_key={SECRET}\nerrno=0\n\n".encode(), "EBADMSG"),
        (b"\xff\xfe=\xff\nerrno=0\n\n", None),
        (b"errno=-5\n\n", "EIO"),
        (b"errno=13\n\n", "EACCES"),
    ],
)
def test_nonsense_is_an_error_that_repeats_none_of_it(machine: Machine, answer: bytes, name: str | None) -> None:
    machine.process(answer)
    if name is None:
        assert machine.wg.read("lo").peers == {}
        return
    with pytest.raises(WireGuardError, match=f"lo: {name}: ") as caught:
        machine.wg.read("lo")
    told = repr(caught.value) + repr(caught.value.__cause__)
    assert SECRET[:8] not in told


@given(st.lists(st.text(max_size=40), max_size=6))
def test_random_lines_are_a_value_or_a_value_error(lines: list[str]) -> None:
    try:
        userspace._decode("wg0", "boot:1", lines)
    except ValueError:
        return


def test_changes_as_text(machine: Machine) -> None:
    process = machine.process(b"errno=0\n\n")
    old = PeerConfig(KEY, b"\x01" * 32, (), 25)
    changes = [
        Change(ChangeKind.REMOVE, "lo", PublicKey(b"\x09" * 32), old, None),
        Change(ChangeKind.UPDATE, "lo", KEY, old, old._replace(preshared_key=NO_PRESHARED_KEY)),
        Change(ChangeKind.UPDATE, "lo", KEY, old, old._replace(persistent_keepalive=0)),
    ]
    assert machine.wg.apply("lo", changes) == []
    assert process.requests == [
        (
            f"set=1\npublic_key={'09' * 32}\nremove=true\n"
            f"public_key={'07' * 32}\nupdate_only=true\npreshared_key={'00' * 32}\n"
            f"public_key={'07' * 32}\nupdate_only=true\npersistent_keepalive_interval=0\n\n"
        ).encode()
    ]


def test_refusal_by_a_process_that_does_not_hear_us_out(machine: Machine) -> None:
    machine.process(b"errno=-22\n\n", read_first=False)
    peers = [PeerConfig(PublicKey(n.to_bytes(32)), NO_PRESHARED_KEY, ()) for n in range(3)]
    changes = [Change(ChangeKind.ADD, "lo", each.public_key, None, each) for each in peers]
    assert [each.name for each in machine.wg.apply("lo", changes)] == ["EINVAL"] * 3


def test_public_key_as_wg_computes_it() -> None:
    for private in (secrets.token_bytes(32), bytes([1]) + bytes(31), b"\xff" * 32, b"\x80" * 32):
        text = base64.b64encode(private).decode()
        told = subprocess.run(["wg", "pubkey"], input=text, capture_output=True, text=True, check=True).stdout
        assert base64.b64encode(x25519_public_key(private)).decode() == told.strip()
