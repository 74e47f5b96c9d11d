"""A delta is compared with the time in which its bytes came, so possible traffic is not quarantined."""

from __future__ import annotations

import pytest

from tests.node import Node

GB = 10**9
FULL = 40 * GB  # the bytes that the link carries in 15 seconds


def test_a_device_that_moved_on_is_not_measured_by_one_that_did_not(node: Node) -> None:
    """5 was idle after the poll before the last one. 6 moved its bytes over hours, not since that poll."""
    node.store.down = True
    for _ in range(8):
        node.tick(885)
        node.traffic(5, 1)
        node.away((6, 1000 * GB))
    node.away((6, 1))
    node.back()
    assert not node.db.quarantine
    node.right()


def test_nor_is_it_after_a_restart(node: Node) -> None:
    node.store.down = True
    for _ in range(8):
        node.tick(885)
        node.traffic(5, 1)
        node.away((6, 1000 * GB))
    node.away((6, 1))
    node.start()
    node.store.down = False
    node.store.next_writes = ["ok", "crash before"]
    node.survive()
    node.cycle()
    assert not node.db.quarantine
    node.right()


@pytest.mark.parametrize("step", [-86400, -3600, 3600, 86400])
def test_a_clock_that_is_set_in_an_outage_makes_no_traffic_impossible(node: Node, step: int) -> None:
    node.away((5, FULL))
    node.now += step
    node.away((5, FULL), (6, FULL))
    node.back()
    assert not node.db.quarantine
    node.right()


@pytest.mark.parametrize("step", [-86400, -60])
def test_a_clock_that_was_set_back_between_two_processes_makes_no_traffic_impossible(node: Node, step: int) -> None:
    node.away((5, FULL))
    node.now += step
    node.start()
    node.traffic(5, FULL)
    node.back()
    assert not node.db.quarantine
    node.right()


@pytest.mark.parametrize("step", [-86400, -60])
def test_nor_does_one_with_a_database_that_is_there(node: Node, step: int) -> None:
    """6 was idle. Only the interface has a sample time, which is in the future."""
    node.traffic(5, FULL)
    node.cycle()
    node.now += step
    node.start()
    node.traffic(6, FULL)
    node.cycle()
    assert not node.db.quarantine
    node.right()


def locked_for_hours(node: Node) -> None:
    node.lock(6)
    for _ in range(8):
        node.tick(885)
        node.traffic(6, 1000 * GB)
        node.account()


def test_a_device_that_was_locked_is_measured_from_when_it_was(node: Node) -> None:
    """All other devices are posted at every poll."""
    locked_for_hours(node)
    node.unlock()
    node.cycle()
    assert not node.db.quarantine
    node.right()


@pytest.mark.parametrize("restart", [False, True])
def test_nor_does_it_matter_where_it_waits(node: Node, restart: bool) -> None:
    locked_for_hours(node)
    node.away((5, 1))
    node.away((5, 1))
    if restart:
        node.start()
    node.unlock()
    node.back()
    assert not node.db.quarantine
    node.right()
