"""Transitions of a device happen once, and a handshake exactly at the deadline still activates it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import DELETED, NOW, actual, dump, issued, key, owner, peer, row, state
from wgsyncd.core.model import EARLIEST, DeviceId, DeviceRow, InterfaceState, Status, Transition
from wgsyncd.core.peers.lifecycle import deadlines, due_transitions, first_handshakes, is_pending, with_transitions
from wgsyncd.core.reasons import Inactive, InactiveReason, TransitionKind

END = int(NOW)
SECOND = 10**9
NAMES = {"wg0": "wg0", "wg1": "wg1"}


def steps(
    rows: list[DeviceRow], kernel: dict[str, InterfaceState], now: float = NOW
) -> list[tuple[DeviceId, str, float]]:
    return [
        (s.row.id, s.kind, s.at) for s in due_transitions(rows, NAMES, kernel, first_handshakes(rows, kernel, {}), now)
    ]


def shaken(at_ns: int, number: int = 5) -> dict[str, InterfaceState]:
    return actual(dump(state(peer(number), handshake=at_ns)))


RACE = {
    "before the deadline": (END * SECOND - 1, END + 0.5, "activate"),
    "at the deadline": (END * SECOND, END + 0.5, "activate"),
    "at the deadline, seen long after": (END * SECOND, END + 1e6, "activate"),
    "a second after": ((END + 1) * SECOND, END + 2.0, "expire"),
    "a millisecond after": (END * SECOND + 1_000_000, END + 2.0, "expire"),
    "never, at the deadline": (0, float(END), None),
    "never, after": (0, END + 0.001, "expire"),
    "never, before": (0, END - 1.0, None),
}


@pytest.mark.parametrize(("handshake", "now", "kind"), RACE.values(), ids=RACE.keys())
def test_the_race_at_the_deadline(handshake: int, now: float, kind: str | None) -> None:
    taken = steps([issued(5, END)], shaken(handshake), now)
    assert [k for _, k, _ in taken] == ([kind] if kind else [])
    if kind == "expire":
        assert taken[0][2] == END
    if kind == "activate":
        assert taken[0][2] == handshake / 1e9


def test_a_handshake_after_the_end_that_is_not_yet_over_by_our_clock_changes_nothing() -> None:
    assert steps([issued(5, END)], shaken((END + 1) * SECOND), END - 1.0) == []


def test_a_later_handshake_does_not_hide_the_first_one() -> None:
    """The kernel shows only the latest handshake.

    Here it replaces an earlier one that was in time before the row was written.
    """
    rows = [issued(5, END)]
    first = first_handshakes(rows, shaken((END - 10) * SECOND), {})
    second = first_handshakes(rows, shaken((END + 110) * SECOND), first)
    assert second == {key(5): (END - 10) * SECOND}
    taken = due_transitions(rows, NAMES, shaken((END + 110) * SECOND), second, END + 111.0)
    assert [(s.kind, s.at) for s in taken] == [("activate", END - 10)]


def test_what_was_seen_outlives_the_peer_and_is_forgotten_with_the_row() -> None:
    rows = [issued(5, END)]
    seen = first_handshakes(rows, shaken(EARLIEST), {})
    assert first_handshakes(rows, actual(dump()), seen) == {key(5): EARLIEST}
    assert first_handshakes([], shaken(EARLIEST), seen) == {}
    assert first_handshakes([issued(5, END, public_key="junk")], shaken(EARLIEST), {}) == {}


def test_the_latest_of_several_interfaces_is_the_first_seen() -> None:
    both = actual(
        dump(state(peer(5), handshake=0)), dump(state(peer(5, "10.251.0.5/32"), handshake=EARLIEST), name="wg1")
    )
    assert first_handshakes([issued(5, END)], both, {}) == {key(5): EARLIEST}


OTHERS: dict[str, tuple[DeviceRow, list[str]]] = {
    "active, known": (row(5), []),
    "active, never shaken hands": (row(5, first_handshake_known=False), ["first_handshake"]),
    "paused": (row(5, status=Status.OFF, first_handshake_known=False), []),
    "deleted": (issued(5, END - 1e6, inactive=DELETED), []),
    "issued without any end": (issued(5, None), ["activate"]),
    "issued, contract paused": (issued(5, NOW + 9, inactive=owner("paused")), ["activate"]),
    "bad address": (issued(5, NOW + 9, address="junk"), ["activate"]),
}


@pytest.mark.parametrize(("one", "kinds"), OTHERS.values(), ids=OTHERS.keys())
def test_a_handshake_of(one: DeviceRow, kinds: list[str]) -> None:
    assert [k for _, k, _ in steps([one], shaken((END - 5) * SECOND))] == kinds
    assert is_pending(one) is bool(kinds)


def test_without_a_handshake_an_active_row_takes_no_step() -> None:
    assert steps([row(5, first_handshake_known=False)], actual(dump(peer(5)))) == []


def test_a_row_with_an_unreadable_key_expires_all_the_same() -> None:
    assert steps([issued(5, END - 1, public_key="junk")], actual(dump())) == [(5, "expire", END - 1)]


def test_without_a_dump_of_its_interface_nothing_is_known_and_nothing_done() -> None:
    rows = [issued(5, END - 100), issued(6, END - 100, interface="wg1")]
    assert steps(rows, actual(dump(name="wg1"))) == [(6, "expire", END - 100)]
    assert steps(rows, {}) == []


@pytest.mark.parametrize("name", ["wg7", "", "WG0"])
def test_a_row_that_names_no_interface_of_ours_expires_for_it_cannot_have_shaken_hands(name: str) -> None:
    assert steps([issued(5, END - 100, interface=name)], actual(dump())) == [(5, "expire", END - 100)]
    assert steps([issued(5, END - 100, interface=name)], {}) == [(5, "expire", END - 100)]
    assert steps([issued(5, END + 100, interface=name)], actual(dump())) == []


def test_a_row_of_another_node_is_that_nodes() -> None:
    rows = [issued(5, END - 100, interface="wg7"), issued(6, END - 100, interface="wg8")]
    kernel = actual(dump(state(peer(5), handshake=SECOND)))
    taken = due_transitions(rows, NAMES, kernel, first_handshakes(rows, kernel, {}), NOW, frozenset(("wg7",)))
    assert [(s.row.id, s.kind) for s in taken] == [(6, "expire")]


def test_the_interface_is_found_by_the_stores_name_of_it() -> None:
    rows = [issued(5, END - 100, interface="tunnel")]
    assert [s.kind for s in due_transitions(rows, {"tunnel": "wg0"}, actual(dump()), {}, NOW)] == ["expire"]


@given(st.integers(1, 2 * END), st.integers(1, 2 * END), st.integers(0, 2 * END))
def test_no_row_both_activates_and_expires_and_none_expires_early(end: int, now: int, handshake: int) -> None:
    kinds = [k for _, k, _ in steps([issued(5, end)], shaken(handshake * SECOND), now)]
    in_time = EARLIEST <= handshake * SECOND <= end * SECOND
    assert kinds == (["activate"] if in_time else ["expire"] if now > end else [])


ASSUMED: list[tuple[DeviceRow, str, Status, str]] = [
    (issued(5, END), "activate", Status.ACTIVE, "active"),
    (issued(5, END), "expire", Status.EXPIRED, "expired"),
    (row(5, first_handshake_known=False), "first_handshake", Status.ACTIVE, "active"),
]


@pytest.mark.parametrize(("one", "kind", "status", "word"), ASSUMED, ids=[kind for _, kind, *_ in ASSUMED])
def test_rows_are_assumed_as_the_steps_leave_them(one: DeviceRow, kind: str, status: Status, word: str) -> None:
    other = issued(6, END)
    after, untouched = with_transitions([one, other], [Transition(one, TransitionKind(kind), 1.0)])
    assert (after.status, after.status_text) == (status, word)
    assert untouched is other
    assert not is_pending(after), "the step is not due again"
    assert due_transitions([after], NAMES, shaken((END - 5) * SECOND), {key(5): (END - 5) * SECOND}, END + 9.0) == []


def test_an_expired_row_wants_no_peer_and_an_activated_one_does() -> None:
    one = issued(5, END)
    expired = Transition(one, TransitionKind.EXPIRE, END)
    assert with_transitions([one], [expired])[0].inactive_reason(END + 9.0) == InactiveReason(
        Inactive.DEVICE_INACTIVE, "expired"
    )
    activated = Transition(one, TransitionKind.ACTIVATE, END)
    assert with_transitions([one], [activated])[0].inactive_reason(END + 9.0) is None


DEADLINES: list[tuple[list[Any], list[float]]] = [
    ([], []),
    ([row(5, activation_deadline=END + 5.0)], []),
    ([issued(5, None)], []),
    ([issued(5, END + 5.0, inactive=DELETED)], []),
    ([issued(5, float(END))], [END]),
    ([issued(5, END - 5.0), issued(6, END + 7.0), issued(7, END + 5.0)], [END - 5.0, END + 5.0, END + 7.0]),
]


@pytest.mark.parametrize(("rows", "ends"), DEADLINES)
def test_the_deadlines_in_their_order(rows: list[DeviceRow], ends: list[float]) -> None:
    assert deadlines(rows) == ends
