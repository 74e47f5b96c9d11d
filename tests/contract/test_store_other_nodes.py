"""A store tells rows of this node, rows of other nodes and rows that moved between them apart."""

from __future__ import annotations

from tests.samples import calendar, record
from tests.store_sides import AnyTables
from wgsyncd.core.state import WriteBatch
from wgsyncd.ports import Store

THEIRS = "osaka0"


def own_store(tables: AnyTables) -> Store:
    return tables.store(ignored=(THEIRS, "osaka1"))


def ids(store: Store) -> list[object]:
    return [row.id for row in store.snapshot().rows]


def keep_record(tables: AnyTables, store: Store, number: int) -> None:
    """The node has a peer of the device with this number, and a record of the peer."""
    writes = WriteBatch(records=(record(number, row_id=tables.id(number)),))
    store.commit(store.load_state(calendar()), writes, calendar())


def test_rows_of_other_nodes_are_left_out(any_tables: AnyTables) -> None:
    for number, interface in ((5, "wg0"), (6, THEIRS), (7, "osaka9"), (8, "Osaka0"), (9, "osaka0 "), (10, "")):
        any_tables.insert(number)
        any_tables.move(number, interface)
    assert ids(own_store(any_tables)) == [any_tables.id(number) for number in (5, 7, 8, 9, 10)]


def test_a_row_that_moved_to_another_node_is_told_from_a_deleted_one(any_tables: AnyTables) -> None:
    store = own_store(any_tables)
    for number in (5, 6, 7):
        any_tables.insert(number)
        any_tables.move(number, "wg0")
        keep_record(any_tables, store, number)
    assert store.snapshot().moved == {}
    any_tables.move(5, THEIRS)
    any_tables.delete(6)
    seen = store.snapshot()
    assert [row.id for row in seen.rows] == [any_tables.id(7)]
    assert seen.moved == {any_tables.id(5): THEIRS}
    assert own_store(any_tables).snapshot().moved == seen.moved, "a new process knows it too"
    any_tables.move(5, "wg1")
    assert (ids(store), store.snapshot().moved) == ([any_tables.id(5), any_tables.id(7)], {})


def test_a_row_that_was_never_here_has_not_moved(any_tables: AnyTables) -> None:
    store = own_store(any_tables)
    any_tables.insert(5)
    any_tables.move(5, THEIRS)
    store.load_state(calendar())
    assert (ids(store), store.snapshot().moved) == ([], {})
