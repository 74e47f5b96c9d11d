"""A store adds bytes to the columns, keeps the windows right and forgets old buckets and days."""

from __future__ import annotations

import pytest

from tests.committing import BUCKET, DAY, commit, posted
from tests.node import local
from tests.samples import NOW, calendar, device_name, record
from tests.store_sides import AnyTables, MikyunTables, RealMikyunTables
from wgsyncd.core.batches import split
from wgsyncd.core.state import Allocation, Posting, WriteBatch
from wgsyncd.ports import Store


def test_bytes_are_added_to_what_stands_there(tables: MikyunTables, store: Store) -> None:
    tables.insert(
        5, rx_bytes_total=1000, tx_bytes_total=None, rx_bytes_24h=None, last_handshake_at="2026-09-01 00:00:00"
    )
    tables.insert(6)
    store.load_state(calendar())
    before = tables.device(6)
    commit(store, WriteBatch(postings=(posted(5, 70, 7, NOW), posted(9, 5, 5, NOW))))
    commit(store, WriteBatch(postings=(posted(5, 1, 0, NOW - 5000),)))
    after = tables.device(5)
    assert [after[f"{side}_bytes_{w}"] for w in ("total", "24h", "month") for side in ("rx", "tx")] == [
        1071, 7, 71, 7, 71, 7
    ]  # fmt: skip
    assert after["last_handshake_at"] == local(NOW)
    assert after["updated_at"] == "2026-01-01 00:00:00", "it belongs to the application"
    assert tables.device(6) == before
    assert tables.devices() == [5, 6], "a deleted row is not brought back"
    assert tables.days() == {(device_name(5), DAY): (71, 7), (device_name(9), DAY): (5, 5)}
    assert tables.buckets() == {(device_name(5), BUCKET): (71, 7), (device_name(9), BUCKET): (5, 5)}


def test_the_devices_perspective_swaps_the_columns_and_not_the_books(tables: MikyunTables) -> None:
    store = tables.store('perspective = "device"\n')
    tables.insert(5, rx_bytes_24h=1, tx_bytes_24h=2, rx_bytes_month=10, tx_bytes_month=20)
    commit(store, WriteBatch(postings=(posted(5, 70, 7),)))
    assert store.refresh(calendar()) == (0, 0)
    after = tables.device(5)
    assert [after[f"{side}_bytes_{w}"] for w in ("total", "24h", "month") for side in ("rx", "tx")] == [
        7, 70, 8, 72, 17, 90
    ]  # fmt: skip
    assert tables.buckets() == {(device_name(5), BUCKET): (72, 8)}


def test_a_column_that_is_full_stops_nobody(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, rx_bytes_total=2**63 - 1)
    tables.insert(6)
    commit(store, WriteBatch(postings=(posted(5, 2**63, 1), posted(6, 9, 9))))
    store.refresh(calendar())
    assert tables.device(5)["rx_bytes_total"] == tables.device(5)["rx_bytes_24h"] == 2**63 - 1
    assert tables.device(6)["rx_bytes_total"] == 9


def test_a_negative_column_stops_nobody(tables: MikyunTables, store: Store) -> None:
    """An admin's hand wrote it. Bytes are added to it, in a usual batch too."""
    tables.insert(5, rx_bytes_total=-5, tx_bytes_24h=-(2**63))
    tables.insert(6)
    writes = WriteBatch(postings=(posted(5, 7, 1), posted(6, 9, 9)), records=(record(5), record(6)), counts_only=True)
    commit(store, WriteBatch(records=(record(5), record(6))))
    for _ in range(2):
        commit(store, writes)
    assert [tables.device(5)[name] for name in ("rx_bytes_total", "tx_bytes_24h")] == [9, 2 - 2**63]
    assert tables.device(6)["rx_bytes_total"] == 18


@pytest.mark.parametrize("most", [2**63 - 1, 2**63 - 7])
def test_a_column_that_is_full_stops_nobody_in_a_usual_batch(tables: MikyunTables, store: Store, most: int) -> None:
    """The usual UPDATE meets the end of the range, so the batch takes the longer way."""
    tables.insert(5, rx_bytes_total=most)
    tables.insert(6)
    writes = WriteBatch(postings=(posted(5, 7, 1), posted(6, 9, 9)), records=(record(5), record(6)), counts_only=True)
    commit(store, WriteBatch(records=(record(5), record(6))))
    for turn in (1, 2):
        commit(store, writes)
        assert [tables.device(5)[name] for name in ("rx_bytes_total", "tx_bytes_total")] == [2**63 - 1, turn]
        assert tables.device(6)["rx_bytes_total"] == 9 * turn
    store.refresh(calendar())
    assert tables.buckets() == {(device_name(5), BUCKET): (14, 2), (device_name(6), BUCKET): (18, 18)}


def test_batches(any_tables: AnyTables, any_store: Store) -> None:
    for number in range(1, 21):
        any_tables.insert(number)
    whole = WriteBatch(
        postings=tuple(posted(any_tables.id(n), n, 1) for n in range(1, 21)),
        records=tuple(record(n, row_id=any_tables.id(n)) for n in range(1, 21)),
    )
    for part in split(whole, 7):
        commit(any_store, part)
    assert [any_tables.posted(n).rx for n in range(1, 21)] == list(range(1, 21))
    assert any_store.load_state(calendar()).revision == 3
    assert len(any_store.load_state(calendar()).records) == 20


def test_rolling_sets_what_the_books_do_not_say_and_nothing_else(tables: MikyunTables, store: Store) -> None:
    store.load_state(calendar())
    tables.insert(5, status="deleted", deleted_at="2026-01-01 00:00:00")
    tables.insert(6, rx_bytes_24h=None)
    tables.insert(7)
    month = calendar().month[0]
    old = (Allocation(BUCKET - 86400, DAY, 1, 2), Allocation(BUCKET - 87300, month, 3, 4),
           Allocation(None, "2026-08-31", 5, 3))  # fmt: skip
    commit(store, WriteBatch(postings=(Posting(5, device_name(5), old),)))
    tables.update(5, rx_bytes_24h=9, tx_bytes_24h=9, rx_bytes_month=9, tx_bytes_month=9)
    before = tables.device(7)
    assert store.refresh(calendar()) == (2, 0)
    assert [tables.device(5)[f"{s}_bytes_{w}"] for w in ("24h", "month", "total") for s in ("rx", "tx")] == [
        1,
        2,
        4,
        6,
        9,
        9,
    ]
    assert tables.device(6)["rx_bytes_24h"] == 0
    assert tables.device(5)["updated_at"] == tables.device(6)["updated_at"] == before["updated_at"]
    assert tables.device(7) == before
    assert store.refresh(calendar()) == (0, 0)
    assert store.refresh(calendar(NOW + 900)) == (1, 0)
    assert tables.device(5)["rx_bytes_24h"] == 0


def test_what_a_clock_that_was_ahead_booked_counts_when_its_time_has_come(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    later = Allocation(BUCKET + 2 * 900, DAY, 30, 3)
    commit(store, WriteBatch(postings=(Posting(5, device_name(5), (Allocation(BUCKET, DAY, 1, 1), later)),)))
    for ahead, seen in ((0, (1, 1)), (2 * 900, (31, 4))):
        store.refresh(calendar(BUCKET + ahead))
        assert (tables.device(5)["rx_bytes_24h"], tables.device(5)["tx_bytes_24h"]) == seen
        assert store.refresh(calendar(BUCKET + ahead)) == (0, 0)


def test_purging_forgets_what_is_old_and_keeps_the_rest(any_tables: AnyTables, any_store: Store) -> None:
    any_tables.insert(5)
    days = ("2025-08-16", calendar().day(NOW - 400 * 86400), DAY)
    starts = (BUCKET - 5 * 86400, BUCKET - 86400, BUCKET)
    pieces = tuple(Allocation(start, day, 1, 1) for start, day in zip(starts, days, strict=True))
    commit(any_store, WriteBatch(postings=(Posting(any_tables.id(5), device_name(5), pieces),)))
    any_store.purge(calendar(), 400)
    assert sorted(day for _, day in any_tables.days()) == sorted(days[1:])
    assert sorted(start for _, start in any_tables.buckets()) == sorted(starts[1:])


def test_purging_forgets_open_pieces_of_a_node_that_is_gone(real_tables: RealMikyunTables) -> None:
    """They are in the rows of its peers, which nobody closes any more. Later ones stay."""
    gone, other = real_tables.store(node="gone"), real_tables.store()
    for number in (5, 6):
        real_tables.insert(number)
        commit(gone, WriteBatch(records=(record(number),)))
    postings = tuple(Posting(n, device_name(n), (Allocation(BUCKET, DAY, 70, 7),)) for n in (5, 6))
    commit(gone, WriteBatch(postings, (record(5, rx=70), record(6, rx=70)), counts_only=True))
    real_tables.sql("UPDATE wgsyncd_peers SET open_day = '2025-08-16' WHERE row_id = 5")
    other.purge(calendar(), 400)
    assert set(real_tables.days()) == {(device_name(6), DAY)}
