"""Counters become deltas, and every byte is in one bucket, day and month in any time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.samples import EPOCH, NOW, TOKYO, actual, calendar, dump, key, peer, record, records, state
from wgsyncd.core.model import EARLIEST, Counters, DeviceRow, InterfaceState
from wgsyncd.core.reasons import AnomalyKind
from wgsyncd.core.records import PeerRecord
from wgsyncd.core.state import InterfaceCheckpoint, NodeState
from wgsyncd.core.usage.calendar import ROLLING, UsageCalendar
from wgsyncd.core.usage.posting import PostingResult, counter_delta, post
from wgsyncd.core.usage.spans import SLACK

ZONES = ["Asia/Tokyo", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC", "Pacific/Apia",
         "America/Havana", "Africa/Cairo"]  # fmt: skip
zones = st.sampled_from(ZONES).map(ZoneInfo)
BIG = 2**64 - 1


def stamp(zone: str, *parts: int, fold: int = 0) -> float:
    year, month, day, *rest = parts
    hour, minute, second = [*rest, 0, 0, 0][:3]
    return datetime(year, month, day, hour, minute, second, tzinfo=ZoneInfo(zone), fold=fold).timestamp()


# -- split


@settings(max_examples=130, deadline=None)
@given(
    st.integers(0, BIG),
    st.integers(0, BIG),
    st.floats(1.2e9, 2.2e9),
    st.one_of(st.floats(-100, 300_000), st.integers(0, 40 * 86400)),
    zones,
    st.sampled_from((60, 300, 900, 3600)),
)
@example(BIG, BIG, NOW, 90_000, TOKYO, 900)
@example(2**53 + 1, 1, NOW, 1e-6, TOKYO, 900)
@example(1, 0, NOW, 0, TOKYO, 900)
def test_the_shares_add_up_to_the_delta(rx: int, tx: int, now: float, span: float, zone: ZoneInfo, width: int) -> None:
    frame = UsageCalendar(now, width, zone)
    pieces = frame.allocate(Counters(rx, tx), now - span)
    assert (sum(p.rx for p in pieces), sum(p.tx for p in pieces)) == (rx, tx)
    assert all(p.rx >= 0 and p.tx >= 0 and (p.rx or p.tx) for p in pieces)
    assert all(p.bucket is None or (frame.rolling_start <= p.bucket <= now and p.bucket % width == 0) for p in pieces)
    days = [p.day for p in pieces]
    assert days == sorted(days)
    assert not days or (frame.day(min(now - span, now)) <= days[0] and days[-1] <= frame.day(now))


def pieces(now: float, since: float, rx: int, zone: str = "Asia/Tokyo") -> list[tuple[int | None, str, int]]:
    return [(p.bucket, p.day, p.rx) for p in calendar(now, ZoneInfo(zone)).allocate(Counters(rx, 0), since)]


def test_nothing_gives_no_piece() -> None:
    assert calendar().allocate(Counters(0, 0), NOW - 99) == ()


def test_a_delta_inside_one_bucket_is_one_piece() -> None:
    at = stamp("Asia/Tokyo", 2026, 9, 21, 10, 0)
    assert pieces(at + 30, at + 15, 7) == [(int(at), "2026-09-21", 7)]


def test_a_poll_on_the_edge_of_a_bucket_belongs_to_the_bucket_before() -> None:
    at = stamp("Asia/Tokyo", 2026, 9, 21, 10, 15)
    assert pieces(at, at - 15, 7) == [(int(at) - 900, "2026-09-21", 7)]
    assert pieces(at + 15, at, 7) == [(int(at), "2026-09-21", 7)]


def test_a_delta_over_an_edge_is_shared_by_time() -> None:
    at = stamp("Asia/Tokyo", 2026, 9, 21, 10, 15)
    assert pieces(at + 10, at - 5, 15) == [(int(at) - 900, "2026-09-21", 5), (int(at), "2026-09-21", 10)]


def test_a_delta_over_the_months_edge_is_shared_by_time() -> None:
    at = stamp("Asia/Tokyo", 2026, 10, 1)
    assert pieces(at + 10, at - 5, 15) == [(int(at) - 900, "2026-09-30", 5), (int(at), "2026-10-01", 10)]
    assert pieces(at, at - 15, 15) == [(int(at) - 900, "2026-09-30", 15)]


def test_what_is_older_than_the_rolling_window_has_a_day_and_no_bucket() -> None:
    now = stamp("Asia/Tokyo", 2026, 9, 21, 12, 0)
    found = pieces(now, now - 3 * ROLLING, 3 * 86400)
    assert sum(rx for bucket, _, rx in found if bucket is None) == 2 * 86400
    assert {day: sum(rx for _, d, rx in found if d == day) for _, day, _ in found} == {
        "2026-09-18": 43200, "2026-09-19": 86400, "2026-09-20": 86400, "2026-09-21": 43200
    }  # fmt: skip


def test_a_start_in_the_future_is_now() -> None:
    assert pieces(NOW, NOW + 500, 7) == [(int(NOW // 900) * 900, "2026-09-21", 7)]


DST = [
    # The columns are: zone, the noon before, the hours between the midnights around the clock change.
    ("Europe/Berlin", (2026, 3, 29), 23), ("Europe/Berlin", (2026, 10, 25), 25),
    ("America/St_Johns", (2026, 3, 8), 23), ("America/St_Johns", (2026, 11, 1), 25),
    ("Australia/Lord_Howe", (2026, 4, 5), 24.5), ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
    ("Asia/Tokyo", (2026, 3, 29), 24), ("America/Havana", (2026, 3, 8), 23), ("America/Havana", (2026, 11, 1), 25),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "date", "hours"), DST)
def test_a_day_has_as_many_bytes_as_it_has_seconds(zone: str, date: tuple[int, int, int], hours: float) -> None:
    """A device moves one byte per second over five days with a clock change. No byte is lost or on another day."""
    noon = datetime(*date, 12, tzinfo=ZoneInfo(zone))
    start, end = (noon - timedelta(days=2)).timestamp(), (noon + timedelta(days=2)).timestamp()
    found: dict[str, int] = {}
    for _, day, rx in pieces(end, start, int(end - start), zone):
        found[day] = found.get(day, 0) + rx
    assert found[noon.date().isoformat()] == hours * 3600
    assert sum(found.values()) == int(end - start)


@settings(max_examples=100, deadline=None)
@given(zones, st.floats(1.2e9, 2.2e9))
@example(ZoneInfo("America/St_Johns"), stamp("America/St_Johns", 2010, 11, 6, 23, 30, fold=1))
@example(ZoneInfo("Pacific/Apia"), stamp("Pacific/Apia", 2011, 12, 29, 12))
@example(ZoneInfo("America/Havana"), stamp("America/Havana", 2026, 3, 7, 23, 59))
@example(ZoneInfo("America/Havana"), stamp("America/Havana", 2026, 11, 1, 0, 30, fold=1))
def test_the_next_midnight_is_later_and_the_first_instant_of_its_day(zone: ZoneInfo, at: float) -> None:
    frame = calendar(at, zone)
    midnight = frame.next_midnight(at)
    assert at < midnight <= at + 26 * 3600
    assert frame.day(midnight) > frame.day(at)
    assert frame.day(midnight - 1) != frame.day(midnight) or frame.day(midnight) != frame.day(midnight - 3600)


MONTHS = [
    ("Asia/Tokyo", (2026, 12, 31, 23, 59, 59), ("2026-12-01", "2027-01-01")),
    ("Asia/Tokyo", (2027, 1, 1), ("2027-01-01", "2027-02-01")),
    ("Asia/Tokyo", (2028, 2, 29, 12), ("2028-02-01", "2028-03-01")),
    ("Europe/Berlin", (2026, 3, 31, 23, 59), ("2026-03-01", "2026-04-01")),
    ("America/St_Johns", (2026, 11, 1), ("2026-11-01", "2026-12-01")),
]


@pytest.mark.parametrize(("zone", "at", "month"), MONTHS)
def test_the_month_is_the_zones(zone: str, at: tuple[int, ...], month: tuple[str, str]) -> None:
    assert calendar(stamp(zone, *at), ZoneInfo(zone)).month == month


def test_the_month_is_not_the_systems() -> None:
    last_of_utc = datetime(2026, 9, 30, 20, tzinfo=UTC).timestamp()
    assert calendar(last_of_utc).month[0] == "2026-10-01"
    assert calendar(last_of_utc).format_local(last_of_utc) == "2026-10-01 05:00:00"


@given(st.floats(1.2e9, 2.2e9))
def test_the_rolling_window_covers_a_day_and_at_most_a_bucket_more(now: float) -> None:
    assert ROLLING <= now - calendar(now).rolling_start < ROLLING + 900


@given(st.floats(1.2e9, 2.2e9), st.floats(0, 3e6))
def test_the_mark_moves_with_a_window_and_with_nothing_else(now: float, later: float) -> None:
    one, other = calendar(now), calendar(now + later)
    moved = one.rolling_start != other.rolling_start or one.month != other.month
    assert (one.version != other.version) is moved


# -- counter deltas

BASE = record(5, counters=Counters(100, 50), handshake=9)
ADVANCES = {
    "on": (Counters(150, 60), 9, EPOCH, (50, 10, None)),
    "still": (Counters(100, 50), 9, EPOCH, (0, 0, None)),
    "rx went back": (Counters(99, 60), 9, EPOCH, (99, 60, AnomalyKind.RESET)),
    "tx went back": (Counters(150, 0), 9, EPOCH, (150, 0, AnomalyKind.RESET)),
    "went to zero": (Counters(0, 0), 9, EPOCH, (0, 0, AnomalyKind.RESET)),
    "handshake gone, counters passed": (Counters(500, 500), 0, EPOCH, (500, 500, AnomalyKind.RESET)),
    "new epoch, lower": (Counters(3, 4), 0, "boot-b:3", (3, 4, None)),
    "new epoch, higher": (Counters(300, 400), 9, "boot-b:3", (300, 400, None)),
    "largest": (Counters(BIG, BIG), 9, EPOCH, (BIG - 100, BIG - 50, None)),
}


@pytest.mark.parametrize(("now", "handshake", "epoch", "expected"), ADVANCES.values(), ids=ADVANCES.keys())
def test_advance(now: Counters, handshake: int, epoch: str, expected: tuple[int, int, AnomalyKind | None]) -> None:
    assert counter_delta(BASE, state(peer(5), *now, handshake), epoch) == expected


@given(st.lists(st.tuples(st.integers(0, 2**40), st.booleans()), max_size=30))
def test_summed_over_polls_and_new_epochs_nothing_is_lost(polls: list[tuple[int, bool]]) -> None:
    base, counter, life, posted = record(5), 0, 0, 0
    for delta, restarted in polls:
        if restarted:
            counter, life = 0, life + 1
        counter += delta
        epoch = f"boot:{life}"
        posted += counter_delta(base, state(peer(5), counter, 0, 1), epoch)[0]
        base = record(5, counters=Counters(counter, 0), epoch=epoch, handshake=1)
    assert posted == sum(delta for delta, _ in polls)


# -- post


def node_state(*some: PeerRecord, at: float = NOW - 15) -> NodeState:
    return NodeState(3, records(*some), {"wg0": InterfaceCheckpoint(EPOCH, at)}, frozenset())


def booking(
    kernel: InterfaceState,
    books: NodeState,
    now: float = NOW,
    since: float | None = None,
    rate: float = 25e9,
    rows: dict[int, DeviceRow] | None = None,
) -> PostingResult:
    known = {key(n): one for n, one in rows.items()} if rows is not None else None
    since_of = {"wg0": since} if since is not None else {}
    return post(actual(kernel), books, calendar(now), since=since_of, max_rates={"wg0": rate}, rows=known)


def test_where_nothing_moved_nothing_is_written() -> None:
    assert not booking(dump(state(peer(5), 100, 50, 9)), node_state(BASE)).writes
    assert not booking(dump(), node_state(BASE)).writes
    assert not booking(dump(state(peer(99), 10**9)), node_state(BASE)).writes


def test_a_delta_goes_with_its_baseline_windows_and_handshake() -> None:
    writes = booking(dump(state(peer(5), 150, 60, EARLIEST)), node_state(BASE)).writes
    (one,) = writes.postings
    assert (one.row_id, one.rx, one.tx, one.handshake) == (5, 50, 10, EARLIEST / 1e9)
    assert one.allocations == calendar().allocate(Counters(50, 10), NOW - 15)
    assert [(r.counters, r.handshake, r.sampled_at, r.epoch) for r in writes.records] == [
        ((150, 60), EARLIEST, NOW, EPOCH)
    ]
    assert writes.checkpoints == {"wg0": InterfaceCheckpoint(EPOCH, NOW)}


def test_a_handshake_alone_is_booked_without_bytes_and_an_older_one_not_at_all() -> None:
    (one,) = booking(dump(state(peer(5), 100, 50, EARLIEST)), node_state(BASE)).writes.postings
    assert (one.rx, one.tx, one.allocations, one.handshake) == (0, 0, (), EARLIEST / 1e9)
    older = booking(dump(state(peer(5), 100, 50, 8)), node_state(BASE)).writes
    assert older.postings == ()
    assert older.records[0].handshake == 8


def test_a_reset_counts_from_zero_and_is_told() -> None:
    found = booking(dump(state(peer(5), 30, 40, 9)), node_state(BASE))
    assert (found.writes.postings[0].rx, found.writes.postings[0].tx) == (30, 40)
    assert [(a.kind, a.previous, a.current) for a in found.anomalies] == [("reset", (100, 50), (30, 40))]


def test_a_new_epoch_counts_from_zero_and_is_no_anomaly() -> None:
    found = booking(dump(state(peer(5), 30, 40), epoch="boot-b:1"), node_state(BASE))
    assert (found.writes.postings[0].rx, found.writes.postings[0].tx) == (30, 40)
    assert found.anomalies == ()
    assert found.writes.records[0].epoch == "boot-b:1"
    assert found.writes.checkpoints == {"wg0": InterfaceCheckpoint(EPOCH, NOW)}, (
        "the new life is audited before it is written"
    )


CAPACITY = int(8e6 / 8 * (15 + SLACK))  # the bytes that 8 Mbit/s carry in 15 s and the slack


@pytest.mark.parametrize(("delta", "ok"), [(CAPACITY, True), (CAPACITY + 1, False), (2**60, False)])
@pytest.mark.parametrize("side", ["rx", "tx"])
def test_more_than_the_link_carries_is_quarantined_and_not_booked(delta: int, ok: bool, side: str) -> None:
    counters = Counters(100 + delta, 50) if side == "rx" else Counters(100, 50 + delta)
    found = booking(dump(state(peer(5), *counters, 9)), node_state(BASE), since=NOW - 15, rate=8e6)
    assert [q.rx + q.tx for q in found.writes.quarantined] == ([] if ok else [delta])
    assert [a.kind for a in found.anomalies] == ([] if ok else ["quarantined"])
    assert sum(b.rx + b.tx for b in found.writes.postings) == (delta if ok else 0)
    assert found.writes.records[0].counters == counters, "the next delta starts here either way"


def test_a_restart_judges_a_delta_by_the_time_since_the_last_record() -> None:
    books = node_state(record(5, sampled_at=NOW - 3600), at=NOW - 3600)
    assert booking(dump(state(peer(5), 10**9)), books, rate=8e6).anomalies == ()
    assert booking(dump(state(peer(5), 10**9)), node_state(record(5)), rate=8e6).anomalies[0].kind == "quarantined"


def test_with_the_clock_set_back_nobody_knows_the_time_and_nothing_is_quarantined() -> None:
    books = node_state(record(5, sampled_at=NOW + 86400), at=NOW + 86400)
    found = booking(dump(state(peer(5), 10**9)), books, rate=8e6)
    assert found.writes.postings[0].rx == 10**9
    assert found.anomalies == ()


def test_the_time_a_process_measured_itself_is_believed_over_the_books() -> None:
    books = node_state(record(5, sampled_at=NOW + 86400), at=NOW + 86400)
    found = booking(dump(state(peer(5), 10**9)), books, since=NOW - 1, rate=8e6)
    assert [a.kind for a in found.anomalies] == ["quarantined"]
