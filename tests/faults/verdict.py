"""The end of a round: all is healed, nothing moves, and the table is held against what was counted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from tests.faults.on_daemon import ZONE
from tests.faults.oracle import SIDES, Bytes, Difference
from tests.faults.runner import Deed, Play
from tests.faults.stage import by_device
from tests.faults.web import Away

PATIENCE = 60.0  # nominal seconds in which the books must be right
BUCKET = 900  # seconds; the default of usage.bucket_width
ROLLING = 86400

_FIGURES = """
SELECT d.device_id, d.rx_bytes_total, d.tx_bytes_total, d.rx_bytes_24h, d.tx_bytes_24h, d.rx_bytes_month,
       d.tx_bytes_month, COALESCE(b.rx, 0), COALESCE(b.tx, 0), COALESCE(m.rx, 0), COALESCE(m.tx, 0),
       COALESCE(a.rx, 0), COALESCE(a.tx, 0)
FROM customer_devices d
LEFT JOIN (SELECT row_id, SUM(rx) rx, SUM(tx) tx FROM wgsyncd_buckets WHERE start >= %s AND start <= %s
           GROUP BY row_id) b ON b.row_id = d.id
LEFT JOIN (SELECT row_id, SUM(rx) rx, SUM(tx) tx FROM wgsyncd_days WHERE day >= %s AND day < %s
           GROUP BY row_id) m ON m.row_id = d.id
LEFT JOIN (SELECT row_id, SUM(rx) rx, SUM(tx) tx FROM wgsyncd_days GROUP BY row_id) a ON a.row_id = d.id
"""


class Figures(NamedTuple):
    """One device's, as the table has them; and what buckets and days say."""

    total: Bytes
    rolling: Bytes
    month: Bytes
    buckets: Bytes
    days_of_month: Bytes
    days: Bytes


def read(play: Play) -> dict[str, Figures]:
    """All devices' figures. Away where the database is."""
    now = play.stage.clock.now()
    first = datetime.fromtimestamp(now, ZONE).date().replace(day=1)
    values = (int(now // BUCKET) * BUCKET - ROLLING, int(now), first, (first + timedelta(days=32)).replace(day=1))
    found = {}
    for name, *figures in play.stage.web.query(_FIGURES, values):
        numbers = [int(figure) for figure in figures]
        found[str(name)] = Figures(*(Bytes(*numbers[at : at + 2]) for at in range(0, len(numbers), 2)))
    return found


def inner(play: Play, found: Mapping[str, Figures]) -> list[Difference]:
    """Figures that do not agree with each other: the windows with what they are made of, the days with the totals."""
    wrong: list[Difference] = []
    for name, one in found.items():
        shift = play.truth.accounts[name].shift
        for at, side in enumerate(SIDES):
            pairs = [("days", one.total[at] + shift[side], one.days[at]),
                     (f"{side}_bytes_24h", one.buckets[at], one.rolling[at]),
                     (f"{side}_bytes_month", one.days_of_month[at], one.month[at])]  # fmt: skip
            if not play.stage.clock.ever:  # a run is shorter than a day, and nothing was booked elsewhere
                pairs.append((f"{side}_bytes_24h and all days", one.days[at], one.rolling[at]))
            wrong += [Difference(name, column, true, booked) for column, true, booked in pairs if true != booked]
    return wrong


class Verdict(NamedTuple):
    """How a round ended."""

    seconds: float | None  # until the books were right; None: never
    wrong: list[Difference]


def settle(play: Play, began: float) -> Deed[Verdict]:
    """Wait until the books are right; ``began``: when all was healed (monotonic)."""
    end = began + PATIENCE * play.stage.pace
    while True:
        counters = play.stage.counters(fresh=True)
        actual = by_device(play.stage.devices, counters)
        try:
            found = read(play)
        except Away:
            yield
            continue
        booked = {name: one.total for name, one in found.items()}
        wrong = play.truth.compare(actual, booked)
        others = inner(play, found)
        late = time.monotonic() > end
        if late or not (wrong or others):
            concluded = play.truth.conclude(actual, booked)
            play.truth.differences += others
            return Verdict(None if late else time.monotonic() - began, concluded + others)
        yield


def rest(play: Play) -> Deed[None]:
    """When all is right, two more cycles write nothing; and the kernel has what the rows say."""
    yield from _cycles(play, 2)
    before = yield from _seq(play)
    yield from _cycles(play, 2)
    after = yield from _seq(play)
    if before != after:
        play.trouble(f"at rest, and yet {after - before} transactions were written")
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


def _cycles(play: Play, count: int) -> Deed[None]:
    for _ in range(count):
        asked = time.monotonic()
        while not play.answers() or play.eyes.seen.asked < asked:
            yield
        seen = play.eyes.seen
        os.kill(play.stage.daemons[0].pid, signal.SIGUSR1)
        while play.eyes.seen.successes("reconcile") <= seen.successes("reconcile"):
            yield


def _seq(play: Play) -> Deed[int]:
    while True:
        try:
            return int(play.stage.web.query("SELECT SUM(seq) FROM wgsyncd_nodes")[0][0])
        except Away:
            yield
