"""Starts and ends child processes that never outlive this process, not even if SIGKILL ends it."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from wgsyncd.errors import WgsyncdError

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""The command that sets PR_SET_PDEATHSIG (prctl(2)) for a child.

A command does it because Python's preexec_fn is not safe. execve(2) of an ordinary program keeps the setting. A program
with file capabilities, such as ping, loses it. The signal comes when the *thread* that started the child ends, so start
children from the main thread.
"""


class CommandFailed(WgsyncdError):
    """A command that the demo needs has failed or hangs."""


def run(argv: Sequence[str], *, stdin: str = "", timeout: float = 120, check: bool = True) -> str:
    """Run a short command to its end. Returns what it printed to stdout.

    CommandFailed: the command fails, takes more than ``timeout`` seconds or is not installed. The error has its stderr.
    """
    words = list(argv)
    if "--" in words[:8]:  # errors leave a prefix such as `nsenter … --` out
        words = words[words.index("--") + 1 :]
    name = " ".join(words[:4])
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    except FileNotFoundError as error:
        raise CommandFailed(f"{error.filename}: not installed") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{name}: no end after {timeout:.0f} s") from None
    if check and done.returncode != 0:
        raise CommandFailed(f"{name}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def start(
    argv: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None, stdout: int | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start a command that keeps running. Its output is appended to ``log``, or is lost without one.

    ``stdout``: another file descriptor, or subprocess.PIPE, for its stdout. ``env``: added to our environment.
    ``inherited``: file descriptors that the command gets.
    """
    with open(log or os.devnull, "ab") as sink:  # the child keeps its own copy of the descriptor
        out: int | IO[Any] = sink if stdout is None else stdout
        return subprocess.Popen(
            [*DIE_WITH_PARENT, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=sink, pass_fds=inherited,
            env={**os.environ, **(env or {})}, start_new_session=True,
        )  # fmt: skip


def end(child: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, patience: float = 60) -> int:
    """Send a signal to a child and wait for its end. Returns its return code.

    A child that does not end within ``patience`` seconds is killed.
    """
    child.send_signal(how)  # this does nothing if the child has ended
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
    if child.stdout:
        child.stdout.close()
    return child.wait()


def await_socket(
    path: Path, child: subprocess.Popen[bytes], what: str, *, seconds: float, greets: bool = False
) -> None:
    """Wait until ``child`` accepts connections at a unix socket. CommandFailed if it ends first, or is too slow.

    The file alone proves nothing, because bind(2) creates it. ``greets``: the child speaks first to each client, and
    only its greeting shows that it is ready.
    """
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(seconds)
            probe.connect(str(path))
            if not greets or probe.recv(1):
                return
        if child.poll() is not None:
            raise CommandFailed(f"{what}: its process ended with {child.returncode}")
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what}: not ready after {seconds:.0f} s")
        time.sleep(0.02)
