"""Child processes that never outlive us, not even when we are killed with -9."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from wgsyncd.errors import WgsyncdError

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""PR_SET_PDEATHSIG, prctl(2). Done by a command since Python's preexec_fn is not safe; it is kept over execve(2) of
ordinary programs (lost with file capabilities, as ping has them). The signal comes when the *thread* that started the
child ends: start children from the main thread."""


class CommandFailed(WgsyncdError):
    """A command that the demo needs did not do its work."""


def run(argv: Sequence[str], *, stdin: str = "", timeout: float = 120, check: bool = True) -> str:
    """Run a short command to its end; what it printed. CommandFailed, with its stderr, where it fails or hangs."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    except FileNotFoundError as error:
        raise CommandFailed(f"{error.filename}: not installed") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{_short(argv)}: no end after {timeout:.0f} s") from None
    if check and done.returncode != 0:
        raise CommandFailed(f"{_short(argv)}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def start(
    argv: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a lasting command; its output goes to the end of ``log`` (or ``stdout``, or nowhere)."""
    with open(log or os.devnull, "ab") as sink:  # the child keeps its own copy
        out: int | IO[Any] = sink if stdout is None else stdout
        return subprocess.Popen([*DIE_WITH_PARENT, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=sink,
                                env={**os.environ, **(env or {})}, start_new_session=True)  # fmt: skip


def end(child: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, patience: float = 60) -> int:
    """End a child by its own pid and wait for it; SIGKILL where it does not go. Its return code."""
    if child.poll() is None:
        child.send_signal(how)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
    code = child.wait()
    if child.stdout:
        child.stdout.close()
    return code


def until(
    ready: Callable[[], bool], what: str, *, seconds: float, child: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for a condition. CommandFailed where it does not come true in time, or ``child`` ends first."""
    deadline = time.monotonic() + seconds
    while not ready():
        if child is not None and child.poll() is not None:
            raise CommandFailed(f"{what}: its process ended with {child.returncode}")
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what}: not ready after {seconds:.0f} s")
        time.sleep(0.02)


def _short(argv: Sequence[str]) -> str:
    """A command as it is named in errors: without what only leads to it."""
    words = list(argv)
    if "--" in words[:8]:
        words = words[words.index("--") + 1 :]
    return " ".join(words[:4])
