"""One rtnetlink socket for dumps of tc, and for batches of changes."""

import errno
import os
import socket
import time
from collections.abc import Sequence

from wgsyncd.core.shaping.steps import FailedStep, Step
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.tc import codec
from wgsyncd.errors import ShapingError

_NLM_F_ACK_TLVS, _NLMSGERR_ATTR_MSG = 0x200, 1  # uapi/linux/netlink.h
_RECEIVE_BUFFER = 8 << 20  # bytes. The errors of one batch must fit, since nobody reads while it is sent
_DATAGRAM = 256 * 1024  # bytes. A datagram of a dump has at most 32 KiB
_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}  # Python calls this number ENOTSUP.


class Talk:
    """Asks the kernel in the network namespace of the thread that first uses this object.

    ``timeout``: seconds that the kernel may take to answer one batch. One thread uses the object.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._seq = int(time.time()) & 0x3FFFFFFF

    def end(self) -> None:
        """Close the socket. The next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """The payloads of a whole dump. ShapingError if the kernel does not answer."""
        self._seq = seq = (self._seq + 1) & 0x7FFFFFFF
        request = netlink.message(kind, netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP, seq, payload)
        found: list[bytes] = []
        try:
            opened = self._open()
            opened.send(request)
            while True:
                for message in netlink.messages(opened.recv(_DATAGRAM)):
                    if message.seq != seq:  # the answer to an earlier request
                        continue
                    if message.type in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                        if code := netlink.error_number(message.payload):
                            raise OSError(code, os.strerror(code))
                        return found
                    found.append(message.payload)
        except OSError as error:
            self.end()  # Otherwise the unread rest of the dump would make the next one fail with EBUSY.
            number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
            raise ShapingError(
                _NAMES.get(number, str(number)), error.strerror or "the kernel did not answer"
            ) from error

    def exchange(self, batch: Sequence[tuple[Step, codec.Request]]) -> list[FailedStep]:
        """Send a batch. The kernel answers each step that failed, and the last one in any case."""
        first = self._seq = (self._seq + 1) & 0x3FFFFFFF
        self._seq += len(batch)
        last = first + len(batch) - 1
        datagram = b"".join(
            netlink.message(request.kind, netlink.NLM_F_REQUEST | request.flags |
                            (netlink.NLM_F_ACK if first + at == last else 0), first + at, request.payload)
            for at, (_, request) in enumerate(batch)
        )  # fmt: skip
        failed: list[FailedStep] = []
        try:
            opened = self._open()
            opened.send(datagram)
            while True:
                for message in netlink.messages(opened.recv(_DATAGRAM)):
                    at = message.seq - first
                    if message.type != netlink.NLMSG_ERROR or not 0 <= at < len(batch):
                        continue
                    if code := netlink.error_number(message.payload):
                        text = _kernel_text(message) or os.strerror(code)
                        failed.append(FailedStep(batch[at][0], _NAMES.get(code, str(code)), text))
                    if message.seq == last:
                        return failed
        except OSError as error:
            self.end()
            number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
            text = error.strerror or "the kernel did not answer"
            return [*failed, FailedStep(batch[-1][0], _NAMES.get(number, str(number)), text)]

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = netlink.open_socket(socket.NETLINK_ROUTE, _RECEIVE_BUFFER, self._timeout, with_texts=True)
        return self._socket


def _kernel_text(message: netlink.Message) -> str:
    """The kernel's own words for an error (NLMSGERR_ATTR_MSG), after the header of the request. "" if it has none."""
    if not message.flags & _NLM_F_ACK_TLVS:
        return ""
    start = 4 + netlink.NLMSGHDR.size
    found = {
        kind: message.payload[a:b] for kind, a, b in netlink.attributes(message.payload, start, len(message.payload))
    }
    return found.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
