"""Several kinds of work take turns and are timed, so a noisy machine disturbs all of them alike."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """Returns the seconds that the work takes once. Garbage of earlier work is collected before."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def medians(what: str, repeat: int, **sides: Work | tuple[Work, Work]) -> dict[str, float]:
    """Returns each side's median of ``repeat`` runs in turn.

    A pair is the work that is done before without measurement, and the work that is measured. The medians are also
    printed on standard error, because everything together takes most of an hour with 100,000 peers.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            before, work = side if isinstance(side, tuple) else (None, side)
            if before is not None:
                before()
            times[name].append(seconds(work))
    return told(what, times)


def told(what: str, times: dict[str, list[float]]) -> dict[str, float]:
    """Returns the medians and prints them on standard error."""
    found = {name: statistics.median(some) for name, some in times.items()}
    print(f"{what}:", ", ".join(f"{name} {short(one)} s" for name, one in found.items()), file=sys.stderr, flush=True)
    return found


def short(number: float) -> str:
    """Returns a number with two significant digits, or with all digits before the point."""
    return f"{number:.0f}" if number >= 99.5 else f"{number:.2g}"
