"""Make the running daemon compare peers with rows now, all or of a few devices. Wait for the result.

exit status: 0 compared, 1 failed (also: no daemon runs, or no answer in time), 2 bad usage
"""

import argparse

from wgsyncd.cli import client, options, output
from wgsyncd.core.inspect.names import suggestions
from wgsyncd.daemon.admin_report import SyncReport
from wgsyncd.daemon.notify_socket import parse
from wgsyncd.engine.reports.devices import DevicesReport


def register(parser: argparse.ArgumentParser) -> None:
    options.add_timeout(parser)
    options.add_json(parser)
    parser.add_argument("device_ids", type=_device, nargs="*", metavar="DEVICE", help="device ids (default: all)")


def run(args: argparse.Namespace) -> int:
    report = client.decode(client.ask("/sync", "POST", {"devices": args.device_ids}, args.timeout), SyncReport)
    lines = [(f"compared {', '.join(args.device_ids) or 'everything'}", "")]
    if report.without_row and not args.json:
        known = client.decode(client.ask("/devices?all=1", "GET"), DevicesReport).devices
        for text in report.without_row:
            alike = suggestions(text, [one.device for one in known if one.row is not None])
            lines.append((f"no row has the id {text}{alike and '; alike: '}{', '.join(alike)}", "warning"))
    output.print_report(report, lines, json=args.json)
    return 0


def _device(text: str) -> str:
    try:
        if parse(text.encode()) == {text}:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no device id")
