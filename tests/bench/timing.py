"""Several kinds of work take turns and are timed, so a noisy machine disturbs all of them alike.

Each time has the processor time beside it: of this process, of the commands that it ran, and of the database server.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[[], object]
QUIET = 1.1  # times as long as undisturbed: so long a loop takes at most on a quiet machine
_TICKS = os.sysconf("SC_CLK_TCK")

servers: list[int] = []
"""The processes whose processor time counts, beside this one and its commands."""


class Took(float):
    """Seconds that something took, and the seconds of processor time meanwhile, in steps of the kernel's clock."""

    processor: float

    def __new__(cls, seconds: float, processor: float) -> Took:
        """Makes the number."""
        made = super().__new__(cls, seconds)
        made.processor = processor
        return made


def _processor() -> float:
    used = os.times()
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in servers)
    return sum(used[:4]) + sum(int(one[11]) + int(one[12]) for one in stats) / _TICKS  # utime and stime, see proc(5)


class Moment:
    """Holds a point in time."""

    def __init__(self) -> None:
        self._seconds, self._processor = time.perf_counter(), _processor()

    def since(self, earlier: Moment) -> Took:
        """Returns the seconds between both moments."""
        return Took(self._seconds - earlier._seconds, self._processor - earlier._processor)


def seconds(work: Work) -> Took:
    """Returns the seconds that the work takes once. Garbage of earlier work is collected before."""
    gc.collect()
    began = Moment()
    work()
    return Moment().since(began)


def disturbance(parts: int = 500) -> float:
    """Returns how many times as long a loop takes as undisturbed: as long as its fastest parts, of some 0.5 ms each.

    The processor time cannot tell: User-Mode Linux takes the time of other programs on its host for its own.
    """
    times = []
    for _ in range(parts):
        began = time.perf_counter()
        sum(range(50_000))
        times.append(time.perf_counter() - began)
    return sum(times) / parts / sorted(times)[parts // 20]


def medians(what: str, repeat: int, **sides: Work | tuple[Work, Work]) -> dict[str, Took]:
    """Returns each side's median of ``repeat`` runs in turn.

    A pair is the work that is done before without measurement, and the work that is measured. The medians are also
    printed on standard error, because everything together takes most of an hour with 100,000 peers.
    """
    times: dict[str, list[Took]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, side in sides.items():
            before, work = side if isinstance(side, tuple) else (None, side)
            if before is not None:
                before()
            times[name].append(seconds(work))
    return told(what, times)


def told(what: str, times: dict[str, list[Took]]) -> dict[str, Took]:
    """Returns the medians and prints them on standard error, with what disturbs the machine."""
    found = {
        name: Took(statistics.median(some), statistics.median(one.processor for one in some))
        for name, some in times.items()
    }
    sides = (f"{name} {short(one)} s (processor {short(one.processor)})" for name, one in found.items())
    print(f"{what}: {', '.join(sides)}, {condition(disturbance())}", file=sys.stderr, flush=True)
    return found


def condition(disturbed: float) -> str:
    """Returns whether the machine is quiet or busy, in words."""
    word = "quiet" if disturbed <= QUIET else "busy"
    return f"{word} machine: a loop takes {disturbed:.2f} times as long as undisturbed"


def short(number: float) -> str:
    """Returns a number with two significant digits, or with all digits before the point."""
    return f"{number:.0f}" if number >= 99.5 else f"{number:.2g}"
