"""`wgsyncd usage` shows accounted bytes of a device, an owner or all, by hour, day or month."""

from __future__ import annotations

import argparse
import time
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
Bytes are WireGuard's. KiB and MiB are powers of 1024, and --csv and --json have exact bytes. rx and tx mean the same as
in the devices' columns. Hours reach back two to three days, and days as far as usage.retention.

exit status: 0 done, 1 failed (also: no such device or owner), 2 bad configuration or usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = options.add_command(commands, "usage", "Show accounted bytes by hour, day or month.", run, EPILOG)
    parser.set_defaults(fail=parser.error)
    parser.add_argument(
        "name",
        nargs="?",
        metavar="DEVICE|OWNER",
        help="a device id, an owner, or a row's id (default: all)",
    )
    parser.add_argument(
        "--by", choices=("hour", "day", "month"), default="day", help="the length of a period (default: %(default)s)"
    )
    parser.add_argument(
        "--since",
        type=_date,
        metavar="DATE",
        help="the first day, as 2026-09-01 (default: the last 24 hours, 30 days or 12 months)",
    )
    parser.add_argument("--until", type=_date, metavar="DATE", help="the last day, which counts (default: today)")
    parser.add_argument("--top", type=_count, metavar="N", help="show the N devices that moved most instead of periods")
    parser.add_argument("--by-owner", action="store_true", help="with --top: rank owners instead of devices")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    form.add_argument("--csv", action="store_true", help="CSV with a head instead of a table")
    form.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart (needs the extra wgsyncd[plot])")


def run(args: argparse.Namespace) -> int:
    """Read, add up, print."""
    from wgsyncd.cli import render_usage, usage_query, wiring
    from wgsyncd.config import load
    from wgsyncd.core.inspect.periods import make_range

    settings = load.load(args.config)
    if args.top is None and args.by_owner:
        args.fail("--by-owner goes with --top")
    if args.top is not None and (args.name or args.svg):
        args.fail("--top ranks all devices or owners: it takes no name and no --svg")
    try:
        span = make_range(args.by, args.since, args.until, time.time(), settings.node.zone)
    except ValueError as error:
        args.fail(f"--since {error}")
    reports = wiring.open_reports(settings)
    names = reports.names()
    reach = reports.coverage()
    notes = usage_query.notes_on(span, reach)
    if args.top is not None:
        by_row = usage_query.read_by_row(reports, span)
        ranks = usage_query.rank(by_row, names, by_owner=args.by_owner)
        render_usage.print_ranking(args, reports.perspective, span, ranks, notes)
        return 0
    rows, who = usage_query.resolve_name(args.name, names)
    periods = usage_query.read_periods(reports, span, rows, reach)
    render_usage.print_periods(args, reports.perspective, span, who, periods, notes)
    return 0


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day of the configured zone
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date, as 2026-09-01 is") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)
