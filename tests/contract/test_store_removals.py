"""A store keeps the guard's memory, in the transaction that records the removals."""

from __future__ import annotations

import pytest

from tests.samples import calendar
from tests.store_sides import AnyTables
from wgsyncd.core.identity import Identity
from wgsyncd.core.state import MEMORY, Removal, WriteBatch
from wgsyncd.errors import RevisionConflict
from wgsyncd.ports import Store

UPTIME = 50_000.0
ALPHA = Identity("machine-a", "1", "boot-a", "alpha")
AGAIN = Identity("machine-a", "1", "boot-b", "alpha")
BETA = Identity("machine-b", "1", "boot-c", "beta")


def removals(store: Store) -> tuple[Removal, ...]:
    return store.load_state(calendar()).removals


def add(store: Store, one: Removal) -> tuple[Removal, ...]:
    state = store.load_state(calendar())
    writes = WriteBatch(removals=(one,), uptime=one.at)
    return store.commit(state, writes, calendar()).node_state.removals


def claim(store: Store, who: Identity, uptime: float | None) -> float:
    """Returns the time of the only removal, by the uptime of the boot that claimed the node."""
    assert store.claim(who, uptime, store.holder(), (), calendar()).done
    return removals(store)[0].at if removals(store) else 0.0


def test_the_memory_is_the_same_after_a_restart_and_ends_after_an_hour(any_tables: AnyTables, any_store: Store) -> None:
    first, second = Removal(UPTIME, 12, 3, 60), Removal(UPTIME + 1800, 1, 1, 48)
    add(any_store, first)
    assert add(any_store, second) == (first, second)
    any_store.close()  # The process ends. Two of them may not write for one node.
    another = any_tables.store()
    assert removals(another) == (first, second)
    third = Removal(UPTIME + MEMORY + 2, 2, 0, 47)
    assert add(another, third) == (second, third) == removals(any_tables.store())


def test_a_removal_of_the_future_happened_now(any_store: Store) -> None:
    add(any_store, Removal(UPTIME + 86400, 5, 0, 60))
    later = Removal(UPTIME + 10, 1, 0, 55)
    assert add(any_store, later) == (Removal(UPTIME + 10, 5, 0, 60), later) == removals(any_store)


def test_a_refused_transaction_is_not_remembered(any_store: Store) -> None:
    state = any_store.load_state(calendar())
    add(any_store, Removal(UPTIME, 1, 0, 60))
    with pytest.raises(RevisionConflict):
        any_store.commit(state, WriteBatch(removals=(Removal(UPTIME, 7, 0, 60),)), calendar())
    assert removals(any_store) == (Removal(UPTIME, 1, 0, 60),)


def test_between_two_boots_no_time_passes(any_store: Store) -> None:
    """No clock is sure of it. So the guard forgets late rather than early."""
    claim(any_store, ALPHA, 100.0)
    add(any_store, Removal(1000.0, 5, 0, 60))
    any_store.beat(ALPHA, 1300.0)
    assert claim(any_store, ALPHA, 1400.0) == 1000, "a restart changes nothing"
    any_store.beat(ALPHA, 1600.0)
    assert claim(any_store, AGAIN, 20.0) == 20 - 600
    assert claim(any_store, AGAIN, 50.0) == 20 - 600
    any_store.beat(AGAIN, 100.0)
    assert claim(any_store, BETA, 90_000.0) == 90_000 - 680, "another machine has been up for long"


def test_an_ordered_takeover_keeps_the_ages(any_store: Store) -> None:
    """The command claims the node for a boot, and the daemon of that boot claims it again."""
    claim(any_store, ALPHA, 100.0)
    add(any_store, Removal(1000.0, 5, 0, 60))
    any_store.beat(ALPHA, 1600.0)
    claim(any_store, BETA, None)
    assert claim(any_store, BETA, 90_000.0) == 90_000 - 600


def test_a_machine_that_was_put_back_remembers_an_hour_at_most(any_store: Store) -> None:
    claim(any_store, ALPHA, 100.0)
    add(any_store, Removal(50_000.0, 5, 0, 60))
    assert claim(any_store, ALPHA, 2000.0) == 2000


def test_a_refused_claim_leaves_the_memory_alone(any_store: Store) -> None:
    claim(any_store, ALPHA, 100.0)
    seen = any_store.holder()
    add(any_store, Removal(1000.0, 5, 0, 60))
    claim(any_store, ALPHA, 1100.0)
    assert not any_store.claim(BETA, 7.0, seen, (), calendar()).done
    assert [one.at for one in removals(any_store)] == [1000]
