"""Open pieces in wgsyncd.totals: every byte is in one place, and every reader adds them to buckets and days."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from tests.committing import BUCKET, DAY
from tests.nexavpn_sides import NexavpnTables
from tests.samples import NOW, calendar, device_name, record
from wgsyncd.config import resources
from wgsyncd.core.inspect import verify
from wgsyncd.core.model import Counters
from wgsyncd.core.state import Allocation, Posting, WriteBatch
from wgsyncd.errors import RevisionConflict, SchemaError
from wgsyncd.ports import Store
from wgsyncd.stores.nexavpn.pieces import MOST
from wgsyncd.stores.nexavpn.reports import NexaReports

OPEN = "SELECT device, open_bucket, open_day::text, open_rx, open_tx FROM wgsyncd.totals WHERE open_bucket > 0 ORDER BY 1, 2"
COLUMNS = ("open_bucket", "open_day", "open_rx", "open_tx")


@pytest.fixture
def nexa(nexa: NexavpnTables) -> NexavpnTables:
    for number in (5, 6, 7):
        nexa.insert(number)
    return nexa


def meet(store: Store, nexa: NexavpnTables, *numbers: int) -> None:
    """The peers of these devices get their baselines."""
    records = tuple(record(n, row_id=nexa.id(n)) for n in numbers)
    store.commit(store.load_state(calendar()), WriteBatch(records=records), calendar())


def post(
    store: Store, nexa: NexavpnTables, some: dict[int, int], now: float = NOW, seen: float | None = None, **at: Any
) -> None:
    """Each device moves so many bytes in the bucket and day of ``now``, or of ``at``."""
    state, moment = store.load_state(calendar(now)), calendar(now)
    where: dict[str, Any] = {"bucket": moment.bucket, "day": moment.today} | at
    known = {one.row_id: one for one in state.records.each()}
    postings = tuple(
        Posting(nexa.id(n), device_name(nexa.id(n)), (Allocation(rx=rx, tx=1, **where),), seen)
        for n, rx in some.items()
    )
    records = tuple(replace(known[one.row_id], rx=(known[one.row_id].rx + one.rx) % 2**64) for one in postings)
    store.commit(state, WriteBatch(postings, records, counts_only=True), moment)


def opened(nexa: NexavpnTables) -> list[tuple[Any, ...]]:
    return [tuple(one.values()) for one in nexa.sql(OPEN)]


def closed(nexa: NexavpnTables, table: str) -> list[tuple[Any, ...]]:
    return [tuple(one.values()) for one in nexa.sql(f"SELECT device, rx, tx FROM wgsyncd.{table} ORDER BY 1, 2")]


def test_present_bytes_open_a_piece_and_the_next_bucket_closes_it(nexa: NexavpnTables) -> None:
    store = nexa.store()
    five, six = nexa.id(5), nexa.id(6)
    meet(store, nexa, 5, 6)
    post(store, nexa, {5: 70, 6: 8})
    post(store, nexa, {5: 5})
    assert opened(nexa) == [(five, BUCKET, DAY, 75, 2), (six, BUCKET, DAY, 8, 1)]
    assert closed(nexa, "buckets") == closed(nexa, "days") == []
    post(store, nexa, {5: 1}, NOW + 900)
    assert opened(nexa) == [(five, BUCKET + 900, DAY, 1, 1)]
    assert closed(nexa, "buckets") == closed(nexa, "days") == [(five, 75, 2), (six, 8, 1)]
    post(store, nexa, {6: 2}, NOW + 86400)
    assert closed(nexa, "buckets") == [(five, 1, 1), (five, 75, 2), (six, 8, 1)]
    assert closed(nexa, "days") == [(five, 76, 3), (six, 8, 1)]
    assert (nexa.posted(5), nexa.posted(6)) == (Counters(76, 3), Counters(10, 2))


def test_bytes_of_another_time_go_to_their_bucket_and_day_at_once(nexa: NexavpnTables) -> None:
    store = nexa.store()
    meet(store, nexa, 5)
    post(store, nexa, {5: 70})
    post(store, nexa, {5: 3}, bucket=BUCKET - 900)
    post(store, nexa, {5: 2}, bucket=None)
    assert opened(nexa) == [(nexa.id(5), BUCKET, DAY, 70, 1)]
    assert closed(nexa, "buckets") == [(nexa.id(5), 3, 1)]
    assert closed(nexa, "days") == [(nexa.id(5), 5, 2)]
    assert nexa.posted(5) == Counters(75, 3)


def test_a_piece_of_another_time_that_another_program_wrote_gets_no_bytes(nexa: NexavpnTables) -> None:
    store = nexa.store()
    meet(store, nexa, 5, 6)
    post(store, nexa, {5: 70, 6: 8})
    state, moment = store.load_state(calendar()), calendar()
    more = Posting(nexa.id(5), device_name(nexa.id(5)), (Allocation(BUCKET, DAY, 9, 9),))
    (old,) = (one for one in state.records.each() if one.row_id == nexa.id(5))
    writes = WriteBatch((more,), (replace(old, rx=79),), counts_only=True)
    state = store.commit(state, writes, moment).node_state
    nexa.sql("UPDATE wgsyncd.totals SET open_bucket = open_bucket - 900")
    with pytest.raises(RevisionConflict, match="1 open pieces are of another time"):
        store.commit(state, writes, moment)
    assert nexa.posted(5) == Counters(79, 10)
    store.commit(store.load_state(calendar()), writes, moment)
    assert opened(nexa) == [(nexa.id(5), BUCKET, DAY, 9, 9)]
    assert closed(nexa, "days") == [(nexa.id(5), 79, 10), (nexa.id(6), 8, 1)]


def test_a_piece_outlives_its_peer_and_the_name_of_its_interface(nexa: NexavpnTables) -> None:
    store = nexa.store()
    meet(store, nexa, 5, 6)
    post(store, nexa, {5: 70, 6: 8})
    (gone,) = (one for one in store.load_state(calendar()).records.each() if one.row_id == nexa.id(5))
    for writes in (WriteBatch(removed=(gone.peer_id,)), WriteBatch(renamed={"wg0": "wg9"})):
        store.commit(store.load_state(calendar()), writes, calendar())
    assert nexa.days() == {(device_name(nexa.id(5)), DAY): (70, 1), (device_name(nexa.id(6)), DAY): (8, 1)}
    store.purge(calendar(NOW + 900), 400)
    assert opened(nexa) == []
    assert closed(nexa, "buckets") == [(nexa.id(5), 70, 1), (nexa.id(6), 8, 1)]


def test_many_pieces_are_closed_in_parts(nexa: NexavpnTables) -> None:
    store = nexa.store()
    store.load_state(calendar())
    nexa.sql(
        "INSERT INTO wgsyncd.totals (node, device, rx, tx, open_bucket, open_day, open_rx, open_tx)"
        " SELECT 'r640', gen_random_uuid(), n, 1, %s, %s, n, 1 FROM generate_series(1, 2500) n",
        BUCKET,
        DAY,
    )
    store.purge(calendar(NOW + 900), 400)
    assert opened(nexa) == []
    assert sorted(rx for _, rx, _ in closed(nexa, "days")) == list(range(1, 2501))


def test_another_nodes_pieces_stay_open(nexa: NexavpnTables) -> None:
    store, other = nexa.store(), nexa.store(node="r650")
    for one in (store, other):
        meet(one, nexa, 5)
        post(one, nexa, {5: 70})
    post(store, nexa, {5: 1}, NOW + 900)
    assert opened(nexa) == [(nexa.id(5), BUCKET, DAY, 70, 1), (nexa.id(5), BUCKET + 900, DAY, 1, 1)]
    assert nexa.posted(5) == Counters(141, 3), "the view has the sum over both nodes"


def test_a_full_total_stops_nobody(nexa: NexavpnTables) -> None:
    store = nexa.store()
    meet(store, nexa, 5, 6, 7)
    for _ in range(2):
        post(store, nexa, {5: MOST, 6: 9, 7: 2**63})
    post(store, nexa, {6: 1}, NOW + 900)
    assert [nexa.posted(n).rx for n in (5, 6, 7)] == [MOST, 19, MOST]
    assert nexa.days()[device_name(nexa.id(5)), DAY].rx == MOST


def test_handshakes_are_kept_beside_open_pieces(nexa: NexavpnTables) -> None:
    store = nexa.store()
    meet(store, nexa, 5)
    for seen in (NOW, NOW + 100, NOW + 50, NOW + 281, NOW + 400):
        post(store, nexa, {5: 1}, seen=seen)
    post(store, nexa, {5: 1})
    (found,) = nexa.sql("SELECT seen, connected FROM wgsyncd.totals")
    assert found == {"seen": NOW + 400, "connected": NOW + 281}


def test_reports_and_verify_add_open_pieces(nexa: NexavpnTables) -> None:
    store = nexa.store()
    five = str(nexa.id(5))
    meet(store, nexa, 5, 6)
    post(store, nexa, {5: 70, 6: 8}, NOW - 900)
    post(store, nexa, {5: 5})
    usage = store.device_usage([five], calendar())
    assert usage.figures[nexa.id(5)] == {"24h": Counters(75, 2), "month": Counters(75, 2)}
    assert sum(usage.hours[five]) == 77
    with closing(NexaReports(nexa.settings())) as reports:
        assert (reports.coverage().first_day, reports.coverage().first_bucket) == (DAY, BUCKET - 900)
        assert reports.days(DAY, DAY) == {DAY: Counters(83, 3)}
        assert reports.buckets(BUCKET - 900, BUCKET + 1) == {BUCKET - 900: Counters(78, 2), BUCKET: Counters(5, 1)}
        assert reports.devices_of_buckets(BUCKET, BUCKET + 900) == {five: Counters(5, 1)}
        nexa.sql("DELETE FROM wgsyncd.buckets")
        assert reports.coverage().first_bucket == BUCKET
    ranges = verify.make_ranges(calendar())
    nexa.sql("DELETE FROM wgsyncd.days")
    assert list(verify.check_totals(store.device_totals(ranges))) == []
    nexa.sql("UPDATE wgsyncd.totals SET rx = 4 WHERE open_rx > 0")
    told = list(verify.check_totals(store.device_totals(ranges)))
    assert [(one.name, one.value, one.expected) for one in told] == [("rx in total", 4, 5)]


def test_tables_without_open_pieces_are_told_and_init_db_adds_them(nexa: NexavpnTables) -> None:
    store = nexa.store()
    meet(store, nexa, 5)
    post(store, nexa, {5: 7}, bucket=BUCKET - 900)
    nexa.sql(f"ALTER TABLE wgsyncd.totals {', '.join(f'DROP COLUMN {one}' for one in COLUMNS)}")
    try:
        with pytest.raises(SchemaError, match='column "open_bucket" does not exist.* As root: wgsyncd init-db'):
            post(store, nexa, {5: 70})
    finally:
        nexa.sql(resources.text("sql/nexavpn/wgsyncd.sql"))
    post(store, nexa, {5: 70})
    assert nexa.posted(5) == Counters(77, 2)
    assert nexa.days() == {(device_name(nexa.id(5)), DAY): (77, 2)}
    assert opened(nexa) == [(nexa.id(5), BUCKET, DAY, 70, 1)]
