"""The bytes of WireGuard's generic netlink messages. Pure: bytes in, values out, and back.

Sources: uapi/linux/wireguard.h, uapi/linux/netlink.h, uapi/linux/genetlink.h, net: drivers/net/wireguard/netlink.c.
Netlink speaks the machine's byte order; only what is inside a sockaddr is in network order. Whatever is malformed
raises ValueError, whose text never holds a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct
from typing import NamedTuple

from wgsyncd.core.model import KEY_BYTES, NO_PRESHARED_KEY, Change, Counters, Kind, Network, Peer, PeerState, PublicKey
from wgsyncd.wireguard.netlink import (
    ATTR,
    GENLMSGHDR,
    NLA_F_NESTED,
    NLA_TYPE_MASK,
    NLMSGHDR,
    U8,
    U16,
    U32,
    U64,
    attr,
    attributes,
    number,
)

WG_GENL_NAME, _WG_GENL_VERSION = "wireguard", 1
_WG_CMD_GET_DEVICE, _WG_CMD_SET_DEVICE = 0, 1
_DEVICE_IFINDEX, _DEVICE_IFNAME, _DEVICE_PRIVATE_KEY, _DEVICE_PUBLIC_KEY = 1, 2, 3, 4
_DEVICE_LISTEN_PORT, _DEVICE_PEERS = 6, 8
_PEER_PUBLIC_KEY, _PEER_PRESHARED_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE = 1, 2, 3, 4, 5
_PEER_HANDSHAKE, _PEER_RX_BYTES, _PEER_TX_BYTES, _PEER_ALLOWEDIPS = 6, 7, 8, 9
_IP_FAMILY, _IP_ADDRESS, _IP_MASK = 1, 2, 3
PEER_F_REMOVE_ME, PEER_F_REPLACE_ALLOWEDIPS, PEER_F_UPDATE_ONLY = 1, 2, 4

_TIMESPEC = Struct("=qq")
_SOCKADDR_IN = Struct("!2xH4B")
_SOCKADDR_IN6_PORT = Struct("!2xH")
_FAMILIES = {(int(AF_INET), 4), (int(AF_INET6), 16)}
_FLAGS_ATTR, _KEEPALIVE_ATTR = Struct("=HHI"), Struct("=HHHxx")
_IP4_ATTR, _IP6_ATTR = Struct("=HHHHHxxHH4sHHBxxx"), Struct("=HHHHHxxHH16sHHBxxx")

# What Linux sends on most machines begins every peer alike; one unpack of it costs a tenth of a loop over attributes.
_USUAL_PEER = Struct("=I32sI32sIqqIHxxIQIQ")
_USUAL_IP4, _USUAL_IP6 = Struct("=IIHxxI4sIBxxx"), Struct("=IIHxxI16sIBxxx")


def _header(length: int, kind: int) -> int:
    return int(U32.unpack(ATTR.pack(length, kind))[0])


_USUAL_PEER_HEADERS = (
    _header(36, _PEER_PUBLIC_KEY),
    _header(36, _PEER_PRESHARED_KEY),
    _header(20, _PEER_HANDSHAKE),
    _header(6, _PEER_KEEPALIVE),
    _header(12, _PEER_TX_BYTES),
    _header(12, _PEER_RX_BYTES),
)


def _usual_ip_headers(family: int, size: int) -> tuple[int, ...]:
    nest, address = _header(24 + size, NLA_F_NESTED), _header(4 + size, _IP_ADDRESS)
    return nest, _header(6, _IP_FAMILY), family, address, _header(5, _IP_MASK)


_USUAL_IP4_HEADERS, _USUAL_IP6_HEADERS = _usual_ip_headers(AF_INET, 4), _usual_ip_headers(AF_INET6, 16)

MESSAGE_BYTES = 32 * 1024
"""Bound of a SET_DEVICE message. An attribute's length is 16 bits, so the peers of one message must stay below 64 KiB;
half of that keeps the kernel's allocation small and a batch at about 250 peers."""


class Device(NamedTuple):
    """What a complete dump says of an interface."""

    ifindex: int
    public_key: PublicKey | None
    listen_port: int
    peers: dict[PublicKey, PeerState]


class Batch(NamedTuple):
    """Changes that travel together: one payload for many of them, or many payloads for one that is too large."""

    payloads: list[bytes]
    changes: list[Change]


def _device(command: int, interface: str) -> bytes:
    name = interface.encode() + b"\0"
    return GENLMSGHDR.pack(command, _WG_GENL_VERSION) + attr(_DEVICE_IFNAME, name)


def get_device(interface: str) -> bytes:
    """Payload of a WG_CMD_GET_DEVICE request; to be sent with NLM_F_DUMP."""
    return _device(_WG_CMD_GET_DEVICE, interface)


def set_device(interface: str, *, private_key: bytes, listen_port: int) -> bytes:
    """Payload that gives a new interface its private key and its port (0: the kernel's choice)."""
    if len(private_key) != KEY_BYTES:
        raise ValueError("private key is not 32 bytes")
    port = attr(_DEVICE_LISTEN_PORT, U16.pack(listen_port))
    return _device(_WG_CMD_SET_DEVICE, interface) + attr(_DEVICE_PRIVATE_KEY, private_key) + port


def set_peers(interface: str, changes: Iterable[Change], limit: int = MESSAGE_BYTES) -> Iterator[Batch]:
    """Payloads of at most ``limit`` bytes that make the changes, in their order. WGDEVICE_F_REPLACE_PEERS is never set.

    A peer with more allowed IPs than fit is spread over payloads of its own: the first replaces, the others add.
    """
    head = _device(_WG_CMD_SET_DEVICE, interface)
    room = limit - len(head) - ATTR.size - NLMSGHDR.size
    peers: list[bytes] = []
    batch: list[Change] = []
    used = 0
    for change in changes:
        parts = _peer_parts(change, room)
        if batch and (len(parts) > 1 or used + len(parts[0]) > room):
            yield Batch([_join(head, peers)], batch)
            peers, batch, used = [], [], 0
        if len(parts) > 1:
            yield Batch([_join(head, [part]) for part in parts], [change])
            continue
        peers.append(parts[0])
        batch.append(change)
        used += len(parts[0])
    if batch:
        yield Batch([_join(head, peers)], batch)


def _join(head: bytes, peers: Sequence[bytes]) -> bytes:
    return head + attr(_DEVICE_PEERS | NLA_F_NESTED, b"".join(peers))


def _peer_parts(change: Change, room: int) -> list[bytes]:
    """The nested peer attributes of a change, each of at most ``room`` bytes; several only for many IPs."""
    key = attr(_PEER_PUBLIC_KEY, change.public_key)
    after = change.after
    if after is None:
        return [attr(NLA_F_NESTED, key + _FLAGS_ATTR.pack(8, _PEER_FLAGS, PEER_F_REMOVE_ME))]
    flags = PEER_F_UPDATE_ONLY if change.kind is Kind.UPDATE else 0
    values = b""
    ips: list[bytes] = []
    if change.sets_preshared_key:
        values += attr(_PEER_PRESHARED_KEY, after.preshared_key)
    if change.sets_keepalive:
        values += _KEEPALIVE_ATTR.pack(6, _PEER_KEEPALIVE, after.persistent_keepalive)
    if change.sets_allowed_ips:
        flags |= PEER_F_REPLACE_ALLOWEDIPS
        ips = [_encode_ip(network) for network in after.allowed_ips]
    parts = []
    first = key + _FLAGS_ATTR.pack(8, _PEER_FLAGS, flags) + values
    more = key + _FLAGS_ATTR.pack(8, _PEER_FLAGS, PEER_F_UPDATE_ONLY)  # or it would bring back a peer just removed
    fit = max((room - len(first) - 3 * ATTR.size) // _IP6_ATTR.size, 1)
    for at in range(0, len(ips) or 1, fit):
        chunk = b"".join(ips[at : at + fit])
        nest = attr(_PEER_ALLOWEDIPS | NLA_F_NESTED, chunk) if chunk else b""
        parts.append(attr(NLA_F_NESTED, (more if at else first) + nest))
    return parts


def _encode_ip(network: Network) -> bytes:
    packed, mask = network
    form, family = (_IP4_ATTR, AF_INET) if len(packed) == 4 else (_IP6_ATTR, AF_INET6)
    return form.pack(
        form.size, NLA_F_NESTED, 6, _IP_FAMILY, family, 4 + len(packed), _IP_ADDRESS, packed, 5, _IP_MASK, mask
    )


def decode_dump(payloads: Iterable[bytes]) -> Device:
    """All messages of one untorn dump as one Device; a peer spread over several messages becomes one again."""
    ifindex = listen_port = 0
    public_key: PublicKey | None = None
    peers: dict[PublicKey, PeerState] = {}
    for data in payloads:
        for kind, start, end in attributes(data, GENLMSGHDR.size, len(data)):
            if kind == _DEVICE_PEERS:
                for _, first, last in attributes(data, start, end):
                    _decode_peer(data, first, last, peers)
            elif kind == _DEVICE_IFINDEX:
                index = number(U32, data, start, end)
                if ifindex not in (0, index):
                    raise ValueError("two interfaces in one dump")
                ifindex = index
            elif kind == _DEVICE_PUBLIC_KEY:
                public_key = PublicKey(_key(data, start, end))
            elif kind == _DEVICE_LISTEN_PORT:
                listen_port = number(U16, data, start, end)
    if not ifindex:
        raise ValueError("no interface index in the dump")
    return Device(ifindex, public_key, listen_port, peers)


def _key(data: bytes, start: int, end: int) -> bytes:
    if end - start != KEY_BYTES:
        raise ValueError(f"key has {end - start} bytes, not {KEY_BYTES}")
    return data[start:end]


def _decode_peer(data: bytes, at: int, end: int, peers: dict[PublicKey, PeerState]) -> None:
    """One nested peer, put into ``peers``. Its loop is written out: it runs for every attribute of every peer."""
    key: bytes | None = None
    psk, keepalive, handshake, endpoint = NO_PRESHARED_KEY, 0, 0, None
    networks: Sequence[Network] = ()
    rx = tx = -1
    if end - at >= _USUAL_PEER.size:
        a, k, b, p, c, seconds, nanoseconds, d, interval, e, sent, f, received = _USUAL_PEER.unpack_from(data, at)
        if (a, b, c, d, e, f) == _USUAL_PEER_HEADERS:
            key, psk, handshake, keepalive = k, p, seconds * 1_000_000_000 + nanoseconds, interval
            rx, tx = received, sent
            at += _USUAL_PEER.size
    header = ATTR.unpack_from
    while at < end:
        if end - at < 4:
            raise ValueError("netlink attribute without a whole header")
        length, kind = header(data, at)
        start, stop = at + 4, at + length
        if length < 4 or stop > end:
            raise ValueError(f"peer attribute of {length} bytes in a rest of {end - at}")
        kind &= NLA_TYPE_MASK
        if kind == _PEER_ALLOWEDIPS:
            networks = _decode_ips(data, start, stop)
        elif kind == _PEER_PUBLIC_KEY:
            key = _key(data, start, stop)
        elif kind == _PEER_PRESHARED_KEY:
            psk = _key(data, start, stop)
        elif kind == _PEER_RX_BYTES:
            rx = number(U64, data, start, stop)
        elif kind == _PEER_TX_BYTES:
            tx = number(U64, data, start, stop)
        elif kind == _PEER_KEEPALIVE:
            keepalive = number(U16, data, start, stop)
        elif kind == _PEER_HANDSHAKE:
            if length != 20:
                raise ValueError(f"handshake time has {length - 4} bytes, not 16")
            seconds, nanoseconds = _TIMESPEC.unpack_from(data, start)
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == _PEER_ENDPOINT:
            endpoint = _decode_endpoint(data, start, stop)
        at += (length + 3) & ~3
    if key is None:
        raise ValueError("peer without a public key")
    if handshake < 0:
        raise ValueError("handshake time before 1970")
    if psk == NO_PRESHARED_KEY:
        psk = NO_PRESHARED_KEY  # one object for all that have none
    public_key = PublicKey(key)
    known = peers.get(public_key)
    if known is None:
        if rx < 0 or tx < 0:
            raise ValueError("peer without counters")
        peer = Peer(public_key, psk, frozenset(networks), keepalive)
        peers[public_key] = PeerState(peer, Counters(rx, tx), handshake, endpoint)
    elif rx >= 0 or tx >= 0:
        raise ValueError("one peer twice in one dump")
    else:  # the rest of a peer whose allowed IPs did not fit: key and allowed IPs, nothing else
        merged = known.peer._replace(allowed_ips=known.peer.allowed_ips.union(networks))
        peers[public_key] = known._replace(peer=merged)


def _decode_ips(data: bytes, at: int, end: int) -> list[Network]:
    networks = []
    while at < end:
        if end - at >= 28:
            a, b, family, c, packed, d, mask = _USUAL_IP4.unpack_from(data, at)
            if (a, b, family, c, d) == _USUAL_IP4_HEADERS and mask <= 32:
                networks.append(Network(packed, mask))
                at += 28
                continue
        if end - at >= 40:
            a, b, family, c, packed, d, mask = _USUAL_IP6.unpack_from(data, at)
            if (a, b, family, c, d) == _USUAL_IP6_HEADERS and mask <= 128:
                networks.append(Network(packed, mask))
                at += 40
                continue
        if end - at < 4:
            raise ValueError("netlink attribute without a whole header")
        length, _ = ATTR.unpack_from(data, at)
        if length < 4 or at + length > end:
            raise ValueError(f"allowed IP of {length} bytes in a rest of {end - at}")
        family = mask = -1
        packed = b""
        for kind, start, stop in attributes(data, at + 4, at + length):
            if kind == _IP_ADDRESS:
                packed = data[start:stop]
            elif kind == _IP_MASK:
                mask = number(U8, data, start, stop)
            elif kind == _IP_FAMILY:
                family = number(U16, data, start, stop)
        if (family, len(packed)) not in _FAMILIES or not 0 <= mask <= len(packed) * 8:
            raise ValueError(f"allowed IP of family {family} with {len(packed)} bytes and mask {mask}")
        networks.append(Network(packed, mask))
        at += (length + 3) & ~3
    return networks


def _decode_endpoint(data: bytes, start: int, end: int) -> str | None:
    """A sockaddr_in or sockaddr_in6 as wg(8) prints it; None for a family that is neither."""
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
