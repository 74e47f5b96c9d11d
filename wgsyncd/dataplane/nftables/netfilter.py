"""Netfilter's netlink: the generation of the rules, who commits to them, and an address's flows.

Sources: uapi/linux/netfilter/nfnetlink.h, nf_tables.h, nfnetlink_conntrack.h. pyroute2 0.9.7 is no help here: the
kernel refuses its filter of IPv6 flows with EINVAL.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from struct import Struct
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.policies.status import Traffic
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.netlink import NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, attr, attributes
from wgsyncd.dataplane.nftables.rules import NAME
from wgsyncd.errors import FilterError

_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_NFTABLES, _NFPROTO_INET = 10, 1  # NFNL_SUBSYS_NFTABLES, and a family of linux/netfilter.h
_NFT_MSG_NEWGEN, _NFT_MSG_GETGEN = 10 << 8 | 15, 10 << 8 | 16
_NFT_MSG_GETOBJ, _NFT_OBJECT_COUNTER = 10 << 8 | 19, 1
_NFTA_OBJ_TABLE, _NFTA_OBJ_NAME, _NFTA_OBJ_TYPE, _NFTA_OBJ_DATA = 1, 2, 3, 4
_NFTA_COUNTER_BYTES, _NFTA_COUNTER_PACKETS = 1, 2
_NFTA_GEN_ID, _NFTA_GEN_PROC_PID, _NFTA_GEN_PROC_NAME = 1, 2, 3
_CT_GET, _CT_DELETE = 1 << 8 | 1, 1 << 8 | 2
_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 12, 18, 25
_CTA_TUPLE_IP, _CTA_IP_V4_SRC, _CTA_IP_V6_SRC = 1, 1, 3
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_F_IP_SRC = 1, 1
_NFGENMSG = Struct("!BBH")  # address family, version, resource
_BE32, _BE64 = Struct("!I"), Struct("!Q")
_FEW = 16  # addresses
_DATAGRAM = 64 * 1024  # bytes. A datagram of a dump has at most 32 KiB
_TODO = {  # by errno: what to do if the kernel refuses the sockets
    "EPERM": "the service needs the capability CAP_NET_ADMIN, as the shipped unit gives it",
    "EAFNOSUPPORT": "RestrictAddressFamilies= of the unit has to name AF_NETLINK",
}


def _socket(more: int = 0) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | more, _NETLINK_NETFILTER)


class Commit(NamedTuple):
    """One change of anybody's rules in this network namespace."""

    generation: int
    pid: int
    process: str  # the first 15 characters of the program's name
    may_be_ours: bool  # it changed the table of wgsyncd, or the kernel could not tell which tables it changed


class Netfilter:
    """One socket for questions, and one that hears of each commit. ``timeout``: seconds that one answer may take.

    Both belong to the network namespace of the thread that makes this object. FilterError if the kernel refuses them.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        self._timeout, self._seq = timeout, 0
        self._changed = self._has_lost = False  # in the present commit: our table is changed. News were lost
        with contextlib.ExitStack() as opened:
            try:
                self._asking = opened.enter_context(_socket())
                self._hearing = opened.enter_context(_socket(socket.SOCK_NONBLOCK))
                self._asking.bind((0, 0))
                self._asking.connect((0, 0))  # from the kernel only
                self._hearing.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "EIO")
                todo = _TODO.get(name, "the kernel needs nf_tables")
                raise FilterError(name, f"the kernel does not let wgsyncd watch its rules: {todo}") from error
            opened.pop_all()

    def fileno(self) -> int:
        """The descriptor that can be read when somebody has committed."""
        return self._hearing.fileno()

    def close(self) -> None:
        self._asking.close()
        self._hearing.close()

    def generation(self) -> int:
        """The number of the last commit. It changes with every commit of anybody."""
        for payload in self._talk(_NFT_MSG_GETGEN, 0, _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0)):
            return _commit(payload).generation
        raise FilterError("EBADMSG", "the kernel does not tell the generation of the packet filter's rules")

    def counters(self) -> Mapping[str, Traffic]:
        """What the counters of our table have, by name. Without a table there are none.

        nft would first read the whole table: with 10,000 devices, that takes a hundred times as long.
        """
        table = attr(_NFTA_OBJ_TABLE, NAME.encode() + b"\0") + attr(_NFTA_OBJ_TYPE, _BE32.pack(_NFT_OBJECT_COUNTER))
        shown = self._talk(_NFT_MSG_GETOBJ, NLM_F_DUMP, _NFGENMSG.pack(_NFPROTO_INET, 0, 0) + table)
        try:
            return dict(map(_counter, shown))
        except ValueError as error:
            raise FilterError("EBADMSG", f"cannot make sense of netfilter's counters: {error}") from error

    def commits(self) -> list[Commit]:
        """The commits since the last call. The kernel drops news that nobody reads, so the list may be incomplete.

        Then nobody knows what the commits have changed that are told until the next call, and in that call.
        """
        found: list[Commit] = []
        has_lost = False
        while True:
            try:
                datagram = self._hearing.recv(_DATAGRAM)
            except BlockingIOError:
                self._has_lost = has_lost or (self._has_lost and not found)
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise FilterError(errno.errorcode.get(error.errno or 0, "EIO"), str(error)) from error
                self._has_lost = has_lost = True
                continue
            for one in netlink.messages(datagram):
                if one.type == _NFT_MSG_NEWGEN:
                    commit = _commit(one.payload)
                    found.append(commit._replace(may_be_ours=self._changed or self._has_lost))
                    self._changed = False
                elif one.type >> 8 == _NFTABLES:
                    self._changed |= _is_of_table(one.payload)

    def forget(self, hosts: Sequence[Network]) -> int:
        """Delete all flows that began at one of these addresses. Returns how many there were."""
        count = 0
        for size, family in ((4, socket.AF_INET), (16, socket.AF_INET6)):
            some = {host.packed for host in hosts if len(host.packed) == size}
            for flow in self._flows(family, some) if some else ():
                try:
                    self._talk(_CT_DELETE, NLM_F_ACK, flow)
                    count += 1
                except FilterError as error:
                    if error.name != "ENOENT":  # it has just ended by itself
                        raise
        return count

    def _flows(self, family: int, sources: Set[bytes]) -> list[bytes]:
        """The requests that delete each flow that began at one of these addresses.

        The kernel walks through all its flows for each question. So it selects the flows of few addresses only. IPv6
        addresses are compared here, because the kernel's comparison is turned round: Linux 6.18 shows all
        flows but the wanted ones (ctnetlink_filter_match_tuple() in net/netfilter/nf_conntrack_netlink.c).
        """
        head = _NFGENMSG.pack(family, 0, 0)
        source = _CTA_IP_V4_SRC if family == socket.AF_INET else _CTA_IP_V6_SRC
        requests = [head]
        if len(sources) <= _FEW and family == socket.AF_INET:
            flags = attr(_CTA_FILTER_ORIG_FLAGS, netlink.U32.pack(_CTA_FILTER_F_IP_SRC))
            select = attr(_CTA_FILTER | NLA_F_NESTED, flags)
            requests = [head + _address(attr(source, packed)) + select for packed in sources]
        payloads = (one for request in requests for one in self._talk(_CT_GET, NLM_F_DUMP, request))
        return [head + _name(payload) for payload in payloads if _source(payload, source) in sources]

    def _talk(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Ask, and return the payloads of the answer. FilterError with the errno's name if the kernel refuses."""
        self._seq = seq = self._seq % 0x7FFFFFFF + 1
        try:
            self._asking.settimeout(self._timeout)
            self._asking.send(netlink.message(kind, NLM_F_REQUEST | flags, seq, payload))
            return list(self._answer(seq, one_message=not flags))
        except TimeoutError:
            raise FilterError("ETIMEDOUT", f"netfilter gave no answer within {self._timeout:g} s") from None
        except ValueError as error:
            raise FilterError("EBADMSG", f"cannot make sense of netfilter's answer: {error}") from error
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "EIO")
            raise FilterError(name, f"netfilter: {error.strerror}") from error

    def _answer(self, seq: int, *, one_message: bool) -> Iterator[bytes]:
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            for one in netlink.messages(self._asking.recv(_DATAGRAM)):
                if one.seq != seq:  # the rest of an earlier answer
                    continue
                if one.type in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                    number = netlink.error_number(one.payload)
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                yield one.payload
                if one_message:
                    return
        raise TimeoutError


def _counter(payload: bytes) -> tuple[str, Traffic]:
    name, packets, count = "", 0, 0
    for kind, start, end in attributes(payload, _NFGENMSG.size, len(payload)):
        if kind == _NFTA_OBJ_NAME:
            name = payload[start:end].rstrip(b"\0").decode(errors="replace")
        elif kind == _NFTA_OBJ_DATA:
            for part, at, over in attributes(payload, start, end):
                if part == _NFTA_COUNTER_BYTES:
                    count = netlink.number(_BE64, payload, at, over)
                elif part == _NFTA_COUNTER_PACKETS:
                    packets = netlink.number(_BE64, payload, at, over)
    return name, Traffic(packets, count)


def _is_of_table(payload: bytes) -> bool:
    """Whether a message is about our table. Each kind of message has the name of the table as attribute 1."""
    if payload[:1] != bytes((_NFPROTO_INET,)):
        return False
    names = (payload[start:end] for kind, start, end in attributes(payload, _NFGENMSG.size, len(payload)) if kind == 1)
    return next(names, b"").rstrip(b"\0") == NAME.encode()


def _commit(payload: bytes) -> Commit:
    generation = pid = 0
    process = ""
    for kind, start, end in attributes(payload, _NFGENMSG.size, len(payload)):
        if kind == _NFTA_GEN_ID:
            generation = netlink.number(_BE32, payload, start, end)
        elif kind == _NFTA_GEN_PROC_PID:
            pid = netlink.number(_BE32, payload, start, end)
        elif kind == _NFTA_GEN_PROC_NAME:
            process = payload[start:end].rstrip(b"\0").decode(errors="replace")
    return Commit(generation, pid, process, may_be_ours=True)


def _address(source: bytes) -> bytes:
    return attr(_CTA_TUPLE_ORIG | NLA_F_NESTED, attr(_CTA_TUPLE_IP | NLA_F_NESTED, source))


def _source(payload: bytes, wanted: int) -> bytes | None:
    """The original source of a flow. ``wanted``: the attribute that has it."""
    at = [(_NFGENMSG.size, len(payload))]
    for kind in (_CTA_TUPLE_ORIG, _CTA_TUPLE_IP, wanted):
        at = [(start, end) for found, start, end in attributes(payload, *at[0]) if found == kind]
        if not at:
            return None
    return payload[at[0][0] : at[0][1]]


def _name(payload: bytes) -> bytes:
    """The attributes of a flow that name it: where it goes, its zone, and its id, so that no later flow is meant."""
    named = b""
    for kind, start, end in attributes(payload, _NFGENMSG.size, len(payload)):
        if kind in (_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE):
            nested = NLA_F_NESTED if kind == _CTA_TUPLE_ORIG else 0
            named += attr(kind | nested, payload[start:end])
    return named
