"""Makes a WireGuard interface of the kernel, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable

from wgsyncd.core.model import decode_key
from wgsyncd.dataplane.wireguard import codec
from wgsyncd.errors import InterfaceMissing, WireGuardError
from wgsyncd.ports import NewInterface

_UNDER_CONSTRUCTION = "wgsyncd-new"

ERRNO_TEXTS = {
    errno.ENODEV: "no such interface",
    errno.EOPNOTSUPP: "is not a WireGuard interface",
    errno.EPERM: "not permitted; CAP_NET_ADMIN is needed",
    errno.ENOENT: "this kernel has no WireGuard, or its module is not loaded: modprobe wireguard",
    errno.ETIMEDOUT: "the kernel did not answer",
}
ERRNO_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}  # Python calls this number ENOTSUP


def kernel_error(interface: str, number: int, text: str = "") -> WireGuardError:
    """The error for an errno of the kernel; ENODEV becomes InterfaceMissing."""
    name = ERRNO_NAMES.get(number, str(number))
    kind = InterfaceMissing if number == errno.ENODEV else WireGuardError
    return kind(interface, name, text or ERRNO_TEXTS.get(number) or os.strerror(number))


def link_exists(interface: str) -> bool:
    """Whether a network interface of this name exists."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def make_interface(creation: NewInterface, set_device: Callable[[bytes], int]) -> None:
    """Make the interface under a temporary name, then rename it and set it up in one message.

    So nobody ever sees an unfinished interface under the final name. After a crash in between, the next attempt
    removes the unfinished interface. ``set_device`` sends a payload to WireGuard and returns the errno.
    """
    interface = creation.interface
    private_key = _read_private_key(creation)
    from pyroute2 import IPRoute  # imported here: it costs 24 MiB, and most daemons make no interface
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as links:
            if link_exists(interface):
                raise WireGuardError(interface, "EEXIST", "there is such an interface already")
            for index in links.link_lookup(ifname=_UNDER_CONSTRUCTION):
                links.link("del", index=index)
            links.link("add", ifname=_UNDER_CONSTRUCTION, kind="wireguard")
            index = links.link_lookup(ifname=_UNDER_CONSTRUCTION)[0]
            try:
                payload = codec.set_device(
                    _UNDER_CONSTRUCTION, private_key=private_key, listen_port=creation.listen_port
                )
                if number := set_device(payload):
                    raise kernel_error(interface, number)
                for address in creation.addresses:
                    host, _, prefix = address.partition("/")
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    length = int(prefix or (128 if ":" in host else 32))
                    links.addr("add", index=index, address=host, prefixlen=length, family=family)
                mtu = {"mtu": creation.mtu} if creation.mtu else {}
                links.link("set", index=index, ifname=interface, state="up", **mtu)
            except BaseException:
                with contextlib.suppress(NetlinkError):  # the first error is the one to report
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
        why = ERRNO_TEXTS[number]
    else:
        why = f"cannot be made: {os.strerror(number)}"
    return WireGuardError(interface, ERRNO_NAMES.get(number, str(number)), why)


def _read_private_key(creation: NewInterface) -> bytes:
    path = creation.private_key_file
    try:
        return decode_key(path.read_text().strip())
    except OSError as e:
        name = ERRNO_NAMES.get(e.errno or 0, "EIO")
        raise WireGuardError(creation.interface, name, f"private key file {path}: {e.strerror}") from e
    except ValueError as e:  # the text of a UnicodeDecodeError shows the bytes
        why = "is not base64" if isinstance(e, UnicodeError) else str(e)
        raise WireGuardError(creation.interface, "EINVAL", f"private key in {path} {why}") from None
