"""`wgsyncd doctor` looks for what is wrong around wgsyncd, and names the command that fixes it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
Changes nothing. Run it as root: who may not see something says so, as a warning.

exit status: 0 no faults (there may be warnings), 1 faults"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Look for what is wrong around wgsyncd; say what mends it."
    options.add_json(options.add_command(commands, "doctor", text, run, EPILOG))


def run(args: argparse.Namespace) -> int:
    """Look at everything, print."""
    from wgsyncd import log
    from wgsyncd.cli.doctor import checks

    log.configure("warning")
    return checks.run(args)
