"""Show each device: online or not, status, address, handshake, rates and bytes.

The command shows what the running daemon knows since its last poll. If no daemon runs or answers, it reads everything
by itself.
Bytes and rates are the server's: in/s is what it receives. Devices without a peer are shown with --all.

exit status: 0 done, 1 failed, 2 bad configuration or usage
"""

import argparse
import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import get_args
from urllib.parse import urlencode

from msgspec import structs

from wgsyncd.cli import client, devices_table, options, output, wiring
from wgsyncd.cli.commands import plan
from wgsyncd.cli.output import Line, Parts
from wgsyncd.cli.watch import Draw, WatchView, watch
from wgsyncd.config import load
from wgsyncd.core.words import counted
from wgsyncd.engine.reports import devices as devices_report
from wgsyncd.engine.reports.devices import DevicesReport, Order, Selection
from wgsyncd.engine.status import DaemonStatus

WAIT = 15.0  # seconds for the daemon's answer. It may wait for the bytes from the database first
_OFF = "device without a peer is not shown", "devices without a peer are not shown"


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    parser.add_argument("text", nargs="?", default="", metavar="TEXT",
                        help="only devices with this text in a name, owner, status, address or interface")  # fmt: skip
    parser.add_argument("--online", action="store_true", help="only devices that are online")
    parser.add_argument("--all", action="store_true", help="also devices that have no peer and ask for none")
    orders = get_args(Order)
    told = f"{', '.join(orders[:-1])} or {orders[-1]} (default: %(default)s)"
    parser.add_argument("--sort", choices=orders, default="device", metavar="ORDER", help=told)
    parser.add_argument(
        "--limit", type=options.count, default=0, metavar="N", help="only the first N devices of that order"
    )
    options.add_watch(parser)
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table once, or with --watch until q or ^C."""
    output.refuse_watch(args)
    wanted = Selection(online=args.online, all=args.all, text=args.text, sort=args.sort, limit=args.limit)
    known = DaemonStatus()
    report = gather(args, wanted, known)  # An error now is an error of the command. A later one is on the screen.
    with contextlib.suppress(*[KeyboardInterrupt] if args.watch else []):
        if args.watch and not args.json:
            watch(drawing(args, wanted, ()), args.watch)
            return 0
        output.print_report(report, screen(report, output.width()), json=args.json)
        while args.watch:
            time.sleep(args.watch)
            output.print_json(gather(args, wanted, known))
    return 0


def drawing(args: argparse.Namespace, wanted: Selection, above: Sequence[Line]) -> Draw:
    """What --watch draws. ``above``: lines that stand above it."""
    known, page = DaemonStatus(), plan.PlanPage(args)

    def draw(view: WatchView) -> tuple[Sequence[Parts], str]:
        limit = min(view.height, wanted.limit or view.height)
        found = gather(args, structs.replace(wanted, text=view.text or wanted.text, limit=limit), known)
        if not (lines := page.lines(view)):
            lines = screen(found, view.width)
            over = len(above) + len(output.drawn(lines, view.width, copied=False)) - view.height
            if over > 0:
                lines = screen(structs.replace(found, devices=found.devices[:-over]), view.width)
        return [*above, *lines], output.moment(found.at)

    return draw


def gather(args: argparse.Namespace, wanted: Selection, known: DaemonStatus) -> DevicesReport:
    """The document, from the daemon or without one. ``known``: what a command without a daemon saw before."""
    fields = {name: getattr(wanted, name) for name in Selection.__struct_fields__}
    query = urlencode({name: int(value) if isinstance(value, bool) else value for name, value in fields.items()})
    late = client.SilentDaemonError(f"the daemon does not answer within {WAIT:g} s")
    ask = partial(client.ask_daemon, args, DevicesReport, f"/devices?{query}", "GET", timeout=WAIT)
    try:
        report, (_, why) = client.within(WAIT, late, ask)
    except client.SilentDaemonError:
        report, why = None, str(late)
    if report is not None:
        return report
    settings = load.load(args.config)
    agent = wiring.open_agent(settings)
    return devices_report.of_preview(known, settings, agent, wanted, why)


def screen(report: DevicesReport, width: int) -> list[Parts]:
    """The lines of one screen that is ``width`` cells wide."""
    lines: list[Parts] = [(f"node {report.node}: {devices_table.summary(report)}", "head")]
    if report.daemon:
        lines.append((f"{report.daemon}: this is what the command sees by itself", "warning"))
    if report.usage_error:
        lines.append((f"no bytes now: {report.usage_error}", "warning"))
    if report.devices:
        lines += [("", ""), *devices_table.lines(report, width)]
    if report.off and not any(one.state == "off" for one in report.devices):
        lines += [("", ""), (f"{counted(report.off, *_OFF)} (--all)", "dim")]
    return lines
