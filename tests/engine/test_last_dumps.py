"""What is kept of the last dumps gives each peer its rates, whatever came and went."""

from __future__ import annotations

import sys

from tests.samples import key, peer
from wgsyncd.core.model import InterfaceState, PeerState
from wgsyncd.engine.last_dumps import MEASURED_OVER, LastDumps, Rates, note

NONE = Rates()


def of(epoch: str = "1:1", /, **counters: tuple[int, int]) -> dict[str, InterfaceState]:
    peers = {key(int(n[1:])): PeerState(peer(int(n[1:])), rx, tx, 7) for n, (rx, tx) in counters.items()}
    return {"wg0": InterfaceState("wg0", epoch, None, 1, peers)}


def test_rates_follow_the_peer_not_its_place() -> None:
    last = note(None, of(p5=(100, 10), p6=(200, 20), p7=(300, 30)), 1000.0)
    assert {rates for _, rates in last.peers().values()} == {NONE}
    last = note(last, of(p8=(50, 5), p7=(400, 40), p5=(100, 30)), 1010.0)
    assert {at[1]: rates for at, (_, rates) in last.peers().items()} == {
        key(8): NONE, key(7): Rates(10, 1), key(5): Rates(0, 2),
    }  # fmt: skip
    last = note(last, of(p5=(99, 30), p7=(500, 40), p8=(50, 5)), 1020.0)
    assert {at[1]: rates for at, (_, rates) in last.peers().items()} == {
        key(8): Rates(0, 0), key(7): Rates(10, 0), key(5): NONE,
    }  # fmt: skip


def test_a_short_time_is_measured_from_the_moment_before() -> None:
    last = note(None, of(p5=(0, 0)), 1000.0)
    last = note(last, of(p5=(100, 0), p6=(0, 0)), 1010.0)
    for second in (1, 2):
        last = note(last, of(p6=(10, 0), p5=(200, 0)), 1010.0 + second)
    assert last.since == 1000.0
    assert {at[1]: rates.rx for at, (_, rates) in last.peers().items()} == {key(5): 200 / 12, key(6): None}


def test_another_epoch_and_a_clock_that_was_set_back_give_no_rate() -> None:
    last = note(note(None, of(p5=(0, 0)), 1000.0), of("1:2", p5=(100, 0)), 1010.0)
    assert last.peers()["wg0", key(5)][1] == NONE
    last = note(last, of("1:2", p5=(200, 0)), 900.0)
    assert last.peers()["wg0", key(5)][1] == NONE


def test_an_interface_that_lies_about_its_numbers_ends_nothing() -> None:
    lie = PeerState(peer(5), 1 << 70, 1 << 64, 1 << 80)
    state = InterfaceState("wg0", "1:1", None, 1, {key(5): lie})
    last = note(note(None, {"wg0": state}, 1000.0), {"wg0": state}, 1010.0)
    assert last.peers()["wg0", key(5)][0].config == lie.config


def test_what_is_kept_is_small() -> None:
    """A dump has objects for each number."""
    state = of(**{f"p{n}": (10**9 + n, 10**9) for n in range(1, 200)})
    kept = note(note(None, state, 1000.0), state, 1010.0).interfaces["wg0"]
    assert sum(map(sys.getsizeof, kept)) < 64 * 199 + 1000


def rates_of(last: LastDumps) -> Rates:
    return last.rates_of("wg0")


def test_the_rates_of_an_interface_are_the_sums_of_its_peers() -> None:
    last = note(None, of(p5=(0, 0), p6=(100, 10)), 1000.0)
    assert rates_of(last) == NONE, "a rate needs two moments"
    last = note(last, of(p5=(500, 50), p6=(600, 60), p7=(90_000, 9)), 1010.0)
    assert rates_of(last) == Rates(100, 10), "nobody knows since when the new peer has its bytes"
    last = note(last, of(p5=(1400, 140), p6=(700, 70)), 1010.0 + MEASURED_OVER - 1)
    assert rates_of(last) == Rates((1400 + 600) / 14, (140 + 60) / 14), "too soon for a measurement of its own"
    assert last.rates_of("wg1") == NONE
    last = note(last, of(p6=(800, 70)), 1024.0)
    assert rates_of(last) == Rates(10, 0), "a peer that goes takes nothing from the rate"
    assert rates_of(note(last, of(), 1034.0)) == Rates(0, 0)


def test_the_rates_of_an_interface_begin_anew_with_its_counters() -> None:
    last = note(note(None, of(p5=(100, 100)), 1000.0), of(p5=(200, 200)), 1010.0)
    assert rates_of(last) == Rates(10, 10)
    assert rates_of(note(last, of(p5=(150, 300)), 1020.0)) == NONE, "counters that fell"
    assert rates_of(note(last, of("2:1", p5=(900, 900)), 1020.0)) == NONE, "another boot"
    assert rates_of(note(last, of(p5=(300, 300)), 1005.0)) == NONE, "a clock that was set back"
    away = note(last, {}, 1020.0)
    assert rates_of(away) == NONE
    back = note(away, of(p5=(900, 900)), 1030.0)
    assert rates_of(back) == NONE, "the interface was missing"
    assert rates_of(note(back, of(p5=(1000, 900)), 1040.0)) == Rates(10, 0)
