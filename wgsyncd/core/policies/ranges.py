"""Sets of addresses of one IP version, as sorted ranges that neither overlap nor touch.

Equal sets are equal values: a range that touches the next one is joined with it.
"""

import ipaddress
from collections.abc import Iterable

from wgsyncd.core.network import Network

Range = tuple[int, int]
"""The first and the last address, both included, as numbers."""

Ranges = tuple[Range, ...]
"""A set of addresses: sorted ranges, with at least one address outside the set in each gap."""


def range_of(net: Network) -> Range:
    """The addresses of a network."""
    size = 1 << (8 * len(net.packed) - net.prefixlen)
    first = int.from_bytes(net.packed) & ~(size - 1)
    return first, first + size - 1


def join(ranges: Iterable[Range]) -> Ranges:
    """The addresses of all these ranges, which may be in any order and may overlap."""
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            if last > joined[-1][1]:
                joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def subtract(ranges: Ranges, others: Ranges) -> Ranges:
    """The addresses of ``ranges`` that are not in ``others``."""
    left: list[Range] = []
    at = 0
    for first, last in ranges:
        while at < len(others) and others[at][1] < first:
            at += 1
        rest, index = first, at
        while index < len(others) and others[index][0] <= last:
            if rest < others[index][0]:
                left.append((rest, others[index][0] - 1))
            rest = others[index][1] + 1
            index += 1
        if rest <= last:
            left.append((rest, last))
    return tuple(left)


def contains(ranges: Ranges, address: int) -> bool:
    return any(first <= address <= last for first, last in ranges)


def as_text(first: int, last: int, size: int) -> str:
    """A range for people: a network if it is one, else its two ends. ``size``: bytes of an address, 4 or 16."""
    bits = (last - first + 1).bit_length() - 1
    low, high = (str(ipaddress.ip_address(one.to_bytes(size))) for one in (first, last))
    if last - first + 1 != 1 << bits or first % (1 << bits):
        return f"{low}-{high}"
    return low if not bits else f"{low}/{8 * size - bits}"
