"""Dumps of the kernel are read right if they need several messages or if others disturb them.

`wg show` is the witness.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests import namespace
from tests.contract.test_wireguard import wg_show
from tests.wait import until
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PublicKey, encode_key
from wgsyncd.core.network import as_networks, parse_network
from wgsyncd.dataplane.wireguard import dump
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
from wgsyncd.errors import DumpInterrupted

pytestmark = pytest.mark.vm
IFACE = "wg0"


@pytest.fixture
def wg() -> Iterator[LocalWireGuard]:
    with namespace.own_network(), namespace.kernel_link(IFACE):
        local = LocalWireGuard(timeout=120)
        yield local
        rest = [Change(ChangeKind.REMOVE, IFACE, key, each, None) for key, each in configured(local).items()]
        local.apply(IFACE, rest)
        local.close()


def peer(n: int, *ips: str) -> PeerConfig:
    return PeerConfig(PublicKey(n.to_bytes(4) * 8), NO_PRESHARED_KEY, as_networks(map(parse_network, ips)), n % 3)


def add(wanted: PeerConfig) -> Change:
    return Change(ChangeKind.ADD, IFACE, wanted.public_key, None, wanted)


def configured(wg: LocalWireGuard) -> dict[PublicKey, PeerConfig]:
    return {key: state.config for key, state in wg.read(IFACE).peers.items()}


def test_two_thousand_five_hundred_peers(wg: LocalWireGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [peer(n, f"10.1.{n >> 8}.{n & 255}", f"fd00::{n:x}") for n in range(2500)]
    assert wg.apply(IFACE, [add(each) for each in wanted]) == []
    parts = []

    class Counting(dump.Decoder):
        def append(self, data: bytes) -> None:
            parts.append(data)
            super().append(data)

    monkeypatch.setattr(dump, "Decoder", Counting)
    found = configured(wg)
    assert len(parts) > 10
    assert found == wg_show(IFACE) == {each.public_key: each for each in wanted}


def test_this_kernel_sends_peers_in_a_form_that_is_read_in_one_go(
    wg: LocalWireGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a dump takes ten times as long, and nobody notices."""
    wanted = [peer(n, f"10.1.0.{n}") for n in range(1, 9)]
    wg.apply(IFACE, [add(each) for each in wanted])
    for each, endpoint in ((wanted[0], "192.0.2.1:7"), (wanted[1], "[2001:db8::1]:7")):
        namespace.run("wg", "set", IFACE, "peer", encode_key(each.public_key), "endpoint", endpoint)
    with monkeypatch.context() as patch:
        patch.setattr(dump, "decode_peer", None)
        assert configured(wg) == wg_show(IFACE)
    assert len(wg.read(IFACE).peers) == 8


@pytest.mark.parametrize("where", ["first", "last", "between"])
def test_peer_that_is_cut_over_several_messages(wg: LocalWireGuard, where: str) -> None:
    many = [f"10.{8 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32" for n in range(3000)]
    key = PublicKey(b"\x77" * 32)
    small = [peer(n, f"10.1.0.{n}", f"fd00::{n:x}") for n in range(1, 5)]
    before, after = {"first": ([], small), "last": (small, []), "between": (small[:2], small[2:])}[where]
    wg.apply(IFACE, [add(each) for each in before])
    namespace.run(
        "wg", "addconf", IFACE, "/dev/stdin", text=f"[Peer]\nPublicKey={encode_key(key)}\nAllowedIPs={','.join(many)}\n"
    )
    wg.apply(IFACE, [add(each) for each in after])
    found = configured(wg)
    assert len(found[key].allowed_ips) == 3000
    assert found == wg_show(IFACE)


def test_three_thousand_allowed_ips_are_sent_replaced_and_cleared(wg: LocalWireGuard) -> None:
    many = peer(1, *(f"10.8.{n >> 8}.{n & 255}" for n in range(3000)))
    few = many._replace(allowed_ips=many.allowed_ips[::2])
    none = many._replace(allowed_ips=())
    wg.apply(IFACE, [add(peer(2, "10.0.0.2")), add(many), add(peer(3, "10.0.0.3"))])
    for before, after in [(many, few), (few, none), (none, many)]:
        assert wg_show(IFACE)[many.public_key] == before
        wg.apply(IFACE, [Change(ChangeKind.UPDATE, IFACE, many.public_key, before, after)])
        assert configured(wg) == wg_show(IFACE)
    assert wg_show(IFACE)[many.public_key] == many


CHURN = """
import sys, time
from wgsyncd.core.model import Change, ChangeKind, PeerConfig, PublicKey
from wgsyncd.core.network import parse_network
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
wg = LocalWireGuard(120)
peers = [PeerConfig(PublicKey(n.to_bytes(4) * 8), bytes(32), (parse_network("10.2.0.%d" % (n % 250)),))
         for n in range(500_000, 500_200)]
print("ready", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    for peer in peers:
        wg.apply("wg0", [Change(ChangeKind.ADD, "wg0", peer.public_key, None, peer)])
    for peer in peers:
        wg.apply("wg0", [Change(ChangeKind.REMOVE, "wg0", peer.public_key, peer, None)])
"""


def test_dump_during_changes_is_whole_or_refused(wg: LocalWireGuard) -> None:
    """Another process changes peers all the time. A complete dump never lacks a peer that was there throughout."""
    constant = {each.public_key: each for each in (peer(n, f"10.1.{n >> 8}.{n & 255}") for n in range(1500))}
    wg.apply(IFACE, [add(each) for each in constant.values()])
    other = subprocess.Popen([sys.executable, "-c", CHURN], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    refused = whole = 0
    try:
        assert other.stdout.readline() == "ready\n"

        def torn_and_whole() -> bool:
            nonlocal refused, whole
            try:
                found = configured(wg)
            except DumpInterrupted:
                refused += 1
            else:
                whole += 1
                assert {key: each for key, each in found.items() if key in constant} == constant
            return wg.retries >= 5

        until(torn_and_whole, 50, "torn dumps", every=0)
    finally:
        other.terminate()
        other.wait(60)
        other.stdout.close()
    began = time.monotonic()
    after = configured(wg)
    assert time.monotonic() - began < 60
    assert after == wg_show(IFACE)
    assert refused + whole > 0
