"""`wgsyncd status` shows how the node is, once or on a screen that is drawn again and again."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands
    from wgsyncd.cli.output import Line
    from wgsyncd.engine.status_report import StatusReport

EPILOG = """\
The command shows what the running daemon knows since its last cycle and poll. If no daemon runs, it shows what it sees
by itself.

exit status: 0 done, 1 failed, 2 bad configuration or usage"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Show interfaces, peers, rejected rows, the guard and the last changes."
    parser = options.add_command(commands, "status", text, run, EPILOG)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=options.seconds,
        const=2.0,
        metavar="SECONDS",
        help="keep the screen up to date, every 2 seconds or as often as you say, until ^C",
    )
    options.add_json(parser)
    options.add_no_daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Print the status once, or with --watch until ^C."""
    from wgsyncd.cli import output
    from wgsyncd.cli.render_status import as_lines
    from wgsyncd.errors import UserError

    if args.watch is None:
        report = _look(args)
        if args.json:
            output.print_json(report)
        else:
            output.print_lines(as_lines(report, output.width()))
        return 0
    try:
        if args.json:
            while True:
                output.print_json(_look(args))
                time.sleep(args.watch)
        if not output.is_terminal():
            raise UserError("--watch draws on a terminal. For a program, --watch --json prints one object a line")
        _look(args)  # an error now is an error of the command, a later one is shown on the screen
        output.live(lambda: _screen(args), args.watch)
    except KeyboardInterrupt:
        pass  # ^C ends --watch
    return 0


def _look(args: argparse.Namespace) -> StatusReport:
    from wgsyncd.cli import client, wiring
    from wgsyncd.config import load
    from wgsyncd.engine import status_report

    report, why = client.ask_daemon(args, status_report.StatusReport, "/status", "GET")
    if report is None:
        settings = load.load(args.config)
        report = status_report.of_preview(settings, wiring.open_agent(settings).inspector.view(), why)
    return report


def _screen(args: argparse.Namespace) -> list[Line]:
    from wgsyncd.cli import output
    from wgsyncd.cli.render_status import as_lines
    from wgsyncd.errors import WgsyncdError

    try:
        lines = as_lines(_look(args), output.width())
    except WgsyncdError as error:
        lines = [(output.sanitize(str(error)), "fault")]
    return [*lines, ("", ""), (f"{time.strftime('%H:%M:%S')}, every {args.watch:g} s, ^C ends", "")]
