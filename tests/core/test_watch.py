"""The watch asks as often as a hundredth of a core pays for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsyncd.watch import AWAY, OWN, RARELY, Watch


def test_it_looks_at_once_and_then_at_the_floor() -> None:
    watch = Watch(0.2)
    assert watch.due(100)
    watch.looked(100, 100.001, answered=True)
    assert not watch.due(100.199)
    assert watch.patience(100.1) == pytest.approx(0.1)
    assert watch.due(100.2)


def test_a_dear_look_is_taken_seldom() -> None:
    watch = Watch(0.2)
    watch.looked(100, 100.02, answered=True)
    assert watch.period == pytest.approx(100 * (0.02 + OWN))
    for _ in range(50):
        watch.looked(100, 100.001, answered=True)
    assert watch.period == 0.2, "it has become cheap again"
    watch.looked(100, 200, answered=True)
    assert watch.period == RARELY


def test_a_database_that_is_away_is_asked_seldom_and_says_nothing_of_the_cost() -> None:
    watch = Watch(0.2)
    watch.looked(100, 104, answered=False)
    assert watch.patience(100) == AWAY
    watch.looked(105, 105.001, answered=True)
    assert watch.patience(105) == pytest.approx(0.2)


def test_it_can_be_off() -> None:
    assert not Watch(0).due(1e9)
    assert Watch(0).patience(5) > 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.1, 60))
def test_it_never_costs_more_than_its_share(costs: list[float], floor: float) -> None:
    watch, now, spent = Watch(floor), 0.0, 0.0
    for cost in costs * 10:
        now += watch.patience(now)
        watch.looked(now, now + cost, answered=True)
        spent += min(cost + OWN, 0.01 * RARELY)
    assert spent <= 0.01 * (now + watch.patience(now)) * 1.5 + 0.2 * RARELY * 0.01 + max(costs)
