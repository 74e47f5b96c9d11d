"""What the demo shows: a live table on a terminal, a line per event elsewhere, and the verdicts at the end."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wgsyncd.demo.observation import Row, Sample

_COLOURS = {"active": "green", "issued": "cyan", "paused": "yellow", "revoked": "red", "expired": "magenta"}
_RATE_OVER = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a story ended."""

    story: str
    expected: str
    kernel: str
    table: str
    ok: bool

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


class Screen(Protocol):
    """Where the play can be followed."""

    def begin(self, story: str) -> None:
        """A story begins, or something else that takes time."""

    def show(self, sample: Sample) -> None:
        """Something was looked at."""

    def tell(self, verdict: Verdict) -> None:
        """A story is over."""

    def close(self) -> None:
        """No more."""


def open_screen(*, json: bool) -> Screen:
    """The live table where stdout is a terminal for people to read, else lines on stderr."""
    return Lines() if json or not sys.stdout.isatty() else Board()


class Lines:
    """One line on stderr per story and per audit row."""

    def __init__(self) -> None:
        self._logs = 0

    def begin(self, story: str) -> None:
        """Said when it is over, with how it ended."""

    def show(self, sample: Sample) -> None:
        """New audit rows."""
        for action, target, _ in sample.logs[self._logs :]:
            print(f"     admin_logs: {action} {target}", file=sys.stderr)
        self._logs = len(sample.logs)

    def tell(self, verdict: Verdict) -> None:
        """One line, two where it went wrong."""
        mark = "ok  " if verdict.ok else "FAIL"
        print(f"{mark} {verdict.story}: {verdict.kernel} | {verdict.table}", file=sys.stderr)
        if not verdict.ok:
            print(f"     expected: {verdict.expected}", file=sys.stderr)

    def close(self) -> None:
        """Nothing is open."""


class Board:
    """Rows, admin_logs and the present story, drawn over and over on the terminal's own screen."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()
        self._story, self._verdicts = "", [0, 0]
        self._past: deque[tuple[float, dict[str, int]]] = deque()
        self._drawn = 0.0
        self._sample: Sample | None = None

    def begin(self, story: str) -> None:
        """Names the story in the headline."""
        self._story = story
        self._draw()

    def show(self, sample: Sample) -> None:
        """Redraws, at most four times a second."""
        self._sample = sample
        if sample.at - self._drawn > 0.25:
            self._drawn = sample.at
            both = {key: sum(sample.counted(key)) for peers in sample.peers.values() for key in peers}
            self._past.append((sample.at, both))
            while sample.at - self._past[0][0] > _RATE_OVER:
                self._past.popleft()
            self._draw()

    def tell(self, verdict: Verdict) -> None:
        """Counts it."""
        self._verdicts[not verdict.ok] += 1
        self._draw()

    def close(self) -> None:
        """Gives the terminal back."""
        self._live.stop()

    def _draw(self) -> None:
        good, bad = self._verdicts
        head = Text.assemble((" wgsyncd demo ", "reverse"), f"  {good} ok ", (f" {bad} failed ", "red") if bad else "",
                             "  now: ", (self._story, "bold"), ("   ● peer in the kernel  ○ none", "dim"))  # fmt: skip
        parts: list[Text | Table] = [head]
        if self._sample is not None:
            parts.append(self._rows(self._sample))
            room = max(3, self._console.size.height - len(self._sample.rows) - 5)
            parts += [
                Text.assemble((f"{action:<22}", "bold"), f"{target:<14}", message, no_wrap=True, overflow="ellipsis")
                for action, target, message in self._sample.logs[-room:]
            ]
        self._live.update(Group(*parts), refresh=True)

    def _rows(self, sample: Sample) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1), expand=False)
        for name in ("device", "status", "interface", "address", "last handshake"):
            table.add_column(name, no_wrap=True)
        for name in ("rx bytes", "tx bytes", "B/s"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in sample.rows.values():
            peer = sample.find(row.public_key) is not None
            table.add_row(
                row.device, Text(row.status, _COLOURS.get(row.status, "dim")),
                Text(row.interface + (" ●" if peer else " ○"), "green" if peer else "dim"), row.address,
                (row.last_handshake_at or "-").rpartition(" ")[2], f"{row.total.rx:,}", f"{row.total.tx:,}",
                self._rate(row),
            )  # fmt: skip
        return table

    def _rate(self, row: Row) -> str:
        if len(self._past) < 2:
            return ""
        (then, old), (now, new) = self._past[0], self._past[-1]
        grown = new.get(row.public_key, 0) - old.get(row.public_key, 0)
        return f"{grown / (now - then):,.0f}" if grown > 0 else ""


def print_verdicts(verdicts: list[Verdict], *, kind: str, seconds: float) -> None:
    """The table at the end, on stdout."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    table = Table(title=f"wgsyncd demo: {kind} WireGuard, {seconds:.0f} s", show_lines=not console.is_terminal)
    for name in ("", "story", "expected", "in the kernel", "in the table"):
        table.add_column(name)
    for one in verdicts:
        mark = Text("ok", "green") if one.ok else Text("FAILED", "bold red")
        table.add_row(mark, *(Text(text) for text in (one.story, one.expected, one.kernel, one.table)))
    console.print(table)
    good = sum(one.ok for one in verdicts)
    console.print(Text(f"{good} of {len(verdicts)} hold", "green" if good == len(verdicts) else "bold red"))
