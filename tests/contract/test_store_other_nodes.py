"""A store reads the rows of its node and of no other node, and finds each row that comes or leaves."""

from __future__ import annotations

import random
from contextlib import closing
from uuid import uuid4

import pymysql
import pytest

from tests.samples import calendar
from tests.store_sides import AnyTables, RealMikyunTables
from tests.two_nodes import THEIRS, commit, here, ids, insert, keep_record, later, there
from wgsyncd.demo.mariadb import DATABASE, PrivateServer
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun import own_rows, rows

MANY = range(20, 30)  # rows that are newer than those of a test, so that a test's rows are none of the newest


@pytest.fixture(autouse=True, params=[3, -1], ids=["ranges", "list"])
def small_margins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store on MariaDB looks again at few rows only, has small pages, and names ids in either of its ways."""
    monkeypatch.setattr(own_rows, "RECENT", 3)
    monkeypatch.setattr(own_rows, "_BRIDGE", request.param)
    monkeypatch.setattr(own_rows, "_MOST_RANGES", 2)
    monkeypatch.setattr(rows, "_PAGE", 3)


def test_rows_of_other_nodes_are_left_out(any_tables: AnyTables) -> None:
    for number, interface in ((5, "wg0"), (6, THEIRS), (7, "osaka9"), (8, "Osaka-wg0"), (9, "osaka-wg0 "), (10, "")):
        insert(any_tables, number, interface=interface)
    assert ids(here(any_tables)) == [any_tables.id(number) for number in (5, 7, 8, 9, 10)]


def test_a_row_that_moved_to_another_node_is_told_from_a_deleted_one(any_tables: AnyTables) -> None:
    store = here(any_tables)
    for number in (5, 6, 7):
        insert(any_tables, number)
        keep_record(any_tables, store, number)
    assert store.snapshot().moved == {}
    any_tables.move(5, THEIRS)
    any_tables.delete(6)
    seen = store.snapshot()
    assert [row.id for row in seen.rows] == [any_tables.id(7)]
    assert seen.moved == {any_tables.id(5): THEIRS}
    assert here(any_tables).snapshot().moved == seen.moved, "a new process knows it too"
    any_tables.move(5, "wg1")
    assert any_tables.id(5) in ids(here(any_tables))


def test_a_row_that_was_never_here_has_not_moved(any_tables: AnyTables) -> None:
    store = here(any_tables)
    insert(any_tables, 5, interface=THEIRS)
    store.load_state(calendar())
    assert (ids(store), store.snapshot().moved) == ([], {})


def test_a_new_row_is_found_and_one_of_another_node_changes_nothing(row_tables: AnyTables) -> None:
    store = here(row_tables)
    insert(row_tables, 5)
    store.snapshot()
    before = store.digest()
    insert(row_tables, 6, 7, interface=THEIRS)
    assert store.digest() == before
    assert ids(store) == [row_tables.id(5)]
    insert(row_tables, 8)
    assert store.digest() != before
    assert ids(store) == [row_tables.id(5), row_tables.id(8)]
    before = store.digest()
    assert store.digest() == before
    row_tables.delete(5)
    assert store.digest() != before
    assert ids(store) == [row_tables.id(8)]


def test_more_new_rows_than_are_looked_at_again(any_tables: AnyTables, monkeypatch: pytest.MonkeyPatch) -> None:
    store = here(any_tables)
    insert(any_tables, 5)
    store.snapshot()
    insert(any_tables, *MANY)
    assert ids(store) == [any_tables.id(number) for number in (5, *MANY)]
    monkeypatch.setattr(own_rows, "_MOST_NEW", 4)
    insert(any_tables, *range(30, 40))
    assert ids(store) == [any_tables.id(number) for number in (5, *MANY, *range(30, 40))]


def test_a_row_that_became_visible_after_newer_ones(real_tables: RealMikyunTables, mariadbd: PrivateServer) -> None:
    store = here(real_tables)
    insert(real_tables, 1)
    store.snapshot()
    with closing(pymysql.connect(**mariadbd.connect_args, database=DATABASE)) as slow, slow.cursor() as cursor:
        # The name is new, and it comes before all others. Otherwise the next INSERT would wait for this transaction.
        values = 5, "0001", f"0000-{uuid4().hex}", "wg0"
        columns = "id, contract_id, device_id, wg_iface"
        cursor.execute(f"INSERT INTO customer_devices ({columns}) VALUES (%s, %s, %s, %s)", values)
        insert(real_tables, 6, 7)
        assert ids(store) == [1, 6, 7]
        before = store.digest()
        slow.commit()
    assert store.digest() != before
    assert ids(store) == [1, 5, 6, 7]


def test_ids_that_begin_anew(any_tables: AnyTables) -> None:
    store = here(any_tables)
    insert(any_tables, *MANY)
    store.snapshot()
    store.digest()
    for number in MANY:
        any_tables.delete(number)
    insert(any_tables, *range(1, 9))
    assert ids(store) == [any_tables.id(number) for number in range(1, 9)]


def test_a_deleted_row_that_is_restored_is_found_at_once(any_tables: AnyTables) -> None:
    """It has its old id, which is none of the newest."""
    insert(any_tables, 5, 6, *MANY)
    store = here(any_tables)
    before = ids(store)
    for _ in range(2):
        any_tables.delete(5)
        for _ in range(2):
            assert any_tables.id(5) not in ids(store)
        gone = store.digest()
        insert(any_tables, 5)
        assert store.digest() != gone
        assert ids(store) == before


def test_a_row_is_handed_over_and_comes_back(any_tables: AnyTables) -> None:
    ours, theirs = here(any_tables), there(any_tables)
    insert(any_tables, 5, 6)
    insert(any_tables, *MANY, interface=THEIRS)
    keep_record(any_tables, ours, 5)
    both = [any_tables.id(5), any_tables.id(6)]
    other = [any_tables.id(number) for number in MANY]
    assert (ids(ours), ids(theirs)) == (both, other)
    before = ours.digest(), theirs.digest()
    any_tables.move(5, THEIRS)
    assert ours.digest() != before[0]
    assert (ids(ours), ours.snapshot().moved) == (both[1:], {both[0]: THEIRS})
    commit(ours)
    assert theirs.digest() != before[1]
    assert ids(theirs) == [both[0], *other]
    any_tables.move(5, "wg1")
    theirs.snapshot()
    commit(theirs)
    assert ids(ours) == both
    assert ours.snapshot().moved == {}


def test_a_row_comes_back_before_the_other_node_saw_it(any_tables: AnyTables) -> None:
    ours, theirs = here(any_tables), there(any_tables)
    insert(any_tables, 5, 6)
    insert(any_tables, *MANY, interface=THEIRS)
    for store in (ours, theirs):
        store.snapshot()
    any_tables.move(5, THEIRS)
    assert ids(ours) == [any_tables.id(6)]
    commit(ours)
    any_tables.move(5, "wg0")
    theirs.snapshot()
    commit(theirs)
    ours.snapshot()
    assert ids(ours) == [any_tables.id(5), any_tables.id(6)]


def test_a_row_that_names_no_node_is_a_row_of_every_node(
    any_tables: AnyTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = here(any_tables), there(any_tables)
    insert(any_tables, 5, 6)
    insert(any_tables, *MANY, interface=THEIRS)
    assert (ids(ours)[:2], len(ids(theirs))) == ([any_tables.id(5), any_tables.id(6)], len(MANY))
    any_tables.move(5, "")
    any_tables.move(6, "kyoto")
    before = theirs.digest()
    assert ids(ours) == [any_tables.id(5), any_tables.id(6)]
    later(monkeypatch)
    assert ids(theirs)[:2] == ids(ours)
    any_tables.move(5, THEIRS)
    assert theirs.digest() != before
    assert ids(ours) == [any_tables.id(6)]


def test_rows_moved_while_a_node_was_down(any_tables: AnyTables) -> None:
    ours, theirs = here(any_tables), there(any_tables)
    insert(any_tables, 5, 6)
    insert(any_tables, *MANY, interface=THEIRS)
    keep_record(any_tables, ours, 5)
    theirs.snapshot()
    any_tables.move(5, THEIRS)  # nobody looks
    again = here(any_tables)
    assert (ids(again), again.snapshot().moved) == ([any_tables.id(6)], {any_tables.id(5): THEIRS})
    commit(again)
    assert any_tables.id(5) in ids(theirs)


def test_the_scan_finds_what_nobody_told(any_tables: AnyTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that a row left is down for ever, and an application chooses an old id for a new row."""
    ours = here(any_tables)
    insert(any_tables, 5, *MANY)
    insert(any_tables, 6, interface=THEIRS)
    ours.snapshot()
    before = ours.digest()
    any_tables.move(6, "wg0")
    insert(any_tables, 4)
    later(monkeypatch)
    assert ours.digest() != before, "so that the next cycle plans"
    assert ids(ours) == [any_tables.id(number) for number in (4, 5, 6, *MANY)]
    assert ids(here(any_tables)) == ids(ours)


def test_a_notification_names_a_device_that_came_or_left(row_tables: AnyTables) -> None:
    ours = here(row_tables)
    insert(row_tables, 5, *MANY)
    insert(row_tables, 6, interface=THEIRS)
    ours.snapshot()
    row_tables.move(5, THEIRS)
    row_tables.move(6, "wg0")
    seen = ours.load_devices(frozenset(("0001-DEV-005", "0001-DEV-006")))
    assert seen is not None
    assert [(row.id, row.interface) for row in seen] == [(row_tables.id(5), THEIRS), (row_tables.id(6), "wg0")]
    assert ids(ours) == [row_tables.id(number) for number in (6, *MANY)]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_moves_both_nodes_find_it(real_tables: RealMikyunTables, seed: int) -> None:
    """Rows come, change and go at random. A commit of the node that a row leaves is enough for the other node."""
    ours, theirs = here(real_tables), there(real_tables)
    chance = random.Random(seed)
    where: dict[int, str] = {}
    highest = 0
    for store in (ours, theirs):
        commit(store)  # the node state belongs to the digest
    before: dict[Store, tuple[object, object]] = {store: (store.digest(), ()) for store in (ours, theirs)}
    for _ in range(30):
        for _ in range(chance.choice((0, 1, 2, 6))):
            if not where or chance.random() < 0.4:
                highest += chance.choice((1, 1, 2, 9))
                where[highest] = chance.choice(("wg0", "wg1", THEIRS, "osaka-wg1"))
                insert(real_tables, highest, interface=where[highest])
            elif chance.random() < 0.2:
                del where[gone := chance.choice(list(where))]
                real_tables.delete(gone)
            else:
                moves = chance.choice(list(where))
                where[moves] = chance.choice(("wg0", "wg1", THEIRS, "osaka-wg1"))
                real_tables.move(moves, where[moves])
        for store in (ours, theirs, ours):
            store.snapshot()
            commit(store)
        for store, prefix in ((ours, "wg"), (theirs, "osaka")):
            seen = store.snapshot()
            right = sorted(number for number, interface in where.items() if interface.startswith(prefix))
            assert [row.id for row in seen.rows] == right
            assert not seen.moved.keys() & set(right)
            last, before[store] = before[store], (store.digest(), seen.rows)
            assert (before[store][0] != last[0]) == (seen.rows != last[1])
