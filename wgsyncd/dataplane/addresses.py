"""Finds out by netlink whether an interface has an address.

Sources: rtnetlink(7), uapi/linux/if_addr.h. To bind a socket to the address would say less, because
net.ipv4.ip_nonlocal_bind allows this for any address.
"""

import ipaddress
import os
import socket
from struct import Struct

from wgsyncd.dataplane import netlink

_NETLINK_ROUTE, _RTM_NEWADDR, _RTM_GETADDR = 0, 20, 22
_IFADDRMSG = Struct("=BBBBI")  # family, prefix length, flags, scope, index of the interface
_IFA_ADDRESS, _IFA_LOCAL = 1, 2  # they differ on a point-to-point link: then the first one is the other end's
_UNUSABLE = 0x08 | 0x40  # IFA_F_DADFAILED: another machine has it. IFA_F_TENTATIVE: nobody knows this yet
_TRIES, _PATIENCE, _DATAGRAM = 5, 2.0, 1 << 16


def has_address(address: str) -> bool:
    """Whether an interface of this network namespace has the IPv4 or IPv6 address. OSError: the kernel does not say."""
    return interface_of(address) is not None


def interface_of(address: str) -> str | None:
    """The interface that has the address, None if none has it. OSError: the kernel does not say."""
    wanted = ipaddress.ip_address(address).packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as kernel:
        kernel.settimeout(_PATIENCE)
        try:
            for number in range(1, _TRIES + 1):
                found, whole = _ask(kernel, number)
                if wanted in found:
                    return socket.if_indextoname(found[wanted])
                if whole:
                    return None
        except ValueError as error:
            raise OSError(0, f"the kernel's answer cannot be read: {error}") from error
    raise OSError(0, "the list of addresses changes all the time")


def _ask(kernel: socket.socket, number: int) -> tuple[dict[bytes, int], bool]:
    """The index of an interface by address, and whether all are there: a change meanwhile may hide an address."""
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
    kernel.send(netlink.message(_RTM_GETADDR, flags, number, _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
    found, whole = dict[bytes, int](), True
    while True:
        for one in netlink.messages(kernel.recv(_DATAGRAM)):
            if one.seq != number:
                continue
            whole = whole and not one.flags & netlink.NLM_F_DUMP_INTR
            if one.type in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                if code := netlink.error_number(one.payload):
                    raise OSError(code, os.strerror(code))
                return found, whole
            if one.type == _RTM_NEWADDR:
                found |= _own(one.payload)


def _own(payload: bytes) -> dict[bytes, int]:
    _, _, flags, _, index = _IFADDRMSG.unpack_from(payload)
    values = {
        kind: payload[start:end] for kind, start, end in netlink.attributes(payload, _IFADDRMSG.size, len(payload))
    }
    own = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
    return {own: index} if own is not None and not flags & _UNUSABLE else {}
