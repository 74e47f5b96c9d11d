"""How a command asks the running daemon, and what it says where it looks by itself."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from wgsyncd.cli import output
from wgsyncd.cli.options import DEFAULT_CONFIG
from wgsyncd.daemon import control, lock
from wgsyncd.daemon.control import NobodyListensError, OtherConfigurationError
from wgsyncd.errors import UserError

Answer = tuple[dict[str, Any] | None, str]
"""What the daemon answered, or None and why it was not asked."""


def ask_daemon(args: argparse.Namespace, command: str, **facts: str) -> Answer:
    """Ask the daemon, unless the command may not: none runs, it has another configuration, or ``--no-daemon``."""
    if getattr(args, "no_daemon", False):
        return None, "the daemon was not asked"
    if args.config != DEFAULT_CONFIG:
        facts["config"] = str(args.config.resolve())
    try:
        return control.ask(control.path(), command, facts), ""
    except NobodyListensError:
        return None, _who_runs()
    except OtherConfigurationError as error:
        return None, str(error)


def print_note(why: str) -> None:
    """Say on standard error that the command looked by itself, and why."""
    said = f"wgsyncd {why}" if why.startswith(("does not", "runs")) else why
    print(output.sanitize(f"wgsyncd: {said}: this is what the command sees by itself"), file=sys.stderr)


def _who_runs() -> str:
    """Whether there is a daemon, where it does not answer."""
    try:
        pid = lock.holder(lock.path())
    except UserError as error:
        return str(error)
    return f"runs (pid {pid}), but has no control socket" if pid else "does not run"
