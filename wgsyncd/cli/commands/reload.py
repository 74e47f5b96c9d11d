"""Make the running daemon read its configuration again, and wait for the result.

If the configuration has faults, the command prints them, and the daemon keeps the old configuration.

exit status: 0 taken, 1 failed (also: no daemon runs, or no answer in time), 2 refused, or bad usage
"""

import argparse
import sys

from wgsyncd.cli import client, options, output
from wgsyncd.core.words import counted
from wgsyncd.daemon.admin_report import ReloadReport


def register(parser: argparse.ArgumentParser) -> None:
    options.add_timeout(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Reload the configuration. 0: taken, 2: refused, and the daemon keeps the old one."""
    report = client.decode(client.ask("/reload", "POST", {}, args.timeout), ReloadReport)
    if args.json or report.taken:
        lines = [(f"{report.config}: taken", ""), *((one, "warning") for one in report.warnings)]
        output.print_report(report, lines, json=args.json)
    else:
        count = counted(len(report.faults), "fault")
        refused = f"wgsyncd: {report.config}: {count}, so the daemon keeps the old configuration"
        for line in (refused, *(f"  {fault}" for fault in report.faults)):
            print(output.sanitize(line), file=sys.stderr)
    return 0 if report.taken else 2
