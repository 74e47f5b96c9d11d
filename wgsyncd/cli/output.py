"""What commands print: lines, tables, bars, colours and progress on a terminal, plain text elsewhere.

Only this module and `table` import rich, and this one only where something is drawn. rich obeys NO_COLOR and TERM=dumb.
Texts come from rows, so nothing is read as markup, and every text and document loses its keys here.
"""

from __future__ import annotations

import contextlib
import json as json_text
import os
import shutil
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn, TextIO

import msgspec

from wgsyncd.redact import escape_control, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Line = tuple[str, str]
"""A text, and its kind: ``ok``, ``warning``, ``fault``, ``held``, ``head``, ``dim``, or "" for none."""

Parts = Line | Sequence[Line]
"""A line, or the parts of a line that have different kinds."""

BAR = 30  # columns of a bar at least
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
    shown = [[(sanitize(text, public), kind) for text, kind in _parts(line)] for line in lines]
    if not is_terminal():
        print("\n".join("".join(text for text, _ in line).rstrip() for line in shown))
        return
    console = _console()
    for line in shown:
        console.print(_text(line), soft_wrap=True)


def _parts(line: Parts) -> Sequence[Line]:
    return (line,) if isinstance(line, tuple) and isinstance(line[0], str) else line  # type: ignore[return-value]


def _text(line: Sequence[Line]) -> Text:
    from rich.text import Text

    whole = Text()
    for text, kind in line:
        whole.append(text, _COLOURS.get(kind))
    whole.rstrip()
    return whole


def short_time(at: str | None) -> str:
    """A time of a report for people, without its offset."""
    return at[:19].replace("T", " ") if at else "never"


def seconds_between(early: str | None, late: str) -> int | None:
    """Seconds between two times of a report. None if the first one never was."""
    if early is None:
        return None
    return max(0, int((datetime.fromisoformat(late) - datetime.fromisoformat(early)).total_seconds()))


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


def table_lines(rows: Sequence[Sequence[str]], left: int = 1000) -> list[str]:
    """Rows of cells as lines. Columns after the first ``left`` are numbers and stand at the right."""
    rows = [[sanitize(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def print_table(rows: Sequence[Sequence[str]], left: int, bars: Sequence[tuple[int, int]]) -> None:
    """Print a table whose first line is its head and whose last line is its foot.

    On a terminal, each line between them has a bar of two amounts.
    """
    lines = table_lines(rows, left)
    if not is_terminal():
        print("\n".join(lines))
        return
    from rich.text import Text

    console = _console()
    room = max(BAR, console.width - max(map(len, lines)) - 2)
    block = "█" if "utf" in console.encoding.lower() else "#"
    most = max((rx + tx for rx, tx in bars), default=0) or 1
    console.print(Text(lines[0], style=_COLOURS["head"]), soft_wrap=True)
    for text, (rx, tx) in zip(lines[1:-1], bars, strict=True):
        whole, part = (-(-amount * room // most) for amount in (rx + tx, rx))  # rounded up: a single byte is seen
        line = Text(f"{text}  ").append(block * part, _COLOURS["rx"]).append(block * (whole - part), _COLOURS["tx"])
        console.print(line, soft_wrap=True)
    console.print(Text(lines[-1], style=_COLOURS["head"]), soft_wrap=True)


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


def live(draw: Callable[[], Iterable[Line]], every: float) -> NoReturn:
    """Draw lines on a screen of their own, again after ``every`` seconds, until ^C."""
    from rich.live import Live
    from rich.text import Text

    with Live(console=_console(), screen=True, auto_refresh=False) as shown:
        while True:
            text = Text(no_wrap=True, overflow="ellipsis")
            for line, kind in draw():
                text.append(sanitize(line) + "\n", _COLOURS.get(kind))
            shown.update(text, refresh=True)
            time.sleep(every)
