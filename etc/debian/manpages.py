"""Writes wgsyncd's manual pages and shell completion from its argument parser and its shipped configuration.

    python etc/debian/manpages.py DIRECTORY

writes wgsyncd.8, wgsyncd.toml.5, wgsyncd.bash and _wgsyncd (for zsh). The command needs wgsyncd and shtab. The pages
use the man(7) language and ASCII only. Their date is SOURCE_DATE_EPOCH (reproducible-builds.org), or else today.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import shtab

from wgsyncd import __version__
from wgsyncd.cli import main as command_line
from wgsyncd.config import resources

SIGNALS = {
    "SIGHUP": "Read the configuration again, then compare everything. `wgsyncd reload` does the same and says how it"
    " went.",
    "SIGUSR1": "Compare everything now.",
    "SIGTERM, SIGINT": "Finish, account once more, and exit with 0 within 10 seconds. Interfaces and peers stay as they"
    " are.",
}
FILES = {
    "/etc/wgsyncd/wgsyncd.toml": "The configuration, wgsyncd.toml(5).",
    "/run/wgsyncd/control.sock": "Where the commands ask the running daemon. For root, its own user, and the group"
    " wgsyncd.",
    "/run/wgsyncd/notify.sock": "Where the application says which devices' rows it has just committed, in a datagram of"
    " device ids apart by white space. For the same.",
    "/run/wgsyncd/lock": "Held by the daemon; its pid is in it.",
    "/var/lib/wgsyncd/spool": "Samples that the database has not taken in yet.",
}
ENVIRONMENT = {
    "RUNTIME_DIRECTORY, STATE_DIRECTORY": "Instead of /run/wgsyncd and /var/lib/wgsyncd; systemd sets them.",
    "NO_COLOR": "Where it is set, nothing is coloured. Colours, bars and progress are for terminals anyway.",
}
EXAMPLES = {
    "wgsyncd plan": "What would be done, and why; exit status 2 if anything.",
    "wgsyncd approve 90f0bf914384": "Let the removals of that plan through, which the guard withholds.",
    "wgsyncd status --watch": "How things are, on one screen, until ^C.",
    "wgsyncd explain 0001-DEV-002": "Why this device has a peer, or has none.",
    "wgsyncd usage 0001 --by month --csv": "What contract 0001 moved, for a spreadsheet.",
    "wgsyncd doctor": "What is wrong around wgsyncd, each with the command that mends it.",
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


# -- roff


def escape(text: str) -> str:
    """Text as man(7) prints it: `code` in bold, all that is not ASCII by its number."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    text = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    lines = textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False)  # which roff joins again
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in lines)


def _head(name: str, section: int, about: str) -> Iterator[str]:
    at = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    yield f'.TH {name.upper()} {section} "{time.strftime("%Y-%m-%d", at)}" "wgsyncd {__version__}" "wgsyncd"'
    yield ".nh"  # a file's name is not hyphenated
    yield from (".SH NAME", f"{escape(name)} \\- {escape(about)}")


def _list(entries: Mapping[str, str]) -> Iterator[str]:
    for term, text in entries.items():
        yield from (".TP", f"\\fB{escape(term)}\\fR", escape(text))


def _paragraphs(text: str) -> Iterator[str]:
    for number, one in enumerate(part for part in text.split("\n\n") if part.strip()):
        if number:
            yield ".PP"
        yield escape(" ".join(one.split()))


# -- wgsyncd(8)


def command_page() -> str:
    """wgsyncd(8)."""
    parser = top()
    lines = [*_head("wgsyncd", 8, "keep WireGuard peers equal to a MariaDB table")]
    lines += [".SH SYNOPSIS"]
    lines += [".nf", *(_synopsis(name, one) for name, one in commands(parser).items()), ".fi"]
    lines += [".SH DESCRIPTION", *_paragraphs(DESCRIPTION)]
    lines += [".SH COMMANDS"]
    for name, one in commands(parser).items():
        lines += [f".SS {escape(name)}", *_paragraphs(one.description or "")]
        for action in options(one):
            lines += [".TP", _term(one, action), escape(_help(one, action))]
        lines += [".PP", *_paragraphs(one.epilog or "")]
    for title, entries in (
        ("SIGNALS", SIGNALS),
        ("FILES", FILES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXAMPLES", EXAMPLES),
    ):
        lines += [f".SH {title}", *_list(entries)]
    lines += [".SH SEE ALSO", "\\fBwgsyncd.toml\\fR(5), \\fBwg\\fR(8), \\fBsystemctl\\fR(1)"]
    return "\n".join(lines) + "\n"


DESCRIPTION = """\
wgsyncd runs on a WireGuard server, with nobody watching. It makes the peers of the interfaces equal to what the
tables of a MariaDB database say, and books what the kernel counts into the table's columns, each byte once.

`wgsyncd run` is the daemon, which systemd starts. The other commands are for whoever looks after it. Those that ask the
running daemon need root or the group wgsyncd; the others need what they look at, which root has.

No output holds a key in full, except for the device's own public key in `explain`."""


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
    """What stands for the value, as --help has it; nothing where there is none."""
    formatter = parser._get_formatter()
    default = action.dest.upper() if action.option_strings else action.dest
    return formatter._format_args(action, default)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action)


# -- the shipped configuration as documentation: sections, keys, and what the comments say of them

_SECTION = re.compile(r"\[([\w.]+)\]\s*(?:#\s*(.*))?$")
_KEY = re.compile(r"""(#\s)?(\w+)\s=\s("[^"]*"|\[[^\]]*\]|[^\s#]+)\s*(?:\#\s*(.*))?$""")
_MORE = re.compile(r"\s+#\s*(.*)$")


class Key(NamedTuple):
    """A key, as the file has it."""

    name: str
    value: str
    about: str
    unset: bool  # it is commented out: an example


class Section(NamedTuple):
    """A table. That of an interface stands for all of them."""

    name: str  # "" for the keys before the first table
    about: str
    keys: Sequence[Key]


def sections(text: str) -> tuple[str, list[Section]]:
    """What the head says, and the sections. ValueError where a line is not understood: it would be left out."""
    head: list[str] = []
    found: list[Section] = []
    for number, line in enumerate(text.splitlines(), 1):
        keys = list(found[-1].keys) if found else []
        if not line.strip():
            continue
        if match := _SECTION.match(line):
            found.append(Section(match[1], match[2] or "", ()))
        elif (match := _KEY.match(line)) and (found or not match[1]):
            if not found:
                found.append(Section("", "", ()))  # keys before the first table
            keys.append(Key(match[2], match[3], match[4] or "", bool(match[1])))
            found[-1] = found[-1]._replace(keys=keys)
        elif keys and (match := _MORE.match(line)):
            keys[-1] = keys[-1]._replace(about=f"{keys[-1].about} {match[1]}".strip())
            found[-1] = found[-1]._replace(keys=keys)
        elif not found and line.startswith("# "):
            head.append(line[2:])
        else:
            raise ValueError(f"line {number}: {line}")
    return " ".join(head), _one_interface(found)


def _one_interface(found: list[Section]) -> list[Section]:
    interfaces = [one for one in found if one.name.startswith("interfaces.")]
    first = interfaces[0]._replace(name="interfaces.NAME")
    return [first if one is interfaces[0] else one for one in found if one not in interfaces[1:]]


# -- wgsyncd.toml(5)


def configuration_page() -> str:
    """wgsyncd.toml(5)."""
    about, found = sections(resources.text("wgsyncd.toml"))
    lines = [*_head("wgsyncd.toml", 5, "configuration of wgsyncd")]
    lines += [".SH SYNOPSIS", "/etc/wgsyncd/wgsyncd.toml"]
    lines += [".SH DESCRIPTION", *_paragraphs(about), ".PP"]
    lines += [*_paragraphs(
        "The file is TOML. What stands after a key here is its default, or an example, which is then said. A reload"
        " with faults in the file changes nothing; `wgsyncd check-config` tells all of them at once."
    )]  # fmt: skip
    for section in found:
        lines += _section(section)
    lines += [".SH SEE ALSO", "\\fBwgsyncd\\fR(8)"]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterable[str]:
    yield f".SH {escape(f'[{section.name}]' if section.name else 'BEFORE THE FIRST TABLE')}"
    if section.about:
        yield escape(section.about)
    for key in section.keys:
        yield from (".TP", f"\\fB{escape(key.name)}\\fR = {escape(key.value)}")
        text = key.about + (" " if key.about and key.unset else "") + ("(An example: unset by default.)" * key.unset)
        yield escape(text)


# -- completion


def completion() -> Mapping[str, str]:
    """The completion of bash and of zsh, by file name. Options that take a path complete file names."""
    parser = top()
    for command in commands(parser).values():
        for action in options(command):
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # this is how shtab is told
    return {"wgsyncd.bash": shtab.complete(parser, "bash"), "_wgsyncd": shtab.complete(parser, "zsh")}


def main(argv: list[str] | None = None) -> int:
    """Write every file into a directory; the exit status."""
    parser = argparse.ArgumentParser(description="Write manual pages and completion.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(argv).directory
    pages = {"wgsyncd.8": command_page(), "wgsyncd.toml.5": configuration_page(), **completion()}
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
