"""A short run of tests/faults plays a seeded script of faults and loses or doubles no byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults.clock import Clock
from tests.faults.on_nexavpn import spared
from tests.faults.proxy import Proxy, Trap
from tests.faults.runner import Play
from tests.faults.script import KINDS, NEXAVPN, POLICIES, Kinds, rounds
from tests.faults.stage import Device
from wgsyncd.demo.testbed import WgKind

RUN = Path(__file__).resolve().parents[1] / "faults" / "run"
SEED, SLOW_SEED = 2, 3
SLOW = bool(os.environ.get("WGSYNCD_VM"))
IF_MET = {"cut_at", "db_kill_at", "deadlock", "hold_answer", "liar", "stop_at", "swallow_commit"}
"""They wait for a statement or for the daemon, which may not come while they do. The kernel has no place for a liar."""


def test_a_seed_makes_its_script() -> None:
    first, again = rounds(SEED), rounds(SEED)
    assert [next(first) for _ in range(5)] == [next(again) for _ in range(5)]
    assert next(rounds(SEED)) != next(rounds(SEED + 1))


def test_a_time_that_the_clock_shows_twice_has_two_moments(tmp_path: Path) -> None:
    clock, now = Clock(tmp_path / "clock"), time.time()
    clock.history = [(now - 9, 0.0), (now - 6, 86400.0), (now - 3, 86396.0)]
    assert clock.moments(now - 8) == [now - 8]
    assert clock.moments(now + 86395) == pytest.approx([now - 5, now - 1])
    assert clock.moments(now + 5) == []


def test_a_trap_that_nobody_waits_for_stops_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        proxy = Proxy(tmp_path / "proxy", tmp_path / "server", lambda _: True, lambda: 0)
        kept, late = Trap("COMMIT", 1, "after", "kill"), Trap("COMMIT", 1, "answered", "kill")
        try:
            for trap in (late, kept):
                proxy.arm(trap)
                assert proxy.meet("COMMIT", victim.pid) is trap
            proxy.disarm(late)
            assert not proxy.act(late)
            assert (victim.poll(), late.sprung) == (None, None)
            assert proxy.act(kept)
            assert kept.sprung is not None
            assert victim.wait() == -signal.SIGKILL
        finally:
            proxy.close()
            victim.kill()


def test_no_step_takes_the_last_row_of_a_gateway() -> None:
    places = enumerate(("wg0", "wg0", "wg1"))
    one, two, three = devices = [SimpleNamespace(name=name, interface=interface) for name, interface in places]
    play = cast("Play", SimpleNamespace(stage=SimpleNamespace(devices=devices)))
    assert spared(play, cast("list[Device]", [one, three])) == [one]
    assert spared(play, cast("list[Device]", [one, two, three])) == [one]


@pytest.mark.parametrize(
    ("kind", "count"), [("userspace", 2), pytest.param("kernel", 1, marks=pytest.mark.vm)], ids=["userspace", "kernel"]
)
def test_faults(kind: WgKind, count: int, tmp_path: Path) -> None:
    seed = SLOW_SEED if SLOW else SEED
    command = [str(RUN), "--seed", str(seed), "--kind", kind, "--rounds", str(count), "--minutes", "10", "--json"]
    done = subprocess.run([*command, "--keep", str(tmp_path / "logs")], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHON": sys.executable})  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:] + done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["seed"], report["runs"], report["lost"], report["doubled"]) == (seed, count, 0, 0)
    assert report["kills"] >= (2 if SLOW else 15)
    planned = {
        step.kind for _, steps in zip(range(count), rounds(seed, report["pace"]), strict=False) for step in steps
    }
    assert planned - IF_MET <= {kind for kind, times in report["faults"].items() if times}
    assert SLOW or planned == {*KINDS, "kill"}
    assert all(one["true"] == one["posted"] > 10_000 for one in report["bytes"].values())


@pytest.mark.parametrize(("options", "kinds"), [("", NEXAVPN), ("--policies", POLICIES)], ids=["nodes", "policies"])
def test_faults_on_nexavpn(options: str, kinds: Kinds, tmp_path: Path) -> None:
    words = f"--control-plane nexavpn {options} --seed {SEED} --rounds 1 --minutes 10 --json --keep {tmp_path / 'logs'}"
    done = subprocess.run([str(RUN), *words.split()], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHON": sys.executable})  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:] + done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["lost"], report["doubled"]) == (0, 0)
    assert report["kills"] >= 7
    planned = {step.kind for step in next(rounds(SEED, report["pace"], kinds))}
    assert planned - {"black_hole", "swap", *IF_MET} <= {kind for kind, times in report["faults"].items() if times}
    assert all(one["true"] == one["posted"] > 10_000 for one in report["bytes"].values())
    assert report.get("probes", {}).get("forbidden") == (0 if options else None)
