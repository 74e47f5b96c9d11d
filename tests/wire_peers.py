"""Peers as the kernel's dump has them: from a number, and as strategies of Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from wgsyncd.core.model import NO_PRESHARED_KEY, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network, as_networks, parse_network

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
