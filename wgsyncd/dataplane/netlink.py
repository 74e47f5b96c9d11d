"""Netlink: its sockets, and the framing of messages, attributes, errors and generic families.

Sources: uapi/linux/netlink.h, uapi/linux/genetlink.h. All numbers use the machine's byte order. Malformed bytes raise
ValueError.
"""

import socket
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
GENL_ID_CTRL = 0x10
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

NLMSGHDR = Struct("=IHHII")  # length, type, flags, sequence, port id
GENLMSGHDR = Struct("=BBxx")  # command, version
ATTR = Struct("=HH")  # length with this header but without padding, type with flags
U8, U16, U32, U64 = Struct("=B"), Struct("=H"), Struct("=I"), Struct("=Q")
_S32 = Struct("=i")
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _SO_RCVBUFFORCE = 270, 10, 11, 33
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2


def open_socket(protocol: int, buffer: int, timeout: float, *, with_texts: bool = False) -> socket.socket:
    """A socket that hears the kernel alone. OSError if the kernel gives none.

    ``buffer``: bytes of answers that may wait. ``timeout``: seconds. ``with_texts``: of the kernel for errors.
    """
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    try:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # otherwise an error echoes the request with its keys
        opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, int(with_texts))
        opened.settimeout(timeout)
        opened.bind((0, 0))
        opened.connect((0, 0))
    except OSError:
        opened.close()
        raise
    return opened


class Message(NamedTuple):
    """One netlink message of a datagram."""

    type: int
    flags: int
    seq: int
    payload: bytes


def message(kind: int, flags: int, seq: int, payload: bytes) -> bytes:
    return NLMSGHDR.pack(NLMSGHDR.size + len(payload), kind, flags, seq, 0) + payload


def messages(datagram: bytes) -> Iterator[Message]:
    at, end = 0, len(datagram)
    while at < end:
        if end - at < NLMSGHDR.size:
            raise ValueError("netlink message without a whole header")
        length, kind, flags, seq, _ = NLMSGHDR.unpack_from(datagram, at)
        if length < NLMSGHDR.size or length > end - at:
            raise ValueError(f"netlink message of {length} bytes in a rest of {end - at}")
        yield Message(kind, flags, seq, datagram[at + NLMSGHDR.size : at + length])
        at += (length + 3) & ~3


def error_number(payload: bytes) -> int:
    """The errno (positive, 0 = success) of an NLMSG_ERROR or NLMSG_DONE message."""
    if not payload:  # NLMSG_DONE may have no payload
        return 0
    if len(payload) < _S32.size:
        raise ValueError("netlink error message without a number")
    return abs(int(_S32.unpack_from(payload)[0]))


def attr(kind: int, value: bytes) -> bytes:
    """An attribute, padded to four bytes."""
    return ATTR.pack(ATTR.size + len(value), kind) + value + bytes(-len(value) & 3)


def attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The type, start and end of each attribute's value between two offsets."""
    while at < end:
        if end - at < 4:
            raise ValueError("netlink attribute without a whole header")
        length, kind = ATTR.unpack_from(data, at)
        if length < 4 or at + length > end:
            raise ValueError(f"netlink attribute {kind & NLA_TYPE_MASK} of {length} bytes in a rest of {end - at}")
        yield kind & NLA_TYPE_MASK, at + 4, at + length
        at += (length + 3) & ~3


def number(form: Struct, data: bytes, start: int, end: int) -> int:
    if end - start != form.size:
        raise ValueError(f"netlink attribute has {end - start} bytes, not {form.size}")
    return int(form.unpack_from(data, start)[0])


def get_family(name: str) -> bytes:
    """The payload of a CTRL_CMD_GETFAMILY request. The request makes the kernel load the family's module."""
    return GENLMSGHDR.pack(_CTRL_CMD_GETFAMILY, 1) + attr(_CTRL_ATTR_FAMILY_NAME, name.encode() + b"\0")


def decode_family(payload: bytes) -> int:
    """The message type of the family. It is valid until the module is unloaded."""
    for kind, start, end in attributes(payload, GENLMSGHDR.size, len(payload)):
        if kind == _CTRL_ATTR_FAMILY_ID:
            return number(U16, payload, start, end)
    raise ValueError("no family id in the kernel's answer")
