"""The rates of an interface are measured over at least five seconds, and anew when its counters fall."""

from __future__ import annotations

from wgsyncd.engine.rates import MEASURED_OVER, RateMeter, Rates


def test_a_rate_needs_two_measurements_that_lie_apart() -> None:
    meter = RateMeter()
    assert meter.measure("wg0", 100, 10, 50.0) == Rates()
    assert meter.measure("wg0", 900, 90, 50.0 + MEASURED_OVER - 1) == Rates(), "too soon"
    assert meter.measure("wg0", 1100, 110, 60.0) == Rates(100.0, 10.0)
    assert meter.measure("wg0", 9100, 910, 61.0) == Rates(100.0, 10.0), "the last rates stay"
    assert meter.measure("wg1", 9100, 910, 61.0) == Rates(), "each interface has its own"


def test_counters_that_fell_and_a_missing_interface_and_a_clock_set_back_begin_anew() -> None:
    meter = RateMeter()
    meter.measure("wg0", 100, 100, 0.0)
    assert meter.measure("wg0", 200, 200, 10.0) == Rates(10.0, 10.0)
    assert meter.measure("wg0", 150, 300, 20.0) == Rates()
    assert meter.measure("wg0", 250, 400, 30.0) == Rates(10.0, 10.0)
    assert meter.measure("wg0", 350, 500, 5.0) == Rates()
    meter.forget("wg0")
    assert meter.measure("wg0", 9000, 9000, 60.0) == Rates()
    assert meter.measure("wg0", 9100, 9000, 70.0) == Rates(10.0, 0.0)
