"""The packet filter lets through what policies allow, and nothing else: real packets, nft and connection tracking."""

from __future__ import annotations

import socket

import pytest

from tests.policing import device, policy, tables
from tests.routed import Gateway, gateway
from wgsyncd.core.network import parse_network
from wgsyncd.core.policies.model import Group, PolicySettings

ALICE = device(2, "10.8.0.2", "fd08::2")
SECOND = device(3, "10.8.0.3")  # on the same link
BOB = device(4, "10.9.0.2", "fd09::2", interface="wg1")
EVERYBODY = [ALICE, SECOND, BOB]
TO_ALICE = [("device", "dev-2")]


def test_a_start_without_a_table_lets_nothing_through(router: Gateway) -> None:
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
    assert not router.reaches(router.alice, "fd08::2", "fd01::2")
    assert not router.reaches(router.server, "10.1.0.1", "10.8.0.2", to=router.alice)


def test_a_device_reaches_what_its_policy_allows_and_gets_the_answers(router: Gateway) -> None:
    router.cycle(EVERYBODY, tables(policy(1, "allow", "10.1.0.0/16", "fd01::/64", to=TO_ALICE)))
    assert router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
    assert router.reaches(router.alice, "fd08::2", "fd01::2")
    assert not router.reaches(router.alice, "10.8.0.2", "10.2.0.1")
    assert not router.reaches(router.alice, "10.8.0.2", "192.0.2.1")
    assert not router.reaches(router.alice, "10.8.0.3", "10.1.0.1"), "another device of the same link"
    assert not router.reaches(router.bob, "fd09::2", "fd01::2")


def test_priority_decides_and_of_one_priority_the_deny(router: Gateway) -> None:
    allow = policy(1, "allow", "10.0.0.0/8", to=TO_ALICE, priority=5)
    router.cycle(EVERYBODY, tables(allow, policy(2, "deny", "10.2.0.0/16", to=TO_ALICE, priority=5)))
    assert router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
    assert not router.reaches(router.alice, "10.8.0.2", "10.2.0.1")
    router.cycle(EVERYBODY, tables(allow, policy(2, "deny", "10.2.0.0/16", to=TO_ALICE, priority=6)))
    assert router.reaches(router.alice, "10.8.0.2", "10.2.0.1")


def test_a_group_gives_its_members_access(router: Gateway) -> None:
    staff = Group("staff", frozenset((ALICE.owner, BOB.owner)))
    router.cycle(EVERYBODY, tables(policy(1, "allow", "10.1.0.0/16", to=[("group", "staff")]), groups=[staff]))
    assert router.reaches(router.alice, "10.8.0.2", "10.1.0.1") and router.reaches(router.bob, "10.9.0.2", "10.1.0.1")
    assert not router.reaches(router.alice, "10.8.0.3", "10.1.0.1")


def test_a_full_tunnel_reaches_everything(router: Gateway) -> None:
    router.cycle(EVERYBODY, tables(policy(1, "allow", full=True, to=TO_ALICE)))
    for source, address in (("10.8.0.2", "192.0.2.1"), ("10.8.0.2", "10.2.0.1"), ("fd08::2", "fd01::2")):
        assert router.reaches(router.alice, source, address)


def test_every_device_reaches_the_dns_server_at_its_port_alone(router: Gateway) -> None:
    router.cycle(EVERYBODY, tables(dns=("10.1.0.53",)))
    assert router.reaches(router.alice, "10.8.0.2", "10.1.0.53", port=53)
    assert router.reaches(router.bob, "10.9.0.2", "10.1.0.53", port=53)
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.53", port=54)
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.1", port=53)


def test_one_device_reaches_another_by_its_own_policy_alone(router: Gateway) -> None:
    router.cycle(EVERYBODY, tables(policy(1, "allow", "10.9.0.0/24", to=TO_ALICE)))
    assert router.reaches(router.alice, "10.8.0.2", "10.9.0.2", to=router.bob)
    assert not router.reaches(router.bob, "10.9.0.2", "10.8.0.2", to=router.alice)


def test_nobody_outside_begins_a_flow_but_free_sources(router: Gateway) -> None:
    router.cycle(EVERYBODY, tables(policy(1, "allow", full=True, to=TO_ALICE)))
    assert not router.reaches(router.server, "10.1.0.1", "10.8.0.2", to=router.alice)
    router.policies = PolicySettings(free_sources=(parse_network("10.1.0.0/24"),))
    router.cycle(EVERYBODY)
    assert router.reaches(router.server, "10.1.0.1", "10.8.0.2", to=router.alice)
    assert not router.reaches(router.server, "10.2.0.1", "10.8.0.2", to=router.alice)


def test_nobody_outside_has_the_access_of_a_device_by_its_address(router: Gateway) -> None:
    """A host behind the gateway takes Alice's address. Her policy is for what comes out of a tunnel."""
    router.cycle(EVERYBODY, tables(policy(1, "allow", "10.9.0.0/24", to=TO_ALICE)))
    router.server.run("ip", "address", "add", "10.8.0.2/32", "dev", "up0")
    assert not router.passes(
        router.socket(router.server, "10.8.0.2"), router.socket(router.bob, "10.9.0.2"), "10.9.0.2"
    )


def test_a_peer_that_is_always_kept_is_not_judged(router: Gateway) -> None:
    router.cycle([ALICE], kept=(parse_network("10.9.0.0/24"),))
    assert router.reaches(router.bob, "10.9.0.2", "10.1.0.1")
    assert router.reaches(router.server, "10.1.0.1", "10.9.0.2", to=router.bob)
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.1")


def test_traffic_to_the_gateway_itself_is_judged(router: Gateway) -> None:
    here, alice = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), router.socket(router.alice, "10.8.0.2")
    with here:
        here.bind(("10.0.0.1", 0))
        router.cycle(EVERYBODY, tables(policy(1, "allow", "10.1.0.0/16", to=TO_ALICE)))
        assert not router.passes(alice, here, "10.0.0.1")
        router.cycle(EVERYBODY, tables(policy(1, "allow", "10.0.0.1/32", to=TO_ALICE)))
        assert router.passes(alice, here, "10.0.0.1")


def test_an_error_of_an_allowed_flow_passes_with_it(router: Gateway) -> None:
    """The server has no socket for the port. Its error comes from an address that is itself allowed or not."""
    router.cycle(EVERYBODY, tables(policy(1, "allow", "10.1.0.0/16", to=TO_ALICE)))
    alice = router.socket(router.alice, "10.8.0.2")
    alice.connect(("10.1.0.1", 9))
    alice.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        alice.recv(10)


def test_an_error_of_a_router_that_is_not_allowed_itself_passes_too(router: Gateway) -> None:
    """The server is a router here: it has no way to the network that the policy is about."""
    router.server.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    router.server.run("ip", "route", "add", "unreachable", "10.7.0.0/16")
    router.cycle(EVERYBODY, tables(policy(1, "allow", "10.7.0.0/16", to=TO_ALICE)))
    alice = router.socket(router.alice, "10.8.0.2")
    alice.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, linux/in.h
    alice.connect(("10.7.0.1", 9))
    alice.send(b"x")
    with pytest.raises(OSError, match="No route to host"):
        alice.recv(10)
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.1"), "the router by itself"


def test_refused_packets_are_answered_if_an_admin_wants_this() -> None:
    with gateway(PolicySettings(rejects=True)) as router:
        router.filter.start()
        router.cycle(EVERYBODY)
        alice = router.socket(router.alice, "10.8.0.2")
        alice.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, linux/in.h
        alice.connect(("10.1.0.1", 9))
        alice.send(b"x")
        with pytest.raises(OSError, match=r"No route to host|Host is unreachable|unreachable"):
            alice.recv(10)
        assert router.refused()


def test_traffic_beside_the_tunnels_is_left_alone(router: Gateway) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("10.0.0.1", 0))
        assert router.passes(router.socket(router.server, "10.1.0.1"), here, "10.0.0.1")
