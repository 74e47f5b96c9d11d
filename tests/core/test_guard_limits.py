"""The guard decides how many removals a plan may make without approval, and what an empty table means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.samples import NOW, SITES, actual, dump, issued, key, owner, peer, record, records, row, wants
from wgsyncd.core.model import ChangeKind, DeviceRow, Status
from wgsyncd.core.peers.desired import PeerPolicy, build_desired
from wgsyncd.core.peers.guard import Decision, RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.reasons import ChangeCause
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
    "one row left, paused: more than half go": ([off(9)], range(2, 4), True),
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
    assert look([off(2)], range(2, 12)).limit == 5, "half of the peers"


EVERYBODY: dict[str, tuple[list[DeviceRow], range, bool]] = {
    "all four": ([off(n) for n in range(2, 6)], range(2, 6), True),
    "all ten": ([off(n) for n in range(2, 12)], range(2, 12), True),
    "all three: one contract": ([off(n) for n in range(2, 5)], range(2, 5), False),
    "all but one": ([row(2), *(off(n) for n in range(3, 7))], range(2, 7), True),
    "half": ([row(2), row(3), row(4), *(off(n) for n in range(5, 8))], range(2, 8), False),
    "four, and one comes": ([row(9), *(off(n) for n in range(2, 6))], range(2, 6), True),
}


@pytest.mark.parametrize(("rows", "peers", "tripped"), EVERYBODY.values(), ids=EVERYBODY.keys())
def test_an_update_without_its_where_empties_no_small_server_either(
    rows: list[DeviceRow], peers: range, tripped: bool
) -> None:
    assert look(rows, peers).is_withholding == tripped


def move_away(moved: range, others: list[DeviceRow], peers: range) -> Decision:
    """Decide after some recorded devices moved to another node."""
    kernel, known = actual(dump(*(peer(n) for n in peers))), records(*(record(n) for n in peers))
    desired = build_desired(others, SITES, ELSEWHERE, kernel, NOW, moved=dict.fromkeys(moved, "wg9"))
    return apply_guard(desired, make_plan(desired, kernel, known, ELSEWHERE), kernel, LIMITS, None)


MOVED: dict[str, tuple[range, list[DeviceRow], range, bool]] = {
    "fifty of sixty": (range(2, 52), [row(n) for n in range(52, 62)], range(2, 62), False),
    "fifty, and twelve are paused": (range(2, 52), [off(n) for n in range(52, 64)] + [row(64)], range(2, 65), False),
    "fifty, and thirteen are paused": (range(2, 52), [off(n) for n in range(52, 65)] + [row(65)], range(2, 66), True),
    "all": (range(2, 62), [], range(2, 62), True),
    "all of a small node": (range(2, 5), [], range(2, 5), False),
    "all but one, which is paused": (range(2, 61), [off(61)], range(2, 62), True),
    "all, and one comes": (range(2, 62), [row(99)], range(2, 62), True),
}


@pytest.mark.parametrize(("moved", "others", "peers", "tripped"), MOVED.values(), ids=MOVED.keys())
def test_moves_do_not_count_unless_the_node_is_left_empty(
    moved: range, others: list[DeviceRow], peers: range, tripped: bool
) -> None:
    decision = move_away(moved, others, peers)
    assert decision.is_withholding is tripped
    gone = decision.plan.of(ChangeKind.REMOVE) + decision.plan.withheld
    assert [c.reason.interface for c in gone if c.reason.cause is ChangeCause.MOVED_TO] == ["wg9"] * len(moved)


def test_a_tripped_guard_holds_no_move() -> None:
    decision = move_away(range(2, 12), [off(n) for n in range(12, 32)] + [row(32)], range(2, 33))
    assert decision.is_withholding
    assert {c.row_id for c in decision.plan.withheld} == set(range(12, 32))
    assert {c.row_id for c in decision.plan.of(ChangeKind.REMOVE)} == set(range(2, 12))


UNUSED: dict[str, tuple[dict[str, object], bool]] = {
    "never used": ({}, False),
    "used": ({"first_handshake_known": True}, True),
    "of a paused contract": ({"inactive": owner("paused")}, True),
    "without a deadline": ({"activation_deadline": None}, True),
    "off": ({"status": Status.OFF}, True),
}


@pytest.mark.parametrize(("changes", "tripped"), UNUSED.values(), ids=UNUSED.keys())
def test_the_end_of_devices_that_were_never_used_does_not_count(changes: dict[str, object], tripped: bool) -> None:
    ended = issued(2, NOW - 1)
    rows = [replace(ended, id=n, public_key=key(n), status=Status.EXPIRED) for n in range(2, 52)]
    rows = [replace(one, **changes) for one in rows]  # type: ignore[arg-type]
    decision = look(rows + [row(n) for n in range(52, 100)], range(2, 100))
    assert decision.is_withholding is tripped


@pytest.mark.parametrize(
    ("small_node", "peers", "tripped"), [(3, 3, False), (3, 4, True), (5, 5, False), (0, 2, True), (0, 1, False)]
)
def test_all_peers_of_a_small_node_may_go(small_node: int, peers: int, tripped: bool) -> None:
    numbers = range(2, 2 + peers)
    rows, kernel = [off(n) for n in numbers], actual(dump(*(peer(n) for n in numbers)))
    desired = wants(rows, kernel)
    plan = make_plan(desired, kernel, records(), PeerPolicy())
    limits = RemovalLimits(10, 0.2, small_node)
    assert apply_guard(desired, plan, kernel, limits, None).tripped is tripped
