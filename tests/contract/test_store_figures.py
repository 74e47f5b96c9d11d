"""The totals of devices are compared with their sums, on both stores."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from tests.samples import EPOCH, NOW, calendar, device_name
from tests.store_sides import MikyunTables
from wgsyncd.core.inspect import verify
from wgsyncd.core.inspect.verify import Check, DeviceTotals
from wgsyncd.core.state import Allocation, InterfaceCheckpoint, Posting, WriteBatch
from wgsyncd.engine import wording
from wgsyncd.errors import StoreError
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun import totals

LATER = NOW + 5 * 86400  # the day on which accounting started is out of range by then
LATE_BUCKET, LATE_DAY = int(LATER // 900) * 900, calendar().day(LATER)


def look(store: Store, now: float = LATER) -> list[DeviceTotals]:
    return list(store.device_totals(verify.make_ranges(calendar(now))))


def checks(store: Store, now: float = LATER) -> list[tuple[str, str]]:
    found = store.device_totals(verify.make_ranges(calendar(now)))
    return [(one.check.value, wording.discrepancy(one)) for one in verify.check_totals(found)]


def kept(one: DeviceTotals) -> dict[str, int]:
    """What the store keeps, by name."""
    return {figure.name: figure.value for figure in one.figures}


def summed(one: DeviceTotals) -> dict[str, int]:
    """What the store's figures must equal, by name."""
    return {figure.name: figure.expected[0] for figure in one.figures if figure.check is Check.FIGURE}


def book(store: Store, number: int, *pieces: Allocation) -> None:
    """Posts bytes as the daemon does at LATER."""
    store.commit(
        store.load_state(calendar()),
        WriteBatch(postings=(Posting(number, device_name(number), pieces),)),
        calendar(LATER),
    )


@pytest.fixture
def store(tables: MikyunTables) -> Store:
    """Returns a store whose accounting started at NOW."""
    made = tables.store()
    made.load_state(calendar())
    return made


def test_without_books_there_is_nothing_to_verify(tables: MikyunTables) -> None:
    with pytest.raises(StoreError, match="no node state yet"):
        look(tables.store())


def test_figures_are_told_with_the_sums_under_them(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    tables.insert(6, rx_bytes_total=None, tx_bytes_24h=None, rx_bytes_month=-1)
    yesterday, before = calendar().day(LATER - 86400), calendar().day(LATER - 2 * 86400)
    book(store, 5, Allocation(LATE_BUCKET, LATE_DAY, 1, 2), Allocation(LATE_BUCKET - 86400, yesterday, 4, 8),
         Allocation(LATE_BUCKET - 87300, yesterday, 16, 32), Allocation(None, before, 64, 128))  # fmt: skip
    book(store, 9, Allocation(LATE_BUCKET, LATE_DAY, 5, 5))  # the row of this device is gone
    five, six = look(store)
    assert (five.row_id, five.device) == (5, "0001-DEV-005")
    windows = {"rx of 24 h": 5, "tx of 24 h": 10, "rx of the month": 85, "tx of the month": 170}
    assert kept(five) == {"rx in total": 85, "tx in total": 170, "last handshake": 0} | windows
    assert summed(five) == windows
    assert [(one.day.name, one.inner, one.outer, one.kept) for one in five.days] == [
        (before, (0, 0), (0, 0), (64, 128)),
        (yesterday, (20, 40), (20, 40), (20, 40)),
        (LATE_DAY, (1, 2), (1, 2), (1, 2)),
    ]
    assert {name: value for name, value in kept(six).items() if value} == {"rx of the month": -1}
    assert ({*summed(six).values()}, {one.kept for one in six.days}) == ({0}, {(0, 0)})
    assert checks(store) == [("figure", "rx of the month: -1, its days: 0 (-1)")]


def test_many_devices_are_gone_through_in_parts(
    tables: MikyunTables, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "CHUNK", 2)
    for number in (-3, 5, 6, 7, 900):
        tables.insert(number)
        book(store, number, Allocation(LATE_BUCKET, LATE_DAY, 10 + number, 1))
    assert [(one.row_id, summed(one)["rx of 24 h"], one.days[-1].kept.rx) for one in look(store)] == [
        (number, 10 + number, 10 + number) for number in (-3, 5, 6, 7, 900)
    ]
    assert checks(store) == []


def test_days_from_before_anybodys_books_are_left_out(tables: MikyunTables, store: Store) -> None:
    tables.insert(5)
    assert len(look(store)[0].days) == 3
    tables.store(node="r650").load_state(calendar(LATER - 86400))
    assert [one.day.name for one in look(store)[0].days] == [LATE_DAY]


def test_opening_balances_are_no_finding(tables: MikyunTables) -> None:
    """Opening balances are in one bucket as a whole, and in the first day of the month."""
    tables.insert(5, rx_bytes_24h=40, tx_bytes_24h=4, rx_bytes_month=400, tx_bytes_month=40, rx_bytes_total=400,
               tx_bytes_total=40)  # fmt: skip
    store = tables.store()
    store.load_state(calendar())
    for now in (NOW, NOW + 86400, NOW + 2 * 86400):
        store.refresh(calendar(now))
        assert checks(store, now) == []


def test_the_devices_perspective_swaps_the_columns_here_too(tables: MikyunTables) -> None:
    store = tables.store('perspective = "device"\n')
    store.load_state(calendar())
    tables.insert(5)
    book(store, 5, Allocation(LATE_BUCKET, LATE_DAY, 70, 7))
    (five,) = look(store)
    assert {kept(five)[f"tx {what}"] for what in ("in total", "of 24 h", "of the month")} == {70}
    assert {kept(five)[f"rx {what}"] for what in ("in total", "of 24 h", "of the month")} == {7}
    assert (summed(five)["tx of 24 h"], summed(five)["rx of the month"]) == (70, 7)
    tables.update(5, rx_bytes_24h=0)
    assert checks(store) == [("figure", "rx of 24 h: 0, its buckets: 7 (-7)")]


def test_a_column_that_is_full_is_no_finding(tables: MikyunTables, store: Store) -> None:
    tables.insert(5, rx_bytes_total=2**63 - 1)
    book(store, 5, Allocation(LATE_BUCKET, LATE_DAY, 2**63, 1))
    assert checks(store) == []


def test_the_hours_around_an_edge_that_buckets_do_not_share(tables: MikyunTables) -> None:
    """In this zone midnight is at 18:30 UTC. The buckets have one hour."""
    zone = ZoneInfo("Asia/Kolkata")
    store = tables.store('[usage]\nbucket_width = "1h"\n', zone="Asia/Kolkata")
    frame = calendar(LATER, zone, 3600)
    store.load_state(calendar(NOW, zone, 3600))
    tables.insert(5)
    midnight = int(frame.next_midnight(LATER - 86400))
    assert midnight % 3600 == 1800
    edge, today, yesterday = midnight - 1800, frame.day(LATER), frame.day(midnight - 1)
    book(
        store, 5, Allocation(edge, yesterday, 1, 0), Allocation(edge, today, 2, 0), Allocation(edge + 3600, today, 4, 0)
    )
    days = {one.day.name: one for one in next(store.device_totals(verify.make_ranges(frame))).days}
    assert (days[today].inner.rx, days[today].kept.rx, days[today].outer.rx) == (4, 6, 7)
    assert (days[yesterday].inner.rx, days[yesterday].kept.rx, days[yesterday].outer.rx) == (0, 1, 3)
    assert [one.check for one in verify.check_totals(store.device_totals(verify.make_ranges(frame)))] == []


# -- an admin's total


@pytest.mark.parametrize("figure", [0, 777, None])
def test_a_figure_that_an_admin_sets_while_bytes_are_booked_stands(
    tables: MikyunTables, store: Store, figure: int | None
) -> None:
    """The admin writes after the daemon has read everything for its posting, and before its commit."""
    tables.insert(5, rx_bytes_total=5000, tx_bytes_total=5000)
    books, _ = store.load_state(calendar()), store.snapshot()
    posting = Posting(5, device_name(5), (Allocation(LATE_BUCKET, LATE_DAY, 1000, 10),))
    tables.update(5, rx_bytes_total=figure, tx_bytes_total=figure)
    store.commit(
        books, WriteBatch(postings=(posting,), checkpoints={"wg0": InterfaceCheckpoint(EPOCH, LATER)}), calendar(LATER)
    )
    five = tables.device(5)
    assert (five["rx_bytes_total"], five["tx_bytes_total"]) == ((figure or 0) + 1000, (figure or 0) + 10)
    assert checks(store) == []
