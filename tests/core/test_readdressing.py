"""Each device gets its neighbour's address, and the first peer of the chain stays.

A search that starts again after each find takes a minute for 10,000 devices.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.samples import NOW, actual, dump, key, peer, planned, record, records, row, wants
from wgsyncd.core.model import Change, ChangeKind, DeviceRow, Status
from wgsyncd.core.network import parse_host, parse_network
from wgsyncd.core.peers.desired import PeerPolicy, build_desired
from wgsyncd.core.peers.guard import RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import Plan, make_plan
from wgsyncd.core.peers.validate import InterfaceSpec
from wgsyncd.core.reasons import Reason

MANY = 10_000
WIDE = (InterfaceSpec("wg0", "wg0", (parse_network("10.0.0.0/8"),), frozenset()),)


def host(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def readdressed(count: int) -> list[DeviceRow]:
    """Row n has the address of row n - 1. Row 2 keeps its own address, too."""
    return [row(2, addresses=(host(2),)), *(row(n, addresses=(host(n - 1),)) for n in range(3, count + 2))]


def test_one_frozen_row_rejects_the_whole_chain_at_once() -> None:
    kernel = actual(dump(*(peer(n, host(n)) for n in range(2, MANY + 2))))
    rows = readdressed(MANY)
    rows[0] = row(2, addresses=("junk",))
    desired = build_desired(rows, WIDE, PeerPolicy(), kernel, NOW)
    assert [one.row_id for one in desired.rejections] == list(range(2, MANY + 2))
    assert {one.reason for one in desired.rejections[1:]} == {Reason.DUPLICATE_ADDRESS}
    assert desired.frozen["wg0"] == kernel["wg0"].peers.keys()


def test_a_withheld_removal_holds_the_whole_chain_at_once() -> None:
    kernel = actual(dump(*(peer(n, host(n)) for n in range(2, MANY + 2))))
    rows = readdressed(MANY)
    rows[0] = row(2, addresses=(host(2),), status=Status.OFF)
    desired = build_desired(rows, WIDE, PeerPolicy(), kernel, NOW)
    plan = make_plan(desired, kernel, records(), PeerPolicy())
    decision = apply_guard(desired, plan, kernel, RemovalLimits(0, 0.0, 0), None)
    assert decision.is_withholding
    assert len(decision.plan.withheld) == MANY
    assert decision.plan.changes == ()


def in_rounds(plan: Plan, held: list[Change]) -> set[Change]:
    """The changes that are held back, found in rounds, as the rule of :meth:`Plan.withhold` says it."""
    going = [c for c in plan.changes if c not in held]
    while True:
        taken = {(c.interface, net) for c in held if c.current for net in c.current.allowed_ips}
        keys = {c.public_key for c in held if c.kind is ChangeKind.REMOVE}
        absent = {c.public_key for c in held if c.kind is ChangeKind.ADD}
        more = [
            c
            for c in going
            if (c.desired is None and c.public_key in absent)
            or (c.kind is ChangeKind.ADD and c.public_key in keys)
            or (c.desired and c.sets_allowed_ips and any((c.interface, n) in taken for n in c.desired.allowed_ips))
        ]
        if not more:
            return set(held)
        held, going = held + more, [c for c in going if c not in more]


ADDRESSES = st.lists(st.integers(2, 9), min_size=8, max_size=8)
PLACES = st.lists(st.sampled_from(["wg0", "wg1"]), min_size=8, max_size=8)


@given(ADDRESSES, PLACES, st.sets(st.integers(2, 9)), st.sets(st.integers(0, 20)))
def test_what_depends_on_a_change_is_held_however_it_is_found(
    hosts: list[int], places: list[str], off: set[int], chosen: set[int]
) -> None:
    kernel = actual(dump(*(peer(n) for n in range(2, 10))), dump(name="wg1"))
    rows = [
        row(n, interface=place, address=f"10.{200 if place == 'wg0' else 251}.0.{host}",
            status=Status.OFF if n in off else Status.ACTIVE)
        for n, host, place in zip(range(2, 10), hosts, places, strict=True)
    ]  # fmt: skip
    plan = planned(rows, kernel, records(*(record(n) for n in range(2, 10))))
    held = [c for number, c in enumerate(plan.changes) if number in chosen]
    after = plan.withhold(lambda c: c in held)
    assert set(after.withheld) == in_rounds(plan, held)
    assert len(after.withheld) + len(after.changes) == len(plan.changes)


@given(ADDRESSES, st.sets(st.integers(2, 9)), st.sets(st.integers(2, 9), max_size=2))
def test_no_accepted_row_has_the_address_of_a_peer_that_stays(hosts: list[int], junk: set[int], kept: set[int]) -> None:
    kernel = actual(dump(*(peer(n) for n in range(2, 10))))
    rows = [
        row(n, address="junk" if n in junk else f"10.200.0.{host}") for n, host in zip(range(2, 10), hosts, strict=True)
    ]
    desired = wants(rows, kernel, policy=PeerPolicy(always_keep=frozenset(map(key, kept))))
    stay = desired.frozen["wg0"] | set(map(key, kept))
    taken = {net for one in stay for net in kernel["wg0"].peers[one].config.allowed_ips}
    accepted = desired.peers["wg0"]
    assert not any(net in taken for one in accepted.values() for net in one.config.allowed_ips)
    assert accepted.keys().isdisjoint(stay)
    assert len(accepted) + len({one.row_id for one in desired.rejections}) == 8
    # Nobody is rejected without a reason: the address belongs to another row, or to a peer that stays.
    for one in desired.rejections:
        if one.reason is Reason.DUPLICATE_ADDRESS:
            net = parse_host(one.facts.value)
            assert net in taken or any(net in other.config.allowed_ips for other in accepted.values())
