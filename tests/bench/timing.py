"""Medians of things that take turns, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """How long it takes, once. What was thrown away before is collected before."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def medians(repeat: int, **sides: Work | tuple[Work, Work]) -> dict[str, float]:
    """Each side's median of so many runs, in turn. A pair is (what is done before, unmeasured; what is measured)."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            before, work = side if isinstance(side, tuple) else (None, side)
            if before is not None:
                before()
            times[name].append(seconds(work))
    return {name: statistics.median(found) for name, found in times.items()}
