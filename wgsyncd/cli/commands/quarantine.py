"""Show traffic that was set aside because no link can carry so much. Release or drop it.

Bytes that no link can carry in that time are not accounted. They wait here, with their device and their times. If the
traffic was real, `wgsyncd quarantine release 7` adds it to the figures of the device. If not,
`wgsyncd quarantine drop 7` forgets it. The device stays connected, and its further traffic is counted as always.

exit status: 0 done, 1 failed, 2 bad configuration or usage
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from msgspec import Struct

from wgsyncd.cli import options, output, wiring
from wgsyncd.cli.output import Line, Parts
from wgsyncd.cli.table import Column, fit
from wgsyncd.config import load
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import quarantine

_WORK = {"release": quarantine.release, "drop": quarantine.drop}
_DONE = {"release": "released: posted", "drop": "dropped: not posted"}


class QuarantinedReport(Struct, frozen=True, kw_only=True, rename={"row_id": "row"}):
    """One delta in quarantine. Bytes are the server's view, times are UNIX seconds, the rate is in bits per second."""

    id: int
    row_id: int | str | None
    device: str
    name: str  # what people call it, or ""
    interface: str
    rx: int
    tx: int
    since: float
    until: float
    rate: float | None


class QuarantineReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd quarantine --json`: what waits, or what was released or dropped."""

    quarantine: list[QuarantinedReport]


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    parser.set_defaults(fail=parser.error)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", *_WORK),
        default="list",
        help="release accounts the deltas after all, drop forgets them (default: list)",
    )
    parser.add_argument(
        "ids", nargs="*", type=options.number, metavar="ID", help="ids, which `wgsyncd quarantine` shows"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    if (args.action == "list") == bool(args.ids):
        args.fail("list takes no ID" if args.ids else f"{args.action} needs an ID")
    settings = load.load(args.config)
    agent = wiring.open_agent(settings)

    if args.action == "list":
        held = agent.store.quarantine()
    else:
        held = _WORK[args.action](agent.store, frozenset(args.ids), agent.inspector.calendar)
    names = Labels.of_rows(agent.store.snapshot().rows if held else ())
    report = QuarantineReport(
        quarantine=[
            QuarantinedReport(id=number, name=names.of(delta.device), rate=delta.rate, **asdict(delta))
            for number, delta in held
        ]
    )
    output.print_report(report, _lines(report, agent.inspector.calendar(), args.action), json=args.json)
    return 0


def _lines(report: QuarantineReport, calendar: UsageCalendar, action: str) -> Iterator[Parts]:
    """The deltas in quarantine, or those that were released or dropped. Bytes are the server's view."""
    if not report.quarantine:
        yield "nothing in quarantine", ""
        return
    columns = [
        *(Column("id"), Column("device", most=20), Column("interface", rank=3)),
        *(Column("received", right=True), Column("sent", right=True)),
        *(Column("from", rank=1), Column("until", rank=2), Column("rate", rank=4)),
    ]
    rows: list[list[Line]] = []
    for one in report.quarantine:
        times = calendar.format_local(one.since), calendar.format_local(one.until)
        cells = (
            str(one.id),
            one.name or one.device or "-",
            one.interface,
            str(one.rx),
            str(one.tx),
            *times,
            _rate(one.rate),
        )
        rows.append([(cell, "") for cell in cells])
    yield from fit(columns, rows, output.width())
    if action in _DONE:
        yield f"{len(report.quarantine)} {_DONE[action]}", ""


def _rate(bits: float | None) -> str:
    if bits is None:
        return "in no time"
    power = min(max(0, (len(str(int(bits))) - 1) // 3), 6)
    return f"{bits / 1000**power:.3g} {' kMGTPE'[power].strip()}bit/s"
