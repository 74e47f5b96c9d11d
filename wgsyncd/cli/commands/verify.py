"""Check that all figures of traffic agree: kernel, own tables, columns. Change nothing.

Each traffic figure is kept in several places. This command compares them and names each device whose figures differ,
with both numbers. The daemon may run: what it is just counting is compared again before it is shown.
What to do about a difference: `man wgsyncd-runbook`, WgsyncdVerifyFindings.

exit status: 0 all adds up, 1 something does not, or an error, 2 bad configuration or usage
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.output import Parts
from wgsyncd.cli.table import WHOLE, Column, fit
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.inspect.verify import Check, Discrepancy
from wgsyncd.engine import wording
from wgsyncd.errors import UserError

AGAIN = 1.0  # seconds between two comparisons, in which the daemon may account what differs
NAMED = 5  # devices that one line names


class FindingReport(Struct, frozen=True, kw_only=True):
    """One discrepancy, or a note. The numbers have names."""

    check: Check
    device: str
    name: str  # what people call it, or ""
    what: str
    numbers: dict[str, int]


class VerifyReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd verify --json`."""

    findings: list[FindingReport]
    notes: list[FindingReport]


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    settings = load.load(args.config)
    agent = wiring.open_agent(settings)
    with output.waiting("comparing kernel, baselines, buckets, days and columns") as say:
        found = agent.inspector.verify(_rounds(settings, args.config, say))
        report = _report(found, Labels.of_rows(agent.store.snapshot().rows if found else ()))
    output.print_report(report, _lines(report), json=args.json)
    return 1 if report.findings else 0


def _rounds(settings: Settings, config: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Rounds until the daemon has surely accounted everything. None if no daemon runs."""
    with contextlib.suppress(UserError):  # a user who may not see whether a daemon runs waits, too
        if client.running_daemon(config) is None:
            return
    plan = settings.schedule
    patience = int(max(3 * plan.poll_interval, plan.resync_interval + plan.poll_interval)) + 10
    for turn in range(patience):
        say(f"comparing again, {turn + 1} of {patience} times at most: the daemon may account what differs")
        time.sleep(AGAIN)
        yield


def _report(found: Sequence[Discrepancy], names: Labels) -> VerifyReport:
    def some(*, notes: bool) -> list[FindingReport]:
        return [
            FindingReport(
                check=one.check,
                device=one.device,
                name=names.of(one.device),
                what=wording.discrepancy(one),
                numbers=wording.numbers(one),
            )
            for one in found
            if one.note is notes
        ]

    return VerifyReport(findings=some(notes=False), notes=some(notes=True))


def _lines(report: VerifyReport) -> Iterator[Parts]:
    """One line for each discrepancy, then the notes. Equal notes about several devices are one line."""
    if wrong := report.findings:
        rows = [[(text, "") for text in (one.check.value, one.name or one.device or "-", one.what)] for one in wrong]
        yield from fit([Column("")] * 3, rows, WHOLE)[1:]
    count = f"{len(wrong)} {'finding' if len(wrong) == 1 else 'findings'}"
    yield count if wrong else "everything adds up", "fault" if wrong else "ok"
    low: dict[str, list[str]] = {}
    for one in report.notes:
        if one.check is Check.LOW:
            low.setdefault(" is below ".join(one.numbers), []).append(one.name or one.device)
        else:
            yield f"note: {one.what}", ""
    for what, devices in low.items():
        some = ", ".join(sorted(devices)[:NAMED]) + (", …" if len(devices) > NAMED else "")
        yield f"note: {what}: {len(devices)} ({some})", ""
