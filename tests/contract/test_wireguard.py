"""Every WireGuard behaves the same: a fake, a userspace one and the kernel's, where `wg show` agrees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests import namespace
from tests.fakes import FakeWireGuard
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PublicKey, decode_key, encode_key
from wgsyncd.core.network import Network, as_networks, parse_network
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
from wgsyncd.errors import InterfaceMissing
from wgsyncd.ports import WireGuard

IFACE = "wg0"
PSK, OTHER_PSK = b"\x01" * 32, b"\x02" * 32


@dataclass
class Real:
    """Holds one WireGuard with one interface, and a witness that shows its peers."""

    wg: WireGuard
    kind: str

    def peers(self) -> dict[PublicKey, PeerConfig]:
        if isinstance(self.wg, FakeWireGuard):
            return self.wg.peers(IFACE)
        return wg_show(IFACE)

    def delete(self) -> None:
        if isinstance(self.wg, FakeWireGuard):
            self.wg.delete(IFACE)
        else:
            namespace.delete_link(IFACE)

    def apply(self, *changes: Change) -> None:
        assert self.wg.apply(IFACE, changes) == []

    def holds(self, *wanted: PeerConfig) -> None:
        """Asserts that the witness and a read both show exactly these peers."""
        assert self.peers() == {each.public_key: each for each in wanted}
        found = self.wg.read(IFACE)
        assert {key: state.config for key, state in found.peers.items()} == self.peers()


def wg_show(interface: str) -> dict[PublicKey, PeerConfig]:
    found = {}
    for line in namespace.run("wg", "show", interface, "dump").splitlines()[1:]:
        key, psk, _endpoint, ips, _handshake, _rx, _tx, keepalive = line.split("\t")
        public_key = PublicKey(decode_key(key))
        found[public_key] = PeerConfig(
            public_key,
            NO_PRESHARED_KEY if psk == "(none)" else decode_key(psk),
            () if ips == "(none)" else as_networks(map(parse_network, ips.split(","))),
            0 if keepalive == "off" else int(keepalive),
        )
    return found


@pytest.fixture(params=["fake", "userspace", pytest.param("kernel", marks=pytest.mark.vm)])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    kind: str = request.param
    if kind == "fake":
        yield Real(FakeWireGuard(IFACE), kind)
        return
    with ExitStack() as stack:
        stack.enter_context(namespace.own_network())
        stack.enter_context(namespace.wireguard_go(IFACE) if kind == "userspace" else namespace.kernel_link(IFACE))
        wg = LocalWireGuard(timeout=60)
        stack.callback(wg.close)
        assert wg.read(IFACE).kind == kind
        yield Real(wg, kind)


def peer(n: int, *ips: str, psk: bytes = NO_PRESHARED_KEY, keepalive: int = 0) -> PeerConfig:
    return PeerConfig(PublicKey(n.to_bytes(4) * 8), psk, as_networks(map(parse_network, ips)), keepalive)


def change(before: PeerConfig | None, after: PeerConfig | None) -> Change:
    kind = ChangeKind.ADD if before is None else ChangeKind.REMOVE if after is None else ChangeKind.UPDATE
    some = after or before
    assert some is not None
    return Change(kind, IFACE, some.public_key, before, after)


def add(*wanted: PeerConfig) -> list[Change]:
    return [change(None, each) for each in wanted]


A, B, C = peer(1, "10.0.0.1/32"), peer(2, "10.0.0.2/32"), peer(3, "10.0.0.3/32")


def test_added_peers_are_all_there_with_counters_at_nothing(real: Real) -> None:
    wanted = [A, peer(2, "10.0.0.2/32", "fd00::2/128", psk=PSK, keepalive=25), peer(3, "10.3.0.0/24", "fd00:3::/64")]
    real.apply(*add(*wanted, peer(4)))
    real.holds(*wanted, peer(4))
    for state in real.wg.read(IFACE).peers.values():
        assert (state.counters, state.latest_handshake, state.endpoint) == ((0, 0), 0, None)


def test_preshared_key_is_set_changed_and_cleared(real: Real) -> None:
    with_psk, with_other = A._replace(preshared_key=PSK), A._replace(preshared_key=OTHER_PSK)
    real.apply(*add(A))
    for before, after in [(A, with_psk), (with_psk, with_other), (with_other, A)]:
        real.apply(change(before, after))
        real.holds(after)


def test_other_changes_leave_the_preshared_key(real: Real) -> None:
    before = A._replace(preshared_key=PSK)
    after = before._replace(allowed_ips=B.allowed_ips, persistent_keepalive=10)
    real.apply(*add(before))
    real.apply(change(before, after))
    real.holds(after)


def test_keepalive_is_set_and_cleared(real: Real) -> None:
    on = A._replace(persistent_keepalive=25)
    real.apply(*add(A))
    real.apply(change(A, on))
    real.holds(on)
    real.apply(change(on, A))
    real.holds(A)


def test_address_moves_to_another_peer(real: Real) -> None:
    real.apply(*add(A, B))
    left, right = A._replace(allowed_ips=C.allowed_ips), B._replace(allowed_ips=A.allowed_ips)
    real.apply(change(A, left), change(B, right))
    real.holds(left, right)


def test_last_writer_has_the_address(real: Real) -> None:
    real.apply(*add(A, B))
    real.apply(change(A, A._replace(allowed_ips=B.allowed_ips)))
    real.holds(A._replace(allowed_ips=B.allowed_ips), B._replace(allowed_ips=()))


def test_two_peers_swap_addresses(real: Real) -> None:
    real.apply(*add(A, B))
    left, right = A._replace(allowed_ips=B.allowed_ips), B._replace(allowed_ips=A.allowed_ips)
    real.apply(change(A, left), change(B, right))
    real.holds(left, right)


def test_three_peers_pass_addresses_round(real: Real) -> None:
    real.apply(*add(A, B, C))
    turned = [
        A._replace(allowed_ips=B.allowed_ips),
        B._replace(allowed_ips=C.allowed_ips),
        C._replace(allowed_ips=A.allowed_ips),
    ]
    real.apply(*map(change, (A, B, C), turned))
    real.holds(*turned)


def test_removed_peer_gives_its_address_to_an_added_one(real: Real) -> None:
    real.apply(*add(A, B))
    heir = C._replace(allowed_ips=A.allowed_ips)
    real.apply(change(A, None), change(None, heir))
    real.holds(B, heir)


def test_peer_loses_all_its_addresses(real: Real) -> None:
    real.apply(*add(A))
    bare = A._replace(allowed_ips=())
    real.apply(change(A, bare))
    real.holds(bare)


def test_update_or_removal_of_an_absent_peer_does_nothing(real: Real) -> None:
    real.apply(*add(B))
    real.apply(change(A, A._replace(preshared_key=PSK)), change(A, A._replace(allowed_ips=B.allowed_ips)))
    real.apply(change(C, None))
    real.holds(B)


def test_one_bad_change_does_not_sink_the_others(real: Real) -> None:
    bad = peer(9)._replace(allowed_ips=(Network(bytes(4), 33),))
    changes = [change(A, None), *add(B, bad, C)]
    real.apply(*add(A))
    failed = real.wg.apply(IFACE, changes)
    assert [(each.change, each.name) for each in failed] == [(changes[2], "EINVAL")]
    assert failed[0].text
    real.holds(B, C, peer(9))  # the peer itself was created before its address was refused


def test_bad_change_alone(real: Real) -> None:
    bad = change(None, peer(9)._replace(allowed_ips=(Network(bytes(16), 129),)))
    (failed,) = real.wg.apply(IFACE, [bad])
    assert (failed.change, failed.name) == (bad, "EINVAL")


def test_changes_made_twice_are_made_once(real: Real) -> None:
    changes = [*add(A, B), change(C, None), change(A, A._replace(preshared_key=PSK))]
    real.apply(*changes)
    real.apply(*changes)
    real.holds(A._replace(preshared_key=PSK), B)


def test_no_changes(real: Real) -> None:
    real.apply()
    real.holds()


def test_unchanged_peers_are_not_touched(real: Real) -> None:
    real.apply(*add(A, B, C))
    if isinstance(real.wg, FakeWireGuard):
        real.wg.handshake(IFACE, B.public_key, 1_700_000_000_000_000_000)
        real.wg.traffic(IFACE, B.public_key, rx=10, tx=20)
    else:
        namespace.run("wg", "set", IFACE, "peer", encode_key(B.public_key), "endpoint", "[2001:db8::5]:1234")
    before = real.wg.read(IFACE)
    real.apply(change(A, A._replace(preshared_key=PSK)), change(C, None))
    after = real.wg.read(IFACE)
    assert after.peers[B.public_key] == before.peers[B.public_key]
    assert after.peers[B.public_key].endpoint in ("192.0.2.1:1024", "[2001:db8::5]:1234")
    assert after.epoch == before.epoch
    if isinstance(real.wg, FakeWireGuard):
        assert real.wg.touched == {A.public_key: 2, B.public_key: 1, C.public_key: 2}


def test_many_peers_in_one_apply(real: Real) -> None:
    count = {"fake": 300, "userspace": 300, "kernel": 2500}[real.kind]
    wanted = [
        peer(n, f"10.1.{n >> 8}.{n & 255}/32", f"fd00::{n:x}/128", psk=n.to_bytes(4) * 8) for n in range(1, count + 1)
    ]
    real.apply(*add(*wanted))
    real.holds(*wanted)
    real.apply(*(change(each, None) for each in wanted[1:]))
    real.holds(wanted[0])


def test_interface_that_is_missing(real: Real) -> None:
    with pytest.raises(InterfaceMissing, match="wg7: ENODEV"):
        real.wg.read("wg7")
    with pytest.raises(InterfaceMissing, match="wg7: ENODEV"):
        real.wg.apply("wg7", add(A))


def test_interface_deleted_between_read_and_apply(real: Real) -> None:
    real.apply(*add(A))
    real.wg.read(IFACE)
    real.delete()
    with pytest.raises(InterfaceMissing, match="ENODEV"):
        real.wg.apply(IFACE, add(B))
    with pytest.raises(InterfaceMissing, match="ENODEV"):
        real.wg.read(IFACE)


def test_interface_made_again_has_another_epoch(real: Real) -> None:
    real.apply(*add(A))
    before = real.wg.read(IFACE)
    real.delete()
    with ExitStack() as stack:
        if isinstance(real.wg, FakeWireGuard):
            real.wg.add_interface(IFACE)
        elif real.kind == "userspace":
            stack.enter_context(namespace.wireguard_go(IFACE))
        else:
            stack.enter_context(namespace.kernel_link(IFACE))
        after = real.wg.read(IFACE)
    assert after.epoch != before.epoch
    assert after.epoch.rpartition(":")[0] == before.epoch.rpartition(":")[0]
    assert after.peers == {}


def test_interface_tells_its_key_and_port(real: Real) -> None:
    if isinstance(real.wg, FakeWireGuard):
        real.wg.add_interface("wg1", public_key=A.public_key, listen_port=5555)
        found = real.wg.read("wg1")
        assert (found.public_key, found.listen_port) == (A.public_key, 5555)
        return
    assert real.wg.read(IFACE).public_key is None
    private = namespace.run("wg", "genkey")
    namespace.run("wg", "set", IFACE, "listen-port", "5555", "private-key", "/dev/stdin", text=private)
    found = real.wg.read(IFACE)
    assert found.listen_port == 5555
    assert found.public_key is not None
    assert encode_key(found.public_key) == namespace.run("wg", "pubkey", text=private).strip()


def test_own_key_as_a_peer_is_ignored_without_a_word(real: Real) -> None:
    if isinstance(real.wg, FakeWireGuard):
        real.delete()
        real.wg.add_interface(IFACE, public_key=A.public_key)
        own = A.public_key
    else:
        private = namespace.run("wg", "genkey")
        namespace.run("wg", "set", IFACE, "private-key", "/dev/stdin", text=private)
        own = PublicKey(decode_key(namespace.run("wg", "pubkey", text=private).strip()))
    real.apply(*add(A._replace(public_key=own), B))
    real.holds(B)
