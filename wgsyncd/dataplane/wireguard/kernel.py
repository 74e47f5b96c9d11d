"""The kernel's WireGuard: one generic netlink socket for dumps and changes, pyroute2 for links and addresses.

Why not pyroute2 for everything: its ``info()`` takes 6 s for 10,000 peers, its ``set()`` sends one peer per call, and
since 0.9 an interrupted dump looks whole. It is imported only where an interface is made: it costs 24 MiB and 0.3 s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wgsyncd.core.model import Change, ChangeKind, InterfaceState, PeerConfig, PublicKey, decode_key
from wgsyncd.dataplane.wireguard import codec, dump, netlink
from wgsyncd.errors import DumpInterrupted, InterfaceMissing, WireGuardError
from wgsyncd.ports import FailedChange, NewInterface

_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10  # uapi/linux/netlink.h
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 4 << 20  # bytes; the kernel pauses a dump when it is full, so it need not hold a whole one
_DATAGRAM = 64 * 1024  # bytes; the kernel makes those of a dump at most 32 KiB
_REREADS = 5
_UNDER_CONSTRUCTION = "wgsyncd-new"

_INTERFACE_FAULTS = frozenset(
    {errno.ENODEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT, errno.ETIMEDOUT, errno.EBADMSG, errno.EBADF}
)
"""Errnos that say nothing of one peer: nothing sent after them could succeed."""

_TEXTS = {
    errno.ENODEV: "no such interface",
    errno.EOPNOTSUPP: "is not a WireGuard interface",
    errno.EPERM: "not permitted; CAP_NET_ADMIN is needed",
    errno.ENOENT: "this kernel has no WireGuard, or its module is not loaded: modprobe wireguard",
    errno.ETIMEDOUT: "the kernel did not answer",
}
_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}  # where it is called ENOTSUP, which is the same number


class _Payloads(Protocol):
    """Where the payloads of an answer go, one after the other; from the beginning if it has to be asked for again."""

    def append(self, data: bytes, /) -> None: ...
    def clear(self) -> None: ...


class _Answer(NamedTuple):
    errno: int  # 0 = done
    torn: bool = False


def _error(interface: str, number: int, text: str = "") -> WireGuardError:
    name = _NAMES.get(number, str(number))
    kind = InterfaceMissing if number == errno.ENODEV else WireGuardError
    return kind(interface, name, text or _TEXTS.get(number) or os.strerror(number))


class KernelWireGuard:
    """WireGuard interfaces of the kernel, in the network namespace of the thread that first uses this.

    ``timeout``: seconds that one answer may take. ``endpoints``: whether dumps have them. Not thread-safe: one thread.
    """

    def __init__(self, boot_id: str, timeout: float = 5.0, *, endpoints: bool = True) -> None:
        self.retries = 0
        self._boot_id = boot_id
        self._timeout, self._endpoints = timeout, endpoints
        self._socket: socket.socket | None = None
        self._known: dict[str, dict[PublicKey, PeerConfig]] = {}  # each interface's peers as last read or set
        self._family = 0  # the kernel numbers the family anew each time the module is loaded
        self._seq = int(time.time()) & 0x7FFFFFFF

    def close(self) -> None:
        """Give back the socket; the next use opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def read(self, interface: str) -> InterfaceState:
        """One complete, untorn dump; a torn one is read again, five times at most."""
        request = codec.get_device(interface)
        for attempt in range(1 + _REREADS):
            self.retries += attempt > 0
            decoder = dump.Decoder(self._known.setdefault(interface, {}), endpoints=self._endpoints)
            answer = self._ask(interface, request, netlink.NLM_F_DUMP, decoder)
            if answer.errno:
                raise _error(interface, answer.errno)
            if not answer.torn:
                try:
                    device = decoder.device()
                except ValueError as e:
                    raise WireGuardError(interface, "EBADMSG", f"cannot make sense of the kernel's dump: {e}") from e
                epoch = f"{self._boot_id}:{device.ifindex}"
                return InterfaceState(interface, epoch, device.public_key, device.listen_port, device.peers)
        raise DumpInterrupted(interface, "EINTR", f"peers changed during each of {1 + _REREADS} dumps")

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Send the changes in few large messages; one that the kernel refuses is sent again peer by peer.

        The kernel takes the peers of a message in order and stops at the first error, so those before the bad one are
        in place already: sending them once more says the same again.
        """
        failed: list[FailedChange] = []
        for batch in codec.set_peers(interface, changes):
            number = self._set(interface, batch.payloads)
            if not number:
                continue
            if len(batch.changes) == 1:
                failed.append(_failed(batch.changes[0], number))
                continue
            for change in batch.changes:
                for single in codec.set_peers(interface, [change]):
                    if number := self._set(interface, single.payloads):
                        failed.append(_failed(change, number))
        # As the next dump should have them: what it has exactly so will be these objects, see Decoder.
        known = self._known.setdefault(interface, {})
        known.update((c.public_key, c.desired) for c in changes if c.kind is ChangeKind.ADD and c.desired is not None)
        return failed

    def _set(self, interface: str, payloads: Sequence[bytes]) -> int:
        for payload in payloads:
            number = self._ask(interface, payload, netlink.NLM_F_ACK, []).errno
            if number in _INTERFACE_FAULTS:
                raise _error(interface, number)
            if number:
                return number
        return 0

    # ---- the socket

    def _ask(self, interface: str, payload: bytes, flags: int, into: _Payloads) -> _Answer:
        """Ask WireGuard's family; if the module was loaded anew since the last time, under its new number."""
        known = self._family
        if known:
            answer = self._talk(known, flags, payload, into)
            # Another family may have the number by now, and refuse in its own way what it does not understand.
            if answer.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL) or self._resolve(interface) == known:
                return answer
        return self._talk(self._family or self._resolve(interface), flags, payload, into)

    def _resolve(self, interface: str) -> int:
        self._family = 0
        payloads: list[bytes] = []
        request = netlink.get_family(codec.WG_GENL_NAME)
        answer = self._talk(netlink.GENL_ID_CTRL, netlink.NLM_F_ACK, request, payloads)
        if answer.errno == errno.ENOENT and not _link_exists(interface):
            raise _error(interface, errno.ENODEV, f"no such interface; and {_TEXTS[errno.ENOENT]}")
        if answer.errno or not payloads:
            raise _error(interface, answer.errno or errno.EBADMSG)
        try:
            self._family = netlink.decode_family(payloads[0])
        except ValueError as e:
            raise WireGuardError(interface, "EBADMSG", str(e)) from e
        return self._family

    def _talk(self, kind: int, flags: int, payload: bytes, into: _Payloads) -> _Answer:
        """One request, and all that answers it put ``into``. Errors of the socket come back as errno too.

        After anything but a clean end the socket is closed: an unread rest of a dump would make the next one EBUSY,
        and would hold the interface so that `ip link del` hangs.
        """
        number = 0
        for _ in range(3):  # ENOBUFS: the kernel had to drop an answer. Both requests may be repeated
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
            self._socket = _open()
        self._seq = seq = (self._seq + 1) & 0x7FFFFFFF
        deadline = time.monotonic() + self._timeout
        self._socket.settimeout(self._timeout)
        self._socket.send(netlink.message(kind, netlink.NLM_F_REQUEST | flags, seq, payload))
        torn = False
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            for message in netlink.messages(self._socket.recv(_DATAGRAM)):
                if message.seq != seq:  # an answer that nobody waits for any more
                    continue
                torn = torn or bool(message.flags & netlink.NLM_F_DUMP_INTR)
                if message.type in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                    return _Answer(netlink.error_number(message.payload), torn)
                if message.type != netlink.NLMSG_NOOP:
                    into.append(message.payload)

    # ---- making an interface

    def create(self, creation: NewInterface) -> None:
        """Make the interface under another name, then give it its own and set it up in one message: whoever sees the
        name sees a whole interface, even after a crash in between, whose remains the next attempt takes away."""
        interface = creation.interface
        private_key = _read_private_key(creation)
        from pyroute2 import IPRoute  # here: 24 MiB that a daemon which makes no interface never needs
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with IPRoute() as links:
                if _link_exists(interface):
                    raise WireGuardError(interface, "EEXIST", "there is such an interface already")
                for index in links.link_lookup(ifname=_UNDER_CONSTRUCTION):
                    links.link("del", index=index)
                links.link("add", ifname=_UNDER_CONSTRUCTION, kind="wireguard")
                index = links.link_lookup(ifname=_UNDER_CONSTRUCTION)[0]
                try:
                    payload = codec.set_device(
                        _UNDER_CONSTRUCTION, private_key=private_key, listen_port=creation.listen_port
                    )
                    if number := self._set(interface, [payload]):
                        raise _error(interface, number)
                    for address in creation.addresses:
                        host, _, prefix = address.partition("/")
                        family = socket.AF_INET6 if ":" in host else socket.AF_INET
                        length = int(prefix or (128 if ":" in host else 32))
                        links.addr("add", index=index, address=host, prefixlen=length, family=family)
                    mtu = {"mtu": creation.mtu} if creation.mtu else {}
                    links.link("set", index=index, ifname=interface, state="up", **mtu)
                except BaseException:
                    with contextlib.suppress(NetlinkError):  # what went wrong first is what is told
                        links.link("del", index=index)
                    raise
        except NetlinkError as e:
            raise _creation_error(interface, e.code) from e
        except OSError as e:
            raise _creation_error(interface, e.errno or errno.EIO) from e


def _creation_error(interface: str, number: int) -> WireGuardError:
    if number == errno.EOPNOTSUPP:
        why = (
            "this kernel has no WireGuard: modprobe wireguard, or install a kernel that has it (Linux 5.6 or later); "
            "an interface made by wireguard-go is found by itself"
        )
    elif number == errno.EPERM:
        why = _TEXTS[number]
    else:
        why = f"cannot be made: {os.strerror(number)}"
    return WireGuardError(interface, _NAMES.get(number, str(number)), why)


def _read_private_key(creation: NewInterface) -> bytes:
    path = creation.private_key_file
    try:
        return decode_key(path.read_text().strip())
    except OSError as e:
        name = _NAMES.get(e.errno or 0, "EIO")
        raise WireGuardError(creation.interface, name, f"private key file {path}: {e.strerror}") from e
    except ValueError as e:  # UnicodeDecodeError would print the bytes
        why = "is not base64" if isinstance(e, UnicodeError) else str(e)
        raise WireGuardError(creation.interface, "EINVAL", f"private key in {path} {why}") from None


def _failed(change: Change, number: int) -> FailedChange:
    return FailedChange(change, _NAMES.get(number, str(number)), os.strerror(number))


def _link_exists(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)  # NETLINK_GENERIC
    try:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # or an error would echo the request, keys and all
        opened.bind((0, 0))
        opened.connect((0, 0))  # from the kernel only
    except OSError:
        opened.close()
        raise
    return opened
