"""A second data plane with its own planner takes part in the engine's cycles.

It is ready before a peer comes, and it is gone after the peer has left.
"""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.plane import Shaping, ShapingPlan
from tests.samples import key
from wgsyncd.ports import Phase


@pytest.fixture
def shaping(node: Node) -> Shaping:
    """Returns a shaping data plane that joins a node with three peers."""
    made = node.plane or Shaping(node.wg)
    node.plane, node.planes = made, (made,)
    made.phases = []
    node.reload()
    node.cycle()
    return made


def test_every_live_peer_has_its_class(node: Node, shaping: Shaping) -> None:
    assert shaping.classes() == shaping.live() and len(shaping.classes()) == 3
    assert shaping.phases == list(Phase)


def test_a_class_stands_before_its_peer_comes_and_goes_after_it_left(node: Node, shaping: Shaping) -> None:
    node.device(8)
    node.change(5, status="paused")
    node.cycle()
    assert shaping.classes() == shaping.live() == {("wg0", key(number)) for number in (6, 7, 8)}
    node.right()


def test_the_short_cut_of_a_notification_leaves_no_peer_unshaped(node: Node, shaping: Shaping) -> None:
    node.device(8)
    node.tick()
    assert not node.agent.reconcile_devices(frozenset(("0001-DEV-008",))), "a full cycle is needed"
    node.cycle()
    assert ("wg0", key(8)) in shaping.classes() & shaping.live()


def test_a_peer_that_stays_keeps_its_class(node: Node, shaping: Shaping) -> None:
    node.wg.refused[key(5)] = 1
    node.change(5, status="paused")
    node.cycle()
    assert ("wg0", key(5)) in shaping.classes() & shaping.live()
    node.wg.refused.clear()
    node.cycle()
    assert shaping.classes() == shaping.live() == {("wg0", key(number)) for number in (6, 7)}


@pytest.mark.parametrize("where", ["read", "withdraw", "prepare"])
def test_a_plane_that_is_not_prepared_lets_peers_go_and_none_come(node: Node, shaping: Shaping, where: str) -> None:
    shaping.broken = {where}
    node.device(8)
    node.change(5, status="paused")
    node.cycle()
    assert shaping.live() == {("wg0", key(number)) for number in (6, 7)}
    shaping.broken = set()
    node.cycle()
    assert shaping.classes() == shaping.live() == {("wg0", key(number)) for number in (6, 7, 8)}
    node.right()


def test_a_trouble_of_cleaning_up_is_mended_by_the_next_cycle(node: Node, shaping: Shaping) -> None:
    shaping.broken = {"clean up"}
    node.change(5, status="paused")
    node.cycle()
    assert ("wg0", key(5)) in shaping.classes() - shaping.live()
    shaping.broken = set()
    node.cycle()
    assert shaping.classes() == shaping.live()


@pytest.mark.parametrize("phase", list(Phase)[:-1])
def test_after_a_failed_phase_a_plane_gets_no_later_one(node: Node, shaping: Shaping, phase: Phase) -> None:
    """A later phase relies on the earlier ones. The next cycle plans all of it again."""
    shaping.broken, shaping.phases = {phase.value}, []
    node.cycle()
    assert shaping.phases == list(Phase)[: list(Phase).index(phase)]
    shaping.broken = set()
    node.cycle()
    assert shaping.phases[-len(Phase) :] == list(Phase)


def test_a_plane_that_has_nothing_to_do_makes_no_work(node: Node, shaping: Shaping) -> None:
    shaping.plans = []
    node.quiet()
    assert shaping.plans
    assert set(shaping.plans) == {ShapingPlan(frozenset(), frozenset())}
