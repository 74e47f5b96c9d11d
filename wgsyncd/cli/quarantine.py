"""`wgsyncd quarantine` lists the deltas in quarantine, and releases or drops them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands
    from wgsyncd.core.usage.calendar import UsageCalendar


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Show deltas in quarantine: no link can carry so much traffic. Release or drop them."
    parser = options.add_command(commands, "quarantine", text, run)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "release", "drop"),
        default="list",
        help="release accounts the deltas after all, drop forgets them (default: list)",
    )
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="the ids of the list")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List, release or drop the deltas."""
    from wgsyncd.cli import output, wiring
    from wgsyncd.cli.render_verify import held_as_lines
    from wgsyncd.cli.verify_report import quarantine_report
    from wgsyncd.config import load
    from wgsyncd.core.usage.calendar import UsageCalendar
    from wgsyncd.engine import quarantine
    from wgsyncd.errors import UserError

    if (args.action == "list") == bool(args.ids):
        raise UserError("wgsyncd quarantine [list], or wgsyncd quarantine release|drop ID …")
    settings = load.load(args.config)
    agent = wiring.open_agent(settings)

    def calendar() -> UsageCalendar:
        return UsageCalendar(agent.clock.now(), int(settings.usage.bucket_width), settings.node.zone)

    if args.action == "list":
        held = agent.store.quarantine()
    else:
        work = {"release": quarantine.release, "drop": quarantine.drop}[args.action]
        held = work(agent.store, frozenset(args.ids), calendar)
    if args.json:
        output.print_json(quarantine_report(held))
    else:
        print("\n".join(held_as_lines(held, calendar(), args.action)))
    return 0
