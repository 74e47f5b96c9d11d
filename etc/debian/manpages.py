"""Writes wgsyncd's manual pages and shell completion, from what the program and its pages say already.

    python -m etc.debian.manpages DIRECTORY

writes wgsyncd.8 (from the argument parser), wgsyncd.toml.5 (from the shipped configuration), wgsyncd-install.7 and
wgsyncd-runbook.7 (from etc/doc), wgsyncd.catalog (for the journal), wgsyncd.bash and _wgsyncd (for zsh). It needs
wgsyncd, shtab and lowdown. The date of the pages is SOURCE_DATE_EPOCH (reproducible-builds.org), or else today.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import shtab

from etc.debian.catalog import catalog
from etc.debian.markdown_page import PAGES, markdown_page
from etc.debian.roff import definitions, escape, head, paragraphs
from etc.debian.toml_page import configuration_page
from wgsyncd.cli import main as command_line

SIGNALS = {
    "SIGHUP": "The daemon reads the configuration again, then it compares everything. `wgsyncd reload` does the same"
    " and reports the result.",
    "SIGUSR1": "The daemon compares everything now.",
    "SIGTERM, SIGINT": "The daemon accounts once more and exits with 0 within 10 seconds. Interfaces and peers stay as"
    " they are.",
}
FILES = {
    "/etc/wgsyncd/wgsyncd.toml": "This is the configuration, see wgsyncd.toml(5).",
    "/run/wgsyncd/control.sock": "Commands ask the running daemon here. Root, the daemon's user and the group wgsyncd"
    " may use it.",
    "/run/wgsyncd-notify/notify.sock": "The application names devices here after it has committed their rows. A"
    " datagram has device ids with white space between them. Root, the daemon's user and the group"
    " wgsyncd-notify may use it.",
    "/run/wgsyncd/lock": "The daemon holds a lock on this file, and its pid is in the file.",
    "/var/lib/wgsyncd/spool": "The daemon keeps samples here until the database has them.",
}
ENVIRONMENT = {
    "RUNTIME_DIRECTORY, STATE_DIRECTORY": "These directories replace /run/wgsyncd and /var/lib/wgsyncd. systemd sets"
    " them.",
    "NO_COLOR": "If it is set, nothing has a colour. Only terminals get colours, bars and progress.",
}
EXAMPLES = {
    "wgsyncd plan": "Show what would be done, and why. The exit status is 2 if there is something to do.",
    "wgsyncd approve 90f0bf914384d5a1c07e62fb8d3390ac": "Allow the removals of this plan, which the guard withholds.",
    "wgsyncd status --watch": "Show the daemon's state on one screen, until ^C.",
    "wgsyncd explain 0001-DEV-002": "Show why this device has a peer, or has none.",
    "wgsyncd usage 0001 --by month --csv": "Write the traffic of contract 0001 by month, for a spreadsheet.",
    "wgsyncd takeover": "Run the node of a dead server on this server, after a question.",
    "wgsyncd doctor": "Name what is wrong around wgsyncd, each with the command that repairs it.",
}


def top() -> argparse.ArgumentParser:
    """The command line's parser."""
    return command_line.parser()


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands' parsers by name. (argparse has no public way to ask for them.)"""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise LookupError("no commands")


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command may be told, without --help."""
    return [one for one in parser._actions if not isinstance(one, argparse._HelpAction)]


# -- wgsyncd(8)


def command_page() -> str:
    """wgsyncd(8)."""
    parser = top()
    lines = [*head("wgsyncd", 8, "keep WireGuard peers equal to the rows of a database table")]
    lines += [".SH SYNOPSIS"]
    lines += [".nf", *(_synopsis(name, one) for name, one in commands(parser).items()), ".fi"]
    lines += [".SH DESCRIPTION", *paragraphs(DESCRIPTION)]
    lines += [".SH COMMANDS"]
    for name, one in commands(parser).items():
        lines += [f".SS {escape(name)}", *paragraphs(one.description or "")]
        for action in options(one):
            lines += [".TP", _term(one, action), escape(_help(one, action))]
        lines += [".PP", *paragraphs(one.epilog or "")]
    for title, entries in (
        ("SIGNALS", SIGNALS),
        ("FILES", FILES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXAMPLES", EXAMPLES),
    ):
        lines += [f".SH {title}", *definitions(entries)]
    others = ("wgsyncd.toml", 5), ("wgsyncd-install", 7), ("wgsyncd-runbook", 7), ("wg", 8), ("systemctl", 1)
    lines += [".SH SEE ALSO", ", ".join(f"\\fB{escape(name)}\\fR({section})" for name, section in others)]
    return "\n".join(lines) + "\n"


DESCRIPTION = f"""\
{command_line.PROGRAM} It adds each byte to the peer's row once.

`wgsyncd run` is the daemon, which systemd starts. The other commands are for administrators. Commands that ask the
running daemon need root or the group wgsyncd. The others need the right to read what they show, which root has.

No output has a whole key, except for the device's own public key in `explain`."""


def _synopsis(name: str, parser: argparse.ArgumentParser) -> str:
    parts = [f"\\fBwgsyncd {escape(name)}\\fR"]
    for action in options(parser):
        metavar = _metavar(parser, action)
        if action.option_strings:
            value = f" \\fI{escape(metavar)}\\fR" if metavar else ""
            parts.append(f"[\\fB{escape(action.option_strings[-1])}\\fR{value}]")
        else:
            parts.append(f"\\fI{escape(metavar)}\\fR")
    return " ".join(parts)


def _term(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    metavar = _metavar(parser, action)
    if not action.option_strings:
        return f"\\fI{escape(metavar)}\\fR"
    names = ", ".join(f"\\fB{escape(name)}\\fR" for name in action.option_strings)
    return f"{names} \\fI{escape(metavar)}\\fR" if metavar else names


def _metavar(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The word that stands for the value in --help, or "" if there is no value."""
    formatter = parser._get_formatter()
    default = action.dest.upper() if action.option_strings else action.dest
    return formatter._format_args(action, default)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action)


# -- completion

NAMES = {
    "device": "_wgsyncd_device",
    "device_ids": "_wgsyncd_device_id",
    "name": "_wgsyncd_device_or_owner",
    "plan_id": "_wgsyncd_plan",
    "ids": "_wgsyncd_quarantined",
}
"""The arguments that complete names of this node, and the functions of names.sh that do so."""


def completion() -> Mapping[str, str]:
    """The completion of bash and of zsh, by file name. Options that take a path complete file names."""
    parser = top()
    for command in commands(parser).values():
        for action in options(command):
            function = NAMES.get(action.dest)
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # this is how shtab is told
            elif function:
                action.complete = {"bash": function, "zsh": function}  # type: ignore[attr-defined]
    functions = Path(__file__).with_name("names.sh").read_text(encoding="ascii")
    files = {"bash": "wgsyncd.bash", "zsh": "_wgsyncd"}
    made = {file: shtab.complete(parser, shell, preamble=functions) for shell, file in files.items()}
    return {file: text.replace('"(*)::', '"*:') for file, text in made.items()}  # zsh: all that follow, not only one


def main(argv: list[str] | None = None) -> int:
    """Write every file into a directory. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Write manual pages and completion.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(argv).directory
    pages = {"wgsyncd.8": command_page(), "wgsyncd.toml.5": configuration_page(), **completion()}
    pages["wgsyncd.catalog"] = catalog()
    pages |= {f"wgsyncd-{name}.7": markdown_page(name) for name in PAGES}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (directory / name).write_text(text, encoding="ascii")
    except OSError as error:
        print(f"{directory}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
