"""What commands print: lines, tables, bars, colours and progress on a terminal, plain text elsewhere.

Only this module and `table` import rich, and this one only where something is drawn. rich obeys NO_COLOR and TERM=dumb.
Texts come from rows, so nothing is read as markup, and every text and document loses its keys here.
"""

from __future__ import annotations

import argparse
import contextlib
import json as json_text
import os
import re
import shutil
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import msgspec

from wgsyncd.errors import UserError
from wgsyncd.redact import escape_control, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Line = tuple[str, str]
"""A text, and its kind: ``ok``, ``warning``, ``fault``, ``held``, ``head``, ``dim``, or "" for none."""

Parts = Line | Sequence[Line]
"""A line, or the parts of a line that have different kinds."""

_COLUMN = re.compile(r".{0,45} {2}(?=\S)")  # all before the last column of a line
_COMMAND = re.compile(
    r"wgsyncd [a-z-]+(?: --config (?:'[^']*'|\S+))?(?: [0-9a-f]{32})?|tcpdump -ni \S+ (?:udp port|host) \S+|`[^`]{,60}`"
    r"|systemctl [a-z]+(?: --now)? \S+|[\d.]+ (?:[KMGTPE]i)?B\b"
)
"""What stays in one line: a command in a sentence, which is copied, and a number of bytes with its unit."""
_JOINED = "\ue000"  # stands for a space where no line may break
_COLOURS = {
    "ok": "green",
    "warning": "yellow",
    "fault": "red",
    "held": "bold yellow",
    "rx": "cyan",
    "tx": "magenta",
    "head": "bold",
    "dim": "dim",
}


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person reads the output on a terminal that can draw."""
    out = sys.stdout if stream is None else stream
    return out is not None and out.isatty() and os.environ.get("TERM") != "dumb"


def sanitize(text: str, public: Container[str] = ()) -> str:
    """The text without a key, and without anything that breaks a line. The keys in ``public`` stay."""
    return escape_control(redact(text, public))


def print_json(report: msgspec.Struct, public: Container[str] = ()) -> None:
    """Print a report as one JSON object on one line. Its only keys are those in ``public``."""

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {clean(name): clean(one) for name, one in value.items()}
        if isinstance(value, list):
            return list(map(clean, value))
        return sanitize(value, public) if isinstance(value, str) else value

    print(json_text.dumps(clean(msgspec.to_builtins(report)), ensure_ascii=False), flush=True)


def print_report(report: msgspec.Struct, lines: Iterable[Parts], *, json: bool, public: Container[str] = ()) -> None:
    """Print a report as JSON, or the lines that were made of it."""
    if json:
        print_json(report, public)
    else:
        print_lines(lines, public)


def print_lines(lines: Iterable[Parts], public: Container[str] = ()) -> None:
    """Print lines. Their only keys are those in ``public``."""
    if not is_terminal():
        print("\n".join("".join(sanitize(text, public) for text, _ in _parts(line)).rstrip() for line in lines))
        return
    console = _console()
    for line in drawn(lines, console.width, public=public):
        console.print(line, soft_wrap=True)


def _parts(line: Parts) -> Sequence[Line]:
    return (line,) if isinstance(line, tuple) and isinstance(line[0], str) else line  # type: ignore[return-value]


def drawn(lines: Iterable[Parts], width: int, *, public: Container[str] = (), copied: bool = True) -> list[Text]:
    """Lines as rich draws them. A long one goes on below the beginning of its last column.

    ``copied``: a command on a line of its own stays whole, so that it can be copied.
    """
    from rich.text import Text

    done: list[Text] = []
    for line in lines:
        parts = [(sanitize(text, public), kind) for text, kind in _parts(line)]
        whole = Text.assemble(*((text, _COLOURS.get(kind, "")) for text, kind in parts))
        whole.rstrip()
        is_command = copied and len(parts) == 1 and parts[0][1] == "head" and parts[0][0].startswith("  ")
        done += [whole] if is_command or whole.cell_len <= width else _fold(whole, width)
    return done


def _fold(line: Text, width: int) -> list[Text]:
    from rich.text import Text

    line.plain = _COMMAND.sub(lambda found: found[0].replace(" ", _JOINED), line.plain)
    column = _COLUMN.match(line.plain)
    margin = min(column.end() if column else 2, width // 2)
    first = line.wrap(_console(), width)[0]
    rest = line[len(line.plain) - len(line.plain[len(first) :].lstrip()) :]
    done = [first, *(Text(" " * margin) + piece for piece in rest.wrap(_console(), width - margin))]
    for one in done:
        one.plain = one.plain.replace(_JOINED, " ")
        one.rstrip()
    return done


def ago(seconds: int | None) -> str:
    """``14 s ago``, or ``in 3 h 12 min`` for less than 0: the two largest units. ``never`` for None."""
    if seconds is None:
        return "never"
    left = abs(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size or (size == 1 and not parts):
            parts.append(f"{left // size} {unit}")
        left %= size
    text = " ".join(parts[:2])
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def width() -> int:
    """Columns of the terminal. Without a terminal there are plenty."""
    return shutil.get_terminal_size().columns if is_terminal() else 1000


@contextlib.contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done if a person waits. The function that is given changes the text."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as shown:
        yield shown.update


@contextlib.contextmanager
def screen() -> Iterator[Callable[[Sequence[Text]], None]]:
    """A screen of its own, which the old one replaces at the end. The function that is given draws lines on it."""
    from rich.live import Live
    from rich.text import Text

    with Live(
        console=_console(), screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as shown:

        def show(lines: Sequence[Text]) -> None:
            whole = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
            shown.update(whole, refresh=True)

        yield show


def refuse_watch(args: argparse.Namespace) -> None:
    """UserError if --watch is to draw where nothing can be drawn."""
    if args.watch and not args.json and not is_terminal():
        raise UserError("--watch draws on a terminal. For a program, --watch --json prints one object a line")


def size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    return tuple(shutil.get_terminal_size())  # type: ignore[return-value]


def can_draw(text: str) -> bool:
    """Whether standard output can show these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def moment(at: str) -> str:
    """The time of day of a report, with its zone's offset."""
    return f"{at[11:19]} {at[19:]}"
