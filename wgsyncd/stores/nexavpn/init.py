"""The options of `wgsyncd init-db` for NexaVPN. This module loads no driver."""

import argparse

from wgsyncd.stores import account

ADMIN = "postgres"


def register_init(group: argparse._ArgumentGroup) -> None:
    """Add the options of NexaVPN to the options of `wgsyncd init-db`."""
    account.add_options(group, "the server's unix socket, with PostgreSQL its directory (default: the configuration's)")
    group.add_argument("--node", metavar="NAME", help="the node to enter (default: node.name)")
    group.add_argument(
        "--gateway",
        action="append",
        metavar="NAME",
        help="name or id of a gateway that the node serves, several times if need be (default: the interfaces')",
    )
    group.add_argument("--role", metavar="ROLE", help="the node's role (default: nexavpn.database.user)")
    group.add_argument(
        "--triggers", action="store_true", help="also make triggers on the application's tables, which tell of changes"
    )
    group.add_argument(
        "--drop-views",
        action="store_true",
        help="drop the views and triggers, and do nothing else: then the application's columns can be changed",
    )
