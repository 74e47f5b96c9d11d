"""Make the running daemon compare peers with rows now, all or of a few devices. Wait for the result.

exit status: 0 compared, 1 failed (also: no daemon runs, or no answer in time), 2 bad usage
"""

import argparse

from wgsyncd.cli import client, options, output
from wgsyncd.daemon.admin_report import SyncReport


def register(parser: argparse.ArgumentParser) -> None:
    options.add_timeout(parser)
    options.add_json(parser)
    parser.add_argument("device", nargs="*", metavar="DEVICE", help="device ids (default: all)")


def run(args: argparse.Namespace) -> int:
    report = client.decode(client.ask("/sync", "POST", {"devices": args.device}, args.timeout), SyncReport)
    output.print_report(report, [(f"compared {', '.join(args.device) or 'everything'}", "")], json=args.json)
    return 0
