"""A client whose routes are not what its policies are about has a stale profile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.policing import device, policy, tables
from wgsyncd.core.network import as_networks, parse_host, parse_network
from wgsyncd.core.policies.model import PolicySettings, PolicyTables
from wgsyncd.core.policies.resolve import Resolver
from wgsyncd.core.policies.routes import stale_profiles

ALLOW, DENY = policy(1, "allow", "10.1.0.0/16", "fd01::/64"), policy(2, "deny", "10.1.9.0/24")
FULL = policy(3, "allow", full=True)
DNS = ("10.0.0.53",)
ALWAYS = PolicySettings(always=(parse_network("10.7.0.0/16"),))


def is_stale(found: PolicyTables, *routes: str, settings: PolicySettings = ALWAYS) -> bool:
    """Whether the profile of device 2 is stale. Device 3 has no policy and no routes that are known."""
    networks = as_networks(map(parse_network, routes))
    known = replace(found, routes={"dev-2": networks})
    both = [device(2, "10.8.0.2"), device(3)]
    stale = stale_profiles(both, known, Resolver(known, settings))
    assert stale <= {"dev-2"}
    return bool(stale)


@pytest.mark.parametrize(
    "routes",
    [("10.1.0.0/16",), ("10.1.0.0/17", "10.1.128.0/17"), ("10.1.0.0/16", "10.0.0.53/32", "10.7.1.0/24", "fd99::/64")],
)
def test_routes_that_fit_the_policies_are_not_stale(routes: tuple[str, ...]) -> None:
    assert not is_stale(tables(ALLOW, dns=DNS), *routes)
    assert not is_stale(tables(ALLOW, DENY, dns=DNS), *routes), "a profile has no exceptions"


@pytest.mark.parametrize(
    "routes", [(), ("10.1.0.0/17",), ("10.2.0.0/16",), ("10.1.0.0/16", "10.2.0.1/32"), ("0.0.0.0/0",)]
)
def test_routes_that_lack_or_exceed_access_are_stale(routes: tuple[str, ...]) -> None:
    assert is_stale(tables(ALLOW, dns=DNS), *routes)


def test_a_full_tunnel_needs_all_addresses_of_the_versions_that_the_device_has() -> None:
    assert not is_stale(tables(FULL), "0.0.0.0/0")
    assert not is_stale(tables(FULL), "0.0.0.0/0", "::/0")
    assert is_stale(tables(FULL), "10.0.0.0/8")


def test_a_device_without_access_and_routes_is_not_stale() -> None:
    assert not is_stale(tables())
    frozen = device(2, "10.8.0.2", frozen=True)
    found = replace(tables(ALLOW), routes={"dev-2": (parse_host("10.9.9.9"),)})
    assert not stale_profiles([frozen], found, Resolver(found, PolicySettings()))
