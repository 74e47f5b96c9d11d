"""The guard decides how many removals a plan may make without approval, and what an empty table means."""

from __future__ import annotations

import pytest

from tests.samples import actual, dump, key, peer, record, records, row, wants
from wgsyncd.core.model import ChangeKind, DeviceRow, Status
from wgsyncd.core.peers.desired import PeerPolicy
from wgsyncd.core.peers.guard import Decision, RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.records import PeerRecord

LIMITS = RemovalLimits(10, 0.2, 3)
ELSEWHERE = PeerPolicy(ignored_interfaces=frozenset(("wg9",)))


def look(
    rows: list[DeviceRow], peers: range, known: list[PeerRecord] | None = None, approved: str | None = None
) -> Decision:
    kernel = actual(dump(*(peer(n) for n in peers)))
    desired = wants(rows, kernel, policy=ELSEWHERE)
    plan = make_plan(desired, kernel, records(*(known or [])), ELSEWHERE)
    return apply_guard(desired, plan, kernel, LIMITS, approved)


def off(number: int) -> DeviceRow:
    return row(number, status=Status.OFF, status_text="paused")


BARE: dict[str, tuple[list[DeviceRow], range, bool]] = {
    "no row, two peers": ([], range(2, 4), True),
    "no row, one peer": ([], range(2, 3), False),
    "no row, no peer": ([], range(2, 2), False),
    "rows without a key that want none": ([row(2, public_key=None, status=Status.OFF)], range(2, 4), True),
    "rows of another node only": ([row(2, interface="wg9")], range(2, 4), True),
    "one row left, paused": ([off(9)], range(2, 4), False),
    "the two are revoked by their rows": ([off(2), off(3)], range(2, 4), False),
}


@pytest.mark.parametrize(("rows", "peers", "tripped"), BARE.values(), ids=BARE.keys())
def test_where_no_row_names_any_key_two_removals_are_too_many(
    rows: list[DeviceRow], peers: range, tripped: bool
) -> None:
    decision = look(rows, peers)
    assert (decision.tripped, decision.is_withholding) == (tripped, tripped)
    assert {c.public_key for c in decision.plan.withheld} == ({key(n) for n in peers} if tripped else set())
    assert len(decision.plan.of(ChangeKind.REMOVE)) == (0 if tripped else len(peers))


def test_an_admin_can_let_go_the_peers_of_an_empty_table() -> None:
    asked = look([], range(2, 4))
    decision = look([], range(2, 4), approved=asked.plan_id)
    assert (decision.tripped, decision.approved, decision.is_withholding) == (True, True, False)
    assert len(decision.plan.of(ChangeKind.REMOVE)) == 2
    assert look([], range(2, 5), approved=asked.plan_id).is_withholding, "another set"


def test_what_is_unclear_neither_counts_for_the_guard_nor_waits_for_an_admin() -> None:
    """20 peers belong to no row while one row has an unreadable key.

    A corrected row ends this block, an approval does not.
    """
    decision = look([row(2, public_key="junk"), off(3)], range(3, 24))
    assert not decision.tripped
    assert [c.public_key for c in decision.plan.changes] == [key(3)]
    assert len(decision.plan.blocked) == 20
    assert decision.plan.withheld == ()


def test_what_is_unclear_stays_so_beside_a_tripped_guard() -> None:
    decision = look([row(2, public_key="junk"), *(off(n) for n in range(3, 23))], range(3, 25))
    assert decision.is_withholding
    assert {c.public_key for c in decision.plan.withheld} == {key(n) for n in range(3, 23)}
    assert {c.public_key for c in decision.plan.blocked} == {key(23), key(24)}
    without = look([row(2, public_key="junk"), *(off(n) for n in range(3, 23))], range(3, 23), [record(3)])
    assert decision.plan_id == without.plan_id, "an approval lets through what was shown, and that only"


def test_the_limit_is_said() -> None:
    assert look([off(2)], range(2, 102)).limit == 20
    assert look([off(2)], range(2, 12)).limit == 10


EVERYBODY: dict[str, tuple[list[DeviceRow], range, bool]] = {
    "all four": ([off(n) for n in range(2, 6)], range(2, 6), True),
    "all ten": ([off(n) for n in range(2, 12)], range(2, 12), True),
    "all three: one contract": ([off(n) for n in range(2, 5)], range(2, 5), False),
    "all but one": ([row(2), *(off(n) for n in range(3, 7))], range(2, 7), False),
    "four, and one comes": ([row(9), *(off(n) for n in range(2, 6))], range(2, 6), False),
}


@pytest.mark.parametrize(("rows", "peers", "tripped"), EVERYBODY.values(), ids=EVERYBODY.keys())
def test_an_update_without_its_where_empties_no_small_server_either(
    rows: list[DeviceRow], peers: range, tripped: bool
) -> None:
    assert look(rows, peers).is_withholding == tripped


@pytest.mark.parametrize(("small_node", "peers", "tripped"), [(3, 3, False), (3, 4, True), (5, 5, False), (0, 1, True)])
def test_all_peers_of_a_small_node_may_go(small_node: int, peers: int, tripped: bool) -> None:
    numbers = range(2, 2 + peers)
    rows, kernel = [off(n) for n in numbers], actual(dump(*(peer(n) for n in numbers)))
    desired = wants(rows, kernel)
    plan = make_plan(desired, kernel, records(), PeerPolicy())
    limits = RemovalLimits(10, 0.2, small_node)
    assert apply_guard(desired, plan, kernel, limits, None).tripped is tripped
