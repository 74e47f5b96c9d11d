"""`wgsyncd demo`: opens the environment, runs every scenario, and leaves nothing behind."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from wgsyncd.errors import UserError, WgsyncdError

if TYPE_CHECKING:
    from wgsyncd.demo.environment import Stage
    from wgsyncd.demo.observation import Result
    from wgsyncd.demo.output import Screen

_CLONE_NEWNS = 0x00020000  # linux/sched.h
_CLEANING = 0.05  # the share of --seconds that closing the environment may take
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Interrupted(BaseException):
    """A signal ended the demo. It is no Exception, so that no `except Exception` catches it."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(args: argparse.Namespace) -> int:
    """Run the demo. Returns the exit status.

    0: all scenarios hold. 1: some do not hold. 2: the demo cannot run here. 128 + n: signal n ended it.
    """
    from wgsyncd.demo import packages

    try:
        packages.ensure(install=args.install)
        _isolate()
    except WgsyncdError as error:
        print(f"wgsyncd demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, args.seconds * (1 - _CLEANING)))
    return _perform(seconds=args.seconds, as_json=args.json)


def _perform(*, seconds: float, as_json: bool) -> int:
    from wgsyncd.demo.environment import Stage
    from wgsyncd.demo.output import Screen

    began = time.monotonic()
    screen = Screen(json=as_json)
    directory = Path(tempfile.mkdtemp(prefix="wgsyncd-demo-", dir="/run"))
    stage = Stage(directory, pace=max(1.0, seconds / 60), show=screen.show)
    results: list[Result] = []
    logs: dict[str, list[str]] = {}
    try:
        signalled = _run(stage, screen, results)
    finally:
        _ignore_signals()
        stage.close()
        logs = {path.name: path.read_text(errors="replace").splitlines()[-15:] for path in directory.glob("*.log")}
        shutil.rmtree(directory, ignore_errors=True)
    ok, took = all(one.ok for one in results), time.monotonic() - began
    screen.close(results, kind=stage.world.kind, seconds=took)
    if not ok and signalled in (0, signal.SIGALRM):
        for name, lines in logs.items():
            print(f"the last lines of {name}:", *lines, sep="\n  ", file=sys.stderr)
    if as_json:
        print(json.dumps({"ok": ok, "kind": stage.world.kind, "seconds": round(took, 1),
                          "scenarios": [asdict(one) for one in results]}, ensure_ascii=False))  # fmt: skip
    return 128 + signalled if signalled not in (0, signal.SIGALRM) else int(not ok)


def _run(stage: Stage, screen: Screen, results: list[Result]) -> int:
    """Run all scenarios. Returns the signal that interrupted them, or 0.

    A scenario that did not run to its end counts as failed.
    """
    from wgsyncd.demo.observation import Result
    from wgsyncd.demo.scenarios import SCENARIOS

    trouble, signalled = "", 0
    try:
        screen.begin("MariaDB, wg0, wg1, customers")
        stage.open()
        for one in SCENARIOS:
            screen.begin(one.name)
            seen = one.play(stage)
            results.append(Result(one.name, one.expected, seen.kernel, seen.table, seen.ok))
            screen.tell(results[-1])
    except Interrupted as signal_:
        trouble, signalled = "out of time" if signal_.number == signal.SIGALRM else "interrupted", signal_.number
    except WgsyncdError as error:
        trouble = str(error)
    for one in SCENARIOS[len(results) :]:
        results.append(Result(one.name, one.expected, trouble, "not run to its end", ok=False))
        screen.tell(results[-1])
    return signalled


def _isolate() -> None:
    """Enter a mount namespace with an empty /run. The files vanish with the last process, however the demo ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise UserError(f"no namespaces can be made here (unshare: {why}): needs root with CAP_SYS_ADMIN")
    for arguments in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "mode=755", "wgsyncd-demo", "/run"]):
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(f"{done.stderr.strip()}: needs root with CAP_SYS_ADMIN")
    Path("/run/wireguard").mkdir(mode=0o700)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise Interrupted(number)


def _ignore_signals() -> None:
    """The first signal ends the demo. Later signals must not stop the closing of the environment."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
