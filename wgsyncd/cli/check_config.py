"""`wgsyncd check-config` prints every fault of the configuration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = options.add_command(
        commands,
        "check-config",
        "Check the configuration. Print every fault with its key and the reason.",
        run,
        "exit status: 0 good, 2 faults, or bad usage",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read the configuration and the files that it names."""
    from wgsyncd.cli import output
    from wgsyncd.cli.reports import CheckConfigReport
    from wgsyncd.config import load
    from wgsyncd.errors import ConfigError

    try:
        settings = load.load(args.config)
        load.check_files(settings, str(args.config))
    except ConfigError as error:
        if not args.json:
            raise
        output.print_json(CheckConfigReport(config=error.path, faults=list(error.faults)))
        return 2
    if args.json:
        output.print_json(CheckConfigReport(config=str(args.config), faults=[]))
    else:
        print(f"{args.config}: good, node {settings.node.name}, interfaces {', '.join(settings.interfaces)}")
    return 0
