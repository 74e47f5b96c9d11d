"""Desired peers use the configurations of live peers and of earlier decisions, so that memory holds them once."""

from __future__ import annotations

from collections.abc import Mapping

from tests.samples import NOW, POLICY, SITES, actual, address, dump, key, peer, psk, row, text, wants
from wgsyncd.core.model import DeviceRow, PublicKey, encode_key
from wgsyncd.core.peers.desired import build_desired
from wgsyncd.core.peers.validate import DesiredPeer


def test_a_peer_that_is_as_desired_is_in_memory_once_and_its_row_stays_unchanged() -> None:
    one, found = row(5, public_key=bytes(bytearray(key(5)))), dump(peer(5), peer(6))
    own_key = one.public_key
    want = wants([one], actual(found)).peers["wg0"][key(5)]
    assert want.config is found.peers[key(5)].config
    assert want.row is one
    assert one.public_key is own_key


def test_the_peer_of_a_row_that_changed_otherwise_is_in_memory_once() -> None:
    def sound(
        one: DeviceRow, before: Mapping[str, Mapping[PublicKey, DesiredPeer]]
    ) -> Mapping[str, Mapping[PublicKey, DesiredPeer]]:
        return build_desired([one], SITES, POLICY, {}, NOW, previous=before).peers

    before = sound(row(5, has_no_usage=True), {})
    after, was = sound(row(5), before)["wg0"][key(5)], before["wg0"][key(5)]
    assert after.row == row(5)
    assert after.config is was.config
    assert after.digest is was.digest
    for other in (row(5, preshared_key=encode_key(psk(5))), row(5, public_key=text(6)), row(5, address=address(6))):
        changed = sound(other, before)
        assert changed == sound(other, {})
        assert all(one.config != was.config for one in changed["wg0"].values())
