"""`wgsyncd approve` lets the removals of one withheld plan through."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
The running daemon carries them out at once, and writes down who approved. If since then other removals are wanted, the
plan has another id and nothing is let through. Where no daemon runs, its first cycle does it, if the plan is still that
one then.

exit status: 0 done, 1 failed (also: nothing is withheld, or the plan is another one), 2 bad configuration or usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Let exactly the removals of a withheld plan through, once."
    parser = options.add_command(commands, "approve", text, run, EPILOG)
    parser.add_argument("plan_id", metavar="ID", help="the plan's id, which `wgsyncd plan` prints")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Let a plan's removals through."""
    import json

    from wgsyncd.cli import client, wiring
    from wgsyncd.config import load

    data, why = client.ask_daemon(args, "/approve", body={"plan": args.plan_id})
    if data is None:
        wiring.open_agent(load.load(args.config)).approve(args.plan_id)
        client.print_note(why)
        text = f"plan {args.plan_id} approved; the daemon carries it out with its next cycle"
        answer = {"plan": args.plan_id, "approved": True, "carried_out": False, "removed": None}
    else:
        removed = sum(1 for one in data["changes"] if one["action"] == "remove")
        text = f"plan {args.plan_id} approved and carried out: {removed} removed"
        answer = {"plan": args.plan_id, "approved": True, "carried_out": True, "removed": removed}
    print(json.dumps(answer) if args.json else text)
    return 0
