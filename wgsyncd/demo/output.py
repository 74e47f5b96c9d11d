"""Prints one line for each scenario, and at the end what to read and to run next."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from wgsyncd.demo.observation import Result, Sample

NEXT = (
    "next: read  README.md, then etc/doc/install.md for a server of your own",
    "next: run   wgsyncd demo --json   for what was seen of each scenario",
    "next: run   wgsyncd --help        for all commands",
)


class Screen:
    """Prints lines of at most 80 columns to stdout, or to stderr if stdout is for JSON."""

    def __init__(self, *, json: bool) -> None:
        self._console = Console(stderr=json, highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._scenario, self._drawn = "", 0.0

    def begin(self, scenario: str) -> None:
        """Show that a scenario begins, or other work that takes time."""
        self._scenario = scenario
        self._draw("")

    def show(self, sample: Sample) -> None:
        """Show what the daemon has done so far. Only a terminal gets this line, at most ten times a second."""
        if sample.at - self._drawn > 0.1:
            self._drawn = sample.at
            peers = sum(map(len, sample.peers.values()))
            accounted = sum(sum(row.total) for row in sample.rows.values())
            self._draw(f"{peers:2} peers, {accounted / 1e6:6.2f} MB accounted")

    def tell(self, result: Result) -> None:
        """Print the result of a scenario that has ended."""
        self._clear()
        mark = Text("ok  ", "green") if result.ok else Text("FAIL", "bold red")
        self._console.print(mark, Text(f"{result.name:<29}"), Text(result.expected, "dim" if result.ok else ""))
        if not result.ok:
            self._console.print(Text(f"     kernel: {result.kernel}\n     table:  {result.table}", "red"))

    def close(self, results: list[Result], *, kind: str, seconds: float) -> None:
        """Print how many scenarios hold, and what to do next. ``kind``: "kernel" or "userspace"."""
        self._clear()
        good = sum(one.ok for one in results)
        colour = "green" if good == len(results) else "bold red"
        line = f"\n{good} of {len(results)} scenarios hold, with {kind} WireGuard, in {seconds:.0f} s"
        self._console.print(Text(line, colour))
        for line in NEXT:
            self._console.print(Text(line))

    def _draw(self, state: str) -> None:
        if self._live:
            self._clear()
            self._console.file.write(f"..   {self._scenario:<29}{state}")
            self._console.file.flush()

    def _clear(self) -> None:
        if self._live:
            self._console.file.write("\r\x1b[K")
