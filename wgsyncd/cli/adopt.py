"""`wgsyncd adopt` shows what a first start would do to the peers that are live."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
Says which peers are as their rows want them, which would be changed or removed, and prints the lines of the
configuration that keep those in no row.

exit status: 0 nothing would be changed, 2 something would, 1 an error"""


def register(commands: Commands) -> None:
    """Add the command to the command line. Exit status 2 says "there are changes", so a bad configuration is 1."""
    text = "Show what a first start would do to the peers that are live; change nothing."
    parser = options.add_command(commands, "adopt", text, run, EPILOG, config_fault_status=1)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look and tell: 0 nothing would be changed, 2 something would, 1 an interface could not be looked at."""
    from wgsyncd.cli import render_adopt, wiring
    from wgsyncd.config import load

    settings = load.load(args.config)
    return render_adopt.run(args, settings, wiring.open_agent(settings))
