"""`wgsyncd doctor` looks for what is wrong around wgsyncd, and names the command that fixes it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands

EPILOG = """\
The command changes nothing. Run it as root: without root it warns about everything that it cannot see.

exit status: 0 no faults (there may be warnings), 1 faults"""


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    text = "Check everything around wgsyncd. Print the command that fixes each fault."
    options.add_json(options.add_command(commands, "doctor", text, run, EPILOG))


def run(args: argparse.Namespace) -> int:
    """Look at everything, print."""
    from wgsyncd import log
    from wgsyncd.cli.doctor import checks

    log.configure("warning")
    return checks.run(args)
