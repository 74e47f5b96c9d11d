"""`wgsyncd reload` makes the running daemon read its configuration again."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
If the configuration has faults, the command prints them, and the daemon keeps the old configuration.

exit status: 0 taken, 1 failed (also: no daemon runs, or no answer in time), 2 refused, or bad usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Make the running daemon read its configuration again, and wait for the result."
    parser = options.add_command(commands, "reload", text, run, EPILOG, config=False)
    options.add_timeout(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Reload the configuration. 0: taken, 2: refused, and the daemon keeps the old one."""
    from wgsyncd.cli import client, output
    from wgsyncd.daemon.admin_report import ReloadReport

    report = client.decode(client.ask("/reload", "POST", {}, args.timeout), ReloadReport)
    if args.json:
        output.print_json(report)
    elif report.taken:
        print(output.sanitize(f"{report.config}: taken"))
    else:
        count = f"{len(report.faults)} fault{'s' if len(report.faults) > 1 else ''}"
        print(
            output.sanitize(f"wgsyncd: {report.config}: {count}, so the daemon keeps the old configuration"),
            file=sys.stderr,
        )
        for fault in report.faults:
            print(output.sanitize(f"  {fault}"), file=sys.stderr)
    return 0 if report.taken else 2
