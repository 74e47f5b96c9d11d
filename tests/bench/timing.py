"""Medians of things that take turns, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """How long it takes, once. What was thrown away before is collected before."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def medians(what: str, repeat: int, **sides: Work | tuple[Work, Work]) -> dict[str, float]:
    """Each side's median of so many runs, in turn. A pair is (what is done before, unmeasured; what is measured). Told
    on standard error, too, since all of them together take the better part of an hour with 100,000 peers."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            before, work = side if isinstance(side, tuple) else (None, side)
            if before is not None:
                before()
            times[name].append(seconds(work))
    return told(what, times)


def told(what: str, times: dict[str, list[float]]) -> dict[str, float]:
    """The medians, which are also told."""
    found = {name: statistics.median(some) for name, some in times.items()}
    print(f"{what}:", ", ".join(f"{name} {short(one)} s" for name, one in found.items()), file=sys.stderr, flush=True)
    return found


def short(number: float) -> str:
    """Two digits that count, and never fewer than stand before the point."""
    return f"{number:.0f}" if number >= 99.5 else f"{number:.2g}"
