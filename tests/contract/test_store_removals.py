"""A store keeps the guard's memory, in the transaction that records the removals."""

from __future__ import annotations

import pytest

from tests.samples import NOW, calendar
from tests.store_sides import AnyTables
from wgsyncd.core.state import MEMORY, Removal, WriteBatch
from wgsyncd.errors import RevisionConflict
from wgsyncd.ports import Store


def removals(store: Store, now: float) -> tuple[Removal, ...]:
    return store.load_state(calendar(now)).removals


def add(store: Store, one: Removal) -> tuple[Removal, ...]:
    state = store.load_state(calendar(one.at))
    return store.commit(state, WriteBatch(removals=(one,)), calendar(one.at)).node_state.removals


def test_the_memory_is_the_same_after_a_restart_and_ends_after_an_hour(any_tables: AnyTables, any_store: Store) -> None:
    first, second = Removal(NOW, 12, 3, 60), Removal(NOW + 1800, 1, 1, 48)
    add(any_store, first)
    assert add(any_store, second) == (first, second)
    another = any_tables.store()
    assert removals(another, NOW + MEMORY) == (first, second)
    assert removals(another, NOW + MEMORY + 1) == (second,)
    third = Removal(NOW + MEMORY + 2, 2, 0, 47)
    assert add(another, third) == (second, third) == removals(any_store, NOW + MEMORY + 2)


def test_a_removal_of_the_future_happened_now(any_store: Store) -> None:
    add(any_store, Removal(NOW + 86400, 5, 0, 60))
    assert removals(any_store, NOW) == (Removal(NOW, 5, 0, 60),)
    later = Removal(NOW + 10, 1, 0, 55)
    assert add(any_store, later) == (Removal(NOW + 10, 5, 0, 60), later)
    assert removals(any_store, NOW + 11) == (Removal(NOW + 10, 5, 0, 60), later)


def test_a_refused_transaction_is_not_remembered(any_store: Store) -> None:
    state = any_store.load_state(calendar(NOW))
    add(any_store, Removal(NOW, 1, 0, 60))
    with pytest.raises(RevisionConflict):
        any_store.commit(state, WriteBatch(removals=(Removal(NOW, 7, 0, 60),)), calendar(NOW))
    assert removals(any_store, NOW) == (Removal(NOW, 1, 0, 60),)
