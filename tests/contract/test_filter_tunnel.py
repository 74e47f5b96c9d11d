"""The packet filter judges what comes out of a real WireGuard tunnel, by wireguard-go and by the kernel."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.namespace import kernel_link, own_network, run, wireguard_go
from tests.policing import device, policy, tables
from tests.routed import SECONDS, Gateway, Place, gateway, waiting
from tests.wait import until

CAROL = device(5, "10.9.0.5", interface="wg1")
OF_CAROL = [("device", "dev-5")]
OPEN = tables(policy(1, "allow", "10.1.0.0/16", to=OF_CAROL))


@contextmanager
def in_place(place: Place, name: str, kind: str) -> Iterator[None]:
    """A WireGuard interface in another network namespace, which ends with the namespace if it is the kernel's."""
    if kind == "kernel":
        place.run("ip", "link", "add", name, "type", "wireguard")
        yield
        return
    command = ("nsenter", f"--net={place.path}", "wireguard-go", "-f", name)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: Path(f"/run/wireguard/{name}.sock").exists() or process.poll(), SECONDS, f"socket of {name}")
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


def keys(folder: Path, name: str) -> tuple[str, str]:
    """The file of a new private key, and the public key."""
    private = run("wg", "genkey")
    path = folder / name
    path.write_text(private)
    return str(path), run("wg", "pubkey", text=private).strip()


@pytest.fixture(params=["userspace", pytest.param("kernel", marks=pytest.mark.vm)])
def kind(request: pytest.FixtureRequest) -> str:
    """Whose WireGuard it is. The kernel's is Debian's, and so is its packet filter."""
    return str(request.param)


@pytest.fixture
def tunnel(tmp_path: Path, kind: str) -> Iterator[tuple[Gateway, Place, str]]:
    """A gateway, a client behind a tunnel, and the client's public key. The tunnel has the name of the second one."""
    with ExitStack() as stack:
        stack.enter_context(own_network())  # for /run/wireguard
        router = stack.enter_context(gateway())
        carol = Place()
        router.link("under0", carol, ("198.51.100.1/24", "fd51::1/64"), ("198.51.100.2/24", "fd51::2/64"))
        run("ip", "link", "del", "wg1")
        stack.enter_context(kernel_link("wg1") if kind == "kernel" else wireguard_go("wg1"))
        stack.enter_context(in_place(carol, "tun5", kind))
        ours, our_key = keys(tmp_path, "ours")
        theirs, their_key = keys(tmp_path, "theirs")
        run("wg", "set", "wg1", "listen-port", "51820", "private-key", ours, "peer", their_key, "allowed-ips", "10.9.0.5/32")  # fmt: skip
        run("ip", "address", "add", "10.9.0.1/24", "dev", "wg1")
        run("ip", "link", "set", "wg1", "up")
        carol.run("wg", "set", "tun5", "private-key", theirs, "peer", our_key, "endpoint", "198.51.100.1:51820", "allowed-ips", "10.0.0.0/8")  # fmt: skip
        carol.run("ip", "address", "add", "10.9.0.5/32", "dev", "tun5")
        carol.run("ip", "link", "set", "tun5", "up")
        carol.run("ip", "route", "add", "10.0.0.0/8", "dev", "tun5")
        router.filter.start()
        yield router, carol, their_key


def test_a_tunnel_has_the_access_of_its_device_until_it_ends(tunnel: tuple[Gateway, Place, str]) -> None:
    router, carol, public_key = tunnel
    assert not router.reaches(carol, "10.9.0.5", "10.1.0.1"), "a new table refuses everything"
    assert run("wg", "show", "wg1", "latest-handshakes").split()[1] != "0", "the tunnel works"
    router.cycle([CAROL], OPEN)
    assert not router.reaches(carol, "10.9.0.5", "10.2.0.1")
    one, other = router.socket(carol, "10.9.0.5"), router.socket(router.server, "10.1.0.1")
    assert router.passes(one, other, "10.1.0.1") and router.passes(other, one, "10.9.0.5")
    router.cycle([CAROL])
    assert not router.passes(one, other, "10.1.0.1") and not router.passes(other, one, "10.9.0.5")
    router.cycle([CAROL], OPEN)
    assert router.passes(other, one, "10.9.0.5")
    router.cycle([], OPEN, between=lambda: run("wg", "set", "wg1", "peer", public_key, "remove"))
    assert not router.passes(other, one, "10.9.0.5")


def test_priority_decides_in_a_tunnel_also_after_somebody_flushed_all_rules(tunnel: tuple[Gateway, Place, str]) -> None:
    router, carol, _ = tunnel
    deny = policy(2, "deny", "10.1.0.0/16", to=OF_CAROL, priority=10)
    first = policy(3, "allow", "10.1.0.1/32", to=OF_CAROL, priority=1)
    router.cycle([CAROL], tables(*OPEN.policies, deny, first))
    for _ in range(2):
        assert router.reaches(carol, "10.9.0.5", "10.1.0.1")
        assert not router.reaches(carol, "10.9.0.5", "10.1.0.53")
        router.nft.run("flush ruleset\n")
        until(router.filter.mend, SECONDS, "restored")
    router.cycle([CAROL], tables(*OPEN.policies, deny))
    assert not router.reaches(carol, "10.9.0.5", "10.1.0.1")


@pytest.mark.parametrize("kind", ["userspace"], indirect=True)
def test_a_stream_of_tcp_in_a_tunnel_ends_with_its_access(tunnel: tuple[Gateway, Place, str]) -> None:
    router, carol, _ = tunnel
    router.cycle([CAROL], OPEN)
    listener = router.socket(router.server, "10.1.0.1", kind=socket.SOCK_STREAM)
    listener.listen()
    client = router.socket(carol, "10.9.0.5", kind=socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    with listener.accept()[0] as server:
        server.sendall(b"first")
        assert client.recv(100) == b"first"
        router.cycle([CAROL])
        refused = router.refused()
        server.sendall(b"second")
        until(lambda: router.refused() > refused + 1, SECONDS, "the server tries it again")
        assert not waiting(client)
