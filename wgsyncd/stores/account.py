"""Lets root's commands log in at a unix socket as the account's own user."""

import contextlib
import os
import pwd
from collections.abc import Iterator


@contextlib.contextmanager
def as_account(user: str, *, wanted: bool = True) -> Iterator[None]:
    """Be the user with this name, if this process is root's and there is such a user. All threads change theirs.

    MariaDB's unix_socket and PostgreSQL's "peer" know the user without a password. They ask the kernel who connects.
    This is the effective user at connect(2), see SO_PEERCRED in unix(7).
    """
    uid = 0
    if wanted and os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            uid = pwd.getpwnam(user).pw_uid
    if uid:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid:
            os.seteuid(0)
