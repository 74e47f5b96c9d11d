"""`wgsyncd adopt` shows what a first start would do to the peers that are live."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
The command says which peers are as their rows want them, and which a start would change or remove. It prints the lines
of the configuration that keep the peers without a row.

exit status: 0 nothing would be changed, 2 something would, 1 an error"""


def register(commands: Commands) -> None:
    """Add the command to the command line. Exit status 2 says "there are changes", so a bad configuration is 1."""
    text = "Show what a first start would do to the live peers. Change nothing."
    parser = options.add_command(commands, "adopt", text, run, EPILOG, config_fault_status=1)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look and tell. 0: a start would change nothing, 2: it would, 1: an interface could not be read."""
    from wgsyncd.cli import output, render_adopt, wiring
    from wgsyncd.cli.adopt_report import adopt_report, keys_to_keep
    from wgsyncd.cli.doctor import files
    from wgsyncd.config import load
    from wgsyncd.core.inspect.adopt import adopt
    from wgsyncd.core.inspect.finding import Severity

    settings = load.load(args.config)
    agent, zone = wiring.open_agent(settings), settings.node.zone
    with output.waiting("reading the interfaces"):
        view = agent.inspector.view()
        found = adopt(view.decision, view.node_state.records, view.snapshot.rows)
        beside = [one for one in files.wg_quick_files(list(settings.interfaces)) if one.severity is not Severity.OK]
    keep = keys_to_keep(settings.peers.always_keep, found)
    if args.json:
        output.print_json(adopt_report(view, found, keep, zone))
    else:
        render_adopt.print_adoption(args.config, view, found, keep, beside, zone)
    if view.decision.interface_errors:
        return 1
    plan = view.decision.plan
    return 2 if plan.changes or plan.withheld or plan.blocked else 0
