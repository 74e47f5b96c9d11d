"""`wgsyncd init-db` creates wgsyncd's own tables."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options, wiring

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = options.add_command(
        commands, "init-db", "Create wgsyncd's own tables with an admin's account. A second run does no harm.", run
    )
    wiring.register_init(parser)


def run(args: argparse.Namespace) -> int:
    """Apply the shipped SQL."""
    from wgsyncd.config import load

    settings = load.load(args.config)
    for line in wiring.init_store(settings, args):
        print(line)
    return 0
