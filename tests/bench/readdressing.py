"""How long one decision takes if each device gets its neighbour's address. It needs neither root nor a database.

``python -m tests.bench.readdressing [DEVICES]`` prints two times in seconds. In the first case the first row is frozen.
In the second case the guard holds the first peer. So the whole chain behind it waits.
"""

from __future__ import annotations

import sys
import time

from tests.core.test_readdressing import WIDE, host, readdressed
from tests.samples import NOW, actual, dump, peer, records, row
from wgsyncd.core.model import DeviceRow, Status
from wgsyncd.core.peers.desired import PeerPolicy, build_desired
from wgsyncd.core.peers.guard import RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import make_plan


def measure(count: int, first: DeviceRow) -> float:
    """Returns the seconds of one decision about ``count`` devices. ``first``: the row at the begin of the chain."""
    kernel = actual(dump(*(peer(n, host(n)) for n in range(2, count + 2))))
    rows = [first, *readdressed(count)[1:]]
    began = time.perf_counter()
    desired = build_desired(rows, WIDE, PeerPolicy(), kernel, NOW)
    plan = make_plan(desired, kernel, records(), PeerPolicy())
    decision = apply_guard(desired, plan, kernel, RemovalLimits(0, 0.0, 0), None)
    took = time.perf_counter() - began
    assert not decision.plan.changes, "the whole chain waits"
    return took


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"frozen: {measure(number, row(2, addresses=('junk',))):.2f} s")
    print(f"withheld: {measure(number, row(2, addresses=(host(2),), status=Status.OFF)):.2f} s")
