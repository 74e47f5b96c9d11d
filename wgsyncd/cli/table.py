"""Lays out tables: it measures characters as a terminal does, and drops columns without room.

rich's own tables need 4 ms for a line, which is 40 s for 10,000 devices.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from wgsyncd.cli.output import Line, Parts, can_draw, sanitize

WHOLE = 1000  # cells: wide enough for every table
GAP = 2  # cells between two columns
LEAST_BAR = 10  # cells of a bar. Shorter bars say nothing


class Column(NamedTuple):
    """A column. A narrow terminal drops the highest ranks first, and never rank 0."""

    head: str
    rank: int = 0
    right: bool = False  # numbers stand at the right
    most: int = 0  # cells that it keeps before other columns are dropped. 0: all


def fit(columns: Sequence[Column], rows: Sequence[Sequence[Line]], width: int) -> list[list[Line]]:
    """A table with its head, in lines of at most ``width`` cells. Each line has one part for each column.

    A column that is empty in all rows is left out. If even rank 0 is too wide, its widest column is cut.
    """
    cells = [[(sanitize(text), kind) for text, kind in row] for row in rows]
    sizes = [max((cell_len(row[at][0]) for row in cells), default=0) for at in range(len(columns))]
    kept = [at for at, size in enumerate(sizes) if size or not rows]
    sizes = [max(size, cell_len(one.head)) for one, size in zip(columns, sizes, strict=True)]
    if _width(sizes, kept) > width:
        sizes = [min(size, one.most or size) for one, size in zip(columns, sizes, strict=True)]
    while _width(sizes, kept) > width and (rank := max((columns[at].rank for at in kept), default=0)):
        kept = [at for at in kept if columns[at].rank < rank]
    if (over := _width(sizes, kept) - width) > 0:
        widest = max(kept, key=lambda at: sizes[at])
        sizes[widest] = max(1, sizes[widest] - over)
    head = [(one.head, "head") for one in columns]
    return [
        [(_cell(row[at][0], sizes[at], right=columns[at].right, last=at == kept[-1]), row[at][1]) for at in kept]
        for row in (head, *cells)
    ]


def _width(sizes: Sequence[int], kept: Sequence[int]) -> int:
    return sum(sizes[at] + GAP for at in kept) - GAP


def _cell(text: str, size: int, *, right: bool, last: bool) -> str:
    have = cell_len(text)
    if have > size:
        text, have = set_cell_size(text, size - 1) + ("…" if can_draw("…") else "~"), size
    filled = " " * (size - have) + text if right else text + " " * (size - have)
    return filled if last else filled + " " * GAP


def with_bars(lines: Sequence[list[Line]], amounts: Sequence[tuple[int, int]], width: int) -> list[Parts]:
    """The lines of a table with a head and a foot. Each line between gets a bar of two amounts, if there is room."""
    room = width - max(cell_len("".join(text for text, _ in line)) for line in lines) - GAP
    if room < LEAST_BAR:
        return list(lines)
    eighths = "▏▎▍▌▋▊▉█" if can_draw("▏█") else "#" * 8
    most = max(map(sum, amounts), default=0) or 1
    done: list[Parts] = [lines[0]]
    for line, (rx, tx) in zip(lines[1:-1], amounts, strict=True):
        whole, rest = divmod(-(-(rx + tx) * room * 8 // most), 8)  # rounded up: a single byte is seen
        bar, part = eighths[-1] * whole + eighths[rest - 1 : rest], -(-rx * room // most)
        done.append([*line, (" " * GAP, ""), (bar[:part], "rx"), (bar[part:], "tx")])
    return [*done, lines[-1]]


def spark(amounts: Sequence[int]) -> str:
    """A bar of one character for each amount. Nothing if all are zero or the terminal cannot show it."""
    most = max(amounts, default=0)
    return "".join("▁▂▃▄▅▆▇█"[-(-8 * one // most) - 1] if one else " " for one in amounts) if most else ""


def short_bytes(number: float | None) -> str:
    """A number of bytes with three digits: ``512 B``, ``1.50 MiB``, ``310 KiB``. A hyphen for None."""
    if number is None:
        return "-"
    if number < 1000:
        return f"{number:.0f} B"
    size = float(number)
    units = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    at = next((at for at in range(len(units)) if size < 999.5 * 1024 ** (at + 1)), len(units) - 1)
    size /= 1024 ** (at + 1)
    return f"{size:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f} {units[at]}"
