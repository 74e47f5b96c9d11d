"""What commands print: tables, bars, colours and progress on a terminal, plain text elsewhere.

Only this module imports rich, and only where something is drawn. rich obeys NO_COLOR and TERM=dumb. Texts come from
rows, so nothing is read as markup.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

import msgspec
from msgspec import Struct

from wgsyncd.core.model import PublicKey, encode_key
from wgsyncd.redact import escape_control, redact

Line = tuple[str, str]
"""A text, and its kind for :func:`print_line` ("" for none)."""

BAR = 30  # columns of a bar at least
_COLOURS = {
    "ok": "green",
    "warning": "yellow",
    "fault": "red",
    "held": "bold yellow",
    "rx": "cyan",
    "tx": "magenta",
    "head": "bold",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under a head. Columns after the first ``left`` are numbers and stand at the right."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    foot: tuple[str, ...] = ()
    left: int = 1
    bars: Sequence[tuple[int, int]] = field(default=())  # a pair of amounts per row: drawn on a terminal only


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person reads the output on a terminal that can draw."""
    out = sys.stdout if stream is None else stream
    return out is not None and out.isatty() and os.environ.get("TERM") != "dumb"


def sanitize(text: str) -> str:
    """The text without a key, and without anything that breaks a line."""
    return escape_control(redact(text))


def print_json(report: Struct) -> None:
    """Print a report as one JSON object on one line."""
    print(json.dumps(msgspec.to_builtins(report), ensure_ascii=False), flush=True)


def table_lines(rows: Sequence[Sequence[str]], left: int = 1000) -> list[str]:
    """Rows of cells as lines. Columns after the first ``left`` are numbers and stand at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def print_table(table: Table) -> None:
    """Print a table. On a terminal it has bars."""
    rows = [table.head, *table.rows, *([table.foot] if table.foot else [])]
    lines = table_lines([tuple(map(sanitize, row)) for row in rows], table.left)
    if not is_terminal():
        print("\n".join(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    room = max(BAR, console.width - max(map(len, lines)) - 2)
    block = "█" if "utf" in console.encoding.lower() else "#"
    most = max((rx + tx for rx, tx in table.bars), default=0) or 1
    for at, text in enumerate(lines):
        is_row = 0 < at <= len(table.rows)
        line = Text(text, style="" if is_row else _COLOURS["head"])
        if is_row and table.bars:
            rx, tx = table.bars[at - 1]
            whole, part = _ceiling((rx + tx) * room, most), _ceiling(rx * room, most)
            line.append("  ").append(block * part, _COLOURS["rx"]).append(block * (whole - part), _COLOURS["tx"])
        console.print(line, soft_wrap=True)


def _ceiling(amount: int, most: int) -> int:
    return -(-amount // most)  # a byte is seen


def print_line(*parts: tuple[str, str] | str | PublicKey) -> None:
    """Print one line. A part is a text, or a pair of a text and its kind, or a public key.

    A kind is ``ok``, ``warning``, ``fault``, ``held`` or ``head``. A public key is printed in full.
    """
    plain = [
        (encode_key(part), "") if isinstance(part, bytes)
        else (sanitize(part), "") if isinstance(part, str)
        else (sanitize(part[0]), part[1])
        for part in parts
    ]  # fmt: skip
    if not is_terminal():
        print("".join(text for text, _ in plain).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    line = Text()
    for text, kind in plain:
        line.append(text, _COLOURS.get(kind))
    Console(highlight=False, markup=False, emoji=False).print(line, soft_wrap=True)


def print_lines(some: Sequence[Line]) -> None:
    """Print many lines, each with its kind."""
    if not is_terminal():
        print("\n".join(sanitize(text).rstrip() for text, _ in some))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    for text, kind in some:
        console.print(Text(sanitize(text), style=_COLOURS.get(kind, "")), soft_wrap=True)


def width() -> int:
    """Columns of the terminal. Without a terminal there are plenty."""
    return shutil.get_terminal_size().columns if is_terminal() else 1000


@contextlib.contextmanager
def progress(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show progress on standard error if a person waits. Call the function that is given after each step."""
    if steps < 2 or not is_terminal(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=steps)
        yield lambda: shown.advance(task)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done if a person waits. The function that is given changes the text."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as shown:
        yield shown.update


def live(draw: Callable[[], Sequence[Line]], every: float) -> None:
    """Draw lines on a screen of their own, again after ``every`` seconds, until ^C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as shown:
        while True:
            text = Text(no_wrap=True, overflow="ellipsis")
            for line, kind in draw():
                text.append(sanitize(line) + "\n", _COLOURS.get(kind))
            shown.update(text, refresh=True)
            time.sleep(every)
