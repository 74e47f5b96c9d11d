"""The watch asks as often as one hundredth of a core pays for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsyncd.daemon.pacing import MAX_INTERVAL, RETRY_INTERVAL, PollInterval, thread_cpu_time

OWN = 0.0005


def look(watch: PollInterval, at: float, took: float, own: float = OWN) -> None:
    """Records a turn of the daemon that polls. Half of the daemon's own work is for the query itself."""
    watch.record_query(at, took + own / 2, own / 2, answered=True)
    watch.record_idle_turn(own)


def test_it_looks_at_once_and_then_at_the_floor() -> None:
    watch = PollInterval(0.2)
    assert watch.due(100)
    look(watch, 100, 0.001)
    assert not watch.due(100.199)
    assert watch.delay(100.1) == pytest.approx(0.1)
    assert watch.due(100.2)


def test_a_dear_look_is_taken_seldom() -> None:
    watch = PollInterval(0.2)
    look(watch, 100, 0.02)
    look(watch, 102, 0.02)
    assert watch.period == pytest.approx(100 * (0.02 + OWN))
    look(watch, 104, 0.001)
    assert watch.period == 0.2, "it has become cheap again"
    for _ in range(20):
        look(watch, 106, 100)
    assert watch.period == MAX_INTERVAL


def test_our_own_work_counts_as_much_as_the_server_s() -> None:
    watch = PollInterval(0.2)
    for _ in range(20):
        look(watch, 100, 0.001, own=0.004)
    assert watch.period == pytest.approx(100 * 0.005)


def test_what_else_the_machine_does_does_not_make_it_slow() -> None:
    watch = PollInterval(0.2)
    for number in range(20):
        look(watch, 100 + number, 0.001 if number % 4 == 0 else 0.05, own=0.03 if number % 4 == 1 else OWN)
    assert watch.period == 0.2


def test_turns_without_a_look_say_nothing_of_the_cost() -> None:
    watch = PollInterval(0.2)
    for number in range(20):
        look(watch, 100 + number, 0.003)
        watch.record_idle_turn(0.00001)
    assert watch.period == pytest.approx(100 * (0.003 + OWN))


def test_a_database_that_is_away_is_asked_seldom_and_says_nothing_of_the_cost() -> None:
    watch = PollInterval(0.2)
    watch.record_query(100, 4, 0.001, answered=False)
    assert watch.delay(100) == RETRY_INTERVAL
    look(watch, 105, 0.001)
    assert watch.delay(105) == pytest.approx(0.2)


def test_it_can_be_off() -> None:
    assert not PollInterval(0).due(1e9)
    assert PollInterval(0).delay(5) > 0


def test_work_is_this_thread_s() -> None:
    before = thread_cpu_time()
    sum(range(100_000))
    assert thread_cpu_time() > before


@given(st.floats(0, 0.1), st.floats(0, 0.05), st.floats(0.1, 60))
def test_it_never_costs_more_than_its_share(server: float, own: float, floor: float) -> None:
    watch, now, spent = PollInterval(floor), 0.0, 0.0
    for _ in range(100):
        now += watch.delay(now)
        look(watch, now, server, own)
        spent += server + own
    assert spent <= 0.01 * (now + watch.delay(now)) + 2 * (server + own) or watch.period >= MAX_INTERVAL
