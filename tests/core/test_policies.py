"""Policies become disjoint ranges for each device. An oracle that judges address by address agrees with them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policing import device, is_allowed, networks, policy, tables
from wgsyncd.core.model import DeviceId
from wgsyncd.core.network import Network, parse_host, parse_network
from wgsyncd.core.policies.explain import Why, explain_address, rules_of
from wgsyncd.core.policies.model import (
    NO_ACCESS,
    Access,
    AccessPolicy,
    Device,
    FaultKind,
    Group,
    PolicySettings,
    PolicyTables,
    Target,
    tag,
)
from wgsyncd.core.policies.ranges import contains, join, range_of, subtract
from wgsyncd.core.policies.resolve import Resolver

USUAL = PolicySettings()


def reached(found: PolicyTables, settings: PolicySettings = USUAL, one: Device | None = None) -> Access:
    return Resolver(found, settings).access(one or device(2))


def test_a_device_without_policies_reaches_nothing() -> None:
    assert reached(tables()) == NO_ACCESS
    assert reached(tables(policy(1, "allow", "10.0.0.0/8", to=()))) == NO_ACCESS  # no target: nobody


def test_an_allow_opens_its_destinations_and_nothing_else() -> None:
    assert reached(tables(policy(1, "allow", "10.1.0.0/16", "10.2.0.0/16"))) == networks("10.1.0.0/16", "10.2.0.0/16")


def test_the_lowest_number_decides_and_a_setting_turns_that_round() -> None:
    both = tables(policy(1, "allow", "10.1.0.0/16", priority=5), policy(2, "deny", "10.0.0.0/8", priority=7))
    assert reached(both) == networks("10.1.0.0/16")
    assert reached(both, PolicySettings(lowest_first=False)) == NO_ACCESS


def test_of_one_priority_a_deny_comes_before_an_allow_however_long_its_prefix_is() -> None:
    both = tables(policy(1, "allow", "10.1.2.3/32"), policy(2, "deny", "10.1.0.0/16"))
    assert reached(both) == NO_ACCESS


def test_a_full_tunnel_covers_everything_of_the_families_that_the_device_has() -> None:
    full = tables(policy(1, "allow", full=True))
    assert reached(full) == networks("0.0.0.0/0")
    assert reached(full, one=device(2, "10.8.0.2", "fd00::2")) == networks("0.0.0.0/0", "::/0")
    assert reached(full, one=device(2, "fd00::2")) == networks("::/0")


@pytest.mark.parametrize(("active", "deleted"), [(False, False), (True, True), (False, True)])
def test_a_policy_that_is_switched_off_or_deleted_counts_not(active: bool, deleted: bool) -> None:
    assert reached(tables(policy(1, "allow", "10.1.0.0/16", active=active, deleted=deleted))) == NO_ACCESS


def test_a_group_gives_access_to_its_members_until_it_is_deleted() -> None:
    to_group = policy(1, "allow", "10.1.0.0/16", to=(("group", "staff"),))
    staff = Group("staff", frozenset(("user-2",)))
    assert reached(tables(to_group, groups=(staff,))) == networks("10.1.0.0/16")
    assert reached(tables(to_group, groups=(staff,)), one=device(3)) == NO_ACCESS
    assert reached(tables(to_group, groups=(Group("staff", staff.members, is_deleted=True),))) == NO_ACCESS


def test_a_device_and_its_owner_are_different_targets() -> None:
    found = tables(policy(1, "allow", "10.1.0.0/16", to=(("device", "user-2"), ("user", "dev-2"))))
    assert reached(found) == NO_ACCESS
    assert reached(tables(policy(1, "allow", "10.1.0.0/16", to=(("device", "dev-2"),)))) == networks("10.1.0.0/16")


def test_an_owner_may_have_an_id_beside_its_name() -> None:
    found = replace(tables(policy(1, "allow", "10.1.0.0/16", to=(("user", "42"),))), owners={"dev-2": "42"})
    assert reached(found) == networks("10.1.0.0/16") and reached(found, one=device(3)) == NO_ACCESS
    named = replace(tables(policy(1, "allow", "10.1.0.0/16")), owners={"dev-2": "42"})
    assert reached(named) == NO_ACCESS, "the name of another owner may be this id"


@pytest.mark.parametrize("effect", ["maybe", "", "allow deny", "allowed"])
def test_an_unknown_effect_denies_and_is_told(effect: str) -> None:
    resolver = Resolver(tables(policy(1, effect, "10.1.0.0/16"), policy(2, "allow", "10.0.0.0/8")), USUAL)
    assert resolver.access(device(2)) == networks("10.0.0.0/8").less(networks("10.1.0.0/16"))
    assert [(fault.policy, fault.kind, fault.text) for fault in resolver.faults] == [(1, FaultKind.EFFECT, effect)]


@pytest.mark.parametrize("effect", ["ALLOW", " allow\n", "Allow"])
def test_case_and_outer_spaces_of_an_effect_do_not_matter(effect: str) -> None:
    resolver = Resolver(tables(policy(1, effect, "10.1.0.0/16")), USUAL)
    assert resolver.access(device(2)) == networks("10.1.0.0/16") and not resolver.faults


def test_an_unknown_target_is_nobody_and_is_told() -> None:
    resolver = Resolver(tables(policy(1, "allow", "10.1.0.0/16", to=(("team", "user-2"),))), USUAL)
    assert resolver.access(device(2)) == NO_ACCESS
    assert [(fault.kind, fault.text) for fault in resolver.faults] == [(FaultKind.TARGET, "team")]


def test_a_policy_without_a_target_is_for_nobody_and_is_told() -> None:
    resolver = Resolver(tables(policy(1, "allow", "10.1.0.0/16", to=())), USUAL)
    assert resolver.access(device(2)) == NO_ACCESS
    assert [(fault.policy, fault.kind) for fault in resolver.faults] == [(1, FaultKind.NO_TARGET)]
    assert not Resolver(tables(policy(1, "allow", "10.1.0.0/16", to=(), active=False)), USUAL).faults


@pytest.mark.parametrize(
    ("effect", "text", "left"),
    [
        ("allow", "10.0.0.1/8", ("172.16.0.0/12",)),
        ("deny", "172.16.0.1/24", ("172.16.0.0/24",)),
        ("deny", "somewhere", ("172.16.0.0/12",)),
        ("allow", "somewhere", ("172.16.0.0/12",)),
    ],
)
def test_an_unreadable_destination_never_opens_anything(effect: str, text: str, left: tuple[str, ...]) -> None:
    allow = policy(2, "allow", "172.16.0.0/12")
    wanted = networks("172.16.0.0/12") if effect == "allow" else networks("172.16.0.0/12").less(networks(*left))
    for number in (1, 3):  # The texts of the second one are known. The fault is still that of the policy.
        resolver = Resolver(tables(policy(number, effect, text), allow), USUAL)
        assert resolver.access(device(2)) == wanted
        faults = [(fault.policy, fault.kind, fault.text) for fault in resolver.faults]
        assert faults == [(number, FaultKind.DESTINATION, text)]


def test_a_fault_of_a_policy_that_counts_not_is_not_told() -> None:
    assert not Resolver(tables(policy(1, "maybe", "x", to=(("team", "y"),), active=False)), USUAL).faults


def test_what_everybody_reaches_is_beside_all_policies() -> None:
    settings = PolicySettings(always=(parse_network("100.96.0.1/32"),))
    assert reached(tables(policy(1, "deny", full=True)), settings) == networks("100.96.0.1/32")


def test_equal_access_has_one_profile_and_other_access_another() -> None:
    one = reached(tables(policy(1, "allow", "10.0.0.0/25", "10.0.0.128/25")))
    assert one == networks("10.0.0.0/24") and one.profile == networks("10.0.0.0/24").profile
    assert (
        len({Access(((1, 2),)).profile, Access((), ((1, 2),)).profile, NO_ACCESS.profile, Access(((1, 3),)).profile})
        == 4
    )


def test_an_odd_id_becomes_a_digest() -> None:
    assert tag("0b6f4a52-3c64-4a42-9a7d-000000000001") == "0b6f4a52-3c64-4a42-9a7d-000000000001"
    for odd in ('a" : accept', "a\nb", "x" * 65, "", "-a"):
        assert tag(odd).startswith("sha256:") and len(tag(odd)) == 39


# -- the oracle

# Few addresses, so that policies overlap often: 10.0.0.0/28 and fd00::/124, and their neighbours.
PREFIXES = st.one_of(
    st.builds(lambda bits, host: Network((0x0A000000 + (host >> (32 - bits) << (32 - bits))).to_bytes(4), bits),
              st.integers(27, 32), st.integers(0, 31)),
    st.builds(lambda bits, host: Network(((0xFD << 120) + (host >> (128 - bits) << (128 - bits))).to_bytes(16), bits),
              st.integers(123, 128), st.integers(0, 31)),
)  # fmt: skip
TARGETS = st.sampled_from([("device", "dev-2"), ("user", "user-2"), ("group", "a"), ("group", "b"), ("user", "user-9"), ("team", "x")])  # fmt: skip


@st.composite
def found_policies(draw: st.DrawFn) -> PolicyTables:
    def one(number: DeviceId) -> AccessPolicy:
        return AccessPolicy(
            number, str(number), draw(st.integers(1, 3)), draw(st.sampled_from(["allow", "ALLOW ", "deny", "maybe"])),
            tuple(Target(*target) for target in draw(st.lists(TARGETS, max_size=2))),
            tuple(map(str, draw(st.lists(PREFIXES, max_size=3)))), full_tunnel=draw(st.integers(0, 5)) == 0,
            is_active=draw(st.integers(0, 5)) > 0, is_deleted=draw(st.integers(0, 5)) == 0,
        )  # fmt: skip

    groups = tuple(
        Group(name, frozenset(draw(st.lists(st.sampled_from(["user-2", "user-3"])))), draw(st.integers(0, 3)) == 0)
        for name in "ab"
    )
    return PolicyTables(tuple(one(number) for number in range(draw(st.integers(0, 6)))), groups)


ADDRESSES = [
    *(Network((0x0A000000 + n).to_bytes(4), 32) for n in range(-1, 33)),
    *(Network(((0xFD << 120) + n).to_bytes(16), 128) for n in range(-1, 33)),
    parse_host("255.255.255.255"), parse_host("0.0.0.1"), parse_host("::"), parse_host("192.168.1.1"),
]  # fmt: skip


@given(
    found_policies(), st.booleans(), st.lists(PREFIXES, max_size=1),
    st.sampled_from([("10.8.0.2",), ("fd08::2",), ("10.8.0.2", "fd08::2")]),
)  # fmt: skip
def test_the_ranges_are_what_the_oracle_says_address_by_address(
    found: PolicyTables, lowest_first: bool, always: list[Network], hosts: tuple[str, ...]
) -> None:
    settings = PolicySettings(lowest_first=lowest_first, always=tuple(always))
    one = device(2, *hosts)
    access = reached(found, settings, one)
    for ranges in access:
        assert list(ranges) == sorted(ranges)
        assert all(after[0] > before[1] + 1 for before, after in pairwise(ranges)), "joined"
    for address in ADDRESSES:
        ranges = access.v4 if len(address.packed) == 4 else access.v6
        wanted = is_allowed(one, address, found, settings)
        assert contains(ranges, int.from_bytes(address.packed)) == wanted, address
        assert explain_address(one, address, found, settings, None).allowed == wanted, address


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))  # fmt: skip
def test_ranges_are_sets(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    one, other = (join((min(pair), max(pair)) for pair in pairs) for pairs in (some, others))
    ones, theirs = ({n for first, last in ranges for n in range(first, last + 1)} for ranges in (one, other))
    assert {n for first, last in subtract(one, other) for n in range(first, last + 1)} == ones - theirs
    assert join(one + other) == join(other + one)
    assert subtract(one, other) == join(subtract(one, other))


def test_a_network_is_its_first_and_last_address() -> None:
    assert range_of(parse_network("10.0.0.0/31")) == (0x0A000000, 0x0A000001)


# -- explain


def test_explain_names_the_policy_that_decides_and_what_it_overrules() -> None:
    found = tables(policy(1, "allow", "10.0.0.0/8", priority=9), policy(2, "deny", "10.0.5.0/24", priority=3))
    verdict = explain_address(device(2), parse_host("10.0.5.7"), found, USUAL, None)
    assert (verdict.allowed, verdict.why, verdict.installed) == (False, Why.POLICY, None)
    assert verdict.rule is not None and verdict.rule.policy == found.policies[1]
    assert [one.policy for one in verdict.overruled] == [found.policies[0]]
    assert [one.rule.policy.id for one in rules_of(device(2), found, USUAL)[0]] == [2, 1]


def test_explain_tells_what_no_policy_covers_and_what_the_device_has_no_address_for() -> None:
    found = tables(policy(1, "allow", "10.0.0.0/8"), dns=("10.9.9.9",))
    assert explain_address(device(2), parse_host("192.0.2.1"), found, USUAL, None).why is Why.NO_POLICY
    assert explain_address(device(2), parse_host("fd00::1"), found, USUAL, None).why is Why.NO_ADDRESS
    assert explain_address(device(2), parse_host("10.9.9.9"), found, USUAL, None).dns
    assert not explain_address(device(2), parse_host("10.9.9.9"), found, PolicySettings(dns=False), None).dns
