"""`wgsyncd plan` shows what a cycle would do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
A line begins with - for a removal, ~ for an update, and + for an addition. It begins with ! for a change that waits for
an admin, or until an unreadable key is fixed. > is a transition of a device, and ? is a rejected row. The command asks
the running daemon. If no daemon runs, or if it has another configuration, the command looks by itself and says so.

exit status: 0 nothing to do, 2 changes, 1 an error, also where an interface could not be compared"""


def register(commands: Commands) -> None:
    """Add the command to the command line. Exit status 2 says "there are changes", so a bad configuration is 1."""
    parser = options.add_command(
        commands, "plan", "Show what a cycle would do. Write nothing.", run, EPILOG, config_fault_status=1
    )
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show the plan. 0: nothing to do, 2: changes, 1: an interface could not be compared."""
    import time

    from wgsyncd.cli import client, output, wiring
    from wgsyncd.cli.render_plan import plan_as_lines
    from wgsyncd.config import load
    from wgsyncd.engine import plan_report

    report, why = client.ask_daemon(args, plan_report.PlanReport, "/plan")
    if report is None:
        settings = load.load(args.config)
        decision = wiring.open_agent(settings).inspector.preview()
        report = plan_report.build(decision, settings.node.zone, time.time(), source="command")
        client.print_note(why)
    if args.json:
        output.print_json(report)
    else:
        output.print_lines(plan_as_lines(report))
    if report.interface_errors:
        return 1  # an interface that could not be compared may need any change
    return 0 if report.is_empty else 2
