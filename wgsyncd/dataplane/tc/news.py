"""Hears over rtnetlink when somebody deletes a link of shaping or sets it down.

A redirect into such a link drops every packet (net/sched/act_mirred.c), so nobody should wait for the next poll.
"""

import errno
import socket
from collections.abc import Iterator

from wgsyncd.core.shaping.tree import PLACES
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.tc import codec, dump

_RTMGRP_LINK = 1  # uapi/linux/rtnetlink.h
_DATAGRAM = 64 * 1024  # bytes. The kernel tells of one link in each datagram


class LinkNews:
    """The news of all links in the network namespace of the thread that makes this object. OSError if it cannot be."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, _RTMGRP_LINK))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    @property
    def descriptor(self) -> int:
        """Where news come in."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def take(self) -> bool:
        """Read all news that wait. Whether a link of shaping was changed, or news were lost, so that nobody knows."""
        is_ours = False
        for datagram in self._datagrams():
            try:
                is_ours |= datagram is None or any(_is_ours(one) for one in netlink.messages(datagram))
            except ValueError:  # A look at the links costs less than to guess what this was.
                is_ours = True
        return is_ours

    def _datagrams(self) -> Iterator[bytes | None]:
        """The datagrams that wait. None: the kernel dropped some, because too many waited (ENOBUFS)."""
        while True:
            try:
                yield self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return
                yield None


def _is_ours(message: netlink.Message) -> bool:
    return message.type in (codec.NEWLINK, codec.DELLINK) and dump.link(message.payload).name in PLACES
