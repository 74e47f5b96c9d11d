"""Makes a WireGuard interface of the kernel, and reads the state of any network interface.

pyroute2 costs 24 MiB and 0.3 s, and most daemons make no interface. So each function imports it when it needs it.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable

from wgsyncd.config import secret_file
from wgsyncd.core.inspect.answers import Link
from wgsyncd.core.model import decode_key
from wgsyncd.dataplane.wireguard import codec
from wgsyncd.dataplane.wireguard.refusals import TEXTS, errno_name, kernel_error
from wgsyncd.errors import WireGuardError
from wgsyncd.ports import NewInterface

_UNDER_CONSTRUCTION = "wgsyncd-new"
_IFF_UP = 1  # uapi/linux/if.h


def link_exists(interface: str) -> bool:
    """Whether a network interface of this name exists."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def link(interface: str) -> Link | None:
    """The interface's state. None if it does not exist. Raises WireGuardError if the kernel does not answer."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        return None
    try:
        with IPRoute() as links:
            (found,) = links.get_links(index)
            addresses = [
                f"{one.get_attr('IFA_LOCAL') or one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}"
                for one in links.get_addr(index=index)
            ]
            return Link(bool(found["flags"] & _IFF_UP), frozenset(addresses), found.get_attr("IFLA_MTU"))
    except (NetlinkError, OSError, ValueError) as error:
        number = getattr(error, "code", None) or getattr(error, "errno", None) or errno.EIO
        raise WireGuardError(interface, errno_name(number), os.strerror(number)) from error


def make_interface(creation: NewInterface, set_device: Callable[[bytes], int]) -> None:
    """Make the interface under a temporary name, then rename it and set it up in one message.

    So nobody ever sees an unfinished interface under the final name. After a crash in between, the next attempt
    removes the unfinished interface. ``set_device`` sends a payload to WireGuard and returns the errno.
    """
    interface = creation.interface
    private_key = _read_private_key(creation)
    from pyroute2 import IPRoute
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
                port = creation.listen_port
                if number := set_device(
                    codec.set_device(_UNDER_CONSTRUCTION, private_key=private_key, listen_port=port)
                ):
                    raise kernel_error(interface, number)
                for address in creation.addresses:
                    host, _, prefix = address.partition("/")
                    family, bits = (socket.AF_INET6, 128) if ":" in host else (socket.AF_INET, 32)
                    links.addr("add", index=index, address=host, prefixlen=int(prefix or bits), family=family)
                mtu = {"mtu": creation.mtu} if creation.mtu else {}
                links.link("set", index=index, ifname=interface, state="up", **mtu)
            except BaseException:
                with contextlib.suppress(NetlinkError):  # The first error is the one to report.
                    links.link("del", index=index)
                raise
    except NetlinkError as e:
        raise _creation_error(interface, e.code) from e
    except OSError as e:
        raise _creation_error(interface, e.errno or errno.EIO) from e


def _creation_error(interface: str, number: int) -> WireGuardError:
    why = f"cannot be made: {os.strerror(number)}"
    if number == errno.EOPNOTSUPP:
        why = (
            "this kernel has no WireGuard: modprobe wireguard, or install a kernel that has it (Linux 5.6 or later). "
            "wgsyncd finds an interface of wireguard-go by itself"
        )
    elif number == errno.EPERM:
        why = TEXTS[number]
    return WireGuardError(interface, errno_name(number), why)


def _read_private_key(creation: NewInterface) -> bytes:
    path = creation.private_key_file
    try:
        return decode_key(secret_file.read(path).decode().strip())
    except OSError as e:
        name = errno_name(e.errno or errno.EIO)
        raise WireGuardError(creation.interface, name, f"private key file {path}: {e.strerror}") from e
    except ValueError as e:  # The text of a UnicodeDecodeError shows the bytes.
        why = "is not base64" if isinstance(e, UnicodeError) else str(e)
        raise WireGuardError(creation.interface, "EINVAL", f"private key in {path} {why}") from None
