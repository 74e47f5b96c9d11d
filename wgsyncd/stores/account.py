"""The database account of a command: the options that name it, and the login of root at a socket."""

import argparse
import contextlib
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path

from wgsyncd.core.inspect.finding import ADMIN_PASSWORD


def add_options(group: argparse._ArgumentGroup, where: str) -> None:
    """Add the options of the admin's account to `wgsyncd init-db`. ``where``: the help about the socket.

    Several control planes have them, so they have no defaults.
    """
    group.add_argument("--user", metavar="ACCOUNT", help="the admin's account (default: the database's administrator)")
    group.add_argument("--socket", type=Path, metavar="FILE", help=where)
    group.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file with the admin's password (default: none is sent)"
    )


def is_known(user: str) -> bool:
    """Whether this system has a user of that name."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def init_db_with_password(host: str, options: str = "") -> str:
    """The shell command of `init-db` for a server of another machine, which knows an administrator by a password.

    The file with the password goes at the end. If `init-db` fails, it stays, and `wgsyncd doctor` tells of it.
    """
    asked = shlex.quote(f"Password of the administrator at {host}:")
    made = f"install -m 600 /dev/null {ADMIN_PASSWORD} && systemd-ask-password {asked} > {ADMIN_PASSWORD}"
    return f"{made} && wgsyncd init-db --password-file {ADMIN_PASSWORD}{options} && rm {ADMIN_PASSWORD}"


@contextlib.contextmanager
def as_account(user: str, *, wanted: bool = True) -> Iterator[None]:
    """Be the user with this name, if this process is root's and there is such a user. All threads change theirs.

    MariaDB's unix_socket and PostgreSQL's "peer" know the user without a password. They ask the kernel who connects.
    This is the effective user at connect(2), see SO_PEERCRED in unix(7).
    """
    uid = pwd.getpwnam(user).pw_uid if wanted and os.geteuid() == 0 and is_known(user) else 0
    if uid:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid:
            os.seteuid(0)
