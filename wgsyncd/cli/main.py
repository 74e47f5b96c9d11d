"""The command line finds the command, runs it, and turns an error into one line and an exit status.

A command is one file of this folder with `register(commands)`, which adds its parser, and `run(args)`. A new command
is that file and its name in COMMANDS. A command imports what it needs when it runs: `check-config` needs no netlink.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from wgsyncd import __version__
from wgsyncd.cli import (
    adopt,
    approve,
    check_config,
    demo,
    explain,
    init_db,
    options,
    plan,
    quarantine,
    reload,
    run,
    status,
    sync,
    usage,
    verify,
)
from wgsyncd.cli.doctor import command as doctor
from wgsyncd.errors import ConfigError, WgsyncdError

PROGRAM = "Keeps WireGuard's peers equal to a MariaDB table and books their traffic."
COMMANDS = (
    run,
    plan,
    adopt,
    approve,
    status,
    verify,
    quarantine,
    sync,
    reload,
    check_config,
    init_db,
    doctor,
    explain,
    usage,
    demo,
)  # in the order of `wgsyncd --help`


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(prog="wgsyncd", description=PROGRAM, epilog=options.EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"wgsyncd {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. An error that an admin can cause is one clear line, never a trace."""
    args = parser().parse_args(argv)
    try:
        exit_status: int = args.run(args)
        print(end="", flush=True)  # here, so that a failure of standard output is told
        return exit_status
    except ConfigError as error:
        count = len(error.faults)
        _print_error(f"{error.path}: {count} fault{'s' if count > 1 else ''}", *(f"  {one}" for one in error.faults))
        fault_status: int = args.config_fault_status
        return fault_status
    except WgsyncdError as error:
        _print_error(str(error))
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell has it: 128 and the signal
    except OSError as error:  # of standard output: a closed pipe, a full disk
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or the interpreter tries again as it ends
        print(f"wgsyncd: {error.strerror}", file=sys.stderr)
        return 1


def _print_error(first: str, *more: str) -> None:
    from wgsyncd.redact import escape_control, redact

    for line in (f"wgsyncd: {first}", *more):
        print(escape_control(redact(line)), file=sys.stderr)
