"""A quarantined delta is resolved once, on both stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.memorystore import MemoryStore
from tests.nexavpn_sides import lose_answers
from tests.samples import NOW, TOKYO, calendar, device_name
from tests.store_sides import AnyTables, MikyunTables, RealMikyunTables
from tests.wait import until
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import Counters
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.state import Allocation, Posting, WriteBatch
from wgsyncd.errors import InDoubt, StoreError, StoreErrorCode, UserError
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun.messages import AuditMessages
from wgsyncd.stores.mikyun.store import MariaDBStore
from wgsyncd.stores.nexavpn.store import NexaStore

LATER = NOW + 5 * 86400  # the day on which accounting started is out of range by then
LATE_BUCKET, LATE_DAY = int(LATER // 900) * 900, calendar().day(LATER)


@pytest.fixture
def store(tables: MikyunTables) -> Store:
    """Returns a store whose accounting started at NOW."""
    made = tables.store()
    made.load_state(calendar())
    return made


SINCE = LATER - 15


def hold(store: Store, *deltas: QuarantinedDelta) -> list[int]:
    """Puts the deltas into quarantine and returns the ids of all entries."""
    store.commit(store.load_state(calendar()), WriteBatch(quarantined=deltas), calendar(LATER))
    return [one.id for one in store.quarantine()]


def delta(number: Any, rx: int = 1000, tx: int = 10, since: float = SINCE, until: float = LATER) -> QuarantinedDelta:
    return QuarantinedDelta("wg0", number, device_name(number) if number else "", rx, tx, since, until)


EVENTS = (
    AuditEvent(
        AuditAction.QUARANTINE_RELEASED,
        "0001-DEV-005",
        AuditFacts(interface="wg0", current=Counters(1000, 10), since=SINCE, until=LATER),
    ),
)


def pieces(number: Any, *some: Allocation) -> Posting:
    return Posting(number, device_name(number), some)


BOOKED = pieces(5, Allocation(LATE_BUCKET, LATE_DAY, 1000, 10))


def test_each_node_has_a_quarantine_of_its_own(any_tables: AnyTables, any_store: Store) -> None:
    any_tables.insert(5)
    other = any_tables.store(node="r650")
    (theirs,) = hold(other, delta(any_tables.id(5), 1))
    mine = hold(any_store, delta(any_tables.id(5)), delta(None, 2**64 - 1, 0, 0.25))
    assert [one.delta for one in any_store.quarantine()] == [delta(any_tables.id(5)), delta(None, 2**64 - 1, 0, 0.25)]
    assert [one.id for one in other.quarantine()] == [theirs]
    assert any_store.still_quarantined([theirs, *mine]) == set(mine)
    with pytest.raises(UserError, match="is no delta in the quarantine"):
        any_store.resolve_quarantine(
            [mine[0], theirs], [replace(BOOKED, row_id=any_tables.id(5))], EVENTS, calendar(LATER)
        )
    assert (any_tables.posted(5).rx, any_tables.logs(), any_tables.buckets()) == (0, [], {})
    assert [len(one.quarantine()) for one in (any_store, other)] == [2, 1]


def test_what_is_discharged_is_booked_once(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, rx_bytes_total=1, updated_at="2026-01-01 00:00:00")
    first, second = hold(store, delta(5), delta(5, 7, 7))
    seq = store.load_state(calendar()).revision
    store.resolve_quarantine([first], [BOOKED], EVENTS, calendar(LATER))
    five = tables.device(5)
    assert [five[f"{side}_bytes_{w}"] for w in ("total", "24h", "month") for side in ("rx", "tx")] == [
        1001, 10, 1000, 10, 1000, 10
    ]  # fmt: skip
    assert five["updated_at"] == "2026-01-01 00:00:00"
    assert (tables.buckets(), tables.days()) == (
        {(device_name(5), LATE_BUCKET): (1000, 10)},
        {(device_name(5), LATE_DAY): (1000, 10)},
    )
    assert tables.logs() == list(AuditMessages("en", TOKYO).entries(EVENTS))
    assert store.load_state(calendar()).revision == seq, "the daemon's books are not disturbed"
    with pytest.raises(UserError):
        store.resolve_quarantine([first], [BOOKED], EVENTS, calendar(LATER))
    assert tables.device(5) == five
    assert store.still_quarantined([first, second]) == {second}
    store.resolve_quarantine([second], [], (), calendar(LATER))
    assert tables.device(5) == five
    assert store.quarantine() == ()


def test_a_row_that_somebody_has_locked_is_told(row_tables: AnyTables) -> None:
    store = row_tables.store()
    row_tables.insert(5)
    ids = hold(store, delta(row_tables.id(5)))
    with row_tables.locked(5), pytest.raises(StoreError, match="has locked") as failed:
        store.resolve_quarantine(ids, [replace(BOOKED, row_id=row_tables.id(5))], EVENTS, calendar(LATER))
    assert failed.value.code is StoreErrorCode.LOCKED
    store.resolve_quarantine(ids, [replace(BOOKED, row_id=row_tables.id(5))], EVENTS, calendar(LATER))
    assert (row_tables.posted(5).rx, len(row_tables.logs())) == (1000, 1)


@pytest.mark.parametrize("happened", [True, False])
def test_an_answer_to_a_commit_that_is_lost_is_in_doubt_and_settled_by_looking(
    any_tables: AnyTables, any_store: Store, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    any_tables.insert(5)
    ids = hold(any_store, delta(any_tables.id(5)))
    if isinstance(any_store, MariaDBStore):
        lose_the_answer(any_store, monkeypatch, happened)
    elif isinstance(any_store, NexaStore):
        lose_answers(any_store._connection, monkeypatch, happened=happened)
    else:
        assert isinstance(any_store, MemoryStore)
        any_store.next_writes = ["after" if happened else "during"]
    with pytest.raises(StoreError) as lost:
        any_store.resolve_quarantine(ids, [replace(BOOKED, row_id=any_tables.id(5))], EVENTS, calendar(LATER))
    if happened or isinstance(any_store, MariaDBStore | NexaStore):
        assert isinstance(lost.value, InDoubt)
    monkeypatch.undo()
    assert any_store.still_quarantined(ids) == (set() if happened else set(ids))
    assert (any_tables.posted(5).rx, len(any_tables.logs())) == ((1000, 1) if happened else (0, 0))


def lose_the_answer(store: MariaDBStore, monkeypatch: pytest.MonkeyPatch, happened: bool) -> None:
    """Breaks the connection right after COMMIT was sent, if it `happened`, or right before."""
    execute = store._connection.execute

    def broken(sql: str, values: tuple[object, ...] = ()) -> int:
        if sql == "COMMIT":
            if happened:
                execute(sql, values)
            store._connection.close()
            raise StoreError("2013: Lost connection during query")
        return execute(sql, values)

    monkeypatch.setattr(store._connection, "execute", broken)


def test_of_two_admins_the_slower_one_finds_it_gone(real_tables: RealMikyunTables) -> None:
    """The slower admin saw the delta, then waits for the other transaction, and does nothing."""
    tables, store = real_tables, real_tables.store()
    tables.insert(5)
    ids = hold(store, delta(5))
    tables.sql("START TRANSACTION")
    tables.sql("DELETE FROM wgsyncd_quarantine")
    with ThreadPoolExecutor(1) as slower:
        released = slower.submit(store.resolve_quarantine, ids, [BOOKED], EVENTS, calendar(LATER))
        waits = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        # InnoDB updates this table only if nobody has read it for a tenth of a second.
        until(lambda: tables.sql(waits) or released.done(), 20, "he waits", every=0.2)
        tables.sql("COMMIT")
        with pytest.raises(UserError, match="meanwhile"):
            released.result()
    assert (tables.device(5)["rx_bytes_total"], tables.days(), tables.logs()) == (0, {}, [])


def test_nothing_is_discharged_to_a_row_that_is_gone(any_tables: AnyTables, any_store: Store) -> None:
    any_tables.insert(5)
    ids = hold(any_store, delta(any_tables.id(5)), delta(any_tables.id(6)))
    with pytest.raises(UserError, match="gone"):
        any_store.resolve_quarantine(
            ids, [replace(BOOKED, row_id=any_tables.id(5)), pieces(any_tables.id(6))], EVENTS, calendar(LATER)
        )
    assert (any_tables.posted(5).rx, any_tables.logs(), len(any_store.quarantine())) == (0, [], 2)
