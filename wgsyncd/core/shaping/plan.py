"""The plan of shaping: steps from the actual state to the wanted one, in an order that harms nobody.

A redirect leads to a complete tree, or it is not there. Filters go before their classes, and classes before their
parents (EBUSY, net/sched/sch_htb.c). What a peer needs stands before the peer is added, and it goes after the peer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.minors import Minors, assign_minors, device_filters
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.redirects import Leads, plan_ports
from wgsyncd.core.shaping.spread import by_link
from wgsyncd.core.shaping.steps import Action, Link, RootQdisc, ShapingPlan, Step, Steps
from wgsyncd.core.shaping.tree import (
    DEVICE_PREFS,
    EXEMPT_PREFS,
    LINKS,
    NOT_SHAPED,
    QUEUE,
    Filter,
    HtbClass,
    KernelState,
    Leaf,
    Root,
    Tree,
    device_class,
    leaf,
    top_class,
)
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted

_MORE_HANDLES = 0x8000  # for filters that cannot have the number of their minor
_NO_TREE = Tree()


@dataclass(slots=True)
class _Goal:
    """What one tree should have."""

    contracts: dict[int, HtbClass] = field(default_factory=dict)  # by minor, like devices and leaves
    devices: dict[int, HtbClass] = field(default_factory=dict)
    leaves: dict[int, Leaf] = field(default_factory=dict)
    filters: dict[tuple[int, Network], int] = field(default_factory=dict)  # the minor, by pref and network
    ways: set[tuple[str, Network]] = field(default_factory=set)  # interfaces and addresses whose traffic is led here
    is_needed: bool = False  # somebody is shaped in this direction


@dataclass(slots=True)
class _Lane:
    """The links with one number: what wgsyncd may use of them, and what they should have."""

    number: int
    usable: dict[Direction, Tree]
    goals: dict[Direction, _Goal]
    held: dict[Direction, bool]  # an address there keeps the shaping that it has
    missing: list[str]  # devices without a minor


def make_plan(wanted: Wanted, kernel: KernelState) -> ShapingPlan:
    """The plan from the actual state to the wanted one. What belongs to somebody else is left alone and named."""
    lanes = [
        _lane(number, some, kernel.more.get(number, {}) if number else kernel.trees)
        for number, some in by_link(wanted, kernel).items()
    ]  # fmt: skip
    ports = {direction: Steps(direction) for direction in Direction}
    foreign = [
        LINKS[one] for one in Direction
        if one not in lanes[0].usable and any(each.rate(one) for each in wanted.devices)
    ]  # fmt: skip
    foreign += plan_ports(ports, _leads(lanes), kernel, wanted)
    withdraw, prepare, clean_up = list[Step](), list[Step](), list[Step]()
    for direction, steps in ports.items():
        withdraw += steps.withdraw
        clean_up += steps.clean_up  # before what they lead to
        for lane in lanes:
            own = _plan_link(direction, lane, wanted)
            prepare += own.prepare
            clean_up += own.clean_up
        prepare += steps.prepare
    missing = (name for lane in lanes for name in lane.missing)
    return ShapingPlan(tuple(withdraw), tuple(prepare), tuple(clean_up), tuple(missing), tuple(foreign))


def _lane(number: int, wanted: Wanted, found: Mapping[Direction, Tree]) -> _Lane:
    trees = {one: found.get(one, _NO_TREE) for one in Direction}
    usable = {direction: tree for direction, tree in trees.items() if not tree.is_foreign}
    minors = assign_minors(wanted, usable)
    held = {one: one in usable and _is_held(wanted, usable[one]) for one in Direction}
    goals = {direction: _goal(wanted, minors, direction, held[direction]) for direction in usable}
    return _Lane(number, usable, goals, held, minors.missing)


def _leads(lanes: Sequence[_Lane]) -> Leads:
    leads = Leads()
    for lane in lanes:
        leads.held |= {(one, lane.number) for one, is_held in lane.held.items() if is_held}
        for direction, goal in lane.goals.items():
            if goal.is_needed:
                leads.needed.add((direction, lane.number))
            for name, net in goal.ways:
                if lane.number:
                    leads.detours.setdefault(name, {})[direction, net] = lane.number
                else:
                    leads.redirects.setdefault(name, set()).add(direction)
    return leads


def _plan_link(direction: Direction, lane: _Lane, wanted: Wanted) -> Steps:
    steps = Steps(direction, lane.number)
    if (tree := lane.usable.get(direction)) is None:
        return steps
    if lane.goals[direction].is_needed:
        _plan_tree(steps, lane.goals[direction], tree, wanted)
    elif tree.index:
        steps.delete_later(Link())  # after the redirects, which would drop everything
    return steps


def first_new(wanted: Wanted, kernel: KernelState, most: int) -> tuple[Wanted, tuple[ShapedDevice, ...]]:
    """The wish without the new devices beyond ``most``, and these devices. The devices with the lowest ids stay.

    The kernel looks at all classes for each new one (tc_bind_tclass, net/sched/sch_api.c). So thousands of new devices
    take long, and a daemon that makes all of them at once does nothing else meanwhile.
    """
    known = {net for _, _, tree in kernel.every_tree() for net in device_filters(tree)}
    new = [one for one in wanted.devices if not any(net in known for net in one.addresses)]
    waiting = tuple(new[most:])
    late = {one.id for one in waiting}
    return replace(wanted, devices=tuple(one for one in wanted.devices if one.id not in late)), waiting


class CyclePlan(NamedTuple):
    """What one cycle does of the wish."""

    wanted: Wanted  # the wish without the devices that wait
    plan: ShapingPlan
    waiting: tuple[ShapedDevice, ...]  # new devices that the next cycles make


@dataclass(slots=True)
class Planner:
    """Plans one cycle after the other.

    A plan without steps is kept, and it holds while the wish and the kernel are equal to what it was made from.
    """

    _last: tuple[Wanted, KernelState, CyclePlan] | None = None

    def plan(self, wanted: Wanted, kernel: KernelState, most: int) -> CyclePlan:
        """What the next cycle does. ``most``: new devices of one cycle, the same each time."""
        if self._last is not None and self._last[:2] == (wanted, kernel):
            return self._last[2]
        some, waiting = first_new(wanted, kernel, most)
        found = CyclePlan(some, make_plan(some, kernel), waiting)
        self._last = (wanted, kernel, found) if found.plan.is_empty else None
        return found


def _is_held(wanted: Wanted, tree: Tree) -> bool:
    return any(wanted.holds(net) for net in device_filters(tree))


def _goal(wanted: Wanted, minors: Minors, direction: Direction, is_held: bool) -> _Goal:
    goal = _Goal()
    shaped = [one for one in wanted.devices if one.rate(direction) is not None and one.id in minors.devices]
    sizes = Counter(one.owner for one in shaped if one.choice.shared)
    for device in shaped:
        minor, rate = minors.devices[device.id], device.rate(direction) or 0
        if parent := minors.contracts.get(device.owner):
            goal.contracts[parent] = top_class(parent, rate)
            goal.devices[minor] = device_class(minor, parent, rate, sizes[device.owner])
        else:
            goal.devices[minor] = top_class(minor, rate)
        goal.leaves[minor] = leaf(minor, rate)
        for net in device.addresses:
            goal.filters[DEVICE_PREFS[len(net.packed)], net] = minor
            goal.ways |= {(name, net) for name in (device.interface, *wanted.more_interfaces.get(net, ()))}
    goal.is_needed = is_held or bool(shaped)
    if goal.is_needed:
        goal.filters |= {(EXEMPT_PREFS[len(net.packed)], net): NOT_SHAPED for net in wanted.exempt}
    return goal


def _plan_tree(steps: Steps, goal: _Goal, tree: Tree, wanted: Wanted) -> None:
    if not tree.index:
        steps.add(Link())
    elif not tree.is_up or tree.queue != QUEUE:
        steps.change(Link())
    if tree.root is Root.NONE:
        steps.add(RootQdisc())
    for pref in sorted(tree.foreign_prefs):
        steps.delete(pref)
    stay, missing = _plan_filters(steps, goal, tree, wanted)
    for minor, one in (goal.contracts | goal.devices).items():
        found = tree.classes.get(minor)
        if found is None:
            steps.add(one)
        elif (found._replace(quantum=one.quantum) if minor in goal.contracts else found) != one:
            steps.change(one)  # The kernel never changes the quantum of a class that has classes, nor uses it.
    for minor, its_leaf in goal.leaves.items():
        if minor not in tree.leaves:
            steps.add(its_leaf)
        elif tree.leaves[minor] != its_leaf:
            steps.change(its_leaf)
    steps.prepare += missing
    _drop_classes(steps, goal, tree, stay)


def _plan_filters(steps: Steps, goal: _Goal, tree: Tree, wanted: Wanted) -> tuple[set[int], list[Step]]:
    """Plan what is wrong or not wanted any more. Returns the minors that stay, and the steps after all classes."""
    by_key: dict[tuple[int, Network], list[Filter]] = {}
    handles: dict[int, set[int]] = {}
    stay: set[int] = set()
    later: list[Step] = []
    there: set[tuple[int, Network]] = set()
    for one in tree.filters:
        handles.setdefault(one.pref, set()).add(one.handle)
        if one.network is None or one.pref not in (_pref(DEVICE_PREFS, one), _pref(EXEMPT_PREFS, one)):
            steps.delete(one)
        else:
            by_key.setdefault((one.pref, one.network), []).append(one)
    for key, some in by_key.items():
        minor, first = goal.filters.get(key), some[0]
        if minor is None:
            is_held = key[0] in DEVICE_PREFS.values() and wanted.holds(key[1])
            stay.update(one.minor for one in some if is_held)
            for one in () if is_held else some:
                steps.delete_later(one)
        elif len(some) > 1:  # the kernel's table has only one of them, so all are made again
            for one in some:
                steps.delete(one)
        else:
            there.add(key)
            if first.minor != minor:
                later.append(steps.step(Action.CHANGE, first._replace(minor=minor)))
    for (pref, net), minor in goal.filters.items():
        if (pref, net) not in there:
            used = handles.setdefault(pref, set())
            handle = minor or 1
            while handle in used:
                handle = max(handle + 1, _MORE_HANDLES)
            used.add(handle)
            later.append(steps.step(Action.ADD, Filter(pref, handle, net, minor)))
    return stay, later


def _pref(prefs: Mapping[int, int], one: Filter) -> int:
    return prefs[len(one.network.packed)] if one.network is not None else -1


def _drop_classes(steps: Steps, goal: _Goal, tree: Tree, stay: set[int]) -> None:
    """Delete the classes that nobody needs, children first."""
    keep = set(goal.contracts) | set(goal.devices)
    while rest := stay & tree.classes.keys() - keep:
        keep |= rest
        stay = {tree.classes[minor].parent for minor in rest}
    depths: dict[int, int] = {}
    for minor in tree.classes.keys() - keep:
        depth, above = 0, minor
        while above in tree.classes:
            depth, above = depth + 1, tree.classes[above].parent
        depths[minor] = depth
    for minor in sorted(depths, key=lambda one: (-depths[one], one)):
        steps.delete_later(tree.classes[minor])
