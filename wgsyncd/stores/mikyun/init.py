"""The options of `wgsyncd init-db` for mikyun_cloud, and what the command does with them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsyncd.config.schema import Settings


def register_init(parser: argparse.ArgumentParser) -> None:
    """Add the options of mikyun_cloud to the parser of `wgsyncd init-db`."""
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


def init(settings: Settings, args: argparse.Namespace) -> Iterator[str]:
    """Apply the shipped SQL with an admin's account. Yields one line for each thing done."""
    from wgsyncd.stores.mikyun import schema  # imported here, so that other commands do not load the driver

    database = settings.mikyun.database.for_admin(args.user, args.socket and str(args.socket), args.password_file)
    yield from schema.init(database, settings.node.zone, args.grants)
