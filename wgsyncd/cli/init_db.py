"""`wgsyncd init-db` creates wgsyncd's own tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = options.add_command(
        commands, "init-db", "Create wgsyncd's own tables (safe to run twice), with an admin's account.", run
    )
    parser.add_argument("--user", metavar="ACCOUNT", default="root", help="the admin's account; default: %(default)s")
    parser.add_argument(
        "--socket",
        type=Path,
        metavar="FILE",
        help="the server's unix socket; default: the configuration's host and port",
    )
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file with the admin's password; default: none is sent"
    )
    parser.add_argument(
        "--grants", metavar="ACCOUNT", help="also grant the daemon's rights, as \"'mikyun'@'127.0.0.1'\""
    )


def run(args: argparse.Namespace) -> int:
    """Apply the shipped SQL."""
    from wgsyncd.cli import wiring
    from wgsyncd.config import load

    settings = load.load(args.config)
    for line in wiring.init_store(
        settings, user=args.user, socket=args.socket, password_file=args.password_file, grants=args.grants
    ):
        print(line)
    return 0
