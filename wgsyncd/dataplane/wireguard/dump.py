"""Decodes the bytes of a WireGuard dump into peers by pure functions.

Sources: uapi/linux/wireguard.h, and get_peer() in drivers/net/wireguard/netlink.c in Linux. Malformed bytes raise
ValueError. Its text never contains a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct
from typing import NamedTuple

from wgsyncd.core.model import KEY_BYTES, NO_PRESHARED_KEY, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network, as_networks
from wgsyncd.dataplane.netlink import (
    ATTR,
    GENLMSGHDR,
    NLA_F_NESTED,
    NLA_TYPE_MASK,
    U8,
    U16,
    U32,
    U64,
    attributes,
    number,
)
from wgsyncd.dataplane.wireguard.codec import (
    DEVICE_IFINDEX,
    DEVICE_LISTEN_PORT,
    DEVICE_PEERS,
    DEVICE_PUBLIC_KEY,
    IP_ADDRESS,
    IP_FAMILY,
    IP_MASK,
    PEER_ALLOWEDIPS,
    PEER_ENDPOINT,
    PEER_HANDSHAKE,
    PEER_KEEPALIVE,
    PEER_PRESHARED_KEY,
    PEER_PROTOCOL_VERSION,
    PEER_PUBLIC_KEY,
    PEER_RX_BYTES,
    PEER_TX_BYTES,
)

_TIMESPEC = Struct("=qq")
_SOCKADDR_IN = Struct("!2xH4B")
_SOCKADDR_IN6_PORT = Struct("!2xH")
_FAMILIES = {(int(AF_INET), 4), (int(AF_INET6), 16)}


def _header(length: int, kind: int) -> int:
    return int(U32.unpack(ATTR.pack(length, kind))[0])


# Linux sends the attributes of a peer with one IPv4 address always in the same order. One unpack of such a peer takes a
# tenth of the time of a loop over its attributes. There are several forms: without an endpoint, with an IPv4 or an IPv6
# endpoint. Some machines align 64-bit numbers: then an empty attribute stands before the second counter or before both
# (nla_put_u64_64bit in net/netlink.h in Linux).
_PADDING = _header(4, 0)
_USUAL: dict[int, tuple[Struct | None, tuple[object, ...]]] = {}
"""By the header of the nested peer: the form to unpack it, and the headers that its attributes must have."""
for _endpoint in (0, 16, 28):
    for _pads in (0, 1, 2):
        _form = Struct(
            "=II32sI32sIqqIHxx"
            + ("I" if _pads == 2 else "0s") + "IQ" + ("I" if _pads else "0s") + "IQI4x"
            + (f"I{_endpoint}s" if _endpoint else "0s0s")
            + "IIIBxxxIHxxI4s"
        )  # fmt: skip
        _USUAL[_header(_form.size, NLA_F_NESTED)] = _form, (
            _header(36, PEER_PUBLIC_KEY), _header(36, PEER_PRESHARED_KEY), _header(20, PEER_HANDSHAKE),
            _header(6, PEER_KEEPALIVE), _PADDING if _pads == 2 else b"", _header(12, PEER_TX_BYTES),
            _PADDING if _pads else b"", _header(12, PEER_RX_BYTES), _header(8, PEER_PROTOCOL_VERSION),
            _header(4 + _endpoint, PEER_ENDPOINT) if _endpoint else b"",
            _header(32, PEER_ALLOWEDIPS | NLA_F_NESTED), _header(28, NLA_F_NESTED), _header(5, IP_MASK),
            _header(6, IP_FAMILY), int(AF_INET), _header(8, IP_ADDRESS),
        )  # fmt: skip
_UNUSUAL = None, ()

_PREFIX = tuple(bytes((length,)) for length in range(33))


class Device(NamedTuple):
    """One interface as a complete dump shows it."""

    ifindex: int
    public_key: PublicKey | None
    listen_port: int
    peers: dict[PublicKey, PeerState]


class Decoder:
    """Decodes one dump message by message, so that no message has to be kept.

    ``known``: the configurations of the peers of earlier dumps. An unchanged peer gets the known object again, so that
    memory holds it once. A changed peer is put into ``known``. :meth:`device` takes the peers out that are gone.
    ``endpoints``: whether to decode endpoints. To format them takes a quarter of the decoder's time.
    """

    def __init__(self, known: dict[PublicKey, PeerConfig] | None = None, *, endpoints: bool = True) -> None:
        self._known: dict[PublicKey, PeerConfig] = {} if known is None else known
        self._endpoints = endpoints
        self.clear()

    def clear(self) -> None:
        """Forget the messages so far."""
        self._ifindex = self._listen_port = 0
        self._public_key: PublicKey | None = None
        self._peers: dict[PublicKey, PeerState] = {}
        self._fault: ValueError | None = None

    def append(self, data: bytes) -> None:
        """Decode the payload of the next message. :meth:`device` reports an error: the rest must be read anyway."""
        if self._fault is None:
            try:
                self._append(data)
            except ValueError as error:
                self._fault = error

    def _append(self, data: bytes) -> None:
        for kind, start, end in attributes(data, GENLMSGHDR.size, len(data)):
            if kind == DEVICE_PEERS:
                _decode_peers(data, start, end, self._known, self._peers, endpoints=self._endpoints)
            elif kind == DEVICE_IFINDEX:
                index = number(U32, data, start, end)
                if self._ifindex not in (0, index):
                    raise ValueError("two interfaces in one dump")
                self._ifindex = index
            elif kind == DEVICE_PUBLIC_KEY:
                self._public_key = PublicKey(_key(data, start, end))
            elif kind == DEVICE_LISTEN_PORT:
                self._listen_port = number(U16, data, start, end)

    def device(self) -> Device:
        """The interface after the last message. A peer that came in several messages is whole.

        Raises ValueError if the messages were not a dump.
        """
        if self._fault is not None:
            raise self._fault
        if not self._ifindex:
            raise ValueError("no interface index in the dump")
        for key in [key for key in self._known if key not in self._peers]:
            del self._known[key]
        return Device(self._ifindex, self._public_key, self._listen_port, self._peers)


def _key(data: bytes, start: int, end: int) -> bytes:
    if end - start != KEY_BYTES:
        raise ValueError(f"key has {end - start} bytes, not {KEY_BYTES}")
    return data[start:end]


def _decode_peers(
    data: bytes, at: int, end: int, known: dict[PublicKey, PeerConfig], peers: dict[PublicKey, PeerState],
    *, endpoints: bool,
) -> None:  # fmt: skip
    """Decode the peers of one message into ``peers``. The loop avoids calls, because it runs once a peer."""
    while at < end:
        if end - at < 4:
            raise ValueError("netlink attribute without a whole header")
        header = U32.unpack_from(data, at)[0]
        form, headers = _USUAL.get(header, _UNUSUAL)
        if form is not None and end - at >= form.size:
            (_, h1, key, h2, psk, h3, seconds, nanoseconds, h4, keepalive, h5, h6, tx, h7, h8, rx, h9, h10, sockaddr,
             h11, h12, h13, mask, h14, family, h15, packed) = form.unpack_from(data, at)  # fmt: skip
            usual = (h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11, h12, h13, h14, family, h15) == headers
            if usual and mask <= 32 and seconds >= 0 and nanoseconds >= 0 and key not in peers:
                handshake = seconds * 1_000_000_000 + nanoseconds
                endpoint = _decode_endpoint(sockaddr, 0, len(sockaddr)) if sockaddr and endpoints else None
                peer = known.get(key)
                if peer is None:
                    known[key] = peer = _peer(key, psk, packed, mask, keepalive)
                elif (
                    peer.preshared_key != psk or peer.persistent_keepalive != keepalive
                    or peer.allowed_ips != (packed + _PREFIX[mask],)
                ):  # fmt: skip
                    known[key] = peer = _peer(peer.public_key, psk, packed, mask, keepalive)
                peers[peer.public_key] = PeerState(peer, rx, tx, handshake, endpoint)
                at += form.size
                continue
        length = ATTR.unpack_from(data, at)[0]
        if length < 4 or at + length > end:
            raise ValueError(f"netlink attribute of {length} bytes in a rest of {end - at}")
        _decode_peer(data, at + 4, at + length, peers, endpoints=endpoints)
        at += (length + 3) & ~3


def _peer(key: PublicKey, psk: bytes, packed: bytes, mask: int, keepalive: int) -> PeerConfig:
    if psk == NO_PRESHARED_KEY:
        psk = NO_PRESHARED_KEY  # one object for all peers without a key
    return PeerConfig(key, psk, (Network(packed, mask),), keepalive)


def _decode_peer(data: bytes, at: int, end: int, peers: dict[PublicKey, PeerState], *, endpoints: bool) -> None:
    """Decode one nested peer of any form into ``peers``."""
    key: bytes | None = None
    psk, keepalive, handshake, endpoint = NO_PRESHARED_KEY, 0, 0, None
    found: Sequence[Network] = ()
    rx = tx = -1
    header = ATTR.unpack_from
    while at < end:
        if end - at < 4:
            raise ValueError("netlink attribute without a whole header")
        length, kind = header(data, at)
        start, stop = at + 4, at + length
        if length < 4 or stop > end:
            raise ValueError(f"peer attribute of {length} bytes in a rest of {end - at}")
        kind &= NLA_TYPE_MASK
        if kind == PEER_ALLOWEDIPS:
            found = _decode_ips(data, start, stop)
        elif kind == PEER_PUBLIC_KEY:
            key = _key(data, start, stop)
        elif kind == PEER_PRESHARED_KEY:
            psk = _key(data, start, stop)
        elif kind == PEER_RX_BYTES:
            rx = number(U64, data, start, stop)
        elif kind == PEER_TX_BYTES:
            tx = number(U64, data, start, stop)
        elif kind == PEER_KEEPALIVE:
            keepalive = number(U16, data, start, stop)
        elif kind == PEER_HANDSHAKE:
            if length != 20:
                raise ValueError(f"handshake time has {length - 4} bytes, not 16")
            seconds, nanoseconds = _TIMESPEC.unpack_from(data, start)
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == PEER_ENDPOINT and endpoints:
            endpoint = _decode_endpoint(data, start, stop)
        at += (length + 3) & ~3
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
        peers[public_key] = PeerState(peer, rx, tx, handshake, endpoint)
    elif rx >= 0 or tx >= 0:
        raise ValueError("one peer twice in one dump")
    else:  # the next part of a peer with many allowed IPs: it has a key and allowed IPs only
        merged = known.config._replace(allowed_ips=as_networks((*known.config.allowed_ips, *found)))
        peers[public_key] = known._replace(config=merged)


def _decode_ips(data: bytes, at: int, end: int) -> list[Network]:
    networks = []
    while at < end:
        if end - at < 4:
            raise ValueError("netlink attribute without a whole header")
        length, _ = ATTR.unpack_from(data, at)
        if length < 4 or at + length > end:
            raise ValueError(f"allowed IP of {length} bytes in a rest of {end - at}")
        family = mask = -1
        packed = b""
        for kind, start, stop in attributes(data, at + 4, at + length):
            if kind == IP_ADDRESS:
                packed = data[start:stop]
            elif kind == IP_MASK:
                mask = number(U8, data, start, stop)
            elif kind == IP_FAMILY:
                family = number(U16, data, start, stop)
        if (family, len(packed)) not in _FAMILIES or not 0 <= mask <= len(packed) * 8:
            raise ValueError(f"allowed IP of family {family} with {len(packed)} bytes and mask {mask}")
        networks.append(Network(packed, mask))
        at += (length + 3) & ~3
    return networks


def _decode_endpoint(data: bytes, start: int, end: int) -> str | None:
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
