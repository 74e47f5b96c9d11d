"""Whatever another program changes about any form of peer, the next dump shows it, and nothing else ends the rest."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import namespace
from tests.contract.test_wireguard import wg_show
from wgsyncd.core.model import InterfaceState, PublicKey, encode_key
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
from wgsyncd.engine.rest import _is_configured_as

IFACE = "wg0"
STEPS = 60


@pytest.fixture(params=["userspace", pytest.param("kernel", marks=pytest.mark.vm)])
def read(request: pytest.FixtureRequest) -> Iterator[Callable[[], InterfaceState]]:
    """Reads as the daemon does: with one object for the whole life, which remembers what it decoded."""
    side = namespace.wireguard_go(IFACE) if request.param == "userspace" else namespace.kernel_link(IFACE)
    with namespace.own_network(), side:
        wg = LocalWireGuard(timeout=120, endpoints=False)
        assert wg.read(IFACE).kind == request.param
        yield lambda: wg.read(IFACE)
        wg.close()


def public(number: int) -> str:
    return encode_key(number.to_bytes(4) * 8)


class Hand:
    """Another program, which changes peers with `wg set` alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, *words: str) -> None:
        namespace.run("wg", "set", IFACE, *words)

    def secret(self, number: int) -> str:
        """A file with a key, or an empty one for none."""
        file = self._folder / f"secret{number}"
        file.write_text(public(number) + "\n" if number else "")
        return str(file)


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path)


def addresses(rng: random.Random, number: int) -> str:
    """Every form: none, one of each family, both, networks, the whole internet, and so many that messages are cut."""
    v4, v6 = f"10.{number >> 8 & 255}.{number & 255}.{rng.randrange(1, 255)}", f"fd00::{number:x}"
    many = ",".join(f"172.{16 + number % 16}.{one}.0/24" for one in range(rng.randrange(2, 200)))
    wide = rng.choice(("0.0.0.0/0", "::/0", "0.0.0.0/0,::/0", f"fd{number & 255:02x}::/16"))
    return rng.choice(("", v4, v4, v4, v6, f"{v4},{v6}", f"{v4}/{rng.randrange(33)}", f"{v4},{many}", wide))


def change(rng: random.Random, number: int, hand: Hand) -> list[str]:
    """The words of `wg set` that change one or several attributes of one peer, or make or remove it."""
    words = ["peer", public(number)]
    if rng.random() < 0.15:
        return [*words, "remove"]
    if rng.random() < 0.5:
        words += ["preshared-key", hand.secret(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.3:
        port = rng.randrange(1, 65536)
        words += ["endpoint", rng.choice((f"192.0.2.{port % 250 + 1}:{port}", f"[2001:db8::{port:x}]:{port}"))]
    if rng.random() < 0.3:
        words += ["persistent-keepalive", str(rng.choice((0, 1, 25, 65535)))]
    return [*words, "allowed-ips", addresses(rng, number)] if rng.random() < 0.5 else words


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fuzz_of_foreign_hands(read: Callable[[], InterfaceState], hand: Hand, seed: int) -> None:
    """`wg show`, and a reader that remembers nothing, are the witnesses."""
    rng, before, shown = random.Random(seed), read(), wg_show(IFACE)
    rests = 0
    for _ in range(STEPS):
        words = [word for _ in range(rng.choice((0, 1, 1, 2, 5))) for word in change(rng, rng.randrange(1, 30), hand)]
        if words:
            hand.set(*words)
        after, now = read(), wg_show(IFACE)
        assert {key: one.config for key, one in after.peers.items()} == now
        fresh = LocalWireGuard(timeout=120, endpoints=False)
        witness = fresh.read(IFACE)
        fresh.close()
        assert _is_configured_as(after, witness)
        assert _is_configured_as(before, after) == (shown == now)
        rests += shown == now
        before, shown = after, now
    assert 0 < rests < STEPS


ATTRIBUTES: dict[str, Callable[[Hand], None]] = {
    "preshared key": lambda hand: hand.set("peer", public(1), "preshared-key", hand.secret(9)),
    "no preshared key": lambda hand: hand.set("peer", public(1), "preshared-key", hand.secret(0)),
    "a preshared key where none was": lambda hand: hand.set("peer", public(2), "preshared-key", hand.secret(9)),
    "keepalive": lambda hand: hand.set("peer", public(1), "persistent-keepalive", "7"),
    "no keepalive": lambda hand: hand.set("peer", public(1), "persistent-keepalive", "0"),
    "another address": lambda hand: hand.set("peer", public(1), "allowed-ips", "10.0.0.9/32,fd00::1/128"),
    "another IPv6 address": lambda hand: hand.set("peer", public(1), "allowed-ips", "10.0.0.1/32,fd00::9/128"),
    "another prefix": lambda hand: hand.set("peer", public(1), "allowed-ips", "10.0.0.1/31,fd00::1/128"),
    "another IPv6 prefix": lambda hand: hand.set("peer", public(1), "allowed-ips", "10.0.0.1/32,fd00::1/127"),
    "one address more": lambda hand: hand.set("peer", public(1), "allowed-ips", "10.0.0.1/32,fd00::1/128,10.0.0.9/32"),
    "one address less": lambda hand: hand.set("peer", public(1), "allowed-ips", "fd00::1/128"),
    "no address": lambda hand: hand.set("peer", public(1), "allowed-ips", ""),
    "the whole internet": lambda hand: hand.set("peer", public(1), "allowed-ips", "0.0.0.0/0"),
    "an address that a stranger took": lambda hand: hand.set("peer", public(8), "allowed-ips", "10.0.0.1/32"),
    "an address that another peer took": lambda hand: hand.set("peer", public(2), "allowed-ips", "10.0.0.1/32"),
    "a stranger": lambda hand: hand.set("peer", public(8)),
    "a peer is gone": lambda hand: hand.set("peer", public(2), "remove"),
    "the port": lambda hand: hand.set("listen-port", "4711"),
    "the private key": lambda hand: hand.set("private-key", hand.secret(9)),
    "no private key": lambda hand: hand.set("private-key", hand.secret(0)),
}  # fmt: skip


FORMS = {"one IPv4 address": "10.0.0.1/32", "IPv6": "fd00::1/128", "both": "10.0.0.1/32,fd00::1/128",
         "networks": "10.0.0.0/30,10.7.0.0/16"}  # fmt: skip
OF_BOTH = [one for one in ATTRIBUTES if ("address" in one and one != "no address") or "prefix" in one]
CASES = [(one, form) for one in ATTRIBUTES for form in FORMS if one not in OF_BOTH or form == "both"]


@pytest.mark.parametrize(("attribute", "form"), CASES)
def test_each_attribute_that_a_foreign_hand_changes_is_seen(
    read: Callable[[], InterfaceState], hand: Hand, attribute: str, form: str
) -> None:
    """wgsyncd owns the peers' attributes. Of the interface it only looks at the key and the port."""
    hand.set("listen-port", "4710", "private-key", hand.secret(7))
    hand.set("peer", public(1), "preshared-key", hand.secret(3), "persistent-keepalive", "25", "allowed-ips",
             FORMS[form], "peer", public(2), "allowed-ips", "10.0.0.2/32")  # fmt: skip
    before = read()
    assert _is_configured_as(before, read()), "nothing has changed"
    ATTRIBUTES[attribute](hand)
    after = read()
    assert not _is_configured_as(before, after)
    assert {key: one.config for key, one in after.peers.items()} == wg_show(IFACE)


def test_endpoints_and_the_mark_are_not_wgsyncds(read: Callable[[], InterfaceState], hand: Hand) -> None:
    """An endpoint follows its client. The mark of packets is the admin's."""
    hand.set("peer", public(1), "allowed-ips", "10.0.0.1/32")
    before = read()
    hand.set("fwmark", "7", "peer", public(1), "endpoint", "192.0.2.1:7")
    assert _is_configured_as(before, read())
    assert set(read().peers) == {PublicKey((1).to_bytes(4) * 8)}
