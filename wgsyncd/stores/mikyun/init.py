"""The options of `wgsyncd init-db` for mikyun_cloud. This module loads no driver."""

import argparse

from wgsyncd.stores import account

ADMIN = "root"


def register_init(group: argparse._ArgumentGroup) -> None:
    """Add the options of mikyun_cloud to the options of `wgsyncd init-db`."""
    account.add_options(group, "the server's unix socket (default: the configuration's host and port)")
    group.add_argument(
        "--grants", metavar="ACCOUNT", help="also grant the daemon's rights, as \"'wgsyncd'@'localhost'\""
    )
