"""No flow outlives the access that allowed it, also if the table was gone when the daemon started. The packets are real."""

from __future__ import annotations

import socket

import pytest

from tests.policed_node import PolicedNode
from tests.policing import device, policy, tables
from tests.routed import SECONDS, Gateway, gateway, waiting
from tests.samples import device_name
from tests.wait import until
from wgsyncd.core.network import parse_host
from wgsyncd.core.policies.plan import AccessPlan

ALICE = device(2, "10.8.0.2", "fd08::2")
OPEN = tables(policy(1, "allow", "10.1.0.0/16", "fd01::/64", to=[("device", "dev-2"), ("device", "dev-3")]))
CLOSED = tables(policy(1, "allow", "10.2.0.0/16", to=[("device", "dev-2")]))
PEERS = [("10.8.0.2", "10.1.0.1"), ("fd08::2", "fd01::2")]


@pytest.fixture
def router(router: Gateway) -> Gateway:
    router.cycle([ALICE], OPEN)
    return router


def without_table(router: Gateway) -> None:
    """Somebody deletes the table while the daemon is down. Then the daemon starts."""
    router.nft.run("delete table inet wgsyncd\n")
    router.restart()


@pytest.mark.parametrize(("source", "address"), PEERS)
def test_a_flow_that_no_policy_allows_any_more_ends(router: Gateway, source: str, address: str) -> None:
    client, server = router.socket(router.alice, source), router.socket(router.server, address)
    assert router.passes(client, server, address) and router.passes(server, client, source)
    without_table(router)
    assert not router.passes(client, server, address), "until the first cycle, all is refused"
    router.cycle([ALICE], CLOSED)
    assert not router.passes(server, client, source), "the server goes on sending"
    assert not router.passes(client, server, address)


def test_a_stream_of_tcp_ends_too(router: Gateway) -> None:
    listener = router.socket(router.server, "10.1.0.1", kind=socket.SOCK_STREAM)
    listener.listen()
    client = router.socket(router.alice, "10.8.0.2", kind=socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    with listener.accept()[0] as server:
        without_table(router)
        router.cycle([ALICE], CLOSED)
        refused = router.refused()
        server.sendall(b"secret")
        until(lambda: router.refused() > refused + 1, SECONDS, "the server tries it again")
        assert not waiting(client)


def test_a_flow_that_began_unjudged_ends(router: Gateway) -> None:
    """Without the table, a device reaches everything, and everybody reaches a device."""
    client, server = router.socket(router.alice, "10.8.0.2"), router.socket(router.server, "10.2.0.1")
    stranger, served = router.socket(router.server, "192.0.2.1"), router.socket(router.alice, "10.8.0.2")
    router.nft.run("delete table inet wgsyncd\n")
    for one, other in ((client, server), (stranger, served)):
        one.sendto(b"x", other.getsockname())
        assert other.recv(9)
        other.sendto(b"x", one.getsockname())
        assert one.recv(9)
    router.restart()
    router.cycle([ALICE], OPEN)
    for one, other in ((client, server), (stranger, served)):
        assert not router.passes(one, other, other.getsockname()[0])
        assert not router.passes(other, one, one.getsockname()[0])


@pytest.mark.parametrize(("source", "address"), PEERS)
def test_no_flow_of_the_former_device_reaches_the_next_one(router: Gateway, source: str, address: str) -> None:
    """The address changes hands in the first cycle. Both devices may reach the server."""
    client, server = router.socket(router.alice, source), router.socket(router.server, address)
    assert router.passes(client, server, address) and router.passes(server, client, source)
    without_table(router)
    host = parse_host(source)
    router.cycle([device(3, source)._replace(new_hosts=(host,))], OPEN)
    assert not router.passes(server, client, source), "the server's stream was for the former device"
    assert router.passes(client, server, address)


def test_a_flow_of_the_same_device_goes_on_at_once(router: Gateway) -> None:
    client, server = router.socket(router.alice, "10.8.0.2"), router.socket(router.server, "10.1.0.1")
    assert router.passes(client, server, "10.1.0.1")
    without_table(router)
    router.cycle([ALICE], OPEN)
    assert router.passes(server, client, "10.8.0.2"), "the server may send first"


def test_an_address_is_new_to_a_new_peer_and_to_a_peer_that_had_another_one() -> None:
    with gateway():
        node, plans = PolicedNode(), list[AccessPlan]()
        node.tables = tables(policy(1, "allow", "10.1.0.0/16", to=[("device", device_name(n)) for n in (5, 6, 7)]))
        apply = node.filter.apply

        def note(phase: object, plan: AccessPlan, actual: object) -> None:
            plans.append(plan)
            apply(phase, plan, actual)  # type: ignore[arg-type]

        node.filter.apply = note  # type: ignore[method-assign, assignment]
        for number in (5, 6):
            node.device(number)
        node.cycle()
        node.change(5, address="10.200.0.50")
        node.device(7, address="10.200.0.5")
        node.cycle()
        new = [{str(host) for host in plan.new_hosts} for plan in (plans[0], plans[-1])]
        assert new == [{"10.200.0.5/32", "10.200.0.6/32"}, {"10.200.0.50/32", "10.200.0.5/32"}]
        node.cycle()
        assert not plans[-1].new_hosts
        node.netfilter.close()
