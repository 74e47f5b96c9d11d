"""The command line finds the command, runs it, and turns an error into one line and an exit status.

A command is one file of `commands/`. Its docstring is the command's --help: one line, then what else there is to say,
with the exit status. `register(parser)` adds options, and `run(args)` returns the exit status. Nothing else names it.
Only the file of the command that runs is imported, so the file may import at its top what it needs.
"""

import argparse
import contextlib
import difflib
import importlib
import io
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from wgsyncd import __version__
from wgsyncd.cli import commands
from wgsyncd.core.words import counted
from wgsyncd.errors import NO_ANSWER, ConfigError, StoreError, WgsyncdError, in_short
from wgsyncd.redact import escape_control, redact, using

PROGRAM = (
    "wgsyncd keeps a Linux server's WireGuard peers equal to the rows of a MariaDB or PostgreSQL table, "
    "and counts each peer's traffic."
)
EXIT_STATUS = "exit status: 0 done, 1 failed, 2 bad configuration or usage"
WITHOUT_DATABASE = (
    "This command needs the database: `sudo wgsyncd doctor` finds what is wrong with it. "
    "`wgsyncd status` and `wgsyncd devices` show what a running daemon knows without it."
)
COMMANDS = {
    file.stem.replace("_", "-"): file.read_text(encoding="utf-8").split('"""')[1]
    for folder in commands.__path__
    for file in sorted(Path(folder).glob("[!_]*.py"))
}  # name and docstring


class _Help(argparse.HelpFormatter):
    """Breaks each paragraph of a help to the width of the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(_Help, self)._fill_text(one, width, indent) for one in text.split("\n\n"))


class _Parser(argparse.ArgumentParser):
    """A parser that proposes the choice or the option that a person may mean."""

    commands: Mapping[str, argparse.ArgumentParser] = MappingProxyType({})

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments. A wrong one behind a command is answered with that command's usage."""
        found, unknown = self.parse_known_args(argv)
        if unknown:
            is_before = unknown[0] in argv[: argv.index(found.command)]
            (self if is_before else self.commands[found.command]).error(f"unrecognized arguments: {' '.join(unknown)}")
        return found

    def error(self, message: str) -> NoReturn:
        if option := re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message):
            known = re.findall(r"--[\w-]+", self.format_usage())
            shortened = [one for one in known if one.startswith(option[1])]
            alike = shortened or difflib.get_close_matches(option[1], known, n=1)
            message += f": did you mean {alike[0]}?" if alike else ""
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            alike = difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), n=1)
            message = f"{message[: choice.start()]}{choice[1]!r}: did you mean {alike[0]}?" if alike else message
        if message.endswith("required: COMMAND"):
            message = "no command is given: wgsyncd --help names all"
        super().error(message)


def parser(wanted: Collection[str] = COMMANDS.keys()) -> _Parser:
    """The parser of the command line. A command that is not ``wanted`` has its name and its help, but no options."""
    top = _Parser(prog="wgsyncd", description=PROGRAM, epilog=EXIT_STATUS, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"wgsyncd {__version__}")
    found = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        summary, _, more = text.partition("\n\n")
        one = found.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=more.strip(),
            formatter_class=_Help,
            allow_abbrev=False,  # a shortened option may mean another one after an upgrade
        )
        if name in wanted:
            module = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")
            one.set_defaults(run=module.run, config_fault_status=2)
            module.register(one)
    top.commands = found.choices
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. An error that an admin can cause is one clear line, never a trace."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal may not be able to show every character.
            stream.reconfigure(errors="backslashreplace")
    with contextlib.ExitStack() as of_process:
        return _run(argv, of_process)


def _run(argv: Sequence[str], of_process: contextlib.ExitStack) -> int:
    try:
        args = parser(argv).parse(argv)
        of_process.enter_context(using(getattr(args, "config", None)))
        exit_status: int = args.run(args)
        print(end="", flush=True)  # here, so that a failure of standard output is reported
        return exit_status
    except ConfigError as error:
        _print_error(f"{error.path}: {counted(len(error.faults), 'fault')}", *(f"  {one}" for one in error.faults))
        fault_status: int = args.config_fault_status
        return fault_status
    except WgsyncdError as error:
        is_away = isinstance(error, StoreError) and error.code in NO_ANSWER
        _print_error(str(error), *([WITHOUT_DATABASE] if is_away else []))
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell has it: 128 and the signal
    except Exception as error:  # A bug ends in one line, too.
        try:
            print(end="", flush=True)
        except OSError:  # a closed pipe, a full disk
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or the interpreter tries again as it ends
        _print_error(in_short(error))
        return 1


def _print_error(first: str, *more: str) -> None:
    for line in (f"wgsyncd: {first}", *more):
        print(escape_control(redact(line)), file=sys.stderr)
