"""At the end of a round everything is healed, and the table is compared with the counted bytes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.faults.books import Figures
from tests.faults.oracle import SIDES, Bytes, Difference
from tests.faults.runner import Deed, Play
from tests.faults.stage import Device
from tests.faults.web import Away

PATIENCE = 60.0  # nominal seconds in which the table must become right


def read(play: Play) -> dict[str, Figures]:
    """Returns the sums of all devices. Raises Away while the database is away."""
    return play.stage.books.figures(play.stage.web, play.stage.clock.now())


def inner(play: Play, found: Mapping[str, Figures]) -> list[Difference]:
    """Returns the sums that do not agree with each other.

    It compares the windows with their buckets and days, and the days with the totals.
    """
    wrong: list[Difference] = []
    for name, one in found.items():
        shift = play.due.accounts[name].shift
        for at, side in enumerate(SIDES):
            pairs = [("days", one.total[at] + shift[side], one.days[at]),
                     (f"{side}_bytes_24h", one.buckets[at], one.rolling[at]),
                     (f"{side}_bytes_month", one.days_of_month[at], one.month[at])]  # fmt: skip
            if not play.stage.clock.ever:  # a run is shorter than a day, and no byte was posted elsewhere
                pairs.append((f"{side}_bytes_24h and all days", one.days[at], one.rolling[at]))
            wrong += [Difference(name, column, true, posted) for column, true, posted in pairs if true != posted]
    return wrong


class Verdict(NamedTuple):
    """Tells how a round ended."""

    seconds: float | None  # the time until the table was right, or None if it never was
    wrong: list[Difference]


def settle(play: Play, began: float) -> Deed[Verdict]:
    """Waits until the table is right. ``began`` is when everything was healed, in monotonic seconds.

    All counted bytes must be posted, too. After a removal under traffic the sums alone do not show that: the oracle takes
    each sum within its bounds for the truth. Bytes that came later would then be doubled in the next round.
    """
    end = began + PATIENCE * play.stage.pace
    while True:
        counters = play.stage.counters(fresh=True)
        actual = by_device(play.stage.devices, counters)
        try:
            posted_up_to = play.stage.books.baselines(play.stage.web)  # before the sums, which then have all of this
            found = read(play)
        except Away:
            yield
            continue
        posted = {name: one.total for name, one in found.items()}
        wrong = play.due.compare(actual, posted)
        others = inner(play, found)
        waiting = {(key, counter) for (_, key), counter in counters.items()} - posted_up_to
        late = time.monotonic() > end
        if late and waiting:
            play.trouble(f"the bytes of {len(waiting)} peers are counted and not posted")
        if late or not (wrong or others or waiting):
            concluded = play.due.conclude(actual, posted)
            play.due.differences += others
            return Verdict(None if late else time.monotonic() - began, concluded + others)
        yield


def rest(play: Play) -> Deed[None]:
    """Checks that two more cycles write nothing when all is right. The kernel must match the rows."""
    yield from cycles(play, 2)
    before = yield from _seq(play)
    yield from cycles(play, 2)
    after = yield from _seq(play)
    if before != after:
        play.trouble(f"at rest, and yet {after - before} transactions were written")
    _judge_peers(play)


def served(play: Play) -> Deed[bool]:
    """Checks after the first whole cycle that the kernel matches the rows, so that nobody waits for a second one."""
    yield from cycles(play, 1)
    _judge_peers(play)
    return True


def _judge_peers(play: Play) -> None:
    want = {(d.interface, d.keys.public): (f"{d.address}/32", d.preshared_key) for d in play.stage.devices}
    have = {
        (name, key): (peer.allowed_ips, peer.preshared_key)
        for name, peers in play.stage.world.dump().items()
        for key, peer in peers.items()
    }
    for slot in sorted(want.keys() | have.keys()):
        if want.get(slot) != have.get(slot):
            name = next((d.name for d in play.stage.devices if (d.interface, d.keys.public) == slot), "nobody")
            play.trouble(f"the peer of {name} on {slot[0]} is not what the table says")


def cycles(play: Play, count: int) -> Deed[None]:
    """Waits for successful reconciles that begin after this call, each until its end."""
    for _ in range(count):
        asked = time.monotonic()
        while not play.answers() or play.eyes.seen.asked < asked:
            yield
        before = [one.seen.successes("reconcile") for one in play.eyes.each]
        for more in (1, 2):  # a run counts from its beginning: the first one is over when the second one begins
            for daemon in play.stage.kept:
                os.kill(daemon.pid, signal.SIGUSR1)
            while any(
                one.seen.successes("reconcile") < old + more for one, old in zip(play.eyes.each, before, strict=True)
            ):
                yield


def _seq(play: Play) -> Deed[int]:
    while True:
        try:
            return play.stage.books.revision(play.stage.web)
        except Away:
            yield


def by_device(devices: Sequence[Device], counters: Mapping[tuple[str, str], Bytes]) -> dict[str, Bytes]:
    """Returns the present counters of each device that has a peer."""
    found = {device.name: counters.get((device.interface, device.keys.public)) for device in devices}
    return {name: one for name, one in found.items() if one is not None}
