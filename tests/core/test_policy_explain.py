"""The explanation of access names the range that decides, the targets, and what would have allowed an address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policing import device, networks, policy, tables
from wgsyncd.core.network import parse_host
from wgsyncd.core.policies.explain import (
    FULL_TUNNEL,
    Decided,
    Missed,
    Verdict,
    explain_address,
    rules_of,
    split_by_rule,
)
from wgsyncd.core.policies.model import Group, PolicySettings, PolicyTables, Target
from wgsyncd.core.policies.ranges import as_text
from wgsyncd.core.policies.resolve import Resolver

USUAL = PolicySettings()


def verdict(found: PolicyTables, to: str = "10.0.5.7") -> Verdict:
    return explain_address(device(2, "10.8.0.2", "fd08::2"), parse_host(to), found, USUAL, None)


def test_the_narrowest_destination_that_covers_the_address_is_named() -> None:
    one = policy(1, "allow", "10.0.0.0/8", "10.0.5.0/24", "fd00::/8", full=True)
    assert verdict(tables(one)).range == "10.0.5.0/24"
    assert verdict(tables(one), "fd00::1").range == "fd00::/8"
    assert verdict(tables(one), "192.0.2.1").range == FULL_TUNNEL


def test_a_destination_that_nobody_can_read_is_named_as_it_stands() -> None:
    denied = verdict(tables(policy(1, "deny", "10.0.5.1/24")))
    assert not denied.allowed and denied.range == "10.0.5.1/24"


def test_the_targets_by_which_a_policy_applies() -> None:
    targets = [("user", "user-2"), ("group", "staff"), ("group", "gone"), ("group", "others"), ("device", "dev-3")]
    groups = [Group("staff", frozenset({"user-2"})), Group("gone", frozenset({"user-2"}), is_deleted=True),
              Group("others", frozenset({"user-3"}))]  # fmt: skip
    ((one,), access) = rules_of(device(2), tables(policy(1, "allow", "10.0.0.0/8", to=targets), groups=groups), USUAL)
    assert one.targets == (Target("user", "user-2"), Target("group", "staff"))
    assert access == networks("10.0.0.0/8")


def test_what_would_allow_a_refused_address_is_named_with_what_it_lacks() -> None:
    gone = Group("gone", frozenset({"user-2"}), is_deleted=True)
    found = tables(
        policy(1, "allow", "10.0.0.0/8", to=[("user", "user-3")]),
        policy(2, "allow", "10.0.0.0/8", to=[("group", "gone")]),
        policy(3, "allow", "10.0.0.0/8", active=False),
        policy(4, "allow", "10.0.0.0/8", deleted=True),
        policy(5, "allow", "10.1.0.0/16", active=False),
        policy(6, "deny", "10.0.0.0/8", active=False),
        policy(7, "allow", "10.0.0.0/8", to=[("user", "user-3")], deleted=True),
        groups=[gone],
    )
    assert [(one.id, why) for one, why in verdict(found).missed] == [
        (4, Missed.DELETED), (3, Missed.INACTIVE), (2, Missed.GROUP_DELETED), (1, Missed.NOT_TARGETED)
    ]  # fmt: skip
    allowing = tables(*found.policies, policy(8, "allow", "10.0.5.7/32"))
    assert verdict(allowing).allowed and not verdict(allowing).missed


def test_addresses_are_split_by_the_policy_that_decides_about_them() -> None:
    found = tables(policy(1, "deny", "10.0.5.0/24", priority=1), policy(2, "allow", "10.0.0.0/16"), policy(3, "deny", "10.1.0.0/16"))  # fmt: skip
    rules = Resolver(found, USUAL).applicable(device(2))
    assert list(split_by_rule(networks("10.0.4.0/23", "10.9.0.0/16"), rules)) == [
        Decided(networks("10.0.5.0/24"), rules[0]),
        Decided(networks("10.0.4.0/24"), rules[2]),
        Decided(networks("10.9.0.0/16"), None),
    ]
    assert not list(split_by_rule(networks(), rules))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("10.0.0.0/8", ["10.0.0.0/8"]), ("10.0.5.7/32", ["10.0.5.7"]), ("0.0.0.0/0", ["0.0.0.0/0"]),
     ("fd00::/8", ["fd00::/8"]), ("::/0", ["::/0"]), ("fd00::1/128", ["fd00::1"])],
)  # fmt: skip
def test_a_range_that_is_a_network_is_shown_as_one(text: str, shown: list[str]) -> None:
    assert networks(text).texts() == shown


def test_a_range_that_is_no_network_is_shown_by_its_ends() -> None:
    assert networks("10.0.0.0/8").less(networks("10.0.0.0/32", "10.0.5.0/24")).texts() == [
        "10.0.0.1-10.0.4.255", "10.0.6.0-10.255.255.255"
    ]  # fmt: skip
    assert networks("10.0.0.1/32", "10.0.0.2/32").texts() == ["10.0.0.1-10.0.0.2"]  # two addresses, not aligned


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_every_text_of_a_range_means_exactly_the_range(one: int, other: int) -> None:
    first, last = min(one, other), max(one, other)
    text = as_text(first, last, 4)
    if "-" in text:
        assert [int(ipaddress.IPv4Address(end)) for end in text.split("-")] == [first, last]
    else:
        net = ipaddress.IPv4Network(text)
        assert (int(net[0]), int(net[-1])) == (first, last)
