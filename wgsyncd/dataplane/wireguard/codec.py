"""Encodes WireGuard's generic netlink messages by pure functions from values to bytes.

Sources: uapi/linux/wireguard.h, uapi/linux/netlink.h, uapi/linux/genetlink.h, drivers/net/wireguard/netlink.c in Linux.
Netlink uses the machine's byte order, and the fields of a sockaddr use network order. Malformed values raise
ValueError. Its text never contains a key.
"""

from collections.abc import Iterable, Iterator, Sequence
from socket import AF_INET, AF_INET6
from struct import Struct
from typing import NamedTuple

from wgsyncd.core.model import KEY_BYTES, Change, ChangeKind
from wgsyncd.core.network import Network
from wgsyncd.dataplane.netlink import ATTR, GENLMSGHDR, NLA_F_NESTED, NLMSGHDR, U16, attr

WG_GENL_NAME, _WG_GENL_VERSION = "wireguard", 1
_WG_CMD_GET_DEVICE, _WG_CMD_SET_DEVICE = 0, 1
DEVICE_IFINDEX, DEVICE_IFNAME, DEVICE_PRIVATE_KEY, DEVICE_PUBLIC_KEY = 1, 2, 3, 4
DEVICE_LISTEN_PORT, DEVICE_PEERS = 6, 8
PEER_PUBLIC_KEY, PEER_PRESHARED_KEY, PEER_FLAGS, PEER_ENDPOINT, PEER_KEEPALIVE = 1, 2, 3, 4, 5
PEER_HANDSHAKE, PEER_RX_BYTES, PEER_TX_BYTES, PEER_ALLOWEDIPS, PEER_PROTOCOL_VERSION = 6, 7, 8, 9, 10
IP_FAMILY, IP_ADDRESS, IP_MASK = 1, 2, 3
PEER_F_REMOVE_ME, PEER_F_REPLACE_ALLOWEDIPS, PEER_F_UPDATE_ONLY = 1, 2, 4

_FLAGS_ATTR, _KEEPALIVE_ATTR = Struct("=HHI"), Struct("=HHHxx")
_IP4_ATTR, _IP6_ATTR = Struct("=HHHHHxxHH4sHHBxxx"), Struct("=HHHHHxxHH16sHHBxxx")


MESSAGE_BYTES = 32 * 1024
"""The largest SET_DEVICE message. The length of an attribute has 16 bits, so the peers of one message must stay below
64 KiB. Half of that keeps the kernel's allocation small and a batch at about 250 peers."""


class Batch(NamedTuple):
    """Changes that are sent together: one payload for many changes, or many payloads for one large change."""

    payloads: list[bytes]
    changes: list[Change]


def _device(command: int, interface: str) -> bytes:
    name = interface.encode() + b"\0"
    return GENLMSGHDR.pack(command, _WG_GENL_VERSION) + attr(DEVICE_IFNAME, name)


def get_device(interface: str) -> bytes:
    """The payload of a WG_CMD_GET_DEVICE request. Send it with NLM_F_DUMP."""
    return _device(_WG_CMD_GET_DEVICE, interface)


def set_device(interface: str, *, private_key: bytes, listen_port: int) -> bytes:
    """The payload that gives a new interface its private key and its port (0: the kernel chooses)."""
    if len(private_key) != KEY_BYTES:
        raise ValueError("private key is not 32 bytes")
    port = attr(DEVICE_LISTEN_PORT, U16.pack(listen_port))
    return _device(_WG_CMD_SET_DEVICE, interface) + attr(DEVICE_PRIVATE_KEY, private_key) + port


def set_peers(interface: str, changes: Iterable[Change], limit: int = MESSAGE_BYTES) -> Iterator[Batch]:
    """Payloads of at most ``limit`` bytes that make the changes in order. They never set WGDEVICE_F_REPLACE_PEERS.

    A peer with too many allowed IPs for one payload gets several payloads of its own. The first one replaces the
    allowed IPs, the others add to them.
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
    return head + attr(DEVICE_PEERS | NLA_F_NESTED, b"".join(peers))


def _peer_parts(change: Change, room: int) -> list[bytes]:
    """The nested peer attributes of a change, each of at most ``room`` bytes. Only many IPs need several."""
    key = attr(PEER_PUBLIC_KEY, change.public_key)
    after = change.desired
    if after is None:
        return [attr(NLA_F_NESTED, key + _FLAGS_ATTR.pack(8, PEER_FLAGS, PEER_F_REMOVE_ME))]
    flags = PEER_F_UPDATE_ONLY if change.kind is ChangeKind.UPDATE else 0
    values = b""
    ips: list[bytes] = []
    if change.sets_preshared_key:
        values += attr(PEER_PRESHARED_KEY, after.preshared_key)
    if change.sets_keepalive:
        values += _KEEPALIVE_ATTR.pack(6, PEER_KEEPALIVE, after.persistent_keepalive)
    if change.sets_allowed_ips:
        flags |= PEER_F_REPLACE_ALLOWEDIPS
        ips = [_encode_ip(network) for network in after.allowed_ips]
    parts = []
    first = key + _FLAGS_ATTR.pack(8, PEER_FLAGS, flags) + values
    more = key + _FLAGS_ATTR.pack(8, PEER_FLAGS, PEER_F_UPDATE_ONLY)  # otherwise it could bring back a removed peer
    fit = max((room - len(first) - 3 * ATTR.size) // _IP6_ATTR.size, 1)
    for at in range(0, len(ips) or 1, fit):
        chunk = b"".join(ips[at : at + fit])
        nest = attr(PEER_ALLOWEDIPS | NLA_F_NESTED, chunk) if chunk else b""
        parts.append(attr(NLA_F_NESTED, (more if at else first) + nest))
    return parts


def _encode_ip(network: Network) -> bytes:
    packed, mask = network.packed, network.prefixlen
    form, family = (_IP4_ATTR, AF_INET) if len(packed) == 4 else (_IP6_ATTR, AF_INET6)
    return form.pack(
        form.size, NLA_F_NESTED, 6, IP_FAMILY, family, 4 + len(packed), IP_ADDRESS, packed, 5, IP_MASK, mask
    )
