"""A contract with more devices than its limit gets no new peers, and its live peers stay as they are."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.samples import key

pytestmark = pytest.mark.usefixtures("mikyun_columns")

CONFIG = '[limits]\ndevices = "reject"\n'
OVER = "devices_over_limit"


@pytest.fixture
def node() -> Node:
    """Returns a node whose contract may have two devices, and has two."""
    made = Node(CONFIG)
    made.db.limits["0001"] = 2
    made.device(5)
    made.device(6)
    made.cycle()
    return made


def peers(node: Node) -> set[int]:
    return {number for number in range(1, 20) if key(number) in node.kernel()["wg0"]}


def actions(node: Node) -> list[str]:
    return [one.action for one in node.db.logs if one.action.startswith(("row_", "devices_"))]


def test_a_device_beyond_the_limit_gets_no_peer_until_a_place_is_free(node: Node) -> None:
    node.device(4)
    node.cycle()
    assert peers(node) == {5, 6}, "live devices keep their places, though the new one has a lower id"
    assert node.status.rejected == {"over_device_limit": 1}
    assert node.status.store_conditions[OVER] == 1
    assert actions(node) == [OVER, "row_rejected"] or actions(node) == ["row_rejected", OVER]
    node.change(5, status="revoked")
    node.cycle()
    assert peers(node) == {4, 6}
    assert set(actions(node)[2:]) == {OVER + "_cleared", "row_accepted"}


def test_a_lower_limit_takes_no_live_peer_away_and_the_guard_has_nothing_to_withhold(node: Node) -> None:
    node.db.limits["0001"] = 0
    decision = node.agent.reconcile()
    assert peers(node) == {5, 6}
    assert node.status.rejected == {"over_device_limit": 2}
    assert not decision.plan.changes and not decision.tripped


def test_a_frozen_device_may_still_be_revoked(node: Node) -> None:
    node.db.limits["0001"] = 1
    node.cycle()
    node.change(6, status="revoked")
    node.cycle()
    assert peers(node) == {5}
    assert not node.status.rejected


def test_a_notification_gets_no_peer_past_the_limit(node: Node) -> None:
    node.device(7)
    assert not node.agent.reconcile_devices(frozenset((node.db.devices[7]["device_id"],)))
    assert peers(node) == {5, 6}
    node.db.limits["0001"] = 3
    assert node.agent.reconcile_devices(frozenset((node.db.devices[7]["device_id"],)))
    assert peers(node) == {5, 6, 7}


def test_while_a_row_is_rejected_by_a_limit_every_reconcile_plans(node: Node) -> None:
    node.device(7)
    for _ in range(4):
        node.agent.reconcile(digest="the same")
    node.change(5, status="revoked")  # like a row of another node, which no digest of this node covers
    node.agent.reconcile(digest="the same")
    assert peers(node) == {6, 7}


def test_after_a_reboot_a_device_beyond_the_limit_has_its_peer_again(node: Node) -> None:
    node.db.limits["0001"] = 1
    node.cycle()
    assert node.status.rejected == {"over_device_limit": 1}
    node.reboot()
    node.device(7)
    node.cycle()
    assert peers(node) == {5, 6}, "a limit refuses only new peers"
    node.cycle()
    assert node.status.rejected == {"over_device_limit": 2}
    assert peers(node) == {5, 6}
    node.change(6, status="paused")
    node.cycle()
    node.change(6, status="active")
    node.cycle()
    assert peers(node) == {5}, "who gave its place up is new"
