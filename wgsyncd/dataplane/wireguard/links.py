"""The state of a network interface: up or down, and its addresses."""

from __future__ import annotations

import errno
import os
import socket

from wgsyncd.errors import WireGuardError
from wgsyncd.ports import Link

_IFF_UP = 1  # uapi/linux/if.h


def link(interface: str) -> Link | None:
    """The interface's state; None if it does not exist. Raises WireGuardError if the kernel does not answer."""
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
            return Link(bool(found["flags"] & _IFF_UP), frozenset(addresses))
    except (NetlinkError, OSError, ValueError) as error:
        number = getattr(error, "code", None) or getattr(error, "errno", None) or errno.EIO
        name = errno.errorcode.get(number, str(number))
        raise WireGuardError(interface, name, os.strerror(number)) from error
