"""A store writes everything correctly: in memory, and on MariaDB with exactly the shipped grants."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from tests.committing import BUCKET, commit, posted
from tests.samples import EPOCH, NOW, TOKYO, calendar, device_name, peer, record, text
from tests.store_sides import AnyTables, MikyunTables, RealMikyunTables
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import Counters
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.records import USED_BEFORE, PeerRecord, PeerRecords, RecordState
from wgsyncd.core.state import Condition, InterfaceCheckpoint, NodeState, WriteBatch
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.errors import RevisionConflict, StoreError
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun.messages import AuditMessages

# -- the node state


def test_books_are_begun_when_they_are_asked_for_and_not_for_a_dry_run(any_tables: AnyTables, any_store: Store) -> None:
    empty = NodeState(0, PeerRecords(), {}, frozenset())
    assert any_store.load_state(calendar(), create=False) == empty
    with pytest.raises(StoreError):
        any_store.approve("0123456789ab")
    assert any_store.load_state(calendar()) == empty
    any_store.approve("0123456789ab")
    assert any_store.snapshot().approved == "0123456789ab"


def test_an_adoption_is_kept_and_changes_the_digest(any_tables: AnyTables, any_store: Store) -> None:
    any_store.load_state(calendar())
    for accepted in (False, True):
        before = any_store.digest()
        event = AuditEvent(AuditAction.NODE_ADOPTED, "r640", AuditFacts(by="root"))
        any_store.adopt(accepted=accepted, audit=[event], calendar=calendar())
        assert any_store.snapshot().adopted is accepted
        assert accepted is False or any_store.digest() != before
    assert len(any_tables.logs()) == 2
    assert any_store.load_state(calendar()).revision == 0


def test_a_device_whose_row_somebody_has_locked_gets_its_bytes_later(row_tables: AnyTables) -> None:
    store = row_tables.store()
    row_tables.insert(5)
    row_tables.insert(6)
    row_tables.insert(7)
    writes = WriteBatch(
        postings=(posted(row_tables.id(5), 50, 5), posted(row_tables.id(6), 60, 6), posted(row_tables.id(99), 9, 9)),
        records=(
            record(5, row_id=row_tables.id(5)),
            record(6, row_id=row_tables.id(6)),
            record(99, row_id=row_tables.id(99)),
        ),
        checkpoints={"wg0": InterfaceCheckpoint(EPOCH, NOW)},
    )
    before = store.load_state(calendar())
    with row_tables.locked(6):
        node_state, _, left_out = store.commit(before, writes, calendar())
        assert left_out == {row_tables.id(6)}
        assert len(node_state.records) == 3
        assert set(node_state.interfaces) == {"wg0"}
        assert row_tables.posted(5).rx == 50
        assert row_tables.posted(6).rx == 0
        node_state = store.load_state(calendar())
        for one in (
            WriteBatch(postings=(posted(row_tables.id(6), 1, 1),), spool_position="a:1"),
            WriteBatch(postings=(posted(row_tables.id(6), 2, 2),), commit_last=frozenset({row_tables.id(6)})),
        ):
            node_state = store.commit(node_state, one, calendar()).node_state
        assert store.load_state(calendar()) == node_state
        (aside,) = store.post_set_aside(calendar(), frozenset())
        assert aside == SetAside(device_name(6), Obstacle.LOCKED, "", NOW)
    assert store.post_set_aside(calendar(), {row_tables.id(6)}) == store.post_set_aside(calendar(), {row_tables.id(6)})
    assert row_tables.posted(6).rx == 0, "a transition of the row was not made"
    assert not store.post_set_aside(calendar(), frozenset())
    assert not store.post_set_aside(calendar(), frozenset())
    assert row_tables.posted(6).rx == 63
    assert store.load_state(calendar()) == node_state
    assert store.commit(node_state, writes, calendar()).set_aside == frozenset()
    assert row_tables.posted(6).rx == 123


def test_windows_of_a_locked_row_are_rolled_once_it_is_free(tables: MikyunTables, store: Store) -> None:
    for number in (5, 6, 7):
        tables.insert(number, rx_bytes_24h=9)
    commit(store, WriteBatch())  # the first commit creates the node state and takes over the sums in the columns
    after = calendar(NOW + 2 * 86400)
    with tables.locked(6):
        assert store.refresh(after) == (3, 1)
        assert [tables.device(number)["rx_bytes_24h"] for number in (5, 6, 7)] == [0, 9, 0]
    assert store.refresh(after) == (1, 0)
    assert tables.device(6)["rx_bytes_24h"] == 0


def test_the_name_of_booked_samples_stays_until_the_next(any_store: Store) -> None:
    commit(any_store, WriteBatch(spool_position="a:1"))
    commit(any_store, WriteBatch(checkpoints={"wg0": InterfaceCheckpoint(EPOCH, NOW)}))
    assert any_store.load_state(calendar()).spool_position == "a:1"
    commit(any_store, WriteBatch(spool_position="b:2"))
    assert any_store.load_state(calendar()).spool_position == "b:2"


def test_opening_balances_are_taken_over_once(tables: MikyunTables) -> None:
    tables.insert(5, rx_bytes_24h=40, tx_bytes_24h=4, rx_bytes_month=400, tx_bytes_month=None)
    tables.insert(6, rx_bytes_month=-7, tx_bytes_month=9)
    tables.insert(7)
    tables.store().load_state(calendar())
    tables.store(node="r650").load_state(calendar(NOW + 40 * 86400))
    assert tables.buckets() == {(device_name(5), BUCKET): (40, 4)}
    first = calendar().month[0]
    assert tables.days() == {(device_name(5), first): (400, 0), (device_name(6), first): (0, 9)}
    before = tables.device(5)
    tables.store().refresh(calendar())
    assert tables.device(5) == {**before, "tx_bytes_month": 0}


def full(tables: AnyTables) -> PeerRecord:
    """A record with odd values in each field."""
    return record(
        5, row_id=tables.id(5), device="📱", state=RecordState.ADDING, counters=Counters(2**64 - 1, 2**63),
        handshake=2**62, sampled_at=0.1,
    )  # fmt: skip


def test_the_books_come_back_as_they_were_written(any_tables: AnyTables, any_store: Store) -> None:
    conditions = frozenset(
        (Condition("row_rejected", "5", "📱\x01", "bad_key"), Condition("guard_tripped", "r640", "r640", "x", 9))
    )
    odd = full(any_tables)
    foreign = record(6, row_id=None, device="", owner="")
    commit(
        any_store,
        WriteBatch(records=(odd, foreign), checkpoints={"wg0": InterfaceCheckpoint(EPOCH, 1.25)}, started=conditions),
    )
    books = any_store.load_state(calendar())
    assert set(books.records.values()) == {odd, foreign}
    assert books.conditions == conditions
    assert (books.revision, dict(books.interfaces)) == (1, {"wg0": InterfaceCheckpoint(EPOCH, 1.25)})
    commit(
        any_store,
        WriteBatch(removed=(odd.peer_id,), ended=conditions, checkpoints={"wg0": InterfaceCheckpoint("b", 2.0)}),
    )
    assert set(any_store.load_state(calendar()).records.values()) == {foreign}
    assert any_store.load_state(calendar()).conditions == frozenset()


def test_what_records_and_rows_have_in_common_is_in_memory_once(real_tables: RealMikyunTables) -> None:
    some = {
        1005: record(5, row_id=1005),  # Python itself keeps small numbers once, so these are larger
        1006: record(6, row_id=1006, device="as it was"),
        1007: record(7, row_id=1007),
    }
    for number in (5, 6):
        real_tables.insert(1000 + number, public_key=text(number), device_id=f"0001-DEV-{number:03}")
    store = real_tables.store()
    commit(store, WriteBatch(records=tuple(some.values())))
    rows = {one.id: one for one in store.snapshot().rows}
    books = {one.row_id: one for one in store.load_state(calendar()).records.values()}
    assert books == some
    for number in (1005, 1006):
        assert books[number].row_id is rows[number].id
        assert books[number].public_key is rows[number].public_key
    assert books[1005].device is rows[1005].device


def test_a_records_state_is_changed_where_it_is() -> None:
    """A word of another length would make the server rearrange pages."""
    assert len({len(word) for word in RecordState}) == 1


@pytest.mark.parametrize("handshake", [0, USED_BEFORE])
def test_whatever_changes_of_records_is_written(any_tables: AnyTables, any_store: Store, handshake: int) -> None:
    """Each record changes its own set of fields, all in one transaction.

    The store writes these sets in different ways.
    """
    changes: dict[str, Any] = {
        "state": RecordState.RESTORING, "epoch": "b:9", "rx": 0, "tx": 0, "handshake": handshake, "sampled_at": NOW,
        "device": "another", "config_digest": bytes(8),
    }  # fmt: skip
    sets = [some for n in range(len(changes) + 1) for some in combinations(changes, n)]
    peers = [peer(n, f"10.200.{n >> 8}.{n & 255}") for n in range(1, len(sets) + 1)]
    before = [record(n, one, row_id=any_tables.id(n), rx=n, tx=7, handshake=9) for n, one in enumerate(peers, 1)]
    commit(any_store, WriteBatch(records=tuple(before)))
    after = [replace(one, **{name: changes[name] for name in some}) for one, some in zip(before, sets, strict=True)]
    commit(any_store, WriteBatch(records=tuple(after)))
    assert set(any_store.load_state(calendar()).records.values()) == set(after)


def test_all_peers_of_an_interface_are_put_back_and_no_others(any_tables: AnyTables, any_store: Store) -> None:
    used, fresh = (record(n, row_id=any_tables.id(n), handshake=at) for n, at in ((5, 9), (6, 0)))
    other = record(7, row_id=any_tables.id(7), interface="wg1", handshake=9)
    commit(any_store, WriteBatch(records=(used, fresh, other)))
    back: dict[str, Any] = {"state": RecordState.RESTORING, "epoch": "b:9", "rx": 0, "tx": 0, "sampled_at": NOW}
    after = replace(used, handshake=USED_BEFORE, **back), replace(fresh, **back)
    commit(any_store, WriteBatch(records=after))
    assert set(any_store.load_state(calendar()).records.values()) == {*after, other}


@pytest.mark.parametrize(
    "changes",
    [{"rx": 9, "tx": 9}, {"state": RecordState.RESTORING}, {"epoch": "b:9", "state": RecordState.RESTORING}],
    ids=["moved", "settled", "anew"],
)
def test_books_that_somebody_took_records_out_of_are_stale(
    real_tables: RealMikyunTables, changes: dict[str, Any]
) -> None:
    store = real_tables.store()
    commit(store, WriteBatch(records=(record(5), record(6))))
    books = store.load_state(calendar())
    real_tables.sql("DELETE FROM wgsyncd_peers WHERE row_id = 6")
    with pytest.raises(RevisionConflict):
        store.commit(books, WriteBatch(records=(record(5, **changes), record(6, **changes))), calendar())
    assert set(store.load_state(calendar()).records.values()) == {record(5)}


def test_a_new_detail_takes_the_old_ones_place(any_store: Store) -> None:
    old = Condition("row_rejected", "5", "d", "bad_key")
    for one in (old, old._replace(reason="bad_address")):
        commit(any_store, WriteBatch(started=frozenset((one,))))
        assert any_store.load_state(calendar()).conditions == {one}


def test_only_the_books_as_they_are_can_be_written_to(any_tables: AnyTables, any_store: Store) -> None:
    any_tables.insert(5)
    books = any_store.load_state(calendar())
    any_store.commit(books, WriteBatch(postings=(posted(any_tables.id(5), 1, 1),)), calendar())
    with pytest.raises(RevisionConflict):
        any_store.commit(
            books,
            WriteBatch(
                postings=(posted(any_tables.id(5), 1, 1),), audit=(AuditEvent(AuditAction.DAEMON_STOPPED, "c"),)
            ),
            calendar(),
        )
    assert any_tables.posted(5).rx == 1
    assert any_tables.logs() == []
    commit(any_store, WriteBatch(postings=(posted(any_tables.id(5), 1, 1),)))


def test_nodes_have_books_of_their_own(any_tables: AnyTables, any_store: Store) -> None:
    other = any_tables.store(node="r650")
    odd, delta = full(any_tables), QuarantinedDelta("wg0", any_tables.id(5), "d", 2**63, 1, 0.5, 1.5)
    commit(any_store, WriteBatch(records=(odd,), quarantined=(delta,)))
    commit(other, WriteBatch(records=(record(5, row_id=any_tables.id(5)),)))
    assert any_store.load_state(calendar()).records == {odd.peer_id: odd}
    assert [one.snapshot().quarantined for one in (any_store, other)] == [1, 0]


def test_an_approval_is_used_up(any_store: Store) -> None:
    any_store.load_state(calendar())
    any_store.approve("0123456789ab")
    commit(any_store, WriteBatch(audit=(AuditEvent(AuditAction.DAEMON_STOPPED, "c"),)))
    assert any_store.snapshot().approved == "0123456789ab"
    commit(any_store, WriteBatch(approval_used=True))
    assert any_store.snapshot().approved is None


def test_the_audit_trail(tables: MikyunTables, store: Store) -> None:
    events = (
        AuditEvent(AuditAction.PEER_ADDED, "📱", AuditFacts(interface="wg0", address="%s {0} '\"\\ ピア")),
        AuditEvent(AuditAction.PEER_ADDED, "d", AuditFacts(interface="wg0", address="m " * 1000)),
    )
    commit(store, WriteBatch(audit=events))
    entries = list(AuditMessages("en", TOKYO).entries(events))
    assert tables.logs() == entries
    assert "%s {0} '\"\\ ピア" in entries[0].message
    assert len(entries[1].message) == 2000


def test_a_renamed_interface_keeps_its_records(any_tables: AnyTables, any_store: Store) -> None:
    """Two interfaces may have got each other's name, and a third one may be gone for good."""
    marks = {name: InterfaceCheckpoint(f"boot-a:{index}", NOW) for index, name in enumerate(("wg0", "wg1", "wg7"))}
    five, seven = any_tables.id(5), any_tables.id(7)
    some = (record(5, row_id=five, interface="wg0", counters=(5, 1)),
            record(5, row_id=five, interface="wg1", counters=(6, 1)),
            record(7, row_id=seven, interface="wg7"))  # fmt: skip
    commit(any_store, WriteBatch(records=some, checkpoints=marks))
    gone = ("wg7", some[2].public_key)
    commit(any_store, WriteBatch(renamed={"wg0": "wg1", "wg1": "wg0", "wg7": None}, removed=(gone,)))
    state = any_store.load_state(calendar())
    assert {name: mark.epoch for name, mark in state.interfaces.items()} == {"wg0": "boot-a:1", "wg1": "boot-a:0"}
    assert {one.interface: one.rx for one in state.records.each()} == {"wg0": 6, "wg1": 5}
