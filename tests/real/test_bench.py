"""The benchmark runs and measures. The test does not judge its numbers."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
RATIOS = {"dump_vs_wg_show", "noop_vs_syncconf", "fill_vs_setconf", "change_vs_syncconf", "pyroute2_vs_decode",
          "commit_vs_bare_sql", "partial_vs_full_poll"}  # fmt: skip


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)
    else:
        yield value


@pytest.mark.vm
def test_quick() -> None:
    """An emulated machine is some fifteen times slower, so the 10,000 peers of --quick are left out.

    The benchmark itself asserts that an unchanged cycle writes nothing and that all bytes are posted.
    """
    command = [sys.executable, "-m", "tests.bench", "--quick", "--json", "--idle", "1", "--peers", "30"]
    environment = {name: value for name, value in os.environ.items() if name != "WGSYNCD_VM_RESULTS"}
    done = subprocess.run(command, cwd=TOP, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["peers"] for one in results] == [30]
    for one in results:
        assert set(one) == {"peers", "ratios", "seconds", "rss_mib", "writer_stall_ms", "more"}
        assert set(one["ratios"]) == RATIOS
        assert set(one["more"]) == {
            "kernel",
            "repeat",
            "disturbance",
            "processor",
            "rss_peak_mib",
            "writer_alone_ms",
            "writer_elsewhere_ms",
            "start",
            "idle",
        }
        figures = [*_numbers(one["seconds"]), *_numbers(one["ratios"])]
        assert len(figures) > 25
        assert all(math.isfinite(number) and number > 0 for number in figures), one
        assert one["rss_mib"] > 10
        assert one["writer_stall_ms"] > 0


@pytest.mark.vm
def test_propagation() -> None:
    command = [sys.executable, "-m", "tests.bench.propagating", "--devices", "10", "--changes", "2", "--idle", "1"]
    done = subprocess.run([*command, "--json"], cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    assert set(result) == {"devices", "hint_ms", "watch_ms", "wg_set_ms", "ratios", "idle_cpu_percent"}
    assert result["devices"] == 10
    assert all(0 < result[name]["p50"] <= result[name]["p99"] for name in ("hint_ms", "watch_ms", "wg_set_ms"))
    assert set(result["ratios"]) == {"hint_vs_wg_set", "watch_vs_wg_set"}
    assert set(result["idle_cpu_percent"]) == {"daemon", "server"}


def test_nexavpn() -> None:
    """The benchmark itself asserts that all bytes are posted, that a change is one transaction and that repairs come."""
    parts = ["books", "access", "repair", "judge", "soon"]
    command = [sys.executable, "-m", "tests.bench.gateway", "--peers", "20", "--repeat", "1", "--changes", "2"]
    done = subprocess.run([*command, "--only", *parts], cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    results = {one["part"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert list(results) == parts
    for one in results.values():
        figures = [*_numbers({name: value for name, value in one.items() if isinstance(value, dict)})]
        assert figures
        assert all(math.isfinite(number) and number >= 0 for number in figures), one
    assert results["judge"]["ns"]["judged_out"] > 0
    assert results["soon"]["notify_to_ruleset_ms"]["p99"] > 0
