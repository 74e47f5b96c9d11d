"""Each condition is audited once when it starts and once when it ends."""

from __future__ import annotations

import pytest

from tests.samples import TOKYO, actual, address, dump, peer, planned, records, row, wants
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceRow, PeerConfig, Status
from wgsyncd.core.peers.conditions import condition_changes, current_conditions
from wgsyncd.core.peers.guard import Decision, RemovalLimits, apply_guard
from wgsyncd.core.state import Condition, NodeState
from wgsyncd.stores.mikyun.messages import AuditMessages


def off(number: int) -> DeviceRow:
    return row(number, status=Status.OFF, status_text="paused")


MESSAGES = AuditMessages("en", TOKYO)


REJECTED = Condition("row_rejected", "5", "0001-DEV-005", "bad_key")
CONFLICT = Condition("parent_conflict", "0001", "0001", "2")
GUARD = Condition("guard_tripped", "r640", "r640", "0123456789ab", 40)
MISSING = Condition("interface_missing", "wg0", "wg0", "")


def turn(old: set[Condition], new: set[Condition]) -> tuple[list[str], NodeState, tuple[AuditEvent, ...]]:
    books = NodeState(1, records(), {}, frozenset(old))
    writes = condition_changes(books, frozenset(new))
    return [e.action for e in MESSAGES.entries(writes.audit)], books.after(writes), writes.audit


@pytest.mark.parametrize(
    ("one", "start", "end"),
    [
        (REJECTED, ["row_rejected"], ["row_accepted"]),
        (CONFLICT, ["parent_conflict"], ["parent_conflict_cleared"]),
        (GUARD, ["guard_tripped"], []),
        (MISSING, ["interface_missing"], []),
    ],
)
def test_a_condition_is_audited_once_when_it_starts_and_once_when_it_ends(
    one: Condition, start: list[str], end: list[str]
) -> None:
    said, books, _ = turn(set(), {one})
    assert (said, books.conditions) == (start, frozenset((one,)))
    assert not condition_changes(books, frozenset((one,)))
    said, books, _ = turn({one}, set())
    assert (said, books.conditions) == (end, frozenset())


def decision(rows: list[DeviceRow], *peers: PeerConfig, approved: str | None = None) -> Decision:
    kernel = actual(dump(*peers))
    desired, plan = wants(rows, kernel), planned(rows, kernel)
    return apply_guard(desired, plan, kernel, RemovalLimits(1, 0.0, 0), approved)


def stands(decision: Decision, conflicts: set[Condition] | None, *known: Condition) -> set[Condition]:
    return set(
        current_conditions(
            decision,
            None if conflicts is None else frozenset(conflicts),
            ["wg1"],
            "r640",
            NodeState(1, records(), {}, frozenset(known)),
        )
    )


LOST = Condition("interface_missing", "wg1", "wg1", "")


def test_what_stands_after_a_cycle() -> None:
    quiet = decision([row(5, preshared_key="junk")], peer(5))
    assert stands(quiet, {CONFLICT}) == {REJECTED._replace(reason="bad_preshared_key"), CONFLICT, LOST}
    assert stands(decision([row(5)]), set(), REJECTED, CONFLICT, GUARD) == {LOST}


def test_a_guard_that_withholds_stands_and_one_that_an_admin_opened_does_not() -> None:
    rows, peers = [off(5), off(6), row(7, address=address(5))], (peer(5), peer(6))
    asked = decision(rows, *peers)
    assert len(asked.plan.withheld) == 3, "the addition that needs an address too"
    assert stands(asked, set()) == {LOST, Condition("guard_tripped", "r640", "r640", asked.plan_id, 2)}
    assert stands(decision(rows, *peers, approved=asked.plan_id), set(), GUARD) == {LOST}


def test_conflicts_that_cannot_be_seen_stand_as_they_were_known() -> None:
    theirs = Condition("parent_conflict", "0002", "0002", "3")
    assert stands(decision([]), None, CONFLICT) == {CONFLICT, LOST}
    assert stands(decision([]), None) == {LOST}
    assert stands(decision([]), {theirs}, CONFLICT) == {theirs, LOST}


def test_a_condition_whose_detail_changed_starts_anew_and_does_not_end() -> None:
    said, books, _ = turn({REJECTED}, {REJECTED._replace(reason="bad_address")})
    assert said == ["row_rejected"]
    assert books.conditions == {REJECTED._replace(reason="bad_address")}


def test_the_words_hold_count_and_plan() -> None:
    messages = {e.action: e.message for e in MESSAGES.entries(turn(set(), {GUARD, CONFLICT, REJECTED})[2])}
    assert messages["guard_tripped"].startswith("Nothing was removed: 40 removals wait")
    assert messages["parent_conflict"] == "2 parent devices in one contract"
    assert "(bad_key)" in messages["row_rejected"]
