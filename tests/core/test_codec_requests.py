"""The kernel codec writes requests that the kernel accepts."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import netlink_server
from tests.wire_peers import key, peer, peers
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig
from wgsyncd.core.network import Network, as_networks, parse_host
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import codec


def change(before: PeerConfig | None, after: PeerConfig | None) -> Change:
    kind = ChangeKind.ADD if before is None else ChangeKind.REMOVE if after is None else ChangeKind.UPDATE
    some = after or before
    assert some is not None
    return Change(kind, "wg0", some.public_key, before, after)


def sent(batch: codec.Batch) -> list[dict[int, bytes]]:
    """Returns the peers of a batch. Each peer is a dictionary of its attributes by number."""
    found = []
    for payload in batch.payloads:
        assert payload[:4] == bytes([1, 1, 0, 0])  # the command is WG_CMD_SET_DEVICE, version 1
        device = dict(netlink_server.parse(payload[4:]))
        assert set(device) == {2, 8}  # only the name and the peers are sent, never WGDEVICE_A_FLAGS
        assert device[2] == b"wg0\0"
        for _, raw in netlink_server.parse(device[8]):
            attributes = list(netlink_server.parse(raw))
            assert len(dict(attributes)) == len(attributes)
            found.append(dict(attributes))
    return found


def ips_of(attributes: dict[int, bytes]) -> list[Network]:
    found = []
    for _, raw in netlink_server.parse(attributes.get(9, b"")):
        values = dict(netlink_server.parse(raw))
        assert struct.unpack("=H", values[1])[0] == (2 if len(values[2]) == 4 else 10)
        found.append(Network(values[2], values[3][0]))
    return found


REMOVE, REPLACE_IPS, UPDATE_ONLY = 1, 2, 4
PSK, OTHER = b"\x01" * 32, b"\x02" * 32
A, B = "10.0.0.1", "10.0.0.2"


@pytest.mark.parametrize(
    ("before", "after", "flags", "attributes"),
    [
        (None, peer(1, A), REPLACE_IPS, {9}),
        (None, peer(1, A, psk=PSK, keepalive=25), REPLACE_IPS, {2, 5, 9}),
        (peer(1, A), None, REMOVE, set()),
        (peer(1, A, psk=PSK), peer(1, A, psk=OTHER), UPDATE_ONLY, {2}),
        (peer(1, A), peer(1, A, psk=PSK), UPDATE_ONLY, {2}),
        (peer(1, A, psk=PSK), peer(1, A), UPDATE_ONLY, {2}),
        (peer(1, A), peer(1, B), UPDATE_ONLY | REPLACE_IPS, {9}),
        (peer(1, A), peer(1), UPDATE_ONLY | REPLACE_IPS, set()),
        (peer(1, A), peer(1, A, keepalive=25), UPDATE_ONLY, {5}),
        (peer(1, A, keepalive=25), peer(1, A), UPDATE_ONLY, {5}),
        (peer(1, A, psk=PSK), peer(1, B, psk=PSK), UPDATE_ONLY | REPLACE_IPS, {9}),
    ],
)
def test_only_what_differs_is_sent(
    before: PeerConfig | None, after: PeerConfig | None, flags: int, attributes: set[int]
) -> None:
    (batch,) = codec.set_peers("wg0", [change(before, after)])
    (found,) = sent(batch)
    assert set(found) == {1, 3} | attributes
    assert found[1] == key(1)
    assert struct.unpack("=I", found[3])[0] == flags
    if after is not None:
        assert found.get(2, after.preshared_key) == after.preshared_key
        assert (
            struct.unpack("=H", found.get(5, struct.pack("=H", after.persistent_keepalive)))[0]
            == after.persistent_keepalive
        )
        assert 9 not in found or set(ips_of(found)) == set(after.allowed_ips)


@given(st.lists(peers, max_size=30, unique_by=lambda p: p.public_key), st.integers(400, 3000))
def test_batches_hold_all_changes_in_order_within_their_bound(wanted: list[PeerConfig], limit: int) -> None:
    changes = [change(None, each) for each in wanted]
    batches = list(codec.set_peers("wg0", changes, limit))
    assert [each for batch in batches for each in batch.changes] == changes
    got: dict[bytes, set[Network]] = {}
    for batch in batches:
        assert len(batch.payloads) == 1 or len(batch.changes) == 1
        assert all(16 + len(payload) <= limit for payload in batch.payloads)
        for attributes in sent(batch):
            first = attributes[1] not in got
            assert struct.unpack("=I", attributes[3])[0] == (REPLACE_IPS if first else UPDATE_ONLY)
            got.setdefault(attributes[1], set()).update(ips_of(attributes))
    assert got == {each.public_key: set(each.allowed_ips) for each in wanted}


def test_peer_with_three_thousand_allowed_ips_replaces_once_and_then_adds() -> None:
    many = peer(1, *(f"10.0.{n >> 8}.{n & 255}" for n in range(3000)), psk=PSK)
    small = [change(None, peer(n, f"10.9.0.{n}")) for n in (2, 3)]
    batches = list(codec.set_peers("wg0", [small[0], change(None, many), small[1]]))
    assert [len(batch.changes) for batch in batches] == [1, 1, 1]
    parts = sent(batches[1])
    assert len(parts) > 2
    assert [2 in part for part in parts] == [True] + [False] * (len(parts) - 1)
    assert {ip for part in parts for ip in ips_of(part)} == set(many.allowed_ips)
    assert all(len(payload) <= codec.MESSAGE_BYTES for payload in batches[1].payloads)


def test_no_changes_no_messages() -> None:
    assert list(codec.set_peers("wg0", [])) == []


def test_ten_thousand_adds_fit_in_few_messages() -> None:
    changes = [change(None, peer(n, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")) for n in range(10_000)]
    random.Random(1).shuffle(changes)
    batches = list(codec.set_peers("wg0", changes))
    assert len(batches) < 45
    assert sum(len(batch.changes) for batch in batches) == 10_000


def test_a_host_route_is_sent_as_such() -> None:
    wanted = PeerConfig(key(1), NO_PRESHARED_KEY, as_networks((parse_host("10.0.0.1"), parse_host("fd00::1"))))
    (batch,) = codec.set_peers("wg0", [change(None, wanted)])
    assert {ip.prefixlen for ip in ips_of(sent(batch)[0])} == {32, 128}


def test_device_requests() -> None:
    assert codec.get_device("wg0") == bytes([0, 1, 0, 0]) + netlink_server.attr(2, b"wg0\0")
    made = dict(netlink_server.parse(codec.set_device("wg0", private_key=PSK, listen_port=51820)[4:]))
    assert made == {2: b"wg0\0", 3: PSK, 6: struct.pack("=H", 51820)}
    with pytest.raises(ValueError, match="not 32 bytes"):
        codec.set_device("wg0", private_key=b"short", listen_port=0)


def test_family_is_asked_for_by_name_and_read_from_the_answer() -> None:
    assert netlink.get_family("wireguard") == bytes([3, 1, 0, 0]) + netlink_server.attr(2, b"wireguard\0")
    answer = (
        bytes([1, 2, 0, 0]) + netlink_server.attr(2, b"wireguard\0") + netlink_server.attr(1, struct.pack("=H", 33))
    )
    assert netlink.decode_family(answer) == 33
    with pytest.raises(ValueError, match="no family id"):
        netlink.decode_family(answer[:20])
