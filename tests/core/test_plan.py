"""A plan has the right changes in the right order and leads from any actual state to the desired one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.samples import (
    actual,
    address,
    dump,
    issued,
    key,
    owner,
    peer,
    planned,
    psk,
    record,
    records,
    row,
    text,
    wants,
)
from wgsyncd.core.model import Change, ChangeKind, DeviceId, DeviceRow, InterfaceState, Status, encode_key
from wgsyncd.core.peers.desired import PeerPolicy
from wgsyncd.core.peers.guard import RemovalLimits
from wgsyncd.core.peers.plan import Plan, removals_id
from wgsyncd.core.records import PeerRecord
from wgsyncd.engine import wording


def short(plan: Plan) -> list[tuple[str, str, DeviceId | None, str]]:
    """Returns the changes of a plan as tuples of kind, interface, row and reason."""
    return [(c.kind.value, c.interface, c.row_id, wording.change(c)) for c in plan.changes]


def two(wg0: InterfaceState, wg1: InterfaceState) -> dict[str, InterfaceState]:
    return actual(wg0, wg1)


def off(number: int, status: str = "paused") -> DeviceRow:
    return row(number, status=Status.OFF, status_text=status)


def test_no_difference_no_change() -> None:
    rows = [row(n, preshared_key=encode_key(psk(n))) for n in range(2, 202)]
    plan = planned(rows, actual(dump(*(peer(n, preshared_key=psk(n)) for n in range(2, 202)))))
    assert plan.changes == plan.withheld == ()
    assert plan.live_count == 200


CASES = {
    "added": ([row(5)], [], [("add", "wg0", 5, "wanted")]),
    "paused": ([off(5)], [peer(5)], [("remove", "wg0", 5, "device paused")]),
    "QR ended": ([issued(5, 1.0)], [peer(5)], [("remove", "wg0", 5, "activation deadline passed")]),
    "contract paused": (
        [row(5, inactive=owner("paused"))],
        [peer(5)],
        [("remove", "wg0", 5, "contract 0001 paused")],
    ),
    "address": ([row(5)], [peer(5, address(6))], [("update", "wg0", 5, "address 10.200.0.6/32 -> 10.200.0.5/32")]),
    "address lost": ([row(5)], [peer(5)._replace(allowed_ips=())],
                     [("update", "wg0", 5, "address - -> 10.200.0.5/32")]),
    "PSK set": ([row(5, preshared_key=encode_key(psk(5)))], [peer(5)], [("update", "wg0", 5, "preshared key")]),
    "PSK cleared": ([row(5)], [peer(5, preshared_key=psk(5))], [("update", "wg0", 5, "preshared key cleared")]),
    "keepalive": ([row(5)], [peer(5, keepalive=25)], [("update", "wg0", 5, "keepalive 25 -> 0 s")]),
    "foreign": ([], [peer(99)], [("remove", "wg0", None, "in no row")]),
    "not there and not wanted": ([off(5)], [], []),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "kernel", "expected"), CASES.values(), ids=CASES.keys())
def test_changes(rows: list[DeviceRow], kernel: list, expected: list) -> None:  # type: ignore[type-arg]
    assert short(planned(rows, actual(dump(*kernel)))) == expected


def test_an_interface_without_a_dump_is_left_out() -> None:
    rows = [row(5), row(6, interface="wg1", address="10.251.0.6")]
    assert short(planned(rows, actual(dump(name="wg1")))) == [("add", "wg1", 6, "wanted")]


def test_removals_then_updates_then_additions_over_all_interfaces() -> None:
    rows = [off(5), row(6), row(7), row(8, interface="wg1", address="10.251.0.8"), row(9, interface="wg1",
            address="10.251.0.9"), off(10)]  # fmt: skip
    kernel = two(
        dump(peer(5), peer(6, address(60))), dump(peer(8, "10.251.0.80/32"), peer(10, "10.251.0.10/32"), name="wg1")
    )
    assert [(c.kind.value, c.row_id) for c in planned(rows, kernel).changes] == [
        ("remove", 5), ("remove", 10), ("update", 6), ("update", 8), ("add", 7), ("add", 9)
    ]  # fmt: skip


def test_a_device_that_moves_is_removed_here_and_added_there() -> None:
    kernel = two(dump(peer(5)), dump(name="wg1"))
    plan = planned([row(5, interface="wg1")], kernel, records(record(5)))
    assert short(plan) == [("remove", "wg0", 5, "moved to wg1"), ("add", "wg1", 5, "moved from wg0")]
    assert all(c.is_revocation for c in plan.changes)


def test_a_new_key_removes_the_old_peer_and_gives_its_address_to_the_new() -> None:
    plan = planned([row(5, public_key=text(50))], actual(dump(peer(5))), records(record(5)))
    assert short(plan) == [("remove", "wg0", 5, "has a new key"), ("add", "wg0", 5, "new key")]


def test_a_row_that_is_gone_is_told_from_a_foreign_peer_by_its_record() -> None:
    kernel = actual(dump(peer(5), peer(6)))
    plan = planned([], kernel, records(record(5)))
    assert short(plan) == [("remove", "wg0", None, "in no row"), ("remove", "wg0", 5, "row is gone")]
    assert plan.foreign["wg0"] == (key(6),)
    assert short(planned([], kernel, records(record(5)), policy=PeerPolicy(foreign="keep"))) == [
        ("remove", "wg0", 5, "row is gone")
    ]


@pytest.mark.parametrize("foreign", ["keep", "report"])
def test_foreign_peers_that_stay_are_still_told(foreign: str) -> None:
    plan = planned([row(5)], actual(dump(peer(5), peer(99))), policy=PeerPolicy(foreign=foreign))
    assert plan.changes == ()
    assert plan.foreign == {"wg0": (key(99),)}


def test_what_is_always_kept_is_never_removed_nor_changed_not_even_when_a_row_revokes_it() -> None:
    policy = PeerPolicy(always_keep=frozenset((key(99), key(5))))
    rows = [off(5), row(99)]
    plan = planned(rows, actual(dump(peer(5), peer(99, "10.200.0.7/32"), peer(98))), policy=policy)
    assert short(plan) == [("remove", "wg0", None, "in no row")]
    assert plan.changes[0].public_key == key(98)


def test_a_frozen_peer_is_neither_removed_nor_changed() -> None:
    frozen = row(5, preshared_key="junk")
    assert planned([frozen], actual(dump(peer(5, address(6), keepalive=25)))).changes == ()
    assert planned([row(5, interface="wg7")], actual(dump(peer(5)))).changes == ()


def test_while_a_key_is_unreadable_only_what_a_row_revokes_goes() -> None:
    kernel = two(dump(*(peer(n) for n in range(5, 12))), dump(name="wg1"))
    rows = [row(5, public_key="junk"), off(6), row(7, interface="wg1", address="10.251.0.7"),
            row(8, public_key=text(80)), row(11)]  # fmt: skip
    plan = planned(rows, kernel, records(*(record(n) for n in (5, 6, 7, 8, 9))))
    assert [(c.public_key, wording.change(c)) for c in plan.of(ChangeKind.REMOVE)] == [
        (key(6), "device paused"), (key(7), "moved to wg1"), (key(8), "has a new key")
    ]  # fmt: skip
    assert {c.public_key for c in plan.blocked} == {key(5), key(9), key(10)}
    assert not any(c.is_revocation for c in plan.blocked)
    assert plan.withheld == (), "no admin is asked: mending the row ends it"


def test_an_empty_table_removes_everything_so_the_guard_withholds_it() -> None:
    kernel = actual(dump(*(peer(n) for n in range(2, 202))))
    plan = planned([], kernel, records(*(record(n) for n in range(2, 202))))
    assert len(plan.of(ChangeKind.REMOVE)) == 200
    assert RemovalLimits(10, 0.2, 3).balance(200, (), 0.0, plan.live_count).left < 0
    held = plan.withhold(lambda c: c.kind is ChangeKind.REMOVE)
    assert (len(held.changes), len(held.withheld)) == (0, 200)


@pytest.mark.parametrize(
    ("least", "share", "removals", "peers", "allowed"),
    [
        (10, 0.2, 0, 0, True), (10, 0.2, 5, 10, True), (10, 0.2, 6, 10, False), (10, 0.2, 11, 11, False), (10, 0.2, 11, 55, True),
        (10, 0.2, 12, 55, False), (10, 0.2, 50, 250, True), (10, 0.2, 51, 250, False), (0, 0.0, 0, 9, True),
        (0, 0.0, 1, 9, False), (0, 1.0, 9, 9, True), (50, 0.4, 4, 9, True), (50, 0.4, 5, 9, False), (5, 0.5, 1, 1, True),
    ],
)  # fmt: skip
def test_guard_limits(least: int, share: float, removals: int, peers: int, allowed: bool) -> None:
    assert (RemovalLimits(least, share, 3).balance(removals, (), 0.0, peers).left >= 0) is allowed


def removals(change: Change) -> bool:
    return change.kind is ChangeKind.REMOVE


def test_updates_and_additions_that_need_no_removal_go_on() -> None:
    kernel = actual(dump(peer(5), peer(6), peer(7, keepalive=25)))
    plan = planned([off(5), off(6), row(7), row(8)], kernel).withhold(removals)
    assert [(c.kind.value, c.row_id) for c in plan.changes] == [("update", 7), ("add", 8)]
    assert [(c.kind.value, c.row_id) for c in plan.withheld] == [("remove", 5), ("remove", 6)]


def test_what_needs_the_address_of_a_withheld_peer_is_withheld_and_so_on() -> None:
    """5 leaves. 6 takes the address of 5, 7 takes the address of 6 and so on. All these changes depend on 5."""
    kernel = actual(dump(*(peer(n) for n in range(5, 9)), peer(20, keepalive=25)))
    rows = [off(5), *(row(n, address=address(n - 1)) for n in range(6, 10)), row(20), row(21)]
    plan = planned(rows, kernel)
    assert len(plan.changes) == 7
    held = plan.withhold(removals)
    assert sorted(c.row_id or 0 for c in held.withheld) == [5, 6, 7, 8, 9]
    assert sorted(c.row_id or 0 for c in held.changes) == [20, 21]


def test_a_key_is_not_put_on_a_second_interface_while_its_removal_is_withheld() -> None:
    kernel = two(dump(peer(5)), dump(name="wg1"))
    held = planned([row(5, interface="wg1")], kernel).withhold(removals)
    assert held.changes == ()
    assert len(held.withheld) == 2


def test_the_same_address_on_the_other_interface_is_not_held_up() -> None:
    change_here = Change(ChangeKind.REMOVE, "wg0", key(5), peer(5), None)
    change_there = Change(ChangeKind.ADD, "wg1", key(6), None, peer(6, address(5)))
    plan = Plan((change_here, change_there), 1, {}).withhold(removals)
    assert plan.changes == (change_there,)


def test_a_device_that_cannot_arrive_does_not_leave() -> None:
    """7 moves to an address on wg1 that another peer holds. 7 stays on wg0 until that blocked peer may be removed."""
    kernel = two(dump(peer(7)), dump(peer(99, "10.251.0.7/32"), name="wg1"))
    rows = [row(5, public_key="junk"), row(7, interface="wg1")]
    plan = planned(rows, kernel, records(record(7)))
    assert plan.changes == ()
    assert {c.public_key for c in plan.blocked} == {key(7), key(99)}
    assert plan.withheld == ()


def test_nothing_withheld_is_the_same_plan() -> None:
    plan = planned([row(5)], actual(dump()))
    assert plan.withhold(removals) is plan


def removing(*numbers: int, known: Callable[[int], PeerRecord] = record) -> Plan:
    rows = [row(n) for n in range(2, 30) if n not in numbers]
    kernel = actual(dump(*(peer(n) for n in range(2, 30))))
    return planned(rows, kernel, records(*(known(n) for n in range(2, 30))))


def plan_id(plan: Plan) -> str:
    return removals_id(plan.of(ChangeKind.REMOVE))


def test_the_plan_id_names_exactly_a_set_of_removals() -> None:
    ids = {plan_id(removing(*numbers)) for numbers in ((5,), (6,), (5, 6), (5, 6, 7), ())}
    assert len(ids) == 5
    assert plan_id(removing(5, 6)) == plan_id(removing(6, 5))
    assert len(plan_id(removing(5))) == 32, "128 bits"


def test_the_plan_id_does_not_change_with_what_is_not_removed() -> None:
    base = [off(n) for n in range(5, 9)]
    kernel = actual(dump(*(peer(n) for n in range(5, 12))))
    plain = planned([*base, row(9), row(10), row(11)], kernel)
    more = planned([*base, row(9, address=address(90)), row(10), row(11), row(12)], kernel)
    later = planned(
        [row(11), row(10), row(9), *base[::-1]], actual(dump(*(peer(n, keepalive=25) for n in range(5, 12))))
    )
    assert plan_id(plain) == plan_id(more) == plan_id(later)
    here = Plan((Change(ChangeKind.REMOVE, "wg0", key(5), peer(5), None),), 1, {})
    there = Plan((Change(ChangeKind.REMOVE, "wg1", key(5), peer(5), None),), 1, {})
    assert plan_id(here) != plan_id(there)


def test_who_gets_anothers_address_is_told_from_whom() -> None:
    """The cases are an added peer, an updated peer, a swap, and an address that a foreign peer had."""
    kernel = actual(dump(peer(5), peer(6), peer(7), peer(99, address(8)), peer(9)))
    rows = [off(5), row(10, address=address(5)), row(6, address=address(7)), row(7, address=address(6)),
            row(8), row(9, address=address(90))]  # fmt: skip
    plan = planned(rows, kernel, records(*(record(n) for n in (5, 6, 7, 9))))
    told = {c.row_id: wording.change(c) for c in plan.changes if c.kind is not ChangeKind.REMOVE}
    assert told == {
        10: "address moved from 0001-DEV-005",
        6: f"address {address(6)}/32 -> {address(7)}/32, address moved from 0001-DEV-007",
        7: f"address {address(7)}/32 -> {address(6)}/32, address moved from 0001-DEV-006",
        8: "address moved from a foreign peer",
        9: f"address {address(9)}/32 -> {address(90)}/32",
    }


def test_desired_of_an_unknown_interface_is_nothing() -> None:
    assert wants([row(5)], {}).peers == {"wg0": {key(5): wants([row(5)], {}).peers["wg0"][key(5)]}, "wg1": {}}
