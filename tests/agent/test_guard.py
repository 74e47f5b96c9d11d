"""The mass-removal guard, through the whole agent."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.samples import address, key, peer
from wgsyncd.core.model import Counters
from wgsyncd.errors import StoreError


@pytest.fixture
def full() -> Node:
    """Sixty devices: more than 12 removals are asked about."""
    made = Node()
    for number in range(2, 62):
        made.device(number)
    made.cycle()
    return made


@pytest.mark.parametrize("how", ["truncated", "update without where"])
def test_the_guard_withholds_what_would_empty_an_interface(full: Node, how: str) -> None:
    before = full.kernel()
    if how == "truncated":
        full.db.devices.clear()
    else:
        for number in full.db.devices:
            full.db.update(number, status="revoked")
    full.cycle()
    assert full.kernel() == before
    assert full.health.guard_tripped
    assert [one for one in full.actions if one[0].startswith("guard")] == [("guard_tripped", "r640")]
    full.quiet()


def test_while_the_guard_holds_updates_and_additions_go_on_and_bytes_are_booked(full: Node) -> None:
    for number in range(2, 22):
        full.db.update(number, status="revoked")
    full.db.update(30, wg_ip=address(130))
    full.device(140)
    full.db.update(31, wg_ip=address(2))  # of a peer that is withheld
    full.traffic(3, 77)
    full.cycle()
    held = full.wg.peers("wg0")
    assert held[key(30)] == peer(30, address(130))
    assert held[key(140)] == peer(140)
    assert held[key(31)] == peer(31)
    assert full.booked == full.true


def test_an_approval_lets_exactly_its_set_through_once(full: Node) -> None:
    for number in range(2, 22):
        full.db.update(number, status="revoked")
    full.cycle()
    full.store.approve("0" * 12)
    full.cycle()
    assert len(full.wg.peers("wg0")) == 60, "not any plan: this one"
    plan = full.health.plan_id
    full.db.update(22, status="revoked")
    full.store.approve(plan)
    full.cycle()
    assert len(full.wg.peers("wg0")) == 60, "another set of removals since"
    full.store.approve(full.health.plan_id)
    full.cycle()
    full.right()
    assert full.actions.count(("guard_approved", "r640")) == 1
    assert full.db.approved["r640"] is None
    assert not full.health.guard_tripped
    full.quiet()
    for number in range(30, 61):
        full.db.update(number, status="revoked")
    full.cycle()
    assert full.health.guard_tripped, "an approval is used up"


def test_a_guard_that_has_nothing_to_hold_any_more_is_quiet_and_an_old_approval_gone(full: Node) -> None:
    for number in range(2, 22):
        full.db.update(number, status="revoked")
    full.cycle()
    full.store.approve("0" * 12)
    for number in range(2, 22):
        full.db.update(number, status="active")
    full.cycle()
    assert not full.health.guard_tripped
    assert full.db.approved["r640"] is None
    full.quiet()


def test_twelve_of_sixty_go_unasked(full: Node) -> None:
    for number in range(2, 14):
        full.db.update(number, status="revoked")
    full.cycle()
    full.right()


def test_a_failed_read_is_not_an_empty_table(full: Node) -> None:
    full.store.fail_reads = True
    full.tick()
    with pytest.raises(StoreError):
        full.agent.reconcile()
    assert len(full.wg.peers("wg0")) == 60
    assert not full.health.guard_tripped
    assert full.booked[2] == Counters(0, 0)
