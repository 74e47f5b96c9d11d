"""Two nodes serve the same rows with one virtual address: both are ready, and only the active one tells of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.fakemachine import FakeMachine
from tests.node import Node
from tests.samples import key, text
from wgsyncd.core.model import Counters

VIP = "203.0.113.5"


def place(name: str, number: int, others: Node | None = None) -> Node:
    """A machine of the pair, with a kernel of its own."""
    node = Node(database=None if others is None else others.db, node=name)
    node.settings = replace(node.settings, node=replace(node.settings.node, active_address=VIP))
    node.machine = FakeMachine(name, f"boot {number}")
    node.machine.addresses = {VIP} if number == 1 else set()
    node.wg._boot = number
    node.store = node._store()
    node.store.clock = lambda: node.now
    node.machine.clock = node.store.clock
    if others is not None:
        node.true, node._numbers = others.true, others._numbers
    node.start()
    return node


def addresses(node: Node) -> set[str]:
    assert node.machine is not None
    return node.machine.addresses


@pytest.fixture
def pair() -> tuple[Node, Node]:
    """Returns the active node and its standby, with five devices."""
    east = place("east", 1)
    west = place("west", 2, east)
    for number in range(5, 10):
        east.device(number)
    for node in (east, west):
        node.cycle()
    return east, west


def swap(east: Node, west: Node) -> None:
    addresses(east).discard(VIP)
    addresses(west).add(VIP)


def test_both_have_the_peers_and_one_tells_of_it(pair: tuple[Node, Node]) -> None:
    east, west = pair
    assert east.kernel_of("wg0").keys() == west.kernel_of("wg0").keys() == set(map(key, range(5, 10)))
    assert (east.status.is_active, west.status.is_active) == (True, False)
    east.change(5, public_key=text(15))
    east.change(6, status="paused")
    west.cycle()
    east.cycle()
    assert east.kernel_of("wg0").keys() == west.kernel_of("wg0").keys() == set(map(key, (15, 7, 8, 9)))
    assert sorted(action for action, _ in east.actions if action.startswith("peer_")) == [
        *["peer_added"] * 5, "peer_removed", "peer_updated"
    ]  # fmt: skip


def test_a_rejected_row_is_told_once_and_frozen_on_both(pair: tuple[Node, Node]) -> None:
    east, west = pair
    east.change(5, public_key="no key")
    for node in (west, east):
        node.cycle()
    assert east.kernel_of("wg0").keys() == west.kernel_of("wg0").keys() == set(map(key, range(5, 10)))
    assert [action for action, _ in east.actions].count("row_rejected") == 1
    east.change(5, public_key=text(5))
    for node in (west, east):
        node.cycle()
    assert [action for action, _ in east.actions].count("row_accepted") == 1


def test_the_books_of_both_add_up_over_failovers(pair: tuple[Node, Node]) -> None:
    east, west = pair
    for number, node in enumerate((east, west, east), 1):
        if number > 1:
            swap(*((east, west) if node is west else (west, east)))
        node.wg.traffic("wg0", key(5), 1000 * number, number)
        for one in (west, east):
            one.tick(15)
            one.account()
            one.agent.reconcile()
    assert east.posted[5] == Counters(6000, 6)
    told = [action for action, _ in east.actions if action in ("node_active", "node_standby")]
    assert sorted(told) == ["node_active", "node_active", "node_standby", "node_standby"]


def test_the_guard_and_an_approval_are_per_node(pair: tuple[Node, Node]) -> None:
    east, west = pair
    for number in range(10, 40):
        east.device(number)
    for node in (east, west):
        node.tick(15)
        node.cycle()
    for number in range(10, 40):
        east.change(number, status="paused")
    plan = {}
    for node in (east, west):
        node.tick(15)
        node.cycle()
        assert len(node.kernel_of("wg0")) == 35
        plan[node] = node.status.plan_id
    assert [action for action, _ in east.actions].count("guard_tripped") == 2
    west.agent.approve(plan[west])
    for node in (east, west):
        node.tick(15)
        node.cycle()
    assert (len(east.kernel_of("wg0")), len(west.kernel_of("wg0"))) == (35, 5)


def test_a_role_that_cannot_be_read_stays(pair: tuple[Node, Node]) -> None:
    def fail(address: str) -> bool:
        raise OSError(5, address)

    for node in pair:
        assert node.machine is not None
        before, node.machine.has_address = node.status.is_active, fail
        node.cycle()
        assert node.status.is_active is before


def test_a_reload_without_the_address_makes_a_node_active(pair: tuple[Node, Node]) -> None:
    _, west = pair
    west.settings = replace(west.settings, node=replace(west.settings.node, active_address=""))
    west.reload()
    assert (west.status.is_active, west.store.is_active) == (None, True)


def test_a_command_is_never_active(pair: tuple[Node, Node]) -> None:
    east, _ = pair
    east.machine = None
    east.start()
    assert not east.store.is_active
