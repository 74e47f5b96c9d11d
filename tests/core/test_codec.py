"""The kernel codec reads every form of a dump and writes requests that the kernel accepts."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import netlink_server
from tests.decoding import decode_dump
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network, as_networks, parse_host, parse_network
from wgsyncd.dataplane.wireguard import codec, dump, netlink

keys = st.binary(min_size=32, max_size=32)
networks = st.one_of(
    st.builds(Network, st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.builds(Network, st.binary(min_size=16, max_size=16), st.integers(0, 128)),
)
peers = st.builds(
    PeerConfig,
    keys.map(PublicKey),
    st.one_of(st.just(NO_PRESHARED_KEY), keys),
    st.frozensets(networks, max_size=9).map(as_networks),
    st.integers(0, 65535),
)
byte_counts = st.integers(0, 2**64 - 1)
endpoints = st.one_of(
    st.none(),
    st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(0, 65535)),
    st.builds("[{}]:{}".format, st.sampled_from(["2001:db8::1", "::1", "fd00:1:2::a"]), st.integers(0, 65535)),
)
states = st.builds(PeerState, peers, byte_counts, byte_counts, st.integers(0, 2**62), endpoint=endpoints)
state_lists = st.lists(states, max_size=12, unique_by=lambda state: state.config.public_key)


def key(n: int) -> PublicKey:
    return PublicKey(n.to_bytes(4) * 8)


def peer(n: int, *ips: str, psk: bytes = NO_PRESHARED_KEY, keepalive: int = 0) -> PeerConfig:
    return PeerConfig(key(n), psk, as_networks(map(parse_network, ips)), keepalive)


def state(n: int, *ips: str) -> PeerState:
    return PeerState(peer(n, *ips), n, 2 * n, 1_700_000_000_000_000_001 if n else 0, f"192.0.2.1:{n}")


def by_key(found: Sequence[PeerState]) -> dict[PublicKey, PeerState]:
    return {each.config.public_key: each for each in found}


# ---- dumps


@given(state_lists, st.integers(1, 5), st.integers(1, 4), st.sampled_from([0, netlink_server.NESTED]))
def test_any_dump_reads_back_as_what_it_was(found: list[PeerState], each: int, ips: int, nested: int) -> None:
    device = decode_dump(netlink_server.dump(found, peers_each=each, ips_each=ips, nested=nested))
    assert device.peers == by_key(found)
    assert (device.ifindex, device.listen_port, device.public_key) == (7, 51820, bytes(range(32)))


@given(states, st.integers())
def test_order_and_unknown_attributes_do_not_matter(found: PeerState, seed: int) -> None:
    device = decode_dump([netlink_server.payload(netlink_server.shuffled_peer(found, seed), netlink_server.device())])
    assert device.peers == by_key([found])


def test_peer_cut_in_three_with_others_around_it() -> None:
    many = state(2, *(f"10.1.0.{n}" for n in range(5)), *(f"fd00::{n:x}" for n in range(4)))
    found = [state(1, "10.0.0.1"), many, state(3, "10.0.0.3")]
    payloads = netlink_server.dump(found, peers_each=2, ips_each=3)
    assert len(payloads) == 3
    assert decode_dump(payloads).peers == by_key(found)


def test_continuation_in_a_message_that_tells_of_the_interface_again() -> None:
    """Linux does this when it cuts the very first peer, because its cursor still stands before that peer."""
    many = state(1, *(f"10.1.0.{n}" for n in range(6)))
    ips = sorted(many.config.allowed_ips)
    first = netlink_server.payload(netlink_server.peer(many, ips=ips[:4]), netlink_server.device())
    second = netlink_server.payload(netlink_server.peer(many, ips=ips[4:], more=True), netlink_server.device())
    assert decode_dump([first, second]).peers == by_key([many])


def test_interface_without_peers_and_without_key() -> None:
    device = decode_dump([netlink_server.payload(b"", netlink_server.device(key=None, port=0))])
    assert device == dump.Device(7, None, 0, {})


def test_link_local_endpoint_keeps_its_zone() -> None:
    address = struct.pack("=H", 10) + struct.pack("!HI16s", 51820, 0, bytes.fromhex("fe80" + "0" * 27 + "1"))
    body = netlink_server.attr(1, key(1)) + b"".join(netlink_server.peer_attributes(state(1))[:-1])
    raw = netlink_server.attr(netlink_server.NESTED, body + netlink_server.attr(4, address + struct.pack("=I", 3)))
    assert (
        decode_dump([netlink_server.payload(raw, netlink_server.device())]).peers[key(1)].endpoint
        == "[fe80::1%3]:51820"
    )


NO_COUNTERS = netlink_server.attr(
    netlink_server.NESTED, netlink_server.attr(1, key(1)) + netlink_server.attr(2, bytes(32))
)
NO_KEY = netlink_server.attr(netlink_server.NESTED, b"".join(netlink_server.peer_attributes(state(1))))


def one(kind: int, value: bytes) -> bytes:
    """Returns a complete peer that has one more attribute."""
    return netlink_server.attr(
        netlink_server.NESTED,
        netlink_server.attr(1, key(1))
        + b"".join(netlink_server.peer_attributes(state(1)))
        + netlink_server.attr(kind, value),
    )


def bad_ip(family: int, address: bytes, mask: int, nested: int = 0) -> bytes:
    values = (
        netlink_server.attr(1, struct.pack("=H", family))
        + netlink_server.attr(2, address)
        + netlink_server.attr(3, bytes([mask]))
    )
    return netlink_server.attr(nested, values)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (NO_COUNTERS, "peer without counters"),
        (NO_KEY, "peer without a public key"),
        (netlink_server.peer(state(1)) * 2, "one peer twice"),
        (one(1, bytes(31)), "key has 31 bytes"),
        (one(2, bytes(33)), "key has 33 bytes"),
        (one(4, bytes(8)), "endpoint has 8 bytes"),
        (one(4, struct.pack("=H", 10) + bytes(18)), "IPv6 endpoint has 20 bytes"),
        (one(5, bytes(4)), "has 4 bytes, not 2"),
        (one(6, bytes(8)), "handshake time has 8 bytes"),
        (one(6, struct.pack("=qq", -1, 0)), "before 1970"),
        (one(7, bytes(4)), "has 4 bytes, not 8"),
        (one(9, bad_ip(2, bytes(4), 33)), "mask 33"),
        (one(9, bad_ip(2, bytes(4), 33, netlink_server.NESTED)), "mask 33"),
        (one(9, bad_ip(10, bytes(16), 129, netlink_server.NESTED)), "mask 129"),
        (one(9, bad_ip(2, bytes(16), 8)), "family 2 with 16 bytes"),
        (one(9, bad_ip(10, bytes(4), 8)), "family 10 with 4 bytes"),
        (one(9, netlink_server.attr(0, b"")), "allowed IP of family -1"),
        (one(9, b"\x03\x00\x00\x00"), "allowed IP of 3 bytes"),
        (one(9, b"\xff\x00\x00\x00"), "allowed IP of 255 bytes"),
        (b"\x00\x00\x00\x80", "of 0 bytes"),
        (netlink_server.attr(0, b"\x00\x00\x01\x00"), "peer attribute of 0 bytes"),
        (netlink_server.attr(0, b"\x01"), "without a whole header"),
    ],
)
def test_malformed_peer_is_a_value_error(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_dump([netlink_server.payload(raw, netlink_server.device())])


def test_dump_without_an_index_or_of_two_interfaces_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no interface index"):
        decode_dump([netlink_server.payload(netlink_server.peer(state(1)))])
    with pytest.raises(ValueError, match="two interfaces"):
        decode_dump(
            [
                netlink_server.payload(b"", netlink_server.device(7)),
                netlink_server.payload(b"", netlink_server.device(8)),
            ]
        )


@given(st.binary(max_size=400))
def test_random_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    for read in (
        lambda: decode_dump([data]),
        lambda: list(netlink.messages(data)),
        lambda: netlink.decode_family(data),
    ):
        with contextlib.suppress(ValueError):
            read()


@settings(max_examples=300)
@given(state_lists.filter(bool), st.data())
def test_one_damaged_byte_is_never_anything_but_a_value_or_a_value_error(
    found: list[PeerState], data: st.DataObject
) -> None:
    payload = bytearray(netlink_server.dump(found, peers_each=99)[0])
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        device = decode_dump([bytes(payload)])
    except ValueError:
        return
    for each in device.peers.values():
        assert all(0 <= ip.prefixlen <= 8 * len(ip.packed) for ip in each.config.allowed_ips)
        assert len(each.config.public_key) == len(each.config.preshared_key) == 32


def test_every_truncation_of_a_datagram_is_noticed() -> None:
    found = [state(1, "10.0.0.1", "fd00::1"), state(2, "10.0.0.2")]
    ends = [0]
    datagram = b""
    for payload in netlink_server.dump(found, peers_each=1):
        datagram += netlink_server.message(33, 2, 1, payload)
        ends.append(len(datagram))
    assert decode_dump([m.payload for m in netlink.messages(datagram)]).peers == by_key(found)
    for cut in set(range(len(datagram))).difference(ends):
        with pytest.raises(ValueError, match="netlink message"):
            list(netlink.messages(datagram[:cut]))


def test_every_truncation_of_a_message_is_noticed_or_lacks_whole_attributes() -> None:
    found = [state(1, "10.0.0.1", "fd00::1"), state(2, "10.0.0.2")]
    payload = netlink_server.dump(found)[0]
    for cut in range(4, len(payload)):
        try:
            assert decode_dump([payload[:cut]]).peers == {}
        except ValueError:
            continue


def test_error_numbers() -> None:
    assert netlink.error_number(struct.pack("=i", -19) + b"the request") == 19
    assert netlink.error_number(struct.pack("=i", 0)) == 0
    assert netlink.error_number(b"") == 0
    with pytest.raises(ValueError, match="without a number"):
        netlink.error_number(b"\0\0")


def _loop_seconds() -> float:
    start = time.process_time()
    x = 0
    for i in range(1_000_000):
        x += i & 3
    return time.process_time() - start


# ---- requests


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
