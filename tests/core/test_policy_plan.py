"""The plan of access withdraws first and grants last, and its guard cuts off nobody unasked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.policing import device, networks, policy, ruleset, tables
from tests.samples import key
from wgsyncd.core.network import Networks, parse_host, parse_network
from wgsyncd.core.peers.guard import RemovalLimits
from wgsyncd.core.policies.explain import explain_address, installed_access
from wgsyncd.core.policies.model import Access, Device, Element, PolicySettings, PolicyTables, Ruleset, tag
from wgsyncd.core.policies.plan import AccessPlan, plan_access

OPEN = networks("10.0.0.0/8")
MANY = [device(number) for number in range(2, 22)]
ALL_OPEN = policy(1, "allow", "10.0.0.0/8", to=[("user", one.owner) for one in MANY])
USUAL = RemovalLimits(always_allowed=2, max_share=0.1, small_node=2)


def planned(
    devices: Sequence[Device], found: PolicyTables, there: Ruleset | None, *, approved: str | None = None,
    settings: PolicySettings | None = None, kept: Networks = (), limits: RemovalLimits = USUAL, is_partial: bool = False,
) -> AccessPlan:  # fmt: skip
    return plan_access(
        devices, found, settings or PolicySettings(), limits, there, approved, tunnels=frozenset(("wg0",)), kept=kept,
        is_partial=is_partial,
    )  # fmt: skip


def test_an_interface_that_cannot_be_read_takes_nobodys_element_but_gives_no_address_away() -> None:
    there = ruleset((device(2), OPEN), (device(3), OPEN))
    plan = planned([device(4, "10.8.0.3", stays=False)], tables(), there, is_partial=True)
    assert plan.withdrawn == {parse_host("10.8.0.3")}
    assert plan.wanted.elements[parse_host("10.8.0.2")] == Element("dev-2", OPEN.profile)
    assert plan.wanted.elements[parse_host("10.8.0.3")].device == "dev-4"


def test_every_device_has_an_element_and_equal_access_is_one_profile() -> None:
    plan = planned(MANY, tables(ALL_OPEN), None)
    assert plan.wanted.elements == {one.hosts[0]: Element(one.id, OPEN.profile) for one in MANY}
    assert plan.wanted.profiles == {OPEN.profile: OPEN}
    assert {change.device: change.gained for change in plan.changes} == {one.id: OPEN for one in MANY}
    assert [rule.policy for rule in plan.changes[0].rules] == [ALL_OPEN] and plan.changes[0].owner == MANY[0].owner
    assert not plan.withdrawn and not plan.verdict.tripped


def test_devices_of_one_profile_share_its_ranges() -> None:
    """10,000 devices with ranges of their own would take many MiB."""
    there = planned(MANY, tables(ALL_OPEN), None).wanted
    found = [installed_access(one, there) for one in MANY]
    assert {id(access.v4) for access in found if access is not None} == {id(there.profiles[OPEN.profile].v4)}


def test_the_next_plan_changes_nothing() -> None:
    first = planned(MANY, tables(ALL_OPEN, dns=("10.9.9.9",)), None, kept=(parse_network("10.50.0.0/16"),))
    again = planned(MANY, tables(ALL_OPEN, dns=("10.9.9.9",)), first.wanted, kept=(parse_network("10.50.0.0/16"),))
    assert again.wanted == first.wanted
    assert not again.changes and not again.withdrawn and not again.forgotten


def test_a_device_without_access_has_an_element_so_that_it_reaches_the_dns_server() -> None:
    plan = planned([device(2)], tables(dns=("10.9.9.9",)), None)
    assert plan.wanted.elements[parse_host("10.8.0.2")] == Element("dev-2", Access().profile)
    assert plan.wanted.dns == {parse_host("10.9.9.9")}
    assert planned([device(2)], tables(dns=("10.9.9.9",)), None, settings=PolicySettings(dns=False)).wanted.dns == set()


@pytest.mark.parametrize("is_partial", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_address_of_two_interfaces_reaches_nothing(frozen: bool, is_partial: bool) -> None:
    """The device that may reach nothing would have the access of the other one."""
    there = planned([device(2), device(3)], tables(ALL_OPEN), None).wanted
    both = [device(2, frozen=frozen), device(3), device(99, "10.8.0.2", interface="wg1", stays=False)]
    plan = planned(both, tables(ALL_OPEN), there, is_partial=is_partial)
    assert plan.withdrawn == {parse_host("10.8.0.2")}
    assert plan.wanted.elements == {parse_host("10.8.0.3"): Element("dev-3", OPEN.profile)}
    assert plan.shared == {parse_host("10.8.0.2"): ("dev-2", "dev-99")}
    assert not plan.withheld
    moving = [device(2, frozen=True), device(2, interface="wg1", stays=False)]
    moved = planned(moving, tables(ALL_OPEN), there)
    assert moved.wanted.elements.keys() == {parse_host("10.8.0.2")} and not moved.shared
    again = planned(both, tables(ALL_OPEN), plan.wanted, is_partial=is_partial)
    assert (again.wanted, again.changes, again.withdrawn) == (plan.wanted, (), frozenset())
    assert planned(both[:2], tables(ALL_OPEN), plan.wanted).wanted.elements.keys() == (
        there.elements.keys() if not frozen else {parse_host("10.8.0.3")}
    )


def test_a_device_that_loses_its_peer_is_withdrawn_and_its_flows_forgotten() -> None:
    there = ruleset((device(2), OPEN), (device(3), OPEN))
    plan = planned([device(3)], tables(ALL_OPEN), there)
    assert plan.withdrawn == plan.forgotten == {parse_host("10.8.0.2")}
    assert parse_host("10.8.0.2") not in plan.wanted.elements


def test_an_address_that_changes_hands_is_withdrawn_first_and_needs_its_new_peer() -> None:
    there = ruleset((device(2), OPEN), (device(3), OPEN))
    plan = planned([device(2, "10.8.0.3", stays=True)], tables(ALL_OPEN), there)
    assert plan.withdrawn == plan.forgotten == {parse_host("10.8.0.2"), parse_host("10.8.0.3")}
    assert plan.wanted.elements == {parse_host("10.8.0.3"): Element("dev-2", OPEN.profile)}
    assert plan.holders[parse_host("10.8.0.3")] == ("wg0", key(2))


def test_a_new_address_of_a_used_ruleset_begins_without_flows() -> None:
    """A crash may have come between the end of an element and the end of its flows."""
    plan = planned([device(2), device(3, stays=False)], tables(ALL_OPEN), ruleset((device(2), OPEN)))
    assert not plan.withdrawn and plan.forgotten == {parse_host("10.8.0.3")}


def test_another_profile_alone_is_no_withdrawal() -> None:
    plan = planned([device(2)], tables(policy(1, "allow", "10.1.0.0/16")), ruleset((device(2), OPEN)))
    assert not plan.withdrawn
    (change,) = plan.changes
    assert change.lost == OPEN.less(networks("10.1.0.0/16")) and change.gained.is_empty
    assert plan.counts == (0, 0, 1)


def test_a_frozen_peer_keeps_its_element_as_it_is() -> None:
    there = ruleset((device(2), OPEN), (device(3), OPEN))
    plan = planned([device(2, frozen=True), device(3)], tables(), there, limits=RemovalLimits(1, 1.0, 1))
    assert plan.wanted.elements[parse_host("10.8.0.2")] == Element("dev-2", OPEN.profile)
    assert plan.wanted.profiles[OPEN.profile] == OPEN
    assert plan.wanted.elements[parse_host("10.8.0.3")].profile == Access().profile


def test_a_frozen_peer_has_no_use_of_another_devices_element() -> None:
    plan = planned([device(2, "10.8.0.3", frozen=True)], tables(), ruleset((device(3), OPEN)))
    assert plan.withdrawn == {parse_host("10.8.0.3")} and not plan.wanted.elements


def test_a_peer_of_nobody_keeps_the_element_of_its_address() -> None:
    unknown = device(2, frozen=True)._replace(id="")
    assert planned([unknown], tables(), ruleset((device(2), OPEN))).wanted.elements.keys() == {parse_host("10.8.0.2")}


def test_kept_peers_are_free_and_their_networks_are_sites() -> None:
    net = parse_network("10.50.0.0/16")
    plan = planned([], tables(), None, kept=(net,), settings=PolicySettings(free_sources=(parse_network("10.60.0.0/16"),)))  # fmt: skip
    assert plan.wanted.sites == networks("10.50.0.0/16")
    assert plan.wanted.free == networks("10.50.0.0/16", "10.60.0.0/16")


# -- the guard


def test_emptied_policies_cut_nobody_off() -> None:
    there = planned(MANY, tables(ALL_OPEN), None).wanted
    plan = planned(MANY, tables(), there)
    assert plan.verdict.tripped and plan.withheld == {one.id for one in MANY}
    assert plan.wanted == there and not plan.changes


@pytest.mark.parametrize("size", [2, 3, 5])
def test_emptied_policies_of_a_small_node_cut_nobody_off(size: int) -> None:
    few = MANY[:size]
    there = planned(few, tables(ALL_OPEN), None).wanted
    plan = planned(few, tables(), there, limits=RemovalLimits(always_allowed=10, max_share=1.0, small_node=2))
    assert plan.wanted == there and plan.withheld


def test_a_few_may_lose_all_access_unasked() -> None:
    there = planned(MANY, tables(ALL_OPEN), None).wanted
    left = policy(1, "allow", "10.0.0.0/8", to=[("user", one.owner) for one in MANY[2:]])
    plan = planned(MANY, tables(left), there)
    assert not plan.verdict.tripped and plan.verdict.counted == {"dev-2", "dev-3"} and plan.verdict.limit == 2
    assert plan.counts == (0, 2, 0)
    assert {change.device for change in plan.changes if change.after.is_empty} == {"dev-2", "dev-3"}
    fewer = policy(1, "allow", "10.0.0.0/8", to=[("user", one.owner) for one in MANY[3:]])
    assert planned(MANY, tables(fewer), there).withheld == {"dev-2", "dev-3", "dev-4"}


def test_who_loses_a_part_only_is_not_withheld() -> None:
    there = planned(MANY, tables(ALL_OPEN), None).wanted
    some = policy(1, "allow", "10.1.0.0/16", to=[("user", one.owner) for one in MANY[:10]])
    plan = planned(MANY, tables(some), there)
    assert plan.withheld == {one.id for one in MANY[10:]}
    assert {change.device for change in plan.changes} == {one.id for one in MANY[:10]}


def test_an_approval_lets_exactly_this_plan_through() -> None:
    there = planned(MANY, tables(ALL_OPEN), None).wanted
    plan = planned(MANY, tables(), there)
    done = planned(MANY, tables(), there, approved=plan.plan_id)
    assert done.verdict.approved and not done.withheld and len(done.changes) == len(MANY)
    one_more = [*MANY, device(40)]
    more = planned(one_more, tables(), ruleset(*((one, OPEN) for one in one_more)), approved=plan.plan_id)
    assert more.withheld and more.plan_id != plan.plan_id


def test_what_everybody_always_reaches_is_no_access_for_the_guard() -> None:
    always = PolicySettings(always=(parse_network("100.96.0.1/32"),))
    there = planned(MANY, tables(), None, settings=always).wanted
    assert not planned(MANY, tables(), there, settings=always).verdict.counted
    open_ones = planned(MANY, tables(ALL_OPEN), None, settings=always).wanted
    assert planned(MANY, tables(), open_ones, settings=always).withheld


def test_a_withheld_device_still_leaves_an_address_that_is_not_its_own_any_more() -> None:
    there = planned(MANY, tables(ALL_OPEN), None).wanted
    moved = [device(2, "10.8.0.99"), *MANY[1:]]
    plan = planned(moved, tables(), there)
    assert plan.withdrawn == {parse_host("10.8.0.2")}
    assert plan.wanted.elements[parse_host("10.8.0.99")].profile == Access().profile


def test_explain_says_what_the_ruleset_has_now() -> None:
    there = ruleset((device(2), OPEN))
    verdict = explain_address(device(2), parse_host("10.0.5.7"), tables(), PolicySettings(), there)
    assert not verdict.allowed and verdict.installed is True
    assert explain_address(device(3), parse_host("10.0.5.7"), tables(), PolicySettings(), there).installed is None
    assert tag("dev-2") == "dev-2"


def test_a_device_whose_peer_is_only_coming_loses_nothing_that_the_guard_counts() -> None:
    coming = [one._replace(stays=False) for one in MANY]
    plan = planned(coming, tables(), ruleset(*((one, OPEN) for one in MANY)))
    assert not plan.verdict.counted and not plan.verdict.tripped
    assert {element.profile for element in plan.wanted.elements.values()} == {Access().profile}
