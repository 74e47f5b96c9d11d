"""Check the configuration. Print every fault with its key and the reason.

exit status: 0 good, 2 faults, or bad usage
"""

from __future__ import annotations

import argparse

from msgspec import Struct

from wgsyncd.cli import options, output
from wgsyncd.config import load
from wgsyncd.errors import ConfigError, ConfigIssue


class CheckConfigReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd check-config --json`."""

    config: str
    faults: list[ConfigIssue]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_config(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read the configuration and the files that it names."""
    try:
        settings = load.load(args.config)
        load.check_files(settings, str(args.config))
    except ConfigError as error:
        if not args.json:
            raise
        output.print_json(CheckConfigReport(config=error.path, faults=list(error.faults)))
        return 2
    text = f"{args.config}: good, node {settings.node.name}, interfaces {', '.join(settings.interfaces)}"
    output.print_report(CheckConfigReport(config=str(args.config), faults=[]), [(text, "")], json=args.json)
    return 0
