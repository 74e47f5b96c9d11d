"""Prints one line for each scenario, and at the end what to read and to run next."""

from typing import Any

from rich.console import Console
from rich.text import Text

from wgsyncd.demo.observation import DemoReport, Sample, ScenarioReport

NEXT = """\
next: read  README.md, then etc/doc/install.md for a server of your own
next: run   wgsyncd --help  for all commands"""


class Screen:
    """Prints lines of at most 80 columns to stdout, or to stderr if stdout is for JSON.

    A terminal also shows what is being done.
    """

    def __init__(self, *, json: bool) -> None:
        self._console = Console(stderr=json, highlight=False, soft_wrap=True)
        self._status = self._console.status("", spinner="line")
        self._scenario = ""

    def begin(self, scenario: str) -> None:
        """Show that a scenario begins, or other work that takes time."""
        self._scenario = f"   {scenario:<29}"
        self._status.update(self._scenario)
        self._status.start()

    def show(self, sample: Sample[Any]) -> None:
        accounted = sum(sum(row.total) for row in sample.rows.values())
        self._status.update(f"{self._scenario}{len(sample.peers):2} peers, {accounted / 1e6:6.2f} MB accounted")

    def add(self, report: ScenarioReport) -> None:
        mark = Text("-   ", "yellow") if report.note else Text("ok  ", "green")
        said = Text(report.note, "yellow") if report.note else Text(report.expected, "dim" if report.ok else "")
        mark = mark if report.ok else Text("FAIL", "bold red")
        self._console.print(mark, Text(f"{report.name:<29}"), said)
        if not report.ok:
            self._console.print(Text(f"     kernel: {report.kernel}\n     table:  {report.table}", "red"))

    def close(self, report: DemoReport, keep: str) -> None:
        """Print how many scenarios hold, and what to do next. ``keep``: leaves such a demo running, "" if it runs."""
        self._status.stop()
        shown = [one.ok for one in report.scenarios if not (one.ok and one.note)]
        missing = len(report.scenarios) - len(shown)
        held = f"{sum(shown)} of {len(shown)} scenarios hold" + (f", {missing} cannot be shown" if missing else "")
        line = f"\n{held}, with {report.kind} WireGuard, in {report.seconds:.0f} s"
        self._console.print(Text(line, "green" if report.ok else "bold red"))
        self._console.print(Text(NEXT + (f"\nnext: look  {keep}  leaves it running" if keep else "")))
