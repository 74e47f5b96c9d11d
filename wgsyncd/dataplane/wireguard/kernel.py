"""The kernel's WireGuard, over one generic netlink socket.

This module does not use pyroute2 for peers, for three reasons. Its ``info()`` takes 6 s for 10,000 peers. Its ``set()``
sends one peer per call. Since 0.9 it does not tell that a dump was interrupted.
"""

import errno
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from wgsyncd.core.model import Change, ChangeKind, InterfaceState
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import codec, dump
from wgsyncd.dataplane.wireguard.interfaces import link_exists, make_interface
from wgsyncd.dataplane.wireguard.refusals import TEXTS, apply_changes, kernel_error
from wgsyncd.errors import DumpInterrupted, ModuleMissing, WireGuardError
from wgsyncd.ports import NewInterface

_NETLINK_GENERIC = 16  # uapi/linux/netlink.h
_RECEIVE_BUFFER = 4 << 20  # bytes. The kernel pauses a dump while the buffer is full
_DATAGRAM = 64 * 1024  # bytes. A datagram of a dump has at most 32 KiB
_REREADS = 5

_INTERFACE_FAULTS = frozenset(
    {errno.ENODEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT, errno.ETIMEDOUT, errno.EBADMSG, errno.EBADF}
)
"""Errnos that concern the whole interface: no later message can succeed."""


_Payloads = dump.Decoder | list[bytes]  # receives the payloads of an answer one by one


class _Answer(NamedTuple):
    errno: int  # 0 = done
    interrupted: bool = False


class KernelWireGuard:
    """The kernel's WireGuard interfaces, in the network namespace of the thread that first uses this object.

    ``timeout``: seconds that the kernel may be silent. ``endpoints``: whether dumps contain endpoints. One thread uses
    the object.
    """

    def __init__(self, boot_id: str, timeout: float = 5.0, *, endpoints: bool = True) -> None:
        self.retries = 0
        self._boot_id = boot_id
        self._timeout, self._endpoints = timeout, endpoints
        self._socket: socket.socket | None = None
        self._memory: defaultdict[str, dump.DumpMemory] = defaultdict(dump.DumpMemory)  # by interface
        self._family = 0  # the kernel gives the family a new number each time the module is loaded
        self._seq = int(time.time()) & 0x7FFFFFFF

    def close(self) -> None:
        """Close the socket. The next use opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def read(self, interface: str) -> InterfaceState:
        """Read one complete dump. An interrupted dump is read again, at most five times."""
        request = codec.get_device(interface)
        for attempt in range(1 + _REREADS):
            self.retries += attempt > 0
            decoder = dump.Decoder(self._memory[interface], endpoints=self._endpoints)
            answer = self._ask(interface, request, netlink.NLM_F_DUMP, decoder)
            if answer.errno:
                raise kernel_error(interface, answer.errno)
            if not answer.interrupted:
                try:
                    device = decoder.device()
                except ValueError as e:
                    raise WireGuardError(interface, "EBADMSG", f"cannot make sense of the kernel's dump: {e}") from e
                epoch = f"{self._boot_id}:{device.ifindex}"
                return InterfaceState(interface, epoch, device.public_key, device.listen_port, device.peers)
        raise DumpInterrupted(interface, "EINTR", f"peers changed during each of {1 + _REREADS} dumps")

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Send the changes in a few large messages. Returns the refused changes."""
        failed = apply_changes(changes, partial(codec.set_peers, interface), partial(self._set, interface))
        # The next dump should show these peers. Where it does, Decoder uses these objects again.
        known = self._memory[interface].known
        known.update((c.public_key, c.desired) for c in changes if c.kind is ChangeKind.ADD and c.desired is not None)
        return failed

    def _set(self, interface: str, payloads: Sequence[bytes]) -> int:
        for payload in payloads:
            number = self._ask(interface, payload, netlink.NLM_F_ACK, []).errno
            if number in _INTERFACE_FAULTS:
                raise kernel_error(interface, number)
            if number:
                return number
        return 0

    # ---- the socket

    def _ask(self, interface: str, payload: bytes, flags: int, into: _Payloads) -> _Answer:
        """Ask WireGuard's family. If the module was loaded again since the last request, find its new number first."""
        known = self._family
        if known:
            answer = self._talk(known, flags, payload, into)
            # Another family may have this number by now. It refuses our request in its own way.
            if answer.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL) or self._resolve(interface) == known:
                return answer
        return self._talk(self._family or self._resolve(interface), flags, payload, into)

    def _resolve(self, interface: str) -> int:
        self._family = 0
        payloads: list[bytes] = []
        request = netlink.get_family(codec.WG_GENL_NAME)
        answer = self._talk(netlink.GENL_ID_CTRL, netlink.NLM_F_ACK, request, payloads)
        if answer.errno == errno.ENOENT and not link_exists(interface):
            raise ModuleMissing(interface, "ENODEV", f"no such interface, and {TEXTS[errno.ENOENT]}")
        if answer.errno or not payloads:
            raise kernel_error(interface, answer.errno or errno.EBADMSG)
        try:
            self._family = netlink.decode_family(payloads[0])
        except ValueError as e:
            raise WireGuardError(interface, "EBADMSG", str(e)) from e
        return self._family

    def _talk(self, kind: int, flags: int, payload: bytes, into: _Payloads) -> _Answer:
        """Send one request and put the payloads of its answer ``into``. Socket errors come back as errno, too.

        The socket is closed after every unclean end. Otherwise the unread rest of a dump would make the next dump fail
        with EBUSY, and `ip link del` would hang.
        """
        number = 0
        for _ in range(3):  # ENOBUFS: the kernel dropped an answer. A dump and a change may both be repeated
            try:
                into.clear()
                return self._exchange(kind, flags, payload, into)
            except TimeoutError:
                number = errno.ETIMEDOUT
            except ValueError:
                number = errno.EBADMSG
            except OSError as e:
                number = e.errno or errno.EIO
            self.close()
            if number != errno.ENOBUFS:
                break
            self.retries += flags == netlink.NLM_F_DUMP
        return _Answer(number)

    def _exchange(self, kind: int, flags: int, payload: bytes, into: _Payloads) -> _Answer:
        if self._socket is None:
            self._socket = netlink.open_socket(_NETLINK_GENERIC, _RECEIVE_BUFFER, self._timeout)
        self._seq = seq = (self._seq + 1) & 0x7FFFFFFF
        self._socket.send(netlink.message(kind, netlink.NLM_F_REQUEST | flags, seq, payload))
        interrupted = False
        while True:
            for message in netlink.messages(self._socket.recv(_DATAGRAM)):
                if message.seq != seq:  # the answer to an earlier request
                    continue
                interrupted = interrupted or bool(message.flags & netlink.NLM_F_DUMP_INTR)
                if message.type in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                    return _Answer(netlink.error_number(message.payload), interrupted)
                if message.type != netlink.NLMSG_NOOP:
                    into.append(message.payload)

    def create(self, creation: NewInterface) -> None:
        """Make an interface. Raises WireGuardError if that fails. Then nothing is left behind."""
        make_interface(creation, lambda payload: self._set(creation.interface, [payload]))
