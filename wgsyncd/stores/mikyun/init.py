"""The options of `wgsyncd init-db` for mikyun_cloud. This module loads no driver."""

import argparse
from pathlib import Path

ADMIN = "root"


def register_init(group: argparse._ArgumentGroup) -> None:
    """Add the options of mikyun_cloud to the options of `wgsyncd init-db`."""
    # Another control plane may have options of the same names, so no default is here.
    group.add_argument("--user", metavar="ACCOUNT", help="the admin's account (default: the database's administrator)")
    group.add_argument(
        "--socket",
        type=Path,
        metavar="FILE",
        help="the server's unix socket (default: the configuration's host and port)",
    )
    group.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file with the admin's password (default: none is sent)"
    )
    group.add_argument(
        "--grants", metavar="ACCOUNT", help="also grant the daemon's rights, as \"'wgsyncd'@'localhost'\""
    )
