"""A device may have several addresses, IPv4 and IPv6: each one is checked, and one that is bad or taken rejects it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import (
    EPOCH,
    NOW,
    POLICY,
    SITES,
    actual,
    address,
    calendar,
    dump,
    key,
    nets,
    peer,
    planned,
    record,
    records,
    row,
    state,
    text,
    with_last,
)
from wgsyncd.core.inspect.adopt import Match, adopt
from wgsyncd.core.inspect.explain import explain, find_rows
from wgsyncd.core.inspect.verify import check_kernel
from wgsyncd.core.model import ChangeKind, DeviceId, DeviceRow, InterfaceState, Status
from wgsyncd.core.network import parse_host, parse_network
from wgsyncd.core.peers.desired import Desired, build_desired
from wgsyncd.core.peers.guard import Decision, RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.recording import intents, outcomes
from wgsyncd.core.reasons import Reason
from wgsyncd.core.state import InterfaceCheckpoint, NodeState
from wgsyncd.core.usage import posting

V6 = "fd00:200::"
BOTH = (
    replace(SITES[0], networks=(*SITES[0].networks, parse_network("fd00:200::/64")),
            own_hosts=SITES[0].own_hosts | {parse_host(f"{V6}1")}),
    SITES[1],
)  # fmt: skip
MARK = {"wg0": InterfaceCheckpoint(EPOCH, NOW)}


def two(number: int, *others: str, **changes: object) -> DeviceRow:
    """A row with the IPv4 address ``number``, and with ``others`` or the IPv6 address with this number."""
    return row(number, addresses=(address(number), *(others or (f"{V6}{number}",))), **changes)


def both(number: int, *more: str) -> tuple[str, ...]:
    return (address(number), f"{V6}{number}", *more)


def want(rows: list[DeviceRow], kernel: dict[str, InterfaceState] | None = None) -> Desired:
    return build_desired(rows, BOTH, POLICY, kernel if kernel is not None else actual(dump()), NOW)


def rejected(desired: Desired) -> dict[DeviceId, tuple[Reason, str, str]]:
    return {one.row_id: (one.reason, one.facts.value, one.facts.holder) for one in desired.rejections}


def decide(rows: list[DeviceRow], kernel: dict[str, InterfaceState]) -> Decision:
    desired = want(rows, kernel)
    return apply_guard(desired, make_plan(desired, kernel, records(), POLICY), kernel, RemovalLimits(9, 1.0, 3), None)


def test_a_peer_gets_every_address_of_its_row() -> None:
    desired = want([two(5)])
    assert desired.peers["wg0"][key(5)].config.allowed_ips == nets("10.200.0.5/32", "fd00:200::5/128")


@pytest.mark.parametrize("order", list(permutations([address(5), f"{V6}5", f"{V6}50"])))
def test_the_order_of_the_addresses_does_not_matter(order: tuple[str, ...]) -> None:
    kernel = actual(dump(peer(5, *both(5, f"{V6}50"))))
    assert not decide([row(5, addresses=order)], kernel).plan.changes


def test_an_address_that_is_named_twice_counts_once() -> None:
    desired = want([row(5, addresses=(address(5), f"{address(5)}/32"))])
    assert desired.peers["wg0"][key(5)].config.allowed_ips == nets("10.200.0.5/32")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("junk", Reason.BAD_ADDRESS),
        ("", Reason.BAD_ADDRESS),
        ("fd00:200::/64", Reason.BAD_ADDRESS),
        ("fd00:201::5", Reason.ADDRESS_OUTSIDE),
        ("fd00:200::1", Reason.INTERFACE_ADDRESS),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_one_bad_address_rejects_the_row_and_is_named(bad: str, reason: Reason, first: bool) -> None:
    addresses = (bad, address(5)) if first else (address(5), bad)
    kernel = actual(dump(peer(5)))
    desired = want([row(5, addresses=addresses)], kernel)
    assert rejected(desired) == {5: (reason, bad, "")}
    assert desired.frozen["wg0"] == {key(5)}, "its peer stays as it is"


def test_a_row_without_any_address_is_rejected() -> None:
    assert rejected(want([row(5, addresses=())])) == {5: (Reason.BAD_ADDRESS, "", "")}


@pytest.mark.parametrize("turned", [False, True])
def test_a_conflict_about_the_second_address_only(turned: bool) -> None:
    """The lowest id wins, and the rejection names the address that both rows have."""
    rows = [two(5), two(6, f"{V6}5")]
    desired = want(rows[::-1] if turned else rows)
    assert rejected(desired) == {6: (Reason.DUPLICATE_ADDRESS, f"{V6}5", "0001-DEV-005")}
    assert set(desired.peers["wg0"]) == {key(5)}


def test_the_live_holder_of_a_contested_address_keeps_it() -> None:
    kernel = actual(dump(peer(6, *both(6)), peer(5)))
    desired = want([two(5, f"{V6}6"), two(6)], kernel)
    assert rejected(desired) == {5: (Reason.DUPLICATE_ADDRESS, f"{V6}6", "0001-DEV-006")}
    assert desired.frozen["wg0"] == {key(5)}, "the rejected row keeps the peer that it had"


def test_a_rejected_claim_takes_part_in_no_other_conflict() -> None:
    """5 wins an address of 6. So 6 gets no peer, and does not take the address from 7."""
    desired = want([two(5), two(6, f"{V6}5", f"{V6}7"), two(7)])
    assert rejected(desired) == {6: (Reason.DUPLICATE_ADDRESS, f"{V6}5", "0001-DEV-005")}
    assert set(desired.peers["wg0"]) == {key(5), key(7)}


def test_the_second_address_of_a_frozen_peer_is_taken() -> None:
    kernel = actual(dump(peer(5, *both(5))))
    desired = want([row(5, addresses=("junk",)), two(6, f"{V6}5")], kernel)
    assert rejected(desired)[6] == (Reason.DUPLICATE_ADDRESS, f"{V6}5", "")


def test_an_added_address_is_an_update_and_its_record_says_so() -> None:
    kernel = actual(dump(peer(5)))
    decision = decide([two(5)], kernel)
    (change,) = decision.plan.changes
    assert (change.kind, change.sets_allowed_ips, change.sets_preshared_key) == (ChangeKind.UPDATE, True, False)
    after = actual(dump(peer(5, *both(5))))
    (batch,) = with_last(outcomes(NodeState(1, records(record(5)), MARK, frozenset()), after, decision.desired, NOW))
    assert [one.address for one in batch.records] == ["10.200.0.5/32,fd00:200::5/128"]
    assert [one.action for one in batch.audit] == ["peer_updated"]
    assert not decide([two(5)], after).plan.changes


def test_an_address_that_moves_between_devices_makes_no_conflict() -> None:
    """5 loses its second address, and 6 gets it."""
    kernel = actual(dump(peer(5, *both(5)), peer(6)))
    plan = decide([row(5), two(6, f"{V6}5")], kernel).plan
    assert [(one.kind, one.row_id, one.reason.address_from) for one in plan.changes] == [
        (ChangeKind.UPDATE, 5, ()), (ChangeKind.UPDATE, 6, ("0001-DEV-005",))
    ]  # fmt: skip


def test_a_record_before_an_addition_has_both_addresses() -> None:
    decision = decide([two(5)], actual(dump()))
    writes = intents(NodeState(1, records(), MARK, frozenset()), decision.plan.changes, actual(dump()), decision.desired,
                     NOW)  # fmt: skip
    assert [one.address for one in writes.records] == ["10.200.0.5/32,fd00:200::5/128"]


def test_adopting_a_peer_with_two_addresses() -> None:
    kernel = actual(dump(peer(5, *both(5)), peer(6)))
    decision = decide([two(5), two(6)], kernel)
    found = adopt(decision, records(), [two(5), two(6)])["wg0"]
    assert [(one.device, one.match) for one in found.peers] == [
        ("0001-DEV-005", Match.MATCHES), ("0001-DEV-006", Match.DIFFERS)
    ]  # fmt: skip


def test_verifying_a_peer_with_two_addresses() -> None:
    kernel = actual(dump(state(peer(5, *both(5)), 100, 10, 1)))
    known = NodeState(1, records(), MARK, frozenset())
    assert [one.device for one in check_kernel(kernel, known, want([two(5)], kernel))] == ["0001-DEV-005"]
    posted = posting.post(kernel, known, calendar(NOW), since={}, max_rates={}, rows={key(5): two(5)}).writes
    assert not list(check_kernel(kernel, known.after(posted), want([two(5)], kernel)))


def test_explaining_names_the_holder_of_each_address() -> None:
    kernel = actual(dump(peer(6, *both(6)), peer(99, f"{V6}5")))
    rows = [row(5, addresses=(address(6), f"{V6}5", "junk"), public_key=text(5)), two(6)]
    known = NodeState(1, records(record(6)), MARK, frozenset())
    told = explain(rows[0], decide(rows, kernel), known, {"wg0": "wg0"}, frozenset(), NOW)
    assert told.address_holders == {"10.200.0.6": "0001-DEV-006", "fd00:200::5": ""}


def test_a_row_is_found_by_each_of_its_addresses() -> None:
    rows = [two(5), two(6), row(7, addresses=("junk", address(7)))]
    assert [find_rows(one, rows) for one in (f"{V6}6", address(5), address(7))] == [[rows[1]], [rows[0]], [rows[2]]]


def test_a_revoked_row_gives_up_all_its_addresses() -> None:
    kernel = actual(dump(peer(5, *both(5))))
    plan = planned([row(5, addresses=both(5), status=Status.OFF)], kernel, records(record(5)))
    assert [(one.kind, one.row_id) for one in plan.changes] == [(ChangeKind.REMOVE, 5)]


CLAIMS = st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=3), min_size=1, max_size=5)


@given(CLAIMS, st.lists(st.lists(st.integers(2, 6), max_size=2), max_size=5), st.randoms(use_true_random=False))
def test_no_two_peers_get_one_address_and_the_order_is_irrelevant(claims: list[list[int]], live: list[list[int]],
                                                                  random: object) -> None:  # fmt: skip
    rows = [row(10 + n, addresses=tuple(map(address, some))) for n, some in enumerate(claims)]
    left = list(range(2, 7))
    peers = []
    for n, some in enumerate(live[: len(rows)]):
        own = [left.pop(left.index(a)) for a in set(some) if a in left]
        peers.append(peer(10 + n, *(f"{address(a)}/32" for a in own)) if own else peer(10 + n, address(200 + n)))
    kernel = actual(dump(*peers))
    desired = want(rows, kernel)
    given_out = [net for one in desired.peers["wg0"].values() for net in one.config.allowed_ips]
    assert len(given_out) == len(set(given_out))
    frozen = {net for k in desired.frozen["wg0"] for net in kernel["wg0"].peers[k].config.allowed_ips}
    assert not frozen & set(given_out)
    turned = [replace(one, addresses=one.addresses[::-1]) for one in reversed(rows)]
    again = want(turned, kernel)
    assert set(again.peers["wg0"]) == set(desired.peers["wg0"])
    assert {one.row_id for one in again.rejections} == {one.row_id for one in desired.rejections}
