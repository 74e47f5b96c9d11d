"""`wgsyncd explain` tells why a device has a peer, or has none."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
The command writes nothing. Without root or CAP_NET_ADMIN it cannot read the kernel, and says so. The device's own
public key is the only key that it prints.

exit status: 0 done, 1 failed (also: no such device), 2 bad configuration or usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Explain why a device has a peer, or has none."
    parser = options.add_command(commands, "explain", text, run, EPILOG)
    parser.add_argument("device", metavar="DEVICE", help="a device id, a row's id, a tunnel address or a public key")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Gather everything about the device and print it."""
    from wgsyncd.cli import output, render_explain, wiring
    from wgsyncd.cli.explain_query import gather
    from wgsyncd.cli.explain_report import explain_report
    from wgsyncd.config import load

    settings = load.load(args.config)
    told = gather(args.device, settings, wiring.open_agent(settings), wiring.open_reports(settings))
    if args.json:
        output.print_json(explain_report(told))
    else:
        render_explain.print_story(told)
    return 0
