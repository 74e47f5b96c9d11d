"""Contracts are spread over links: nobody is unshaped or cut off on the way, and nothing is left.

Here, a link takes new contracts until it has three classes. So few devices need several links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_shaping_plan import HOSTS, MBIT, device, kernels, reach, wish, wishes
from tests.tcmodel import TcModel
from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.shaping import spread
from wgsyncd.core.shaping.plan import Planner, first_new, make_plan
from wgsyncd.core.shaping.preview import preview
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, Step
from wgsyncd.core.shaping.tree import Hook, HtbClass, Leaf, Port, Tree
from wgsyncd.core.shaping.wanted import Wanted

DOWN, UP = Direction.DOWN, Direction.UP
FOUR = wish(*(device(number, owner=f"{number}", interface=f"wg{number % 2}") for number in range(1, 5)))
LINK_OF_FOUR = {1: 0, 2: 0, 3: 1, 4: 1}


@pytest.fixture(autouse=True, scope="module")
def _small_links() -> Iterator[None]:
    with mock.patch.object(spread, "MOST_CLASSES", 3):
        yield


def led(tc: TcModel, interface: str, direction: Direction, net: Network) -> int:
    """The number of the link that has the traffic of an address. -1: none has it."""
    port = tc.ports[interface]
    if (direction, net) in port.detours:
        index = port.detours[direction, net].link
        return next(number for number, way, tree in tc.state.every_tree() if (way, tree.index) == (direction, index))
    return 0 if direction in port.redirects else -1


def shaped(tc: TcModel, wanted: Wanted, direction: Direction) -> dict[Network, tuple[HtbClass, Leaf]]:
    """The class and the leaf that the traffic of each wanted address meets."""
    found = {}
    for one in wanted.devices:
        for net in one.addresses:
            if (number := led(tc, one.interface, direction, net)) >= 0:
                tree = tc.of(number)[direction]
                for each in tree.filters:
                    if each.network == net and each.minor:
                        found[net] = tree.classes[each.minor], tree.leaves[each.minor]
    return found


def check(tc: TcModel, wanted: Wanted) -> None:
    """Each device has its rate, a contract is in one link, no link is there for nobody, and no filter is left."""
    for direction in Direction:
        mine = [one for one in wanted.devices if one.rate(direction) is not None]
        found = shaped(tc, wanted, direction)
        assert {net: one.ceil for net, (one, _) in found.items()} == {
            net: one.rate(direction) for one in mine for net in one.addresses
        }
        homes: dict[str, set[int]] = {}
        for one in mine:
            if one.choice.shared:
                homes.setdefault(one.owner, set()).update(led(tc, one.interface, direction, n) for n in one.addresses)
        assert all(len(some) == 1 for some in homes.values()), "a contract's devices share one class"
        there = [one for _, way, one in tc.state.every_tree() if way is direction and one.index and not one.is_foreign]
        assert all(tree.filters for tree in there)
        assert sum(one.pref in (10, 11) for tree in there for one in tree.filters) == len(found)
        ways = {net for port in tc.ports.values() for way, net in port.detours if way is direction}
        assert ways <= found.keys()


def test_contracts_fill_one_link_after_the_other() -> None:
    tc = reach(FOUR, TcModel())
    assert {one.id: led(tc, one.interface, DOWN, one.addresses[0]) for one in FOUR.devices} == LINK_OF_FOUR
    check(tc, FOUR)
    grown = wish(*FOUR.devices, *(device(number, owner="1") for number in (5, 6, 7)))
    reach(grown, tc)
    assert led(tc, "wg0", UP, parse_host("10.200.0.8")) == 0, "a new device is in the link of its contract"
    check(tc, grown)


def test_a_link_that_has_too_many_classes_stays_as_it_is() -> None:
    with mock.patch.object(spread, "MOST_CLASSES", 100):
        tc = reach(FOUR, TcModel())
    assert make_plan(FOUR, tc.state).is_empty
    assert not tc.more


def test_another_contract_in_another_link_takes_the_device_along() -> None:
    larger = (*FOUR.devices, device(5, owner="3"))
    tc = reach(wish(*larger), TcModel())
    for owner, number in (("3", 1), ("1", 0), ("3", 1)):
        moved = wish(*(replace(one, owner=owner) if one.id == 2 else one for one in larger))
        reach(moved, tc)
        check(tc, moved)
        assert led(tc, "wg0", DOWN, parse_host("10.200.0.3")) == number


def test_switched_off_all_links_and_detours_go() -> None:
    tc = reach(FOUR, TcModel())
    reach(wish(), tc)
    assert not any(tree.index for _, _, tree in tc.state.every_tree())
    assert tc.ports == {"wg0": Port(), "wg1": Port()}


def test_detours_into_a_dead_link_go_first_and_come_back() -> None:
    tc = reach(FOUR, TcModel())
    tc.more[1][DOWN] = Tree()
    plan = make_plan(FOUR, tc.state)
    assert {(step.action, step.direction, type(step.thing)) for step in plan.withdraw} == {
        (Action.DELETE, DOWN, Detour)
    }
    assert len(plan.withdraw) == 2
    reach(FOUR, tc)
    check(tc, FOUR)


def test_a_link_of_another_program_is_left_alone_and_its_number_is_not_used() -> None:
    theirs = Tree(77, is_ifb=False, is_up=True)
    tc = TcModel()
    tc.more[1] = {DOWN: theirs, UP: Tree()}
    reach(FOUR, tc)
    assert tc.more[1] == {DOWN: theirs, UP: Tree()}
    assert {led(tc, one.interface, way, one.addresses[0]) for one in FOUR.devices for way in Direction} == {0, 2}
    assert make_plan(FOUR, tc.state).foreign == ()


def test_a_filter_of_another_program_under_the_pref_of_detours_is_left_alone() -> None:
    tc = TcModel(ports={"wg0": Port(), "wg1": Port(Hook.CLSACT, taken=frozenset({DOWN}), has_foreign_filters=True)})
    reach(FOUR, tc)
    assert not {way for way, _ in tc.ports["wg1"].detours} & {DOWN}
    assert make_plan(FOUR, tc.state).foreign == ("wg1",)
    reach(wish(), tc)
    assert tc.ports["wg1"] == Port(Hook.CLSACT, taken=frozenset({DOWN}), has_foreign_filters=True)


def test_new_devices_are_those_that_no_link_has_and_rates_are_seen_in_each_link() -> None:
    tc = reach(FOUR, TcModel())
    assert first_new(FOUR, tc.state, 0) == (FOUR, ())
    slow = wish(*(replace(one, choice=one.choice._replace(down=MBIT)) for one in FOUR.devices))
    assert [one.owner for one in preview(slow, tc.state).changed] == ["1", "2", "3", "4"]


def test_a_new_detour_comes_after_its_class_and_the_qdisc() -> None:
    steps = make_plan(FOUR, TcModel().state).prepare
    first = next(at for at, step in enumerate(steps) if isinstance(step.thing, Detour))
    assert Step(Action.ADD, None, Clsact(steps[first].thing.interface)) in steps[:first]  # type: ignore[union-attr]
    assert any(isinstance(step.thing, HtbClass) and step.number == 1 for step in steps[:first])


@given(wishes(), wishes(), st.lists(st.booleans(), max_size=6), st.floats(0, 1))
def test_a_kept_plan_is_the_one_that_would_be_made(
    first: Wanted, second: Wanted, turns: list[bool], part: float
) -> None:
    planner, tc = Planner(), TcModel()
    for turn in turns:
        wanted = first if turn else second
        some, waiting = first_new(wanted, tc.state, 3)
        plan = make_plan(some, tc.state)
        assert planner.plan(wanted, tc.state, 3) == (some, plan, waiting)
        steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
        tc.apply(steps[: 1 + round(part * len(steps))])


def test_a_plan_without_steps_is_kept_until_wish_or_kernel_change() -> None:
    tc, planner = reach(FOUR, TcModel()), Planner()
    with mock.patch("wgsyncd.core.shaping.plan.make_plan", wraps=make_plan) as made:
        for _ in range(3):
            assert planner.plan(replace(FOUR), tc.state, 9).plan.is_empty
        assert made.call_count == 1
        slow = wish(*(replace(one, choice=one.choice._replace(down=MBIT)) for one in FOUR.devices))
        assert not planner.plan(slow, tc.state, 9).plan.is_empty
        assert planner.plan(FOUR, tc.state, 9).plan.is_empty
        tc.ports["wg0"] = replace(tc.ports["wg0"], redirects={})
        assert not planner.plan(FOUR, tc.state, 9).plan.is_empty
    assert made.call_count == 4


@settings(max_examples=1000, deadline=None)
@given(wishes(), kernels(), st.floats(0, 1))
def test_from_any_state_and_after_any_part_the_next_plan_reaches_it(wanted: Wanted, tc: TcModel, part: float) -> None:
    plan = make_plan(wanted, tc.state)
    steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
    tc.apply(steps[: round(part * len(steps))])
    reach(wanted, tc)
    if not make_plan(wanted, tc.state).foreign:
        check(tc, wanted)


@settings(max_examples=400, deadline=None)
@given(wishes(), wishes(), wishes(), st.floats(0, 1))
def test_no_step_leaves_a_device_unshaped_or_cut_off(first: Wanted, second: Wanted, third: Wanted, part: float) -> None:
    """A device that was shaped and stays at its interface is shaped after each step, also after a kill on the way."""
    tc = reach(first, TcModel())
    for wanted in (second, second, third):
        places = {(one.interface, net) for one in wanted.devices for net in one.addresses}
        stay = {}
        for way in Direction:
            mine = {net for one in wanted.devices if one.rate(way) is not None for net in one.addresses}
            before = shaped(tc, first, way).keys()
            stay[way] = {net for one in first.devices for net in one.addresses
                         if net in before & mine and (one.interface, net) in places}  # fmt: skip
        plan = make_plan(wanted, tc.state)
        steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
        if wanted is second:
            steps = steps[: round(part * len(steps))]
        for step in steps:
            tc.make(step)
            for way in Direction:
                assert stay[way] <= shaped(tc, wanted, way).keys(), step
        reach(wanted, tc)
        check(tc, wanted)
        first = wanted


@settings(max_examples=200, deadline=None)
@given(wishes(), wishes(), st.sets(st.sampled_from(HOSTS)))
def test_held_addresses_keep_the_shaping_they_have(first: Wanted, second: Wanted, held: set[Network]) -> None:
    tc = reach(first, TcModel())
    before = {one: shaped(tc, first, one) for one in Direction}
    devices = tuple(one for one in second.devices if not held & set(one.addresses))
    reach(replace(second, devices=devices, held=frozenset(held)), tc)
    for one in Direction:
        after = shaped(tc, first, one)
        for net in held & before[one].keys():
            assert after[net] == before[one][net]
