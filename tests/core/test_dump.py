"""The fast path of the dump decoder gives the same result as the slow path.

The fast path decodes peers in the form in which Linux sends most of them.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import netlink_server
from tests.decoding import decode_dump
from tests.wire_peers import by_key, byte_counts, endpoints, key, keys, peer, states
from wgsyncd.core.model import NO_PRESHARED_KEY, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network, as_networks
from wgsyncd.dataplane.wireguard import dump

hosts = st.builds(Network, st.binary(min_size=4, max_size=4), st.integers(0, 32))
usual_peers = st.builds(
    PeerConfig,
    keys.map(PublicKey),
    st.one_of(st.just(NO_PRESHARED_KEY), keys),
    hosts.map(lambda host: (host,)),
    st.integers(0, 65535),
)
usual_states = st.builds(PeerState, usual_peers, byte_counts, byte_counts, st.integers(0, 2**62), endpoint=endpoints)
usual = st.lists(usual_states, min_size=1, max_size=6, unique_by=lambda one: one.config.public_key)


def decode(payloads: list[bytes], known: dict[PublicKey, PeerState] | None = None, *, short: bool = True) -> object:
    """Returns what the decoder makes of the payloads, or `ValueError` if it refuses them.

    `short` allows the fast path.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not short:
            patch.setattr(dump, "_USUAL", {})
        try:
            return decode_dump(payloads, known or {})
        except ValueError:
            return ValueError


@given(usual, st.sampled_from([0, 1, 2]))
def test_peers_as_linux_sends_them_go_the_short_way(found: list[PeerState], pads: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dump, "decode_peer", None)
        assert decode_dump(netlink_server.dump(found, pads=pads)).peers == by_key(found)


@settings(max_examples=30)
@given(usual, st.integers(0, 2), st.integers(0, 2**32))
def test_both_ways_make_the_same_of_damaged_bytes(found: list[PeerState], pads: int, seed: int) -> None:
    dice, whole = Random(seed), netlink_server.dump(found, peers_each=99, pads=pads)[0]
    for damages in (0, *[1] * 5, *[2] * 4, *[3] * 4):
        payload = bytearray(whole)
        for _ in range(damages):
            payload[dice.randrange(len(payload))] ^= dice.randint(1, 255)
        damaged = [bytes(payload)]
        assert decode(damaged) == decode(damaged, by_key(found)) == decode(damaged, short=False)


few = st.lists(states, max_size=4, unique_by=lambda one: one.config.public_key)


@given(few, few, st.integers(0, 4))
def test_what_was_known_changes_nothing(found: list[PeerState], gone: list[PeerState], known: int) -> None:
    """Some peers of the dump were known, and some peers were known that it lacks."""
    assert decode_dump(netlink_server.dump(found), by_key(found[:known] + gone)).peers == by_key(found)


@given(usual, st.data())
def test_a_difference_to_what_was_known_is_seen(found: list[PeerState], data: st.DataObject) -> None:
    """The known state differs from the dump in one attribute of one peer."""
    one = data.draw(st.sampled_from(found))
    ips = st.frozensets(hosts, max_size=2)
    changed = data.draw(st.sampled_from([
        one._replace(config=one.config._replace(preshared_key=data.draw(st.binary(min_size=32, max_size=32)))),
        one._replace(config=one.config._replace(persistent_keepalive=data.draw(st.integers(0, 65535)))),
        one._replace(config=one.config._replace(allowed_ips=as_networks(data.draw(ips)))),
        one._replace(rx=data.draw(st.integers(0, 2**64 - 1))),
        one._replace(tx=data.draw(st.integers(0, 2**64 - 1))),
        one._replace(latest_handshake=data.draw(st.integers(0, 2**62))),
        one._replace(endpoint=data.draw(endpoints)),
    ]))  # fmt: skip
    before = by_key(found) | {one.config.public_key: changed}
    assert decode_dump(netlink_server.dump(found), before).peers == by_key(found)


def test_what_is_the_same_is_the_same_object() -> None:
    still, moves = (PeerState(peer(n, f"10.0.0.{n}", psk=key(n)), n, n, n) for n in (1, 2))
    before = decode_dump(netlink_server.dump([still, moves])).peers
    after = decode_dump(netlink_server.dump([still, moves._replace(rx=5, tx=5)]), before).peers
    assert all(after[one].config is before[one].config for one in before)
    assert after[key(2)].counters == (5, 5)


def test_who_is_gone_is_not_known_any_more() -> None:
    here, gone = (PeerState(peer(n, f"10.0.0.{n}", psk=key(n)), n, n, n) for n in (1, 2))
    memory = dump.DumpMemory()
    for found in ([here, gone], [here]):
        decode_dump(netlink_server.dump(found), memory=memory)
        assert memory.known == {one.config.public_key: one.config for one in found}
        assert list(memory.decoded.values()) == found


@given(usual)
def test_endpoints_may_be_left_out(found: list[PeerState]) -> None:
    plain = by_key([one._replace(endpoint=None) for one in found])
    before = decode_dump(netlink_server.dump(found), endpoints=False).peers
    roamed = [one._replace(endpoint=f"192.0.2.7:{n}") for n, one in enumerate(found, 1)]
    for payloads in (
        netlink_server.dump(roamed),
        [netlink_server.payload(netlink_server.shuffled_peer(one, 1), netlink_server.device()) for one in roamed],
    ):
        assert decode_dump(payloads, endpoints=False).peers == before == plain
    after = decode_dump(netlink_server.dump(roamed), before, endpoints=False).peers
    assert after == before, "who roams is who he was"


def test_a_usual_peer_twice_is_a_value_error_even_where_it_was_known() -> None:
    one = PeerState(peer(1, "10.0.0.1"), 0, 0, 0)
    with pytest.raises(ValueError, match="one peer twice"):
        decode_dump([netlink_server.payload(netlink_server.peer(one) * 2, netlink_server.device())], by_key([one]))


def test_a_usual_peer_goes_on_in_the_next_message() -> None:
    one = PeerState(peer(1, "10.0.0.1", "10.0.0.2"), 0, 0, 0)
    payloads = netlink_server.dump([one], peers_each=1, ips_each=1)
    assert len(payloads) == 2
    first = decode_dump(payloads).peers
    assert first == decode_dump(payloads, first).peers == by_key([one])


@given(few, st.data())
def test_dumps_in_a_row_are_read_as_if_each_were_the_first(first: list[PeerState], data: st.DataObject) -> None:
    """Some peers stay as they are, some change, some come or go, and one may come in several messages."""
    memory, found = dump.DumpMemory(), first
    for _ in range(4):
        ips_each = data.draw(st.sampled_from([1, 2, 1000]))
        payloads = netlink_server.dump(found, peers_each=data.draw(st.integers(1, 3)), ips_each=ips_each)
        now = decode_dump(payloads, memory=memory)
        assert now == decode_dump(payloads)
        again = decode_dump(payloads, memory=memory)
        assert again == now
        assert len(memory.decoded) <= 1.25 * len(now.peers), "what peers were long ago is forgotten"
        if ips_each == 1000:
            assert all(again.peers[one] is state for one, state in now.peers.items()), "nothing is decoded again"
        keep = [one for one in found if data.draw(st.booleans())]
        moved = [one._replace(rx=one.rx + 1) if data.draw(st.booleans()) and one.rx < 2**63 else one for one in keep]
        found = list(by_key([*moved, *data.draw(few)]).values())
