"""Late samples post what they would have posted at once, after any number of interruptions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.samples import EPOCH, NOW, calendar, dump, key, peer, record, records, state
from wgsyncd.core.model import DeviceId, InterfaceState
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.core.usage import backlog as backlog_module
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import BOUNDARY_GRACE
from wgsyncd.core.usage.posting import post
from wgsyncd.stores.spool import decode, encode

DAY = calendar().day(NOW)


def node_state(*numbers: int, rx: int = 0, handshake: int = 0, **more: Any) -> NodeState:
    base = [replace(record(n), rx=rx, handshake=handshake) for n in numbers]
    return NodeState(0, records(*base), {}, frozenset(), **more)


def look(*peers: tuple[int, int], epoch: str = EPOCH, handshake: int = 0) -> InterfaceState:
    """Returns a dump in which each given peer has this many received bytes."""
    return dump(*(state(peer(n), rx, 0, handshake) for n, rx in peers), epoch=epoch)


def kept(backlog: Backlog) -> list[dict[int, int]]:
    """Returns the received bytes of each peer, for each sample of the backlog."""
    numbers = {key(n): n for n in range(2, 12)}
    return [{numbers[k]: found.counters.rx for k, found in one.state.peers.items()} for one in backlog.samples]


def keep(known: NodeState | None, *looks: InterfaceState, day: str = DAY, into: Backlog | None = None) -> Backlog:
    backlog = into or Backlog("s")
    for index, one in enumerate(looks):
        at = NOW + 15 * (backlog.next_number + index)
        backlog = backlog.append(one, at - 15, at, day, known)
    return backlog


# -- what the backlog keeps


def test_what_the_books_have_is_not_kept() -> None:
    assert keep(node_state(5, 6), look((5, 0), (6, 0))) == Backlog("s")
    assert kept(keep(node_state(5, 6), look((5, 0), (6, 9)))) == [{6: 9}]


def test_a_peer_that_the_books_do_not_know_is_not_kept_unless_they_were_never_seen() -> None:
    assert keep(node_state(5), look((9, 1))) == Backlog("s")
    assert kept(keep(None, look((9, 1)))) == [{9: 1}]


def test_a_look_at_which_nothing_moved_is_not_kept() -> None:
    once = keep(node_state(5), look((5, 1)))
    assert keep(node_state(5), look((5, 1)), into=once) is once


def test_of_one_day_the_last_sample_is_kept() -> None:
    backlog = keep(node_state(5, 6), look((5, 1), (6, 1)), look((5, 2), (6, 1)), look((5, 3), (6, 1)))
    assert kept(backlog) == [{6: 1}, {5: 3}]
    assert [one.since for one in backlog.samples] == [NOW, NOW], "what 5 moved came since the first of them"


def test_of_each_day_one_is_kept() -> None:
    backlog = keep(node_state(5), look((5, 1)), look((5, 2)))
    assert kept(keep(node_state(5), look((5, 3)), look((5, 4)), day="2030-01-01", into=backlog)) == [{5: 2}, {5: 4}]


def test_one_that_spans_midnight_is_kept() -> None:
    backlog = keep(node_state(5), look((5, 1)))
    backlog = keep(node_state(5), look((5, 2)), day="", into=backlog)
    assert kept(keep(node_state(5), look((5, 3)), look((5, 4)), into=backlog)) == [{5: 1}, {5: 2}, {5: 4}]


def test_of_each_life_one_is_kept() -> None:
    """Counters began again if the epoch is new, a counter is lower or the handshake is older.

    The last sample before is kept.
    """
    backlog = keep(node_state(5), look((5, 8)), look((5, 9)), look((5, 9), epoch="b"), look((5, 10), epoch="b"))
    assert kept(backlog) == [{5: 9}, {5: 10}]
    backlog = keep(node_state(5), look((5, 8)), look((5, 9)), look((5, 1)), look((5, 20)), look((5, 21)))
    assert kept(backlog) == [{5: 9}, {5: 1}, {5: 21}]
    backlog = keep(node_state(5), look((5, 8), handshake=9), look((5, 9)), look((5, 10)))
    assert kept(backlog) == [{5: 8}, {5: 9}, {5: 10}]


def test_the_first_sample_of_a_life_that_the_books_do_not_know_is_kept() -> None:
    """Only this sample shows that the counters were below the baseline in between."""
    assert kept(keep(node_state(5, rx=100), look((5, 3)), look((5, 120)), look((5, 121)))) == [{5: 3}, {5: 121}]
    assert kept(keep(node_state(5, rx=100), look((5, 103)), look((5, 120)))) == [{5: 120}]
    assert kept(keep(None, look((5, 103)), look((5, 120)), look((5, 121)))) == [{5: 103}, {5: 121}]


def test_other_interfaces_are_other_counters() -> None:
    other = dump(state(peer(5), 7), name="wg1")
    assert kept(keep(None, look((5, 1)), other)) == [{5: 1}, {5: 7}]


def test_what_the_file_has_stays_while_it_cannot_be_written() -> None:
    firm = keep(node_state(5, 6), look((5, 1), (6, 1)))
    later = firm.append(look((5, 2), (6, 1)), NOW, NOW + 30, DAY, node_state(5, 6), durable_position=1)
    later = later.append(look((5, 3), (6, 1)), NOW, NOW + 45, DAY, node_state(5, 6), durable_position=1)
    assert kept(later) == [{5: 1, 6: 1}, {5: 3}]


def test_there_is_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "CAPACITY", 2)
    backlog = keep(node_state(5, 6, 7), look((5, 1), (6, 1)))
    assert kept(keep(node_state(5, 6, 7), look((5, 2), (6, 2)), into=backlog)) == [{5: 2, 6: 2}], "takes no more room"
    with pytest.raises(OverflowError):
        keep(node_state(5, 6, 7), look((5, 2), (6, 1), (7, 1)), into=backlog)


# -- positions


def test_what_is_marked_is_not_booked_again() -> None:
    backlog = keep(None, look((5, 1)), look((6, 1)), look((7, 1)))
    mark = backlog.position(backlog.samples[1])
    assert mark == "s:2"
    assert kept(backlog.after(mark)) == [{7: 1}]
    assert backlog.after("") == backlog.after("other:9") == backlog


def test_a_number_that_is_marked_is_not_given_again() -> None:
    assert Backlog("s", 3).after("s:7").next_number == 8


def test_a_sample_that_took_the_place_of_one_in_doubt_is_booked() -> None:
    """The commit of the first sample has happened. The second sample adds only the bytes that came since."""
    backlog = keep(None, look((5, 10)), look((5, 20)))
    mark = backlog.position(backlog.samples[0])
    later = keep(None, look((5, 25)), into=backlog).after(mark)
    assert kept(later) == [{5: 25}]


# -- late posting compared with posting at once


class Account:
    """Holds a node state and sums what is posted to it by row and day."""

    def __init__(self, books: NodeState) -> None:
        self.books = self.before = books
        self.days: Counter[tuple[DeviceId, str]] = Counter()
        self.resets = 0

    def book(self, state: InterfaceState, now: float, since: float, at: float | None = None, mark: str = "") -> None:
        sinces = {state.name: since} if since else {}
        found = post(
            {state.name: state},
            self.books,
            calendar(now),
            since=sinces,
            max_rates={"wg0": 25e9},
            at=at,
            complete=at is None,
        )
        self.books = self.books.after(found.writes + WriteBatch(spool_position=mark))
        self.resets += len(found.anomalies)
        for one in found.writes.postings:
            for piece in one.allocations:
                self.days[one.row_id, piece.day] += piece.rx

    def catch_up(self, backlog: Backlog, now: float, stop: int | None, firm: int) -> Backlog:
        """Posts the waiting samples and returns the backlog that the process then has.

        With ``stop``, only that many transactions happen, and the answer to the last one is lost. The process then
        still has the node state from before that transaction. Samples above the number ``firm`` are not durable, so
        they are posted without a position.
        """
        self.before = self.books
        waits = backlog.after(self.books.spool_position)
        some = waits.samples[:stop]
        for one in some:
            self.before = self.books
            self.book(one.state, now, one.since, one.at, waits.position(one) if one.number <= firm else "")
        return replace(waits, samples=some[-1:] + waits.samples[len(some) :])


MOVES = st.tuples(
    st.sampled_from([5, 6, 7]),
    st.sampled_from(["on", "on", "on", "shake", "anew", "anew and on"]),
    st.integers(1, 1000),
)
LOOKS = st.tuples(
    st.lists(MOVES, max_size=3),
    st.sampled_from([15.0, 15.0, 900.0, 6400.0, 86400.0]),  # seconds since the poll before
    st.sampled_from(["", "", "", "full", "restart", "other boot", "books"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(LOOKS, min_size=1, max_size=14), st.lists(st.integers(0, 3), max_size=4), st.booleans())
def test_booked_late_is_booked_at_once(looks: list[Any], stops: list[int], known: bool) -> None:
    """The examples include new epochs, new days, restarts and a full disk.

    The database is at times back for a few transactions.
    """
    at_once, late = Account(node_state(5, 6, 7)), Account(node_state(5, 6, 7))
    counters, epoch, now, before = dict.fromkeys((5, 6, 7), (0, 0)), EPOCH, NOW, NOW - 15
    memory = file = Backlog("s")
    sure: NodeState | None = late.books if known else None
    firm = 0
    for moves, seconds, event in looks:
        now += seconds
        epoch = f"{epoch}'" if event == "other boot" else epoch
        counters = dict.fromkeys(counters, (0, 0)) if event == "other boot" else counters
        for number, what, rx in moves:
            if "anew" in what:
                counters[number] = (0, 0)
            if what != "anew":
                had, handshake = counters[number]
                counters[number] = (had + rx, int(now) if what == "shake" else handshake)
        state_now = dump(*(state(peer(n), rx, 0, shaken) for n, (rx, shaken) in counters.items()), epoch=epoch)
        at_once.book(state_now, now, before)
        day = (
            calendar().day(now - BOUNDARY_GRACE)
            if calendar().day(now - BOUNDARY_GRACE) == calendar().day(before)
            else ""
        )
        if event == "full":  # this sample is in memory alone
            memory = memory.append(state_now, before, now, day, sure, durable_position=firm)
        else:
            file = memory = decode(encode(memory.append(state_now, before, now, day, sure), "r640"), "r640")
            firm = file.next_number - 1
        if event == "restart" and memory is file:
            sure = None
        if event == "books" and stops:
            rest = late.catch_up(memory, now, stops.pop(), firm)
            if memory is file and known:
                sure = None  # another process starts, which has the file
            else:
                memory, sure = rest, late.before
        before = now
    late.catch_up(memory, now, None, firm)
    late.book(state_now, now, before)
    assert late.days == at_once.days
    assert late.resets == at_once.resets
    assert {n: r.counters for n, r in late.books.records.items()} == {
        n: r.counters for n, r in at_once.books.records.items()
    }
