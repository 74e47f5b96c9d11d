"""Spreads contracts over links. The kernel makes a class more slowly, the more classes its link has.

A contract stays where its filters are. So nothing moves out of a link that has too many classes already.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from wgsyncd.core.model import DeviceId
from wgsyncd.core.network import Network
from wgsyncd.core.shaping.minors import device_filters
from wgsyncd.core.shaping.tree import MOST_LINKS, KernelState
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted

MOST_CLASSES = 2000  # of a link that takes new contracts: 1,000 devices have at most so many


def by_link(wanted: Wanted, kernel: KernelState) -> Mapping[int, Wanted]:
    """The wish by the number of the link, for 0 and for each number that the kernel has.

    Devices that share a rate are in one link. A number above 0 is not used where another program has one of its links.
    While another program has a link 0, new contracts are put there, and they are not shaped in its direction.
    """
    sharers = {_sharer(one) for one in wanted.devices}
    if not kernel.more and len(wanted.devices) + len(sharers) <= MOST_CLASSES:
        return {0: wanted}
    sizes, places, foreign = Counter[int](), dict[Network, int](), set[int]()
    for number, _, tree in kernel.every_tree():
        if number and tree.is_foreign:
            foreign.add(number)
        sizes[number] = max(sizes[number], len(tree.classes))
        for net in device_filters(tree):
            places.setdefault(net, number)
    votes: defaultdict[str | DeviceId, Counter[int]] = defaultdict(Counter)
    for device in wanted.devices:
        place = _place(device, places)
        if place is not None and place not in foreign:
            votes[_sharer(device)][place] += 1
    homes = {who: min(some, key=lambda number: (-some[number], number)) for who, some in votes.items()}
    usable = [number for number in range(MOST_LINKS) if number not in foreign]
    if any(tree.is_foreign for tree in kernel.trees.values()):
        usable = [0]  # Nothing is made in it, so nothing tells who was put there.
    groups: dict[int, list[ShapedDevice]] = {number: [] for number in (0, *kernel.more)}
    for device in wanted.devices:
        who = _sharer(device)
        if who not in homes:
            homes[who] = next((one for one in usable if sizes[one] < MOST_CLASSES), 0)
            sizes[homes[who]] += device.choice.shared
        sizes[homes[who]] += _place(device, places) != homes[who]
        groups.setdefault(homes[who], []).append(device)
    return {number: replace(wanted, devices=tuple(groups[number])) for number in sorted(groups)}


def _sharer(device: ShapedDevice) -> str | DeviceId:
    """Who has the rate: the contract, or the device by itself."""
    return device.owner if device.choice.shared else device.id


def _place(device: ShapedDevice, places: Mapping[Network, int]) -> int | None:
    return next((places[net] for net in device.addresses if net in places), None)
