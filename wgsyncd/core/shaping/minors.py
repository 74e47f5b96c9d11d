"""Gives classes their minor numbers: the one that the kernel has, or else the lowest free one.

Minor numbers are stored nowhere. The filter of a device's address names the minor number of its class, and the class
names its parent. A class changes neither its parent nor the flows of its leaf. So a device whose class has a wrong one
gets another minor number.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from wgsyncd.core.model import DeviceId
from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import DEVICE_PREFS, MAJOR, MAX_MINOR, Tree, leaf
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted

_FLOWS = leaf(1, 1).flows


@dataclass(slots=True)
class Minors:
    """The minors of devices and contracts. A minor is the same in both trees."""

    devices: dict[DeviceId, int] = field(default_factory=dict)
    contracts: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  # devices without a minor, because none is free


@dataclass(slots=True)
class _Found:
    """What one tree has, by minor and by address."""

    tree: Tree
    by_address: Mapping[Network, int]
    parents: frozenset[int]  # minors of classes that have classes
    handles: frozenset[int]  # of all leaves

    def takes_contract(self, minor: int) -> bool:
        """Whether the class of a contract is here, or can be made."""
        one = self.tree.classes.get(minor)
        return one is None or (one.parent == 0 and minor not in self.tree.leaves)

    def takes_device(self, minor: int, parent: int) -> bool:
        """Whether the class and the leaf of a device are here, or can be made."""
        one, its_leaf = self.tree.classes.get(minor), self.tree.leaves.get(minor)
        if one is not None and (one.parent != parent or minor in self.parents):
            return False
        if its_leaf is None:
            return minor not in self.handles
        return its_leaf.handle == minor and its_leaf.flows == _FLOWS


def device_filters(tree: Tree) -> dict[Network, int]:
    """The minor that the filters of a tree give to each address."""
    found: dict[Network, int] = {}
    for one in tree.filters:
        if one.network is not None and one.pref == DEVICE_PREFS[len(one.network.packed)]:
            found.setdefault(one.network, one.minor)
    return found


def assign_minors(wanted: Wanted, trees: Mapping[Direction, Tree]) -> Minors:
    """The minors of all devices and contracts. ``trees``: those that wgsyncd may use."""
    found = {direction: _look(tree) for direction, tree in trees.items()}
    minors = Minors()
    taken = {minor for one in found.values() for net, minor in one.by_address.items() if wanted.holds(net)}
    candidates = {device.id: _candidates(device, found.values()) for device in wanted.devices}
    # First what can stay. A device stays only if the class of its contract does.
    sharing: dict[str, list[ShapedDevice]] = {}
    for device in wanted.devices:
        if device.choice.shared:
            sharing.setdefault(device.owner, []).append(device)
    for owner, devices in sharing.items():
        mine = (minor for device in devices for minor in candidates[device.id])
        parents = (
            one.tree.classes[minor].parent for minor in mine for one in found.values() if minor in one.tree.classes
        )
        for minor in dict.fromkeys(parents):
            if _may_be_used(minor, taken) and all(one.takes_contract(minor) for one in found.values()):
                minors.contracts[owner] = minor
                taken.add(minor)
                break
    # A contract with one device needs no class of its own. It keeps the one that it has.
    several = {owner for owner, devices in sharing.items() if len(devices) > 1 or owner in minors.contracts}
    new = []
    for device in wanted.devices:
        parent = minors.contracts.get(device.owner) if device.owner in several else 0
        limited = [one for direction, one in found.items() if device.rate(direction) is not None]
        for minor in candidates[device.id] if parent is not None else ():
            if _may_be_used(minor, taken) and all(one.takes_device(minor, parent or 0) for one in limited):
                minors.devices[device.id] = minor
                taken.add(minor)
                break
        else:
            new.append(device)
    _place(new, several, minors, _free(list(found.values()), taken))
    return minors


def _place(new: Sequence[ShapedDevice], several: Set[str], minors: Minors, free: Iterator[int]) -> None:
    """Give free minors to the devices without one. If too few are free, the devices with the highest ids get none.

    ``several``: contracts with a class of their own.
    """
    for device in new:
        if device.owner in several and device.owner not in minors.contracts and (minor := next(free, 0)):
            minors.contracts[device.owner] = minor
        if (device.owner not in several or device.owner in minors.contracts) and (minor := next(free, 0)):
            minors.devices[device.id] = minor
        else:
            minors.missing.append(device.device)


def _look(tree: Tree) -> _Found:
    parents = frozenset(one.parent for one in tree.classes.values())
    return _Found(tree, device_filters(tree), parents, frozenset(one.handle for one in tree.leaves.values()))


def _candidates(device: ShapedDevice, found: Iterable[_Found]) -> list[int]:
    """The minors that the kernel's filters give to a device's addresses. All of them are equal, usually."""
    minors = (one.by_address.get(net) for one in found for net in device.addresses)
    return list(dict.fromkeys(minor for minor in minors if minor))


def _may_be_used(minor: int, taken: set[int]) -> bool:
    return 0 < minor <= MAX_MINOR and minor != MAJOR and minor not in taken


def _free(found: Sequence[_Found], taken: set[int]) -> Iterator[int]:
    """The minors that nothing in the kernel uses, the lowest first."""
    used = taken | {MAJOR}
    for one in found:
        used |= one.tree.classes.keys() | one.handles | {each.minor for each in one.tree.filters}
    return (minor for minor in range(1, MAX_MINOR + 1) if minor not in used)
