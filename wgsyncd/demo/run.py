"""`wgsyncd demo`: sets the stage, plays every story, judges it, and leaves nothing behind."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from wgsyncd.errors import UserError, WgsyncdError

if TYPE_CHECKING:
    from wgsyncd.demo.environment import Stage
    from wgsyncd.demo.output import Screen, Verdict

_CLONE_NEWNS = 0x00020000  # linux/sched.h
_CLEANING = 0.05  # the share of --seconds that is kept for it
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Ended(BaseException):
    """A signal. No Exception, so that nothing on its way takes it for one."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 all verdicts hold, 1 some do not, 2 it cannot be played here, 128 + n ended by signal n."""
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
        signal.signal(number, _end)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, args.seconds * (1 - _CLEANING)))
    return _perform(seconds=args.seconds, as_json=args.json)


def _perform(*, seconds: float, as_json: bool) -> int:
    from wgsyncd.demo import cleanup, processes
    from wgsyncd.demo.environment import Stage
    from wgsyncd.demo.output import open_screen, print_verdicts

    began = time.monotonic()
    os.environ[processes.MARK] = mark = secrets.token_hex(8)
    before = cleanup.links_and_mounts()
    screen = open_screen(json=as_json)
    directory = Path(tempfile.mkdtemp(prefix="wgsyncd-demo-", dir="/run"))
    stage = Stage(directory, pace=max(1.0, seconds / 60), show=screen.show)
    verdicts: list[Verdict] = []
    logs: dict[str, list[str]] = {}
    try:
        ended_by = _play(stage, screen, verdicts)
    finally:
        _deaf()
        stage.close()
        cleanup.sweep(mark)  # a child of whose start we had not heard when a signal came
        logs = {path.name: path.read_text(errors="replace").splitlines()[-15:] for path in directory.glob("*.log")}
        shutil.rmtree(directory, ignore_errors=True)
        screen.close()
    verdicts.append(cleanup.verdict(before, mark, directory))
    ok = all(one.ok for one in verdicts)
    if not ok and ended_by in (0, signal.SIGALRM):
        for name, lines in logs.items():
            print(f"the last lines of {name}:", *lines, sep="\n  ", file=sys.stderr)
    if as_json:
        print(json.dumps({"ok": ok, "kind": stage.world.kind, "seconds": round(time.monotonic() - began, 1),
                          "verdicts": [one.as_json() for one in verdicts]}, ensure_ascii=False))  # fmt: skip
    else:
        print_verdicts(verdicts, kind=stage.world.kind, seconds=time.monotonic() - began)
    return 128 + ended_by if ended_by not in (0, signal.SIGALRM) else int(not ok)


def _play(stage: Stage, screen: Screen, verdicts: list[Verdict]) -> int:
    """All stories; the signal that ended them before they were over, or 0. What was not played has failed."""
    from wgsyncd.demo.output import Verdict
    from wgsyncd.demo.scenarios import STORIES

    trouble, ended_by = "", 0
    try:
        screen.begin("setting the stage")
        stage.open()
        for story in STORIES:
            screen.begin(story.name)
            seen = story.play(stage)
            verdicts.append(Verdict(story.name, story.expected, seen.kernel, seen.table, seen.ok))
            screen.tell(verdicts[-1])
    except Ended as end:
        trouble, ended_by = "out of time" if end.number == signal.SIGALRM else "interrupted", end.number
    except WgsyncdError as error:
        trouble = str(error)
    for story in STORIES[len(verdicts) :]:
        verdicts.append(Verdict(story.name, story.expected, trouble, "not played to its end", ok=False))
        screen.tell(verdicts[-1])
    return ended_by


def _isolate() -> None:
    """A mount namespace of our own with an empty /run: the files vanish with the last process, however that ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise UserError(f"no namespaces can be made here (unshare: {why}): needs root with CAP_SYS_ADMIN")
    for arguments in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "mode=755", "wgsyncd-demo", "/run"]):
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(f"{done.stderr.strip()}: needs root with CAP_SYS_ADMIN")
    Path("/run/wireguard").mkdir(mode=0o700)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    _deaf()
    raise Ended(number)


def _deaf() -> None:
    """Only one signal ends the demo; the next ones must not end its cleaning."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
