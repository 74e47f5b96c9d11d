"""Plans what leads traffic to the links: redirects to link 0, and detours to the others.

A detour comes before the redirect, because its pref is lower. Both are there only where they lead to a complete tree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, Redirect, Step, Steps
from wgsyncd.core.shaping.tree import Hook, KernelState, Port
from wgsyncd.core.shaping.wanted import Wanted

Ways = dict[tuple[Direction, Network], int]  # the number of the link that has the traffic of an address


@dataclass(slots=True)
class Leads:
    """Where traffic should be led, and where it may stay led."""

    redirects: dict[str, set[Direction]] = field(default_factory=dict)  # by interface, like detours
    detours: dict[str, Ways] = field(default_factory=dict)
    held: set[tuple[Direction, int]] = field(default_factory=set)  # links that keep the shaping of an address
    needed: set[tuple[Direction, int]] = field(default_factory=set)  # links that stay


@dataclass(slots=True)
class _Sorted:
    """The directions of an interface by what becomes of their filters."""

    good: set[Direction] = field(default_factory=set)
    bad: set[Direction] = field(default_factory=set)  # a filter leads nowhere
    unused: set[Direction] = field(default_factory=set)  # nobody needs a filter any more


def plan_ports(some: Mapping[Direction, Steps], leads: Leads, kernel: KernelState, wanted: Wanted) -> list[str]:
    """Plan redirects, detours and the qdiscs that hold them. Returns the interfaces where somebody is in the way."""
    live = {(one, tree.index): number for number, one, tree in kernel.every_tree() if tree.is_live}
    foreign = []
    for name, port in sorted(kernel.ports.items()):
        redirects, ways = leads.redirects.get(name, set()), leads.detours.get(name, {})
        wants = redirects | {direction for direction, _ in ways}
        blocked = wants if port.hook is Hook.INGRESS else wants & port.taken
        if blocked:
            foreign.append(name)
        found = _Sorted()
        missing = _plan_detours(some, found, name, port, {way: to for way, to in ways.items() if way[0] not in blocked},
                                live, leads, wanted)  # fmt: skip
        redirects = redirects - blocked
        redirects -= _plan_redirects(some, found, name, port, redirects, live, leads)
        new = sorted(redirects | {direction for direction, _ in missing})
        if not (new or found.good or port.has_foreign_filters or port.taken) and (found.bad or found.unused):
            last = some[max(found.unused or found.bad)]  # The qdisc goes after all its filters.
            (last.clean_up if found.unused else last.withdraw).append(Step(Action.DELETE, None, Clsact(name)))
        if new and port.hook is Hook.NONE:
            some[new[0]].prepare.append(Step(Action.ADD, None, Clsact(name)))
        for (direction, network), number in missing.items():
            some[direction].prepare.append(Step(Action.ADD, direction, Detour(name, network, 0), number))
        for direction in sorted(redirects):
            some[direction].add(Redirect(name))
    return foreign


def _plan_redirects(
    some: Mapping[Direction, Steps], found: _Sorted, name: str, port: Port, wants: set[Direction],
    live: Mapping[tuple[Direction, int], int], leads: Leads,
) -> set[Direction]:  # fmt: skip
    """Plan redirects that lead nowhere, and those that nobody uses any more. Returns the ones that stay."""
    good = set()
    for direction, index in sorted(port.redirects.items()):
        if live.get((direction, index)) != 0:
            some[direction].withdraw.append(Step(Action.DELETE, direction, Redirect(name)))
            found.bad.add(direction)
        elif direction in wants or (direction, 0) in leads.held:  # a held device may be behind it, it harms nobody
            good.add(direction)
        else:
            some[direction].delete_later(Redirect(name))
            found.unused.add(direction)
    found.good |= good
    return good


def _plan_detours(
    some: Mapping[Direction, Steps], found: _Sorted, name: str, port: Port, ways: Ways,
    live: Mapping[tuple[Direction, int], int], leads: Leads, wanted: Wanted,
) -> Ways:  # fmt: skip
    """Plan detours that are there and should not be, or that lead to another link. Returns the missing ones."""
    missing = dict(ways)
    for (direction, network), led in port.detours.items():
        number, goal = live.get((direction, led.link)), ways.get((direction, network))
        detour = Detour(name, network, led.handle)
        if number is None:
            some[direction].withdraw.append(Step(Action.DELETE, direction, detour))
            found.bad.add(direction)
        elif goal is not None:
            del missing[direction, network]
            found.good.add(direction)
            if goal != number:
                some[direction].prepare.append(Step(Action.CHANGE, direction, detour, goal))
        elif wanted.holds(network) and (direction, number) in leads.needed:
            found.good.add(direction)
        else:
            some[direction].delete_later(detour)
            found.unused.add(direction)
    return missing
