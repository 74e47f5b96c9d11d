"""A second reader of the kernel sees when an interface has a peer, by bare dumps in a row."""

from __future__ import annotations

import socket
import time

from tests.real.bench import in_network
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import codec

_NETLINK_GENERIC = 16  # the source is uapi/linux/netlink.h
_PUBLIC_KEY = 1  # this is WGPEER_A_PUBLIC_KEY of uapi/linux/wireguard.h


class Witness:
    """Reads one interface in the network namespace of a process.

    Between two reads it rests for as long as a read took. The kernel holds the interface's lock during a dump, and a
    dump also occupies the processor if there is only one.
    """

    def __init__(self, pid: int, interface: str) -> None:
        self._socket = in_network(pid, _open)
        self._socket.settimeout(120)
        answer = b"".join(self._talk(netlink.GENL_ID_CTRL, netlink.NLM_F_ACK, netlink.get_family(codec.WG_GENL_NAME)))
        self._family = netlink.decode_family(answer)
        self._request = codec.get_device(interface)

    def until(self, key: bytes, *, there: bool, patience: float) -> float | None:
        """Returns when a complete dump showed the key, or showed it no more, in monotonic seconds.

        Returns None if no dump did so in time. `patience` is in seconds.
        """
        mark = netlink.attr(_PUBLIC_KEY, key)
        deadline = time.monotonic() + patience
        while (began := time.monotonic()) < deadline:
            seen = self._look(mark)
            ended = time.monotonic()
            if seen is there:
                return ended
            time.sleep(ended - began)
        return None

    def _look(self, mark: bytes) -> bool | None:
        """Returns whether the mark is in a dump, or None if the dump was interrupted."""
        try:
            return any(mark in payload for payload in self._talk(self._family, netlink.NLM_F_DUMP, self._request))
        except InterruptedError:
            return None

    def _talk(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        self._socket.send(netlink.message(kind, netlink.NLM_F_REQUEST | flags, 1, payload))
        payloads: list[bytes] = []
        torn = False
        while True:
            for message in netlink.messages(self._socket.recv(1 << 17)):
                torn = torn or bool(message.flags & netlink.NLM_F_DUMP_INTR)
                if message.type in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                    if torn:
                        raise InterruptedError
                    return payloads
                payloads.append(message.payload)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((0, 0))
    return opened
