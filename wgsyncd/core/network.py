"""Networks and hosts: allowed IPs as they are kept, compared and read from texts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Self


class Network(bytes):
    """An allowed IP: the packed address (4 or 16 bytes) and in one byte more the length of its prefix in bits. As one
    string of bytes it takes 40 bytes less than a pair of them would, of each peer."""

    __slots__ = ()

    def __new__(cls, packed: bytes, prefixlen: int) -> Self:
        return super().__new__(cls, packed + bytes((prefixlen,)))

    @property
    def packed(self) -> bytes:
        """The address."""
        return self[:-1]

    @property
    def prefixlen(self) -> int:
        """Bits."""
        return self[-1]

    def __repr__(self) -> str:
        return f"Network({self})"

    def __str__(self) -> str:
        if len(self) == 5:
            return "%d.%d.%d.%d/%d" % (*self,)  # noqa: UP031 - a tenth of what ipaddress takes
        return f"{ipaddress.ip_address(self.packed)}/{self.prefixlen}"

    def covers(self, other: Network) -> bool:
        """Whether every address of ``other`` is one of this network's."""
        if len(self) != len(other) or self.prefixlen > other.prefixlen:
            return False
        shift = len(self.packed) * 8 - self.prefixlen
        return int.from_bytes(self.packed) >> shift == int.from_bytes(other.packed) >> shift


Networks = tuple[Network, ...]
"""Allowed IPs, sorted and each once: the same ones are equal. (A set of one would take 224 bytes, this takes 48.)"""


def as_networks(found: Iterable[Network]) -> Networks:
    """These in that form."""
    return tuple(sorted(set(found)))


def parse_network(text: str) -> Network:
    """``10.200.0.0/24`` or ``10.200.0.5`` (a host) as a Network. ValueError if it is neither or has host bits set."""
    net = ipaddress.ip_network(text)
    return Network(net.network_address.packed, net.prefixlen)


_OCTETS = {str(number): number for number in range(256)}


def parse_host(text: str) -> Network:
    """A tunnel address: ``10.200.0.5`` and ``10.200.0.5/32`` are the same one. ValueError for anything else.

    Strict about form (no white space, no leading zeros, no zone), since what is kept here becomes an allowed IP.
    """
    octets = [_OCTETS.get(octet, -1) for octet in text.split(".")]
    if len(octets) == 4 and min(octets) >= 0:
        return Network(bytes(octets), 32)  # as ipaddress has it, in a tenth of the time
    address, slash, prefix = text.partition("/")
    ip = ipaddress.ip_address(address)
    if "%" in address:
        raise ValueError("has a zone")
    if slash and prefix != str(ip.max_prefixlen):
        raise ValueError(f"is not one host (only /{ip.max_prefixlen} may be written)")
    return Network(ip.packed, ip.max_prefixlen)
