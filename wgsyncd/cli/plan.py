"""`wgsyncd plan` shows what a cycle would do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
- is a removal, ~ an update, + an addition, ! one that waits (for an admin, or for an unreadable key to be mended),
> a step in a device's life, ? a row that cannot be followed. Writes nothing. The running daemon is asked; where none
runs, or it has another configuration, the command looks for itself and says so.

exit status: 0 nothing to do, 2 changes, 1 an error, also where an interface could not be compared"""


def register(commands: Commands) -> None:
    """Add the command to the command line. Exit status 2 says "there are changes", so a bad configuration is 1."""
    parser = options.add_command(
        commands, "plan", "Show what a cycle would do; do nothing.", run, EPILOG, config_fault_status=1
    )
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """What a cycle would do: 0 nothing, 2 something, 1 where that cannot be told of every interface."""
    import json
    import time

    from wgsyncd.cli import client, output, wiring
    from wgsyncd.config import load
    from wgsyncd.engine import plan_report

    data, why = client.ask_daemon(args, "/plan")
    if data is None:
        settings = load.load(args.config)
        agent = wiring.open_agent(settings)
        data = plan_report.plan_as_data(agent.inspector.preview(), settings.node.zone, time.time())
        client.print_note(why)
    if args.json:
        print(json.dumps({"source": "command" if why else "daemon", **data}, ensure_ascii=False))
    else:
        output.print_lines(plan_report.plan_as_lines(data))
    if data["not_compared"]:
        return 1  # what could not be compared may need anything
    return 2 if plan_report.wants_anything(data) else 0
