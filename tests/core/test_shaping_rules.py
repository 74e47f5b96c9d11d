"""The single rules of shaping: profiles, caps, device limits, minors, numbers of classes and leaves, foreign objects."""

from __future__ import annotations

import pytest

from tests.core.test_shaping_plan import EXEMPT, MBIT, device, reach, shape_of, wish
from tests.tcmodel import TcModel
from wgsyncd.core.model import Counters
from wgsyncd.core.network import parse_host
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.preview import ShapingPreview, preview
from wgsyncd.core.shaping.profiles import Counted, Direction, Profile, ShapingPolicy, Terms, choose
from wgsyncd.core.shaping.steps import Action, Clsact, Link, Redirect, ShapingPlan, Step
from wgsyncd.core.shaping.tree import MAJOR, MAX_MINOR, Hook, Port, Root, Tree, device_class, leaf, top_class
from wgsyncd.core.shaping.wanted import ShapedDevice, apart
from wgsyncd.stores.mikyun.limits import beyond_limit

DOWN, UP = Direction.DOWN, Direction.UP
POLICY = ShapingPolicy(
    enforce=True,
    default="basic",
    profiles={
        "basic": Profile(down=MBIT, up=MBIT),
        "standard": Profile(down=100 * MBIT, up=20 * MBIT, monthly=1000, beyond="slow"),
        "slow": Profile(down=2 * MBIT, up=None, shared=False, monthly=1, beyond="basic"),
    },
)


# -- profiles and caps


def test_a_contract_has_the_profile_that_it_names() -> None:
    assert choose(Terms("standard"), POLICY) == ("standard", 100 * MBIT, 20 * MBIT, True, "", "")


@pytest.mark.parametrize("name", ["premium", "Standard", "standard ", "s"])
def test_an_unknown_profile_is_named_and_the_default_holds(name: str) -> None:
    choice = choose(Terms(name), POLICY)
    assert (choice.name, choice.unknown, choice.down) == ("basic", name, MBIT)


def test_without_a_default_nobody_is_shaped_who_names_no_profile() -> None:
    choice = choose(Terms(), ShapingPolicy(enforce=True, profiles=POLICY.profiles))
    assert (choice.name, choice.down, choice.up, choice.unknown) == ("", None, None, "")


@pytest.mark.parametrize(("rx", "tx", "beyond"), [(400, 599, ""), (400, 600, "slow"), (0, 5000, "slow")])
def test_from_the_cap_on_the_rates_of_beyond_hold(rx: int, tx: int, beyond: str) -> None:
    choice = choose(Terms("standard", Counters(rx, tx)), POLICY)
    assert choice.beyond == beyond
    assert choice.name == "standard", "the contract keeps its profile"
    assert choice.shared, "beyond's own shared does not count, nor does its cap"
    assert (choice.down, choice.up) == ((2 * MBIT, None) if beyond else (100 * MBIT, 20 * MBIT))


def test_a_month_that_nobody_knows_slows_nobody() -> None:
    assert choose(Terms("standard", None), POLICY).beyond == ""


@pytest.mark.parametrize(("counts", "used"), [(Counted.BOTH, 11), (Counted.DOWN, 10), (Counted.UP, 1)])
def test_down_is_what_the_server_sends(counts: Counted, used: int) -> None:
    assert Profile(counts=counts).used(Counters(rx=1, tx=10)) == used


# -- device limits


@pytest.mark.parametrize(
    ("limit", "beyond"), [(None, ()), (-1, ()), (5, ()), (4, ()), (2, (1, 3)), (1, (4, 1, 3)), (0, (2, 4, 1, 3))]
)
def test_live_rows_keep_their_place_and_then_the_lowest_ids(limit: int | None, beyond: tuple[int, ...]) -> None:
    assert beyond_limit(limit, (1, 2, 3, 4), {4, 2}) == beyond


# -- numbers


@pytest.mark.parametrize(
    ("rate", "burst", "quantum"), [(8000, 3200, 1514), (125_000, 3200, 1514), (12_500_000, 62_500, 12_500),
                                   (3_750_000_000, 18_750_000, 60_000)]
)  # fmt: skip
def test_a_class_of_a_rate(rate: int, burst: int, quantum: int) -> None:
    """A buffer is the time of the burst in ticks of 64 ns, as `tc -s class show` calculates it back."""
    one = top_class(5, rate)
    assert (one.minor, one.parent, one.rate, one.ceil, one.quantum) == (5, 0, rate, rate, quantum)
    assert one.buffer == one.cbuffer
    assert one.buffer * 64 * rate // 1_000_000_000 == pytest.approx(burst, abs=rate * 64 // 1_000_000_000 + 1)


def test_a_device_class_may_borrow_up_to_the_rate_of_its_contract() -> None:
    one = device_class(6, 5, 64_000, 2)
    assert (one.parent, one.rate, one.ceil) == (5, 1000, 64_000)
    assert (one.buffer, one.cbuffer) == (50_000_000, 781_250)


@pytest.mark.parametrize("devices", [1, 2, 64, 65, 128, 1000])
def test_own_rates_of_devices_never_exceed_the_contract(devices: int) -> None:
    """A class sends at its own rate even if its parent has nothing left."""
    assert device_class(6, 5, 8_000_000, devices).rate * devices <= 8_000_000
    assert device_class(6, 5, 8_000_000, devices).rate >= 8_000_000 // 64 // max(1, devices // 32)


@pytest.mark.parametrize(
    ("rate", "target", "interval"), [(12_500_000, 4999, 99_999), (125_000, 18_167, 113_167), (8000, 283_874, 378_874)]
)
def test_a_leaf_of_a_rate(rate: int, target: int, interval: int) -> None:
    """The target is 5 ms, or the time of one and a half packets. The kernel keeps steps of 1,024 ns."""
    one = leaf(7, rate)
    assert (one.minor, one.handle, one.flows, one.limit, one.memory) == (7, 7, 256, 1000, 4 << 20)
    assert (one.target, one.interval) == (target, interval)
    assert abs(one.target - max(5000, 1.5 * 1514e6 / rate)) <= 2.1


# -- minors


def test_minors_are_the_same_in_both_trees_and_the_lowest_first() -> None:
    tc = reach(wish(device(1), device(2), device(3, owner="0002")), TcModel())
    assert [sorted(tree.classes) for tree in tc.trees.values()] == [[1, 2, 3, 4]] * 2
    assert [one.parent for one in tc.trees[DOWN].classes.values()].count(0) == 2


def test_a_device_keeps_its_minor_and_a_new_one_gets_the_lowest_free() -> None:
    tc = reach(wish(*(device(number, shared=False) for number in (1, 2, 3))), TcModel())
    reach(wish(device(2, shared=False), device(3, shared=False)), tc)
    assert {net.address: one[0].minor for net, one in shape_of(tc, UP).items()} == {"10.200.0.3": 2, "10.200.0.4": 3}
    reach(wish(device(2, shared=False), device(3, shared=False), device(9, shared=False)), tc)
    assert shape_of(tc, DOWN)[parse_host("10.200.0.10")][0].minor == 1


def many(last: int) -> list[ShapedDevice]:
    """Returns the devices of one contract."""
    return [device(n, parse_host(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"), up=None) for n in range(1, last + 1)]


def test_no_minor_is_the_number_of_the_root_and_the_youngest_go_without() -> None:
    """A contract has one class more than devices, and all of them are in one link."""
    plan = make_plan(wish(*many(MAX_MINOR + 1)), TcModel().state)
    minors = [step.thing.minor for step in plan.prepare if type(step.thing) is type(top_class(1, 8000))]
    assert (len(minors), min(minors), max(minors)) == (MAX_MINOR - 1, 1, MAX_MINOR)
    assert MAJOR not in minors
    assert plan.no_minor == ("0001-DEV-32766", "0001-DEV-32767", "0001-DEV-32768")


# -- changes


def things(plan: ShapingPlan, action: Action) -> list[str]:
    steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
    return [type(step.thing).__name__ for step in steps if step.action is action]


def test_another_rate_changes_classes_alone() -> None:
    tc = reach(wish(device(1), device(2)), TcModel())
    plan = make_plan(wish(device(1, down=20 * MBIT), device(2, down=20 * MBIT)), tc.state)
    assert things(plan, Action.CHANGE) == ["HtbClass"] * 3
    assert len(plan.prepare) == 3 and not plan.clean_up and not plan.withdraw
    tc.apply(plan.prepare)
    parent = shape_of(tc, DOWN)[parse_host("10.200.0.2")][1]
    assert parent == top_class(1, 20 * MBIT)._replace(quantum=top_class(1, 10 * MBIT).quantum)


def test_a_contract_gets_a_class_of_its_own_with_its_second_device_and_keeps_it() -> None:
    tc = reach(wish(device(1)), TcModel())
    assert tc.trees[DOWN].classes == {1: top_class(1, 10 * MBIT)}
    plan = make_plan(wish(device(1), device(2)), tc.state)
    steps = [step for step in plan.prepare if step.direction is DOWN]
    assert [(step.action.name, type(step.thing).__name__) for step in steps] == [
        ("ADD", "HtbClass"), ("ADD", "HtbClass"), ("ADD", "HtbClass"), ("ADD", "Leaf"), ("ADD", "Leaf"),
        ("CHANGE", "Filter"), ("ADD", "Filter"),
    ]  # fmt: skip
    assert [step.thing for step in plan.clean_up if step.direction is DOWN] == [top_class(1, 10 * MBIT)]
    reach(wish(device(1), device(2)), tc)
    before = shape_of(tc, DOWN)[parse_host("10.200.0.2")]
    reach(wish(device(1)), tc)
    assert shape_of(tc, DOWN) == {parse_host("10.200.0.2"): before}, "what waits in its class would be lost"


def test_a_device_of_another_contract_gets_another_class_and_its_filter_moves() -> None:
    tc = reach(wish(device(1), device(2)), TcModel())
    plan = make_plan(wish(device(1), device(2, owner="0002")), tc.state)
    assert things(plan, Action.CHANGE) == ["Filter"] * 2
    assert things(plan, Action.DELETE) == ["HtbClass"] * 2


def test_nobody_shaped_in_a_direction_leaves_neither_link_nor_redirect() -> None:
    tc = reach(wish(device(1, up=None)), TcModel())
    assert not tc.trees[UP].index and set(tc.ports["wg0"].redirects) == {DOWN}
    reach(wish(), tc)
    assert not tc.trees[DOWN].index
    assert tc.ports == {"wg0": Port(), "wg1": Port()}, "no clsact is left"


def test_switched_off_all_goes_and_nobody_is_held() -> None:
    tc = reach(wish(device(1)), TcModel())
    plan = make_plan(wish(), tc.state)
    assert [step.thing for step in plan.clean_up] == [Redirect("wg0"), Link(), Redirect("wg0"), Clsact("wg0"), Link()]


def test_the_first_redirect_comes_after_everything_it_needs() -> None:
    plan = make_plan(wish(device(1), exempt=tuple(EXEMPT)), TcModel().state)
    names = [type(step.thing).__name__ for step in plan.prepare if step.direction is not UP]
    assert names == ["Link", "RootQdisc", "HtbClass", "Leaf", *["Filter"] * 4, "Clsact", "Redirect"]


# -- what is somebody else's


def test_a_foreign_link_is_named_and_the_other_direction_goes_on() -> None:
    tc = TcModel({DOWN: Tree(5, is_ifb=False, is_up=True)})
    plan = make_plan(wish(device(1)), tc.state)
    assert plan.foreign == ("wgsyncd-down",)
    assert {step.direction for step in plan.prepare} == {UP, None}


def test_a_foreign_root_is_not_touched_and_the_redirect_goes() -> None:
    tc = reach(wish(device(1)), TcModel())
    tc.trees[DOWN] = Tree(tc.trees[DOWN].index, is_up=True, root=Root.FOREIGN)
    plan = make_plan(wish(device(1)), tc.state)
    assert plan.withdraw == (Step(Action.DELETE, DOWN, Redirect("wg0")),)
    assert (plan.prepare, plan.clean_up, plan.foreign) == ((), (), ("wgsyncd-down",))


def test_an_interface_with_an_ingress_qdisc_is_named_and_left_alone() -> None:
    tc = TcModel(ports={"wg0": Port(Hook.INGRESS, has_foreign_filters=True), "wg1": Port()})
    plan = make_plan(wish(device(1), device(2, interface="wg1")), tc.state)
    assert plan.foreign == ("wg0",)
    assert {step.thing for step in plan.prepare if isinstance(step.thing, Clsact | Redirect)} == {
        Clsact("wg1"), Redirect("wg1")
    }  # fmt: skip


def test_clsact_stays_where_somebody_else_has_a_filter() -> None:
    tc = reach(wish(device(1)), TcModel(ports={"wg0": Port(Hook.CLSACT, has_foreign_filters=True)}))
    reach(wish(), tc)
    assert tc.ports["wg0"] == Port(Hook.CLSACT, has_foreign_filters=True)


def test_a_dead_link_loses_its_redirects_first_and_comes_back_whole() -> None:
    tc = reach(wish(device(1)), TcModel())
    tc.trees[DOWN] = Tree()
    plan = make_plan(wish(device(1)), tc.state)
    assert plan.withdraw == (Step(Action.DELETE, DOWN, Redirect("wg0")),)
    reach(wish(device(1)), tc)
    assert shape_of(tc, DOWN)


def test_devices_of_two_interfaces_with_one_address_have_the_class_of_the_first() -> None:
    """Rows may say so, because addresses conflict only within an interface. A tree has one filter for each address."""
    one, other = device(1), device(2, parse_host("10.200.0.2"), owner="0002", down=MBIT, interface="wg1")
    third = device(3, parse_host("10.200.0.2"), parse_host("fd00::3"), owner="0003", down=MBIT, interface="wg1")
    wanted = apart(wish(one, other, third))
    tc = reach(wanted, TcModel())
    rates = {net: mine.ceil for net, (mine, _, _) in shape_of(tc, DOWN).items()}
    assert rates == {one.addresses[0]: 10 * MBIT, parse_host("fd00::3"): MBIT}
    assert all(port.redirects.keys() == set(Direction) for port in tc.ports.values()), "nobody is unshaped"
    assert preview(wanted, tc.state) == ShapingPreview()
    assert shape_of(reach(wish(other), tc), DOWN)[other.addresses[0]][0].ceil == MBIT
    assert apart(wish(one, device(2))) == wish(one, device(2))
