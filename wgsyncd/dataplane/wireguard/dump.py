"""Decodes the bytes of a WireGuard dump into peers by pure functions.

Sources: uapi/linux/wireguard.h, and get_peer() in drivers/net/wireguard/netlink.c in Linux. Malformed bytes raise
ValueError. Its text never contains a key.
"""

from dataclasses import dataclass, field
from socket import AF_INET
from struct import Struct
from typing import NamedTuple

from wgsyncd.core.model import NO_PRESHARED_KEY, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network
from wgsyncd.dataplane.netlink import ATTR, GENLMSGHDR, NLA_F_NESTED, U16, U32, attributes, number
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
from wgsyncd.dataplane.wireguard.dumped_peer import decode_endpoint, decode_key, decode_peer


def _header(length: int, kind: int) -> int:
    return int(U32.unpack(ATTR.pack(length, kind))[0])


# Linux sends the attributes of a peer with one IPv4 address always in the same order. One unpack of such a peer takes a
# tenth of the time of a loop over its attributes. There are several forms: without an endpoint, with an IPv4 or an IPv6
# endpoint. Some machines align 64-bit numbers: then an empty attribute stands before the second counter or before both
# (nla_put_u64_64bit in net/netlink.h in Linux).
_PADDING = _header(4, 0)
_USUAL: dict[int, tuple[Struct | None, tuple[object, ...]]] = {}
"""By the length of the nested peer: the form to unpack it, and the headers that its attributes must have."""
for _endpoint in (0, 16, 28):
    for _pads in (0, 1, 2):
        _form = Struct(
            "=II32sI32sIqqIHxx"
            + ("I" if _pads == 2 else "0s") + "IQ" + ("I" if _pads else "0s") + "IQI4x"
            + (f"I{_endpoint}s" if _endpoint else "0s0s")
            + "IIIBxxxIHxxI4s"
        )  # fmt: skip
        _USUAL[_form.size] = _form, (
            _header(36, PEER_PUBLIC_KEY), _header(36, PEER_PRESHARED_KEY), _header(20, PEER_HANDSHAKE),
            _header(6, PEER_KEEPALIVE), _PADDING if _pads == 2 else b"", _header(12, PEER_TX_BYTES),
            _PADDING if _pads else b"", _header(12, PEER_RX_BYTES), _header(8, PEER_PROTOCOL_VERSION),
            _header(4 + _endpoint, PEER_ENDPOINT) if _endpoint else b"",
            _header(32, PEER_ALLOWEDIPS | NLA_F_NESTED), _header(28, NLA_F_NESTED), _header(5, IP_MASK),
            _header(6, IP_FAMILY), int(AF_INET), _header(8, IP_ADDRESS),
        )  # fmt: skip
_UNUSUAL = None, ()
_MOST_KEPT = 1.25  # decoded peers for each peer of an interface. A new table for each dump would take more time

_PREFIX = tuple(bytes((length,)) for length in range(33))


class Device(NamedTuple):
    """One interface as a complete dump shows it."""

    ifindex: int
    public_key: PublicKey | None
    listen_port: int
    peers: dict[PublicKey, PeerState]


@dataclass(slots=True)
class DumpMemory:
    """What earlier dumps of an interface have shown, so that an unchanged peer is not decoded again.

    It holds each configuration once: a peer gets the known object again. :meth:`Decoder.device` brings it up to date.
    """

    known: dict[PublicKey, PeerConfig] = field(default_factory=dict)  # also of peers that were just added
    decoded: dict[int, PeerState] = field(default_factory=dict)  # of the last dumps, by a hash of a peer's bytes


class Decoder:
    """Decodes one dump message by message, so that no message has to be kept.

    ``endpoints``: whether to decode endpoints. To format them takes a quarter of the decoder's time.
    """

    def __init__(self, memory: DumpMemory | None = None, *, endpoints: bool = True) -> None:
        self._memory = DumpMemory() if memory is None else memory
        self._known, self._endpoints = self._memory.known, endpoints
        self.clear()

    def clear(self) -> None:
        """Forget the messages so far."""
        self._ifindex = self._listen_port = 0
        self._public_key: PublicKey | None = None
        self._peers: dict[PublicKey, PeerState] = {}
        self._decoded: dict[int, PeerState] = {}  # what DumpMemory does not have yet
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
                self._decode_peers(data, start, end)
            elif kind == DEVICE_IFINDEX:
                index = number(U32, data, start, end)
                if self._ifindex not in (0, index):
                    raise ValueError("two interfaces in one dump")
                self._ifindex = index
            elif kind == DEVICE_PUBLIC_KEY:
                self._public_key = PublicKey(decode_key(data, start, end))
            elif kind == DEVICE_LISTEN_PORT:
                self._listen_port = number(U16, data, start, end)

    def _decode_peers(self, data: bytes, at: int, end: int) -> None:
        """Decode the peers of one message. The loop avoids calls, because it runs once a peer.

        A peer with the bytes of an earlier dump is decoded already, counters included. The hash of bytes is keyed and
        has 64 bits (PEP 456), and only the peer's own bytes count.
        """
        known, peers, endpoints = self._known, self._peers, self._endpoints
        before, decoded = self._memory.decoded, self._decoded
        while at < end:
            if end - at < 4:
                raise ValueError("netlink attribute without a whole header")
            length, kind = ATTR.unpack_from(data, at)
            size = (length + 3) & ~3
            digest = hash(data[at : at + size])
            same = before.get(digest)
            if same is not None and (key := same.config.public_key) == data[at + 8 : at + 40] and key not in peers:
                peers[key] = same
                at += size
                continue
            form, headers = _USUAL.get(length, _UNUSUAL)
            if form is not None and kind == NLA_F_NESTED and end - at >= form.size:
                (_, h1, key, h2, psk, h3, seconds, nanoseconds, h4, keepalive, h5, h6, tx, h7, h8, rx, h9, h10,
                 sockaddr, h11, h12, h13, mask, h14, family, h15, packed) = form.unpack_from(data, at)  # fmt: skip
                usual = (h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11, h12, h13, h14, family, h15) == headers
                if usual and mask <= 32 and seconds >= 0 and nanoseconds >= 0 and key not in peers:
                    handshake = seconds * 1_000_000_000 + nanoseconds
                    endpoint = decode_endpoint(sockaddr, 0, len(sockaddr)) if sockaddr and endpoints else None
                    peer = known.get(key)
                    if peer is None:
                        known[key] = peer = _peer(key, psk, packed, mask, keepalive)
                    elif (
                        peer.preshared_key != psk or peer.persistent_keepalive != keepalive
                        or peer.allowed_ips != (packed + _PREFIX[mask],)
                    ):  # fmt: skip
                        known[key] = peer = _peer(peer.public_key, psk, packed, mask, keepalive)
                    peers[peer.public_key] = decoded[digest] = PeerState(peer, rx, tx, handshake, endpoint)
                    at += size
                    continue
            if length < 4 or at + length > end:
                raise ValueError(f"netlink attribute of {length} bytes in a rest of {end - at}")
            one = decode_peer(data, at + 4, at + length, peers, endpoints=endpoints)
            if one is not None:
                decoded[digest] = one
            at += size

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
        decoded, fresh = self._memory.decoded, self._decoded
        if len(decoded) + len(fresh) > _MOST_KEPT * len(self._peers):
            fresh.update(one for one in decoded.items() if self._peers.get(one[1].config.public_key) is one[1])
            self._memory.decoded = fresh
        else:
            decoded.update(fresh)
        return Device(self._ifindex, self._public_key, self._listen_port, self._peers)


def _peer(key: PublicKey, psk: bytes, packed: bytes, mask: int, keepalive: int) -> PeerConfig:
    if psk == NO_PRESHARED_KEY:
        psk = NO_PRESHARED_KEY  # one object for all peers without a key
    return PeerConfig(key, psk, (Network(packed, mask),), keepalive)
