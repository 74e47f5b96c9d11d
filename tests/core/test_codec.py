"""The kernel codec reads every form of a dump, and rejects what is none."""

from __future__ import annotations

import contextlib
import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import netlink_server
from tests.decoding import decode_dump
from tests.wire_peers import by_key, key, state, state_lists, states
from wgsyncd.core.model import PeerState
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import dump


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
        (one(9, b"\x03\x00\x00\x00"), "of 3 bytes in a rest of 4"),
        (one(9, b"\xff\x00\x00\x00"), "of 255 bytes in a rest of 4"),
        (b"\x00\x00\x00\x80", "of 0 bytes"),
        (netlink_server.attr(0, b"\x00\x00\x01\x00"), "attribute 1 of 0 bytes in a rest"),
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


@settings(max_examples=30)
@given(state_lists.filter(bool), st.integers(0, 2**32))
def test_one_damaged_byte_is_never_anything_but_a_value_or_a_value_error(found: list[PeerState], seed: int) -> None:
    dice, whole = Random(seed), netlink_server.dump(found, peers_each=99)[0]
    for _ in range(50):
        payload = bytearray(whole)
        payload[dice.randrange(len(payload))] ^= dice.randint(1, 255)
        try:
            device = decode_dump([bytes(payload)])
        except ValueError:
            continue
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
