"""From any state of tc, one shaping plan reaches what is wanted, cuts nobody off, and leaves nothing to plan.

The tests generate states of the kernel and wishes together from few minors and addresses. So conflicts are frequent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcmodel import TcModel
from wgsyncd.core.network import Network, as_networks, parse_host, parse_network
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.profiles import Choice, Direction
from wgsyncd.core.shaping.tree import (
    Filter,
    Hook,
    HtbClass,
    KernelState,
    Leaf,
    Port,
    Pref,
    Root,
    Tree,
    device_class,
    leaf,
    top_class,
)
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted

HOSTS = [parse_host(f"10.200.0.{number}") for number in range(2, 8)] + [parse_host("fd00::2"), parse_host("fd00::3")]
EXEMPT = [parse_network("10.200.0.1/32"), parse_network("192.0.2.0/24"), parse_network("fd00::/64")]
MBIT = 125_000
MINORS = st.integers(1, 8)


def device(number: int, *addresses: Network, owner: str = "0001", shared: bool = True, down: int | None = 10 * MBIT,
           up: int | None = MBIT, interface: str = "wg0") -> ShapedDevice:  # fmt: skip
    """Returns a device that is to be shaped, by default with the address of its number."""
    choice = Choice("standard", down, up, shared)
    nets = as_networks(addresses or (parse_host(f"10.200.0.{number + 1}"),))
    return ShapedDevice(number, f"{owner}-DEV-{number:03}", owner, interface, nets, choice)


def wish(*devices: ShapedDevice, exempt: tuple[Network, ...] = (), held: frozenset[Network] = frozenset()) -> Wanted:
    return Wanted(devices, exempt, held)


def reach(wanted: Wanted, tc: TcModel) -> TcModel:
    """Applies a whole plan, and checks that the next plan is empty."""
    plan = make_plan(wanted, tc.state)
    tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up))
    again = make_plan(wanted, tc.state)
    assert again.is_empty, again
    return tc


def shape_of(tc: TcModel, direction: Direction) -> dict[Network, tuple[HtbClass, HtbClass | None, Leaf]]:
    """The class, the class of the contract and the leaf that the traffic of each address gets."""
    tree, found = tc.trees[direction], {}
    for one in tree.filters:
        if one.pref in (10, 11) and one.network is not None:
            mine = tree.classes[one.minor]
            found[one.network] = mine, tree.classes.get(mine.parent), tree.leaves[one.minor]
    return found


def as_wanted(wanted: Wanted, tc: TcModel, foreign: Mapping[Direction, bool]) -> None:
    """Checks each rate, each leaf, each parent, each exempt network and each redirect against the wishes."""
    for direction, tree in tc.trees.items():
        shaped = [one for one in wanted.devices if one.rate(direction) is not None]
        if foreign[direction]:
            continue
        assert bool(tree.index) == bool(shaped)
        found = shape_of(tc, direction)
        assert found.keys() == {net for one in shaped for net in one.addresses}
        parents: dict[str, set[int]] = {}
        for one in shaped:
            rate, nets = one.rate(direction) or 0, one.addresses
            same = sum(other.owner == one.owner and other.choice.shared for other in shaped)
            assert len({found[net][0].minor for net in nets}) == 1, "one class for all addresses"
            mine, parent, its_leaf = found[nets[0]]
            assert its_leaf == leaf(mine.minor, rate)
            if one.choice.shared and (parent is not None or same > 1):
                assert parent is not None
                assert parent == top_class(mine.parent, rate)._replace(quantum=parent.quantum) and mine == device_class(
                    mine.minor, mine.parent, rate, same
                )
                parents.setdefault(one.owner, set()).add(mine.parent)
            else:
                assert parent is None and mine == top_class(mine.minor, rate)
        assert all(len(some) == 1 for some in parents.values())
        assert len({minor for some in parents.values() for minor in some}) == len(parents), "a class for each contract"
        used = {found[net][0].minor for net in found} | {minor for some in parents.values() for minor in some}
        assert tree.classes.keys() == used, "nothing is left"
        assert len({one.addresses for one in shaped}) == len({found[one.addresses[0]][0].minor for one in shaped})
        exempt = {one.network for one in tree.filters if one.minor == 0}
        assert exempt == (set(wanted.exempt) if shaped else set())
        for name, port in tc.ports.items():
            wants = any(one.interface == name for one in shaped)
            blocked = port.hook is Hook.INGRESS or direction in port.taken
            assert (port.redirects.get(direction) == tree.index) == (wants and not blocked)


# -- any state


@st.composite
def trees(draw: st.DrawFn, index: int) -> Tree:
    """Returns what a hand, an older configuration or an interrupted plan may have left in one tree."""
    if draw(st.integers(0, 5)) == 0:
        return Tree()
    kind = draw(st.sampled_from(("whole",) * 8 + ("down", "no root", "no ifb", "foreign root")))
    if kind != "whole":
        root = Root.FOREIGN if kind == "foreign root" else Root.NONE
        return Tree(index, is_ifb=kind != "no ifb", is_up=kind != "down", queue=draw(st.sampled_from((32, 1000))),
                    root=root)  # fmt: skip
    classes: dict[int, HtbClass] = {}
    for minor in draw(st.lists(MINORS, unique=True, max_size=6)):
        parent = draw(st.sampled_from((0, *classes)))
        rate = draw(st.sampled_from((MBIT, 10 * MBIT)))
        classes[minor] = device_class(minor, parent, rate, 1) if parent else top_class(minor, rate)
    inner = {one.parent for one in classes.values()}
    leaves, handles = {}, set[int]()
    for minor in classes:
        handle = draw(st.sampled_from((minor, minor, 1, 2, 9, 0)))
        if handle and handle not in handles and minor not in inner:
            handles.add(handle)
            flows = draw(st.sampled_from((256, 256, 256, 64, 0)))
            leaves[minor] = leaf(minor, MBIT)._replace(handle=handle, flows=flows)
    filters: dict[tuple[int, int], Filter] = {}
    for net in draw(st.lists(st.sampled_from((*HOSTS, *EXEMPT, None)), max_size=8)):
        family = draw(st.sampled_from((4, 16))) if net is None else len(net.packed)
        pref = {4: 10, 16: 11}[family] - 5 * draw(st.integers(0, 1)) * (net not in HOSTS)
        minor = draw(st.sampled_from((0, *classes, *classes)))
        handle = draw(st.integers(1, 9))
        filters[pref, handle] = Filter(pref, handle, net, minor)
    odd = draw(st.sampled_from((frozenset(),) * 4 + (frozenset({Pref(3, 2048, "u32")}),)))
    return Tree(index, is_up=True, root=Root.OURS, classes=classes, leaves=leaves, filters=tuple(filters.values()),
                foreign_prefs=odd)  # fmt: skip


@st.composite
def kernels(draw: st.DrawFn) -> TcModel:
    ports = {}
    for name in ("wg0", "wg1"):
        hook = draw(st.sampled_from((Hook.NONE, Hook.CLSACT, Hook.CLSACT, Hook.INGRESS)))
        redirects, taken, foreign = {}, frozenset[Direction](), False
        if hook is Hook.CLSACT:
            foreign = draw(st.booleans())
            for number, direction in enumerate(Direction, 1):
                there = draw(st.sampled_from((None, number, 0, 77, "taken")))
                if there == "taken":
                    taken |= {direction}
                elif isinstance(there, int):
                    redirects[direction] = there
        ports[name] = Port(hook, redirects, taken, foreign or bool(taken))
    return TcModel({one: draw(trees(number)) for number, one in enumerate(Direction, 1)}, ports)


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    owned = {
        owner: Choice("standard", draw(st.sampled_from((None, MBIT, 10 * MBIT))),
                      draw(st.sampled_from((MBIT, 8000))), draw(st.booleans()))
        for owner in ("0001", "0002", "0003")
    }  # fmt: skip
    hosts, devices = draw(st.permutations(HOSTS)), []
    for number in range(1, 1 + draw(st.integers(0, 6))):
        owner = draw(st.sampled_from(sorted(owned)))
        nets = as_networks([hosts.pop() for _ in range(draw(st.sampled_from((1, 1, 2)))) if hosts])
        if nets:
            name = draw(st.sampled_from(("wg0", "wg1")))
            devices.append(ShapedDevice(number, f"DEV-{number}", owner, name, nets, owned[owner]))
    exempt = as_networks(draw(st.lists(st.sampled_from(EXEMPT), max_size=2)))
    return Wanted(tuple(devices), exempt)


@settings(max_examples=400, deadline=None)
@given(wishes(), kernels())
def test_one_plan_reaches_what_is_wanted_and_the_next_is_empty(wanted: Wanted, tc: TcModel) -> None:
    foreign = {one: tree.is_foreign for one, tree in tc.trees.items()}
    before = {one: tree for one, tree in tc.trees.items() if tree.is_foreign}
    others = {name: (port.taken, port.has_foreign_filters) for name, port in tc.ports.items()}
    reach(wanted, tc)
    as_wanted(wanted, tc, foreign)
    assert all(tc.trees[one] is tree for one, tree in before.items())
    assert others == {name: (port.taken, port.has_foreign_filters) for name, port in tc.ports.items()}


@settings(max_examples=300, deadline=None)
@given(wishes(), kernels(), st.floats(0, 1))
def test_after_any_interrupted_part_the_next_plan_reaches_it(wanted: Wanted, tc: TcModel, part: float) -> None:
    foreign = {one: tree.is_foreign for one, tree in tc.trees.items()}
    plan = make_plan(wanted, tc.state)
    steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
    tc.apply(steps[: round(part * len(steps))])
    reach(wanted, tc)
    as_wanted(wanted, tc, foreign)


def leads(kernel: KernelState) -> list[tuple[str, Direction]]:
    """The redirects into a link that is gone or down: they drop all packets."""
    return [
        (name, one) for name, port in kernel.ports.items() for one, index in port.redirects.items()
        if index != kernel.trees[one].index or not kernel.trees[one].is_up
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(wishes(), wishes(), wishes())
def test_no_step_leaves_a_device_unshaped_or_cut_off(first: Wanted, second: Wanted, third: Wanted) -> None:
    """A device that was shaped and stays shaped is so after each step of the way."""
    tc = reach(first, TcModel())
    for wanted in (second, third):
        stay = {
            one: {net for each in wanted.devices if each.rate(one) is not None for net in each.addresses}
            & shape_of(tc, one).keys()
            for one in Direction
        }
        plan = make_plan(wanted, tc.state)
        for step in (*plan.withdraw, *plan.prepare, *plan.clean_up):
            tc.make(step)
            assert not leads(tc.state)
            for one in Direction:
                assert stay[one] <= shape_of(tc, one).keys(), step
        assert make_plan(wanted, tc.state).is_empty


@settings(max_examples=200, deadline=None)
@given(wishes(), wishes(), st.sets(st.sampled_from(HOSTS)))
def test_held_addresses_keep_the_shaping_they_have(first: Wanted, second: Wanted, held: set[Network]) -> None:
    tc = reach(first, TcModel())
    before = {one: shape_of(tc, one) for one in Direction}
    devices = tuple(one for one in second.devices if not held & set(one.addresses))
    reach(replace(second, devices=devices, held=frozenset(held)), tc)
    for one in Direction:
        after = shape_of(tc, one)
        for net in held & before[one].keys():
            assert (after[net][0], after[net][2]) == (before[one][net][0], before[one][net][2])
        assert not (held & after.keys()) - before[one].keys(), "a held address gets nothing new"
