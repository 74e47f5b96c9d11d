"""Two nodes of a pair on MariaDB's tables: both serve the same rows, and each posts what its own kernel counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fakemachine import FakeMachine
from tests.realnode import RealNode
from tests.samples import NOW, key
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import Counters

VIP = "203.0.113.5"


@pytest.fixture
def pair(real_tables: RealMikyunTables, tmp_path: Path) -> tuple[RealNode, RealNode]:
    """Returns the active node and its standby, with five devices. One of them waits for its first handshake."""
    nodes = []
    for number, name in enumerate(("east", "west"), 1):
        (folder := tmp_path / name).mkdir()
        node = RealNode(real_tables, folder, name)
        node.settings = replace(node.settings, node=replace(node.settings.node, active_address=VIP))
        node.machine = FakeMachine(name, f"boot {number}")
        node.machine.addresses = {VIP} if name == "east" else set()
        node.wg._boot = number
        node.start()
        nodes.append(node)
    east, west = nodes
    for number in range(5, 9):
        east.device(number)
    east.issued(9, NOW + 3600)
    turn(east, west)
    return east, west


def turn(*nodes: RealNode) -> None:
    for node in nodes:
        node.tick(15)
        node.agent.holding.beat(node.calendar)
        node.account()
        node.cycle()


def fail_over(giving: RealNode, taking: RealNode) -> None:
    assert giving.machine is not None
    assert taking.machine is not None
    giving.machine.addresses, taking.machine.addresses = set(), {VIP}


def actions(tables: RealMikyunTables) -> list[tuple[str, str]]:
    return sorted((one.action, one.target_id) for one in tables.logs())


def test_a_failover_with_a_locked_row_a_revocation_and_a_scan(
    pair: tuple[RealNode, RealNode], real_tables: RealMikyunTables
) -> None:
    east, west = pair
    assert east.kernel() == west.kernel()
    assert (east.status.is_active, west.status.is_active) == (True, False)
    assert [one for one in actions(real_tables) if one[0] == "peer_added"] == [
        ("peer_added", f"0001-DEV-{number:03}") for number in range(5, 10)
    ], "one of both tells it"
    moved = dict.fromkeys(range(5, 10), 0)
    for step, node in enumerate((east, west, east), 1):
        if step > 1:
            fail_over(*((east, west) if node is west else (west, east)))
        for number in moved:
            node.wg.traffic("wg0", key(number), 1000 * step + number, 1)
            moved[number] += 1000 * step + number
        with real_tables.locked(5):
            turn(west, east)
        turn(east, west)
    found = {number: real_tables.posted(number) for number in moved}
    assert found == {number: Counters(rx, 3) for number, rx in moved.items()}
    assert sum(one.rx for one in real_tables.days().values()) == sum(moved.values())
    assert [one for one in actions(real_tables) if one[0] in ("node_active", "node_standby")] == [
        ("node_active", "east"), ("node_active", "west"), ("node_standby", "east"), ("node_standby", "west")
    ]  # fmt: skip
    for node in pair:
        assert node.status.set_aside == ()


def test_a_scan_at_either_node_activates_the_device_once(
    pair: tuple[RealNode, RealNode], real_tables: RealMikyunTables
) -> None:
    east, west = pair
    fail_over(east, west)
    west.shake(9)
    turn(east, west)
    turn(east, west)
    assert real_tables.device(9)["status"] == "active"
    assert [one for one in actions(real_tables) if one[0] == "device_activated"] == [
        ("device_activated", "0001-DEV-009")
    ]
    real_tables.update(9, status="paused")
    turn(east, west)
    assert key(9) not in east.kernel_of("wg0")
    assert key(9) not in west.kernel_of("wg0")
    assert actions(real_tables).count(("peer_removed", "0001-DEV-009")) == 1
