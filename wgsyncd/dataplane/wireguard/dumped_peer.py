"""Decodes the attributes of one peer of a WireGuard dump, in any form, by pure functions.

Source: uapi/linux/wireguard.h. Malformed bytes raise ValueError. Its text never contains a key.
"""

from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct

from wgsyncd.core.model import KEY_BYTES, NO_PRESHARED_KEY, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network, as_networks
from wgsyncd.dataplane.netlink import U8, U16, U32, U64, attributes, number
from wgsyncd.dataplane.wireguard.codec import (
    IP_ADDRESS,
    IP_FAMILY,
    IP_MASK,
    PEER_ALLOWEDIPS,
    PEER_ENDPOINT,
    PEER_HANDSHAKE,
    PEER_KEEPALIVE,
    PEER_PRESHARED_KEY,
    PEER_PUBLIC_KEY,
    PEER_RX_BYTES,
    PEER_TX_BYTES,
)

_TIMESPEC = Struct("=qq")
_SOCKADDR_IN = Struct("!2xH4B")
_SOCKADDR_IN6_PORT = Struct("!2xH")
_FAMILIES = {(int(AF_INET), 4), (int(AF_INET6), 16)}


def decode_key(data: bytes, start: int, end: int) -> bytes:
    if end - start != KEY_BYTES:
        raise ValueError(f"key has {end - start} bytes, not {KEY_BYTES}")
    return data[start:end]


def decode_peer(
    data: bytes, at: int, end: int, peers: dict[PublicKey, PeerState], *, endpoints: bool
) -> PeerState | None:
    """Decode one nested peer of any form into ``peers``. Returns it, or None for a later part of a peer."""
    key: bytes | None = None
    psk, keepalive, handshake, endpoint = NO_PRESHARED_KEY, 0, 0, None
    found: Sequence[Network] = ()
    rx = tx = -1
    for kind, start, stop in attributes(data, at, end):
        if kind == PEER_ALLOWEDIPS:
            found = _decode_ips(data, start, stop)
        elif kind == PEER_PUBLIC_KEY:
            key = decode_key(data, start, stop)
        elif kind == PEER_PRESHARED_KEY:
            psk = decode_key(data, start, stop)
        elif kind == PEER_RX_BYTES:
            rx = number(U64, data, start, stop)
        elif kind == PEER_TX_BYTES:
            tx = number(U64, data, start, stop)
        elif kind == PEER_KEEPALIVE:
            keepalive = number(U16, data, start, stop)
        elif kind == PEER_HANDSHAKE:
            if stop - start != _TIMESPEC.size:
                raise ValueError(f"handshake time has {stop - start} bytes, not {_TIMESPEC.size}")
            seconds, nanoseconds = _TIMESPEC.unpack_from(data, start)
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == PEER_ENDPOINT and endpoints:
            endpoint = decode_endpoint(data, start, stop)
    if key is None:
        raise ValueError("peer without a public key")
    if handshake < 0:
        raise ValueError("handshake time before 1970")
    if psk == NO_PRESHARED_KEY:
        psk = NO_PRESHARED_KEY  # one object for all peers without a key
    public_key = PublicKey(key)
    known = peers.get(public_key)
    if known is None:
        if rx < 0 or tx < 0:
            raise ValueError("peer without counters")
        peer = PeerConfig(public_key, psk, as_networks(found), keepalive)
        peers[public_key] = state = PeerState(peer, rx, tx, handshake, endpoint)
        return state
    if rx >= 0 or tx >= 0:
        raise ValueError("one peer twice in one dump")
    # The next part of a peer with many allowed IPs: it has a key and allowed IPs only.
    merged = known.config._replace(allowed_ips=as_networks((*known.config.allowed_ips, *found)))
    peers[public_key] = known._replace(config=merged)
    return None


def _decode_ips(data: bytes, at: int, end: int) -> list[Network]:
    networks = []
    for _, first, last in attributes(data, at, end):
        family = mask = -1
        packed = b""
        for kind, start, stop in attributes(data, first, last):
            if kind == IP_ADDRESS:
                packed = data[start:stop]
            elif kind == IP_MASK:
                mask = number(U8, data, start, stop)
            elif kind == IP_FAMILY:
                family = number(U16, data, start, stop)
        if (family, len(packed)) not in _FAMILIES or not 0 <= mask <= len(packed) * 8:
            raise ValueError(f"allowed IP of family {family} with {len(packed)} bytes and mask {mask}")
        networks.append(Network(packed, mask))
    return networks


def decode_endpoint(data: bytes, start: int, end: int) -> str | None:
    """A sockaddr_in or sockaddr_in6 as wg(8) prints it. None for another family."""
    if end - start < 16:
        raise ValueError(f"endpoint has {end - start} bytes")
    family = U16.unpack_from(data, start)[0]
    if family == AF_INET:
        port, a, b, c, d = _SOCKADDR_IN.unpack_from(data, start)
        return f"{a}.{b}.{c}.{d}:{port}"
    if family != AF_INET6:
        return None
    if end - start < 28:
        raise ValueError(f"IPv6 endpoint has {end - start} bytes")
    port = _SOCKADDR_IN6_PORT.unpack_from(data, start)[0]
    scope = U32.unpack_from(data, start + 24)[0]
    return f"[{inet_ntop(AF_INET6, data[start + 8 : start + 24])}{f'%{scope}' if scope else ''}]:{port}"
