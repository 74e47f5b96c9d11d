"""Rows and desired peers share the keys and values of live peers in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.samples import NOW, POLICY, SITES, actual, address, dump, key, peer, psk, row, text, wants
from wgsyncd.core.model import DeviceRow, PublicKey, encode_key
from wgsyncd.core.peers.desired import build_desired, share_keys
from wgsyncd.core.peers.validate import DesiredPeer


def test_keys_of_a_row_and_its_live_peer_are_in_memory_once() -> None:
    def copy(secret: bytes) -> bytes:
        return bytes(bytearray(secret))

    (one, other), found = (row(5, public_key=copy(key(5)), preshared_key=copy(psk(5))), row(6)), dump(
        peer(5, preshared_key=psk(5)), peer(6)
    )  # fmt: skip
    before = [replace(one), replace(other)]
    live_peer = found.peers[key(5)].config
    assert one.public_key is not live_peer.public_key
    want = wants([one, other], actual(found)).peers["wg0"][key(5)]
    assert want.config is live_peer
    assert one.public_key is live_peer.public_key
    assert one.preshared_key is live_peer.preshared_key
    assert [one, other] == before, "one with a text keeps its text"


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


def test_rows_take_the_keys_of_live_peers_on_any_interface() -> None:
    found = [dump(peer(5, preshared_key=psk(5))), dump(peer(6), name="wg1")]
    rows = [
        row(5, public_key=bytes(bytearray(key(5))), preshared_key=bytes(bytearray(psk(5)))),
        row(6, public_key=bytes(bytearray(key(6)))),
        row(7, public_key=key(7)),
        row(8, public_key="no key"),
    ]
    before = [replace(one) for one in rows]
    share_keys(rows, actual(*found))
    assert rows == before
    peers = [found[0].peers[key(5)].config, found[1].peers[key(6)].config]
    assert all(one.public_key is its.public_key for one, its in zip(rows, peers, strict=False))
    assert rows[0].preshared_key is peers[0].preshared_key
