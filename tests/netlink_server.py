"""WireGuard's netlink messages as the kernel would write them, built independently of the code under test.

Source: Linux' drivers/net/wireguard/netlink.c (get_peer, wg_get_device_dump) and uapi/linux/wireguard.h.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
from collections.abc import Iterator, Sequence

from wgsyncd.core.model import PeerState
from wgsyncd.core.network import Network

NESTED = 0x8000


def attr(kind: int, value: bytes) -> bytes:
    """A netlink attribute: length, type, value, and padding to 4 bytes (netlink(7))."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def sockaddr(endpoint: str) -> bytes:
    """A sockaddr_in or sockaddr_in6 of "address:port", with the address in brackets if it is IPv6."""
    host, _, port = endpoint.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", int(port), address.packed)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", int(port), 0, address.packed, 0)


def allowed_ip(network: Network, nested: int = NESTED) -> bytes:
    family = socket.AF_INET if len(network.packed) == 4 else socket.AF_INET6
    return attr(
        nested, attr(3, bytes([network.prefixlen])) + attr(1, struct.pack("=H", family)) + attr(2, network.packed)
    )


def peer_attributes(state: PeerState, pads: int = 0) -> list[bytes]:
    """The attributes of a peer in the kernel's order, without key and allowed IPs.

    ``pads``: how many of the two 64-bit counters have padding before them, for alignment.
    """
    seconds, nanoseconds = divmod(state.latest_handshake, 10**9)
    attributes = [
        attr(2, state.config.preshared_key),
        attr(6, struct.pack("=qq", seconds, nanoseconds)),
        attr(5, struct.pack("=H", state.config.persistent_keepalive)),
        attr(0, b"") if pads == 2 else b"",
        attr(8, struct.pack("=Q", state.counters.tx)),
        attr(0, b"") if pads else b"",
        attr(7, struct.pack("=Q", state.counters.rx)),
        attr(10, struct.pack("=I", 1)),
    ]
    if state.endpoint is not None:
        attributes.append(attr(4, sockaddr(state.endpoint)))
    return attributes


def peer(
    state: PeerState, *, ips: Sequence[Network] | None = None, more: bool = False, nested: int = NESTED, pads: int = 0
) -> bytes:
    """A nested peer with its allowed IPs. ``ips``: only these. ``more``: the rest of a peer that did not fit before."""
    chosen = sorted(state.config.allowed_ips) if ips is None else ips
    nest = attr(9 | nested, b"".join(allowed_ip(ip, nested) for ip in chosen))
    rest = b"" if more else b"".join(peer_attributes(state, pads))
    return attr(nested, attr(1, state.config.public_key) + rest + (nest if chosen else b""))


def device(ifindex: int = 7, name: str = "wg0", port: int = 51820, key: bytes | None = bytes(range(32))) -> bytes:
    """The attributes of the interface in the first message of a dump, with its private key."""
    keys = attr(3, b"\x55" * 32) + attr(4, key) if key is not None else b""
    head = attr(6, struct.pack("=H", port)) + attr(7, struct.pack("=I", 0)) + attr(1, struct.pack("=I", ifindex))
    return head + attr(2, name.encode() + b"\0") + keys


def payload(peers: bytes, head: bytes = b"", nested: int = NESTED) -> bytes:
    """The payload of one message: the generic netlink header, the attributes ``head``, and the list of peers."""
    return struct.pack("=BBxx", 0, 1) + head + (attr(8 | nested, peers) if peers else b"")


def dump(
    states: Sequence[PeerState], *, peers_each: int = 3, ips_each: int = 1000, nested: int = NESTED, pads: int = 0
) -> list[bytes]:
    """The payloads of a dump.

    A peer is cut into pieces of ``ips_each`` allowed IPs. Each message has ``peers_each`` pieces.
    """
    pieces = []
    for state in states:
        ips = sorted(state.config.allowed_ips)
        for at in range(0, len(ips) or 1, ips_each):
            pieces.append(peer(state, ips=ips[at : at + ips_each], more=at > 0, nested=nested, pads=pads))
    groups = [pieces[at : at + peers_each] for at in range(0, len(pieces), peers_each)] or [[]]
    return [payload(b"".join(group), b"" if n else device(), nested) for n, group in enumerate(groups)]


def shuffled_peer(state: PeerState, seed: int) -> bytes:
    """A peer with attributes that no kernel sends today, all in a random order."""
    parts = [
        attr(1, state.config.public_key),
        *peer_attributes(state),
        attr(0, b""),  # WGPEER_A_UNSPEC, the padding before 64-bit values on some machines
        attr(99, b"something new"),
        attr(9 | NESTED, b"".join(map(allowed_ip, sorted(state.config.allowed_ips)))),
    ]
    random.Random(seed).shuffle(parts)
    return attr(NESTED, b"".join(parts))


def message(kind: int, flags: int, seq: int, body: bytes) -> bytes:
    """A netlink message with its header (netlink(7)). Its port id is 4711."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 4711) + body + bytes(-len(body) % 4)


def parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in ``data``, to read a request of the code under test."""
    while data:
        length, kind = struct.unpack_from("=HH", data)
        assert 4 <= length <= len(data)
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]
