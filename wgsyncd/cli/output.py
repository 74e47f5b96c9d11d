"""Tables, bars, colours and progress for people at a terminal; plain text everywhere else. Alone imports rich, and only
where something is drawn.

NO_COLOR and TERM=dumb are honoured (rich does that). Nothing is read as markup: texts come from rows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from wgsyncd.core.model import PublicKey, encode_key
from wgsyncd.redact import escape_control, redact

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
    """Rows of texts under a head; columns after the first ``left`` are numbers and stand at the right."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    foot: tuple[str, ...] = ()
    left: int = 1
    bars: Sequence[tuple[int, int]] = field(default=())  # a pair of amounts per row: drawn on a terminal only


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person reads along: a terminal that is more than a teletype."""
    out = sys.stdout if stream is None else stream
    return out is not None and out.isatty() and os.environ.get("TERM") != "dumb"


def sanitize(text: str) -> str:
    """Fit to be printed: no key, nothing that breaks a line."""
    return escape_control(redact(text))


def show(table: Table) -> None:
    """Print a table, with bars where somebody sees them."""
    rows = [tuple(map(sanitize, row)) for row in table.rows]
    lines = [table.head, *rows, *([table.foot] if table.foot else [])]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.head))]

    def plain(line: tuple[str, ...]) -> str:
        cells = [cell.ljust(w) if at < table.left else cell.rjust(w)
                 for at, (cell, w) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        return "  ".join(cells).rstrip()

    if not is_terminal():
        print("\n".join(map(plain, lines)))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    room = max(BAR, console.width - sum(widths) - 2 * len(widths))
    block = "█" if "utf" in console.encoding.lower() else "#"
    most = max((rx + tx for rx, tx in table.bars), default=0) or 1
    console.print(Text(plain(table.head), style=_COLOURS["head"]), soft_wrap=True)
    for at, row in enumerate(rows):
        line = Text(plain(row))
        if table.bars:
            rx, tx = table.bars[at]
            whole, part = _ceiling((rx + tx) * room, most), _ceiling(rx * room, most)
            line.append("  ").append(block * part, _COLOURS["rx"]).append(block * (whole - part), _COLOURS["tx"])
        console.print(line, soft_wrap=True)
    if table.foot:
        console.print(Text(plain(table.foot), style=_COLOURS["head"]), soft_wrap=True)


def _ceiling(amount: int, most: int) -> int:
    return -(-amount // most)  # a byte is seen


def print_line(*parts: tuple[str, str] | str | PublicKey) -> None:
    """Print one line; a part may be a pair of text and one of ``ok``, ``warning``, ``fault``, ``held``, ``head``; or a
    public key, which is then printed in full."""
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


def print_lines(some: Sequence[tuple[str, str]]) -> None:
    """Print many lines as :func:`say` does one."""
    if not is_terminal():
        print("\n".join(sanitize(text).rstrip() for text, _ in some))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    for text, kind in some:
        console.print(Text(sanitize(text), style=_COLOURS.get(kind, "")), soft_wrap=True)


def width() -> int:
    """Columns of the terminal; plenty where there is none."""
    return shutil.get_terminal_size().columns if is_terminal() else 1000


@contextlib.contextmanager
def progress(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show on standard error how far something is, where a person waits for it; call what is given after each step."""
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
    """Show on standard error that something is being done, where a person waits for it; call what is given to say what
    else."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as shown:
        yield shown.update


def live(draw: Callable[[], Sequence[tuple[str, str]]], every: float) -> None:
    """Draw lines as for :func:`say` on a screen of their own, anew after ``every`` seconds, until interrupted."""
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
