"""The guard withholds mass removals through the whole agent."""

from __future__ import annotations

import errno

import pytest

from tests.node import Node
from tests.samples import address, key, text
from wgsyncd.core.model import Counters
from wgsyncd.errors import StoreError


@pytest.fixture
def full() -> Node:
    """Returns a node with sixty devices, where more than 12 removals need an approval."""
    made = Node()
    for number in range(2, 62):
        made.device(number)
    made.cycle()
    return made


def approvals(node: Node) -> list[str]:
    return [one.text for one in node.admin.audit() if one.action == "guard_approved"]


@pytest.mark.parametrize("how", ["truncated", "update without where"])
def test_the_guard_withholds_what_would_empty_an_interface(full: Node, how: str) -> None:
    before = full.kernel()
    if how == "truncated":
        full.truncate()
    else:
        for number in full.numbers:
            full.change(number, status="revoked")
    full.cycle()
    assert full.kernel() == before
    assert full.status.guard_tripped
    assert [one for one in full.actions if one[0].startswith("guard")] == [("guard_tripped", "r640")]
    full.quiet()


def test_while_the_guard_holds_updates_and_additions_go_on_and_bytes_are_booked(full: Node) -> None:
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.change(30, address=address(130))
    full.device(140)
    full.change(31, address=address(2))  # this address belongs to a peer whose removal is withheld
    full.traffic(3, 77)
    full.cycle()
    held = full.wg.peers("wg0")
    assert held[key(30)] == full.peer(30, address(130))
    assert held[key(140)] == full.peer(140)
    assert held[key(31)] == full.peer(31)
    assert full.posted == full.true


def test_an_approval_lets_exactly_its_set_through_once(full: Node) -> None:
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.cycle()
    full.store.approve("0" * 12)
    full.cycle()
    assert len(full.wg.peers("wg0")) == 60, "not any plan: this one"
    plan = full.status.plan_id
    full.change(22, status="revoked")
    full.store.approve(plan)
    full.cycle()
    assert len(full.wg.peers("wg0")) == 60, "another set of removals since"
    full.store.approve(full.status.plan_id)
    full.cycle()
    full.right()
    assert full.actions.count(("guard_approved", "r640")) == 1
    assert full.db.approved["r640"] is None
    assert not full.status.guard_tripped
    full.quiet()
    for number in range(30, 61):
        full.change(number, status="revoked")
    full.cycle()
    assert full.status.guard_tripped, "an approval is used up"


def test_an_approval_is_for_the_removals_of_the_next_cycle_or_for_none(full: Node) -> None:
    """An approval does not wait for a later day on which exactly these removals are planned again."""
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.cycle()
    full.agent.approve(full.status.plan_id, "alice (uid 1000, pid 7)")
    full.change(22, status="revoked")
    full.cycle()
    assert full.db.approved["r640"] is None
    full.change(22, status="active")
    full.cycle()
    assert len(full.wg.peers("wg0")) == 60
    assert full.status.guard_tripped
    full.quiet()
    full.store.approve(full.status.plan_id)
    full.cycle()
    full.right()
    (text,) = approvals(full)
    assert "alice" not in text, "the admin who approved the plan of now is unknown"


def test_who_approved_is_written_down_once_also_after_a_reload(full: Node) -> None:
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.cycle()
    full.agent.approve(full.status.plan_id, "alice (uid 1000, pid 7)")
    full.reload()
    full.cycle()
    for number in range(30, 61):
        full.change(number, status="revoked")
    full.cycle()
    full.store.approve(full.status.plan_id)
    full.cycle()
    assert ["alice (uid 1000, pid 7)" in text for text in approvals(full)] == [True, False]


def test_a_guard_that_has_nothing_to_hold_any_more_is_quiet_and_an_old_approval_gone(full: Node) -> None:
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.cycle()
    full.store.approve("0" * 12)
    for number in range(2, 22):
        full.change(number, status="active")
    full.cycle()
    assert not full.status.guard_tripped
    assert full.db.approved["r640"] is None
    full.quiet()


def test_twelve_of_sixty_go_unasked(full: Node) -> None:
    for number in range(2, 14):
        full.change(number, status="revoked")
    full.cycle()
    full.right()


def test_a_failed_read_is_not_an_empty_table(full: Node) -> None:
    full.store.fail_reads = True
    full.tick()
    with pytest.raises(StoreError):
        full.agent.reconcile()
    assert len(full.wg.peers("wg0")) == 60
    assert not full.status.guard_tripped
    assert full.posted[2] == Counters(0, 0)


@pytest.mark.parametrize("rows", ["none", "without keys"])
def test_a_table_that_names_no_key_empties_no_interface_however_small(rows: str) -> None:
    node = Node()
    for number in (5, 6):
        node.device(number)
    node.cycle()
    before = node.kernel()
    if rows == "none":
        node.truncate()
        node.true.clear()
    else:
        for number in (5, 6):
            node.change(number, public_key=None, status="paused")
    node.cycle()
    assert node.kernel() == before
    assert node.status.guard_tripped
    assert node.status.interfaces["wg0"].withheld == 2
    node.quiet()
    node.store.approve(node.status.plan_id)
    node.cycle()
    node.right()
    assert [one for one in node.actions if one[0].startswith("guard")] == [
        ("guard_tripped", "r640"), ("guard_approved", "r640")
    ]  # fmt: skip


def test_approved_removals_that_fail_are_withheld_anew_and_told_anew(full: Node) -> None:
    for number in range(2, 22):
        full.change(number, status="revoked")
        full.wg.refused[key(number)] = errno.EPERM
    full.cycle()
    full.store.approve(full.status.plan_id)
    full.cycle()
    assert len(full.wg.peers("wg0")) == 60
    full.cycle()
    assert full.status.guard_tripped
    said = [action for action, _ in full.actions if action.startswith("guard")]
    assert said == ["guard_tripped", "guard_approved", "guard_tripped"]


def test_the_guards_condition_ends_with_the_approval_in_one_transaction(full: Node) -> None:
    """A crash between two transactions would leave a condition that was approved.

    Its next start would not be audited.
    """
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.cycle()
    full.store.approve(full.status.plan_id)
    full.wg.crash_after = 21  # all twenty peers have lost their addresses, and the first peer is removed
    assert not full.survive()
    assert full.actions[-1] == ("guard_approved", "r640")
    assert {one.type for one in full.db.conditions.values()} == set()
    full.cycle()
    assert full.status.guard_tripped, "nineteen of fifty-nine, which nobody approved"
    assert full.actions[-2:] == [("peer_removed", "0001-DEV-002"), ("guard_tripped", "r640")]


def test_what_waits_for_an_unreadable_key_is_counted_apart_and_needs_no_admin() -> None:
    node = Node()
    for number in (5, 6, 7, 8):
        node.device(number)
    node.cycle()
    node.change(5, public_key="junk")
    for number in (6, 7):
        node.delete(number)
    node.cycle()
    assert not node.status.guard_tripped
    one = node.status.interfaces["wg0"]
    assert (one.actual, one.blocked, one.withheld, one.drift) == (4, 2, 0, 0)
    assert ("guard_tripped", "r640") not in node.actions
    node.quiet()
    node.change(5, public_key=text(5))
    node.cycle()
    node.right()
    assert node.status.interfaces["wg0"].blocked == 0
