"""The digest changes with everything that a plan depends on, and with nothing that wgsyncd counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node import local
from tests.samples import EPOCH, NOW, calendar, device_name, record, text
from tests.store_sides import MikyunTables, RealMikyunTables
from wgsyncd.core.model import Transition
from wgsyncd.core.peers.row_digest import SEPARATOR, changed_devices
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import Allocation, InterfaceCheckpoint, Posting, WriteBatch
from wgsyncd.ports import Store

MATTERS: dict[str, Any] = {"wg_iface": "wg1", "wg_ip": "10.200.0.9", "public_key": text(9), "preshared_key": "p",
                           "status": "paused", "is_parent": 1, "qr_expires_at": local(NOW + 900), "issued_at": local(NOW),
                           "deleted_at": local(NOW), "contract_id": "0002", "device_id": "other",
                           "activated_at": local(NOW), "first_handshake_at": local(NOW),
                           "last_handshake_at": local(NOW)}  # fmt: skip


@pytest.mark.parametrize("column", MATTERS)
def test_the_digest_changes_with_what_a_plan_depends_on_and_back(
    tables: MikyunTables, store: Store, column: str
) -> None:
    for number in (5, 6):
        tables.insert(number, wg_ip=f"10.200.0.{number}")
    first, before = store.digest(), tables.device(5)[column]
    tables.update(5, **{column: MATTERS[column]})
    assert store.digest() != first
    tables.update(5, **{column: before})
    assert store.digest() == first


@pytest.mark.parametrize("column", ["first_handshake_at", "last_handshake_at"])
def test_the_digest_of_an_active_device_says_whether_it_had_a_handshake(
    tables: MikyunTables, store: Store, column: str
) -> None:
    tables.insert(5, status="active", **{column: local(NOW)})
    before = store.digest()
    tables.update(5, **{column: local(NOW + 60)})
    assert store.digest() == before
    tables.update(5, **{column: None})
    assert store.digest() != before


@pytest.mark.parametrize("column", ["wg_iface", "wg_ip", "public_key", "preshared_key"])
def test_the_digest_tells_no_value_from_every_text(tables: MikyunTables, store: Store, column: str) -> None:
    tables.insert(5)
    seen = list[object]()
    for value in (None, "", "~", "NULL"):
        tables.update(5, **{column: value})
        seen.append(str(store.digest()))
    assert len(set(seen)) == len(seen)


def test_the_digest_changes_with_rows_contracts_and_approvals(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    store.load_state(calendar())
    seen = [store.digest()]
    tables.insert(6)
    seen.append(store.digest())
    tables.contract("0001", "paused")
    seen.append(store.digest())
    store.approve("0123456789ab")
    seen.append(store.digest())
    tables.delete(6)
    seen.append(store.digest())
    assert len({str(one) for one in seen}) == len(seen)


def test_the_digest_does_not_change_with_our_own_counting(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, status="active", public_key=text(5), last_handshake_at=local(NOW - 60))
    (one,) = store.snapshot().rows
    store.load_state(calendar())
    before = store.digest()
    posted = Posting(5, device_name(5), (Allocation(int(NOW), calendar().day(NOW), 70, 7),), NOW)
    step = Transition(one, TransitionKind.FIRST_HANDSHAKE, NOW)
    writes = WriteBatch(
        (posted,), (record(5),), checkpoints={"wg0": InterfaceCheckpoint(EPOCH, 1.0)}, transitions=((step, None),)
    )
    assert store.commit(store.load_state(calendar()), writes, calendar())[1] == {5}
    store.refresh(calendar(NOW + 40 * 86400))
    tables.update(5, rx_bytes_total=0, last_handshake_at=None)
    assert store.digest() == before


def test_two_digests_name_the_devices_with_changed_rows(tables: MikyunTables, store: Store) -> None:
    for number in (5, 6, 7):
        tables.insert(number, wg_ip=f"10.200.0.{number}")
    before = store.digest()
    assert changed_devices(before, store.digest()) == frozenset()
    tables.update(5, status="paused")
    tables.delete(6)
    tables.insert(8)
    now = store.digest()
    assert changed_devices(before, now) == frozenset(map(device_name, (5, 6, 8)))
    tables.contract("0001", "paused")
    assert changed_devices(now, store.digest()) == frozenset(map(device_name, (5, 7, 8))), "those of the contract"


def test_a_new_contract_concerns_its_own_devices_alone(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    before = store.digest()
    tables.contract("0009", "active")
    tables.insert(6, contract_id="0009")
    assert changed_devices(before, store.digest()) == frozenset((device_name(6),))


def test_a_separator_in_a_name_hides_no_change(real_tables: RealMikyunTables) -> None:
    odd = f"{device_name(5)}{SEPARATOR}1"
    real_tables.insert(5)
    real_tables.insert(6, device_id=odd, wg_ip="10.200.0.6")
    store = real_tables.store()
    before = store.digest()
    real_tables.update(6, status="paused")
    changed = changed_devices(before, store.digest())
    assert changed is None or odd in changed


def test_an_approval_concerns_more_than_some_devices(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    store.load_state(calendar())
    before = store.digest()
    store.approve("0123456789ab")
    assert changed_devices(before, store.digest()) is None


def test_rows_that_do_not_fit_into_one_value_are_in_the_digest(real_tables: RealMikyunTables) -> None:
    for number in (5, 6, 7):
        real_tables.insert(number, wg_ip=f"10.200.0.{number}")
    store = real_tables.store()
    store.digest()
    store._connection.execute("SET SESSION group_concat_max_len = 64")
    before = store.digest()
    real_tables.update(7, wg_ip="10.200.0.99")
    now = store.digest()
    assert now != before
    assert changed_devices(before, now) is None
    real_tables.update(7, wg_ip="10.200.0.7")
    assert store.digest() == before
