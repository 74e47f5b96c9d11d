"""What a cycle would do to the bandwidth of devices, in terms of devices and contracts."""

from collections.abc import Mapping
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.minors import device_filters
from wgsyncd.core.shaping.profiles import Choice, Direction, ShapingPolicy
from wgsyncd.core.shaping.tree import KernelState
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted


class Rates(NamedTuple):
    """Bytes per second. None: not limited."""

    down: int | None
    up: int | None


class RateChange(NamedTuple):
    """A contract whose devices get other rates."""

    owner: str
    choice: Choice  # what holds then
    before: Rates
    after: Rates


class ShapingPreview(NamedTuple):
    """The changes of a cycle."""

    begin: tuple[ShapedDevice, ...] = ()  # devices that are not limited yet
    end: tuple[Network, ...] = ()  # addresses that are limited, and will not be
    changed: tuple[RateChange, ...] = ()  # by contract


def preview(wanted: Wanted, kernel: KernelState) -> ShapingPreview:
    """The changes from the kernel's rates to the wanted ones."""
    now = {direction: _rates(kernel, direction) for direction in Direction}
    begin, changed = [], dict[str, RateChange]()
    for device in wanted.devices:
        found = [_first(now[direction], device.addresses) for direction in (Direction.DOWN, Direction.UP)]
        before, after = Rates(*found), Rates(device.choice.down, device.choice.up)
        if before == (None, None):
            begin.append(device)
        elif before != after:
            changed.setdefault(device.owner, RateChange(device.owner, device.choice, before, after))
    kept = {net for device in wanted.devices for net in device.addresses}
    ends = {net for some in now.values() for net in some if net not in kept and not wanted.holds(net)}
    return ShapingPreview(tuple(begin), tuple(sorted(ends)), tuple(changed[owner] for owner in sorted(changed)))


def previous_choice(change: RateChange, policy: ShapingPolicy) -> Choice:
    """What held before a change, as the kernel's rates tell. Rates of no profile were another version of this one."""
    now = change.choice
    same = [name for name, one in policy.profiles.items() if (one.down, one.up) == change.before]
    if not same:
        return now._replace(down=change.before.down, up=change.before.up)
    slow = policy.profiles[now.name].beyond
    was_slow = slow in same and now.name not in same
    name = now.name if was_slow or now.name in same else same[0]
    return Choice(name, *change.before, now.shared, beyond=slow if was_slow else "")


def _rates(kernel: KernelState, direction: Direction) -> dict[Network, int]:
    return {
        net: tree.classes[minor].ceil
        for _, one, tree in kernel.every_tree() if one is direction
        for net, minor in device_filters(tree).items() if minor in tree.classes
    }  # fmt: skip


def _first(rates: Mapping[Network, int], addresses: tuple[Network, ...]) -> int | None:
    return next((rates[net] for net in addresses if net in rates), None)
