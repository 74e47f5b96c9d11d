"""`wgsyncd sync` makes the running daemon compare everything, or a few devices, now."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
exit status: 0 compared, 1 failed (also: no daemon runs, or no answer in time), 2 bad usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Make the running daemon compare everything, or a few devices, now. Wait for the result."
    parser = options.add_command(commands, "sync", text, run, EPILOG, config=False)
    parser.add_argument("device", nargs="*", metavar="DEVICE", help="device ids (default: all)")
    options.add_timeout(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the daemon and print what was compared."""
    from wgsyncd.cli import client, output
    from wgsyncd.daemon.admin_report import SyncReport

    report = client.decode(client.ask("/sync", "POST", {"devices": args.device}, args.timeout), SyncReport)
    if args.json:
        output.print_json(report)
    else:
        print(output.sanitize(f"compared {', '.join(args.device) or 'everything'}"))
    return 0
