"""`wgsyncd usage` shows booked bytes of a device, an owner or all, by hour, day or month."""

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
Bytes are WireGuard's, as booked; KiB, MiB, ... are powers of 1024, --csv and --json have exact bytes. rx and tx mean
what they mean in the devices' columns. Hours reach back two to three days, days as far as usage.retention.

exit status: 0 done, 1 failed (also: no such device or owner), 2 bad configuration or usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = options.add_command(commands, "usage", "Show booked bytes by hour, day or month.", run, EPILOG)
    parser.set_defaults(fail=parser.error)
    parser.add_argument(
        "name",
        nargs="?",
        metavar="DEVICE|OWNER",
        help="a device id, an owner, or a row's id; default: all",
    )
    parser.add_argument("--by", choices=("hour", "day", "month"), default="day", help="default: %(default)s")
    parser.add_argument(
        "--since",
        type=_date,
        metavar="DATE",
        help="first day, as 2026-09-01; default: the last 24 hours, 30 days or 12 months",
    )
    parser.add_argument("--until", type=_date, metavar="DATE", help="last day, in it; default: today")
    parser.add_argument("--top", type=_count, metavar="N", help="instead of periods: who moved most")
    parser.add_argument("--by-owner", action="store_true", help="with --top: owners instead of devices")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    form.add_argument("--csv", action="store_true", help="CSV with a head instead of a table")
    form.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart; needs the extra wgsyncd[plot]")


def run(args: argparse.Namespace) -> int:
    """Gather, add up, print."""
    from wgsyncd.cli import render_usage, wiring
    from wgsyncd.config import load

    settings = load.load(args.config)
    return render_usage.run(args, settings, wiring.open_reports(settings), time.time())


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day of the configured zone
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date, as 2026-09-01 is") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)
