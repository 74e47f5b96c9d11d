"""Another revision is measured by its own benchmark, in turn with the present one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import table
from tests.bench.timing import short

TOP = Path(__file__).resolve().parents[2]
TURNS = 2

Results = dict[int, list[dict[str, Any]]]
"""The results of all turns, by the number of peers."""


def run(revision: str, peers: Sequence[int], repeat: int, only: str | None) -> dict[str, Results]:
    """Returns the results of both sides, by the name of the side."""
    packed = subprocess.run(["git", "archive", revision], cwd=TOP, stdout=subprocess.PIPE, check=True).stdout
    words = ["--json", "--repeat", str(repeat), "--peers", *map(str, peers), *(["--only", only] if only else [])]
    sides: dict[str, Results] = {revision: {}, "here": {}}
    with tempfile.TemporaryDirectory(prefix="wgsyncd-bench-") as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        for _ in range(TURNS):
            for name, where in ((revision, Path(folder)), ("here", TOP)):
                command = [sys.executable, "-m", "tests.bench", *words]
                done = subprocess.run(command, cwd=where, stdout=subprocess.PIPE, text=True, check=True)
                for line in done.stdout.splitlines():
                    result = json.loads(line)
                    sides[name].setdefault(result["peers"], []).append(result)
    return sides


def text(sides: dict[str, Results]) -> str:
    """Returns a Markdown table: for each work and number of peers, the ratio of each side."""
    lines = ["| work | peers | " + " | ".join(sides) + " |", "|" + "---|" * (2 + len(sides))]
    for peers in next(iter(sides.values())):
        for _, what, against, _, ours, theirs, _ in table.LINES:
            cells = [_cell(results[peers], ours, theirs) for results in sides.values()]
            if any(cells):
                lines.append("| " + " | ".join([f"{what}, {against}", f"{peers:,}", *cells]) + " |")
    return "\n".join(lines)


def _cell(results: list[dict[str, Any]], ours: tuple[str, str], theirs: tuple[str, str]) -> str:
    pairs = [
        (seconds[ours[0]][ours[1]], seconds[theirs[0]][theirs[1]])
        for seconds in (one["seconds"] for one in results)
        if all(key in seconds.get(group, {}) for group, key in (ours, theirs))
    ]
    if not pairs:
        return ""
    left, right = (statistics.median(some) for some in zip(*pairs, strict=True))
    return f"{short(left)} / {short(right)} = {short(statistics.median(a / b for a, b in pairs))}"
