"""What a cycle would do to the bandwidth of devices, in terms of devices and contracts."""

from collections.abc import Mapping
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.minors import device_filters
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import KernelState
from wgsyncd.core.shaping.wanted import Wanted


class Rates(NamedTuple):
    """Bytes per second. None: not limited."""

    down: int | None
    up: int | None


class RateChange(NamedTuple):
    """A contract whose devices get other rates."""

    owner: str
    profile: str  # whose rates hold then
    before: Rates
    after: Rates


class ShapingPreview(NamedTuple):
    """The changes of a cycle."""

    begin: int = 0  # devices that are not limited yet
    end: int = 0  # addresses that are limited, and will not be
    changed: tuple[RateChange, ...] = ()  # by contract


def preview(wanted: Wanted, kernel: KernelState) -> ShapingPreview:
    """The changes from the kernel's rates to the wanted ones."""
    now = {direction: _rates(kernel, direction) for direction in Direction}
    begin, changed = 0, dict[str, RateChange]()
    for device in wanted.devices:
        found = [_first(now[direction], device.addresses) for direction in (Direction.DOWN, Direction.UP)]
        before, after = Rates(*found), Rates(device.choice.down, device.choice.up)
        if before == (None, None):
            begin += 1
        elif before != after:
            profile = device.choice.beyond or device.choice.name
            changed.setdefault(device.owner, RateChange(device.owner, profile, before, after))
    kept = {net for device in wanted.devices for net in device.addresses}
    ends = {net for some in now.values() for net in some if net not in kept and not wanted.holds(net)}
    return ShapingPreview(begin, len(ends), tuple(changed[owner] for owner in sorted(changed)))


def _rates(kernel: KernelState, direction: Direction) -> dict[Network, int]:
    tree = kernel.trees.get(direction)
    if tree is None:
        return {}
    minors = device_filters(tree)
    return {net: tree.classes[minor].ceil for net, minor in minors.items() if minor in tree.classes}


def _first(rates: Mapping[Network, int], addresses: tuple[Network, ...]) -> int | None:
    return next((rates[net] for net in addresses if net in rates), None)
