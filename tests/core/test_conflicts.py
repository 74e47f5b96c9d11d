"""Of several claims to one key or address exactly one is accepted, and the others are rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.samples import (
    DELETED,
    NOW,
    POLICY,
    SITES,
    actual,
    address,
    dump,
    key,
    peer,
    record,
    records,
    row,
    text,
    wants,
)
from wgsyncd.core.model import ChangeKind, DeviceId, DeviceRow, Status
from wgsyncd.core.network import parse_network
from wgsyncd.core.peers.desired import Desired, PeerPolicy, build_desired
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.validate import InterfaceSpec
from wgsyncd.core.reasons import Reason
from wgsyncd.core.records import PeerRecords
from wgsyncd.engine import wording


def followed(desired: Desired) -> set[DeviceId]:
    return {want.row.id for peers in desired.peers.values() for want in peers.values()}


def reasons(desired: Desired) -> dict[DeviceId, Reason]:
    return {one.row_id: one.reason for one in desired.rejections}


def both_orders(build: Callable[[list[DeviceRow]], Desired], rows: list[DeviceRow]) -> Desired:
    first, second = build(rows), build(rows[::-1])
    assert reasons(first) == reasons(second)
    assert followed(first) == followed(second)
    return first


def test_of_two_rows_that_want_one_address_the_lowest_id_has_it() -> None:
    rows = [row(5, address="10.200.0.9"), row(6, address="10.200.0.9/32")]
    assert followed(both_orders(wants, rows)) == {5}


def test_of_two_rows_that_want_one_address_the_live_one_keeps_it() -> None:
    rows = [row(5, address="10.200.0.9"), row(6, address="10.200.0.9/32")]
    kernel = actual(dump(peer(6, "10.200.0.9/32")))
    desired = both_orders(lambda some: wants(some, kernel), rows)
    assert followed(desired) == {6}
    assert reasons(desired) == {5: Reason.DUPLICATE_ADDRESS}


def test_live_with_another_address_is_not_live_with_this_one() -> None:
    kernel = actual(dump(peer(6, "10.200.0.10/32")))
    rows = [row(5, address="10.200.0.9"), row(6, address="10.200.0.9")]
    desired = wants(rows, kernel)
    assert followed(desired) == {5}
    assert desired.frozen["wg0"] == {key(6)}


def test_of_two_rows_that_want_one_key_the_live_one_keeps_it_and_its_peer_is_not_frozen() -> None:
    rows = [row(5, public_key=text(9)), row(6, public_key=text(9))]
    kernel = actual(dump(peer(9, address(6))))
    desired = both_orders(lambda some: wants(some, kernel), rows)
    assert followed(desired) == {6}
    assert desired.frozen["wg0"] == frozenset()
    assert followed(wants(rows)) == {5}


def test_the_same_address_on_two_interfaces_is_no_conflict() -> None:
    wide = tuple(InterfaceSpec(name, name, (parse_network("10.0.0.0/8"),), frozenset()) for name in ("wg0", "wg1"))
    rows = [row(5, address="10.1.1.1"), row(6, interface="wg1", address="10.1.1.1")]
    assert followed(wants(rows, sites=wide)) == {5, 6}


def test_an_ended_row_gives_its_address_free() -> None:
    rows = [row(5, status=Status.OFF, address="10.200.0.9"), row(6, address="10.200.0.9")]
    assert followed(wants(rows, actual(dump(peer(5, "10.200.0.9/32"))))) == {6}


def test_a_claim_to_a_frozen_peers_address_is_rejected_and_so_on_down_the_chain() -> None:
    """5 is frozen on .6, so 6, which moves to .6, is frozen on .7. Row 7 then cannot move to .7, and so on."""
    length = 30
    kernel = actual(dump(*(peer(n, address(n + 1)) for n in range(5, 5 + length))))
    rows = [row(5, address="nonsense"), *(row(n, address=address(n)) for n in range(6, 5 + length))]
    desired = both_orders(lambda some: wants(some, kernel), rows)
    assert reasons(desired) == {5: Reason.BAD_ADDRESS} | dict.fromkeys(range(6, 5 + length), Reason.DUPLICATE_ADDRESS)
    assert desired.frozen["wg0"] == {key(n) for n in range(5, 5 + length)}
    assert followed(wants([row(5, address=address(200)), *rows[1:]], kernel)) == set(range(5, 5 + length))


def test_two_that_swap_beside_a_frozen_one_are_not_touched_by_it() -> None:
    kernel = actual(dump(peer(5), peer(6), peer(7)))
    rows = [row(5, address=address(6)), row(6, address=address(5)), row(7, address="?")]
    assert followed(wants(rows, kernel)) == {5, 6}


@pytest.mark.parametrize(("foreign", "wanted"), [("remove", {5}), ("keep", set()), ("report", set())])
def test_an_address_that_a_kept_foreign_peer_holds(foreign: str, wanted: set[DeviceId]) -> None:
    desired = wants([row(5)], actual(dump(peer(99, address(5)))), policy=PeerPolicy(foreign=foreign))
    assert followed(desired) == wanted
    assert reasons(desired) == dict.fromkeys({5} - wanted, Reason.DUPLICATE_ADDRESS)


def test_what_is_always_kept_keeps_its_address_and_key() -> None:
    policy = PeerPolicy(always_keep=frozenset((key(99),)))
    kernel = actual(dump(peer(99, address(5))))
    desired = wants([row(5), row(6, public_key=text(99)), row(7)], kernel, policy=policy)
    assert followed(desired) == {7}
    assert reasons(desired) == {5: Reason.DUPLICATE_ADDRESS, 6: Reason.DUPLICATE_KEY}


def test_unreadable_keys_are_counted_where_the_row_wants_a_peer() -> None:
    rows = [row(5, public_key="?"), row(6, public_key=None), row(7, public_key="?", inactive=DELETED), row(8)]
    assert wants(rows).unreadable_keys == 2


def test_a_key_that_a_good_row_wants_is_not_revoked_by_an_old_one() -> None:
    for rows in (
        [row(5, inactive=DELETED), row(6, public_key=text(5))],
        [row(6, public_key=text(5)), row(5, inactive=DELETED)],
    ):
        desired = wants(rows)
        assert followed(desired) == {6}
        assert key(5) not in desired.revoked


def test_a_row_that_comes_twice_is_not_its_own_rival() -> None:
    """A snapshot contains a row twice if the contract query returns its owner twice."""
    kernel = actual(dump(peer(5)))
    desired = wants([row(5), row(5)], kernel)
    assert followed(desired) == {5}
    assert not desired.rejections
    assert not make_plan(desired, kernel, PeerRecords(), POLICY).changes


@pytest.mark.parametrize(
    ("bad", "other"), [({"preshared_key": "junk"}, {}), ({"address": address(6)}, {}),
                       ({"address": address(6)}, {"preshared_key": "junk"})],
    ids=["rejected", "taken address", "address of a frozen peer"],
)  # fmt: skip
def test_a_row_id_that_was_used_again_keeps_no_peer_of_the_former_device(
    bad: dict[str, Any], other: dict[str, Any]
) -> None:
    """The former device would stay connected for as long as the new one is rejected."""
    rows = [row(5, device="0002-DEV-001", public_key=text(50), **bad), row(6, **other)]
    kernel, known = actual(dump(peer(5), peer(6))), records(record(5), record(6))
    desired = build_desired(rows, SITES, POLICY, kernel, NOW, known.by_device)
    assert 5 in reasons(desired)
    plan = make_plan(desired, kernel, known, POLICY)
    assert [(c.kind, c.public_key, wording.change(c)) for c in plan.changes] == [
        (ChangeKind.REMOVE, key(5), "row is gone")
    ]
