"""The packet filter judges what comes out of a real WireGuard tunnel, by wireguard-go."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.namespace import own_network, run, wireguard_go
from tests.policing import device, policy, tables
from tests.routed import SECONDS, Gateway, Place, gateway
from tests.wait import until

CAROL = device(5, "10.9.0.5", interface="wg1")
OPEN = tables(policy(1, "allow", "10.1.0.0/16", to=[("device", "dev-5")]))


@contextmanager
def in_place(place: Place, name: str) -> Iterator[None]:
    """A userspace interface of wireguard-go in another network namespace."""
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


@pytest.fixture
def tunnel(tmp_path: Path) -> Iterator[tuple[Gateway, Place, str]]:
    """A gateway, a client behind a tunnel, and the client's public key. The tunnel has the name of the second one."""
    with ExitStack() as stack:
        stack.enter_context(own_network())  # for /run/wireguard
        router = stack.enter_context(gateway())
        carol = Place()
        router.link("under0", carol, ("198.51.100.1/24", "fd51::1/64"), ("198.51.100.2/24", "fd51::2/64"))
        run("ip", "link", "del", "wg1")
        stack.enter_context(wireguard_go("wg1"))
        stack.enter_context(in_place(carol, "tun5"))
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
