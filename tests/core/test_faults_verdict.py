"""The verdict of tests/faults ends no round while counted bytes are not posted."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

from tests.faults.books import Figures
from tests.faults.oracle import Bytes, DueBytes
from tests.faults.runner import Play
from tests.faults.verdict import settle

DEVICE, SLOT = "laptop", ("wg0", "key")


class Tables:
    """Holds what the daemon has posted: a baseline and a total."""

    def __init__(self, baseline: Bytes, total: Bytes) -> None:
        self.baseline, self.total = baseline, total

    def baselines(self, _: object) -> set[tuple[str, Bytes]]:
        return {(SLOT[1], self.baseline)}

    def figures(self, *_: object) -> dict[str, Figures]:
        return {DEVICE: Figures(*[self.total] * 6)}


def test_a_removal_under_traffic_hides_no_bytes_that_wait() -> None:
    """A posting that comes after the round would count as doubled in the next round."""
    removed, present = Bytes(500, 700), Bytes(30, 40)
    due, tables = DueBytes([DEVICE]), Tables(Bytes(0, 0), removed)
    due.end_busy(DEVICE, Bytes(400, 600), removed, Bytes(400_000, 400_000))
    device = SimpleNamespace(name=DEVICE, interface=SLOT[0], keys=SimpleNamespace(public=SLOT[1]))
    clock = SimpleNamespace(now=lambda: 0.0, ever=False)
    stage = SimpleNamespace(pace=1.0, devices=[device], counters=lambda **_: {SLOT: present}, books=tables, web=None,
                            clock=clock)  # fmt: skip
    deed = settle(cast(Play, SimpleNamespace(stage=stage, due=due)), time.monotonic())

    ended = next(deed, "ended")  # the new peer's bytes wait, so the round goes on
    tables.baseline, tables.total = present, removed.plus(present)
    next(deed, None)

    assert ended is None
    assert not due.compare({DEVICE: present}, {DEVICE: tables.total})
    assert due.removals.posted == due.removals.seen == 200
