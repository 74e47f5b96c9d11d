"""Logs in at PostgreSQL, with a deadline for every answer and the session's variables set."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from wgsyncd.errors import ConfigError, StoreError
from wgsyncd.stores.border import Unsupported
from wgsyncd.stores.nexavpn.settings import Database, is_socket

Row = tuple[Any, ...]
_T = TypeVar("_T")

TROUBLE = (psycopg.Error, OSError, StoreError)  # what a connection that breaks may raise
OLDEST = 140000  # server_version_num of the first version that is supported
_SLICE = 0.1  # seconds after which psycopg lets a signal in
_IN_TRANSACTION = 60.0  # seconds after which the server ends a transaction that asks nothing
# Every variable of a session that changes what our statements give or take, and that a role may set.
SETTINGS = {
    "search_path": "pg_catalog",  # statements qualify their names, so nobody puts a table in front of another
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "row_security": "on",
    "jit": "off",  # it costs more than it saves
}


class Session(psycopg.Connection[Row]):
    """A connection of psycopg with a deadline for the answer. psycopg itself would wait for it without end.

    ``pid``: the server's process. ``is_pooled``: a pooler is between, because it has told another process id.
    """

    deadline = math.inf  # monotonic
    pid = 0
    is_pooled = False

    def wait(self, gen: PQGen[_T], interval: float = _SLICE, timeout: float | None = None) -> _T:
        """See :class:`psycopg.Connection`. TimeoutError when the deadline has passed: the connection is closed."""
        left = max(0.0, self.deadline - time.monotonic())
        try:
            return super().wait(gen, interval, left if timeout is None else min(left, timeout))
        except psycopg.errors._WaitTimeout:  # it has no public name. No server's error is one
            self.close()
            raise TimeoutError("the server does not answer in time") from None


def log_in(settings: Database, patience: float, *, as_account: bool = False) -> Session:
    """A connection to a server that takes writes. ``patience``: seconds that an answer may take.

    ``as_account``: root logs in as the role's own user. All threads change theirs, so only the main thread may ask it.
    Every exception is trouble that passes.
    """
    parameters = _parameters(settings, patience)
    with _as_account(settings) if as_account else contextlib.nullcontext():
        live = Session.connect(**parameters, autocommit=True, prepare_threshold=None)
    try:
        live.deadline = time.monotonic() + patience
        # The server must end a statement before this side stops to listen, and the wait for a lock before that.
        limits = {
            "statement_timeout": 0.75 * patience,
            "lock_timeout": 0.75 * patience - min(1.0, 0.25 * patience),
            "idle_in_transaction_session_timeout": max(_IN_TRANSACTION, patience),
        }
        values = {**SETTINGS, **{name: str(int(1000 * seconds)) for name, seconds in limits.items()}}
        calls = ", ".join("set_config(%s, %s, false)" for _ in values)
        sql = f"SELECT pg_backend_pid(), current_setting('server_version_num')::int, {calls}"
        pairs = [text for pair in values.items() for text in pair]
        pid, version, *_ = live.execute(sql, pairs).fetchall()[0]
        if version < OLDEST:
            raise Unsupported(
                f"PostgreSQL {version // 10000} is older than 14", "apt-get update && apt-get install postgresql"
            )
        live.pid, live.is_pooled = pid, live.info.backend_pid != pid
    except BaseException:
        live.close()
        raise
    return live


@contextlib.contextmanager
def _as_account(settings: Database) -> Iterator[None]:
    """Let root's commands connect as the role's own user, because PostgreSQL's "peer" asks the kernel who connects.

    This is the effective user at connect(2), see SO_PEERCRED in unix(7).
    """
    uid = 0
    if os.geteuid() == 0 and settings.password_file is None and all(map(is_socket, settings.hosts)):
        with contextlib.suppress(KeyError):
            uid = pwd.getpwnam(settings.user).pw_uid
    if uid:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid:
            os.seteuid(0)


def _parameters(settings: Database, patience: float) -> dict[str, Any]:
    """What libpq is told (PostgreSQL's manual, "Database Connection Control Functions")."""
    seconds = max(2, math.ceil(min(patience, settings.timeout)))  # libpq takes no fewer than two
    found: dict[str, Any] = {
        "host": ",".join(settings.hosts),
        "port": settings.port,
        "dbname": settings.name,
        "user": settings.user,
        "password": _password(settings) or None,
        "client_encoding": "UTF8",
        "application_name": "wgsyncd",
        "connect_timeout": seconds,
        "target_session_attrs": "read-write",
        "tcp_user_timeout": int(1000 * max(patience, seconds)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "gssencmode": "disable",
    }
    if not all(map(is_socket, settings.hosts)):  # libpq leaves TLS out on a unix socket
        found |= {
            "sslmode": "verify-full",
            "sslrootcert": str(settings.tls_ca or "system"),
            "sslcert": settings.tls_certificate and str(settings.tls_certificate),
            "sslkey": settings.tls_key and str(settings.tls_key),
        }
    return {name: value for name, value in found.items() if value is not None}


def _password(settings: Database) -> str:
    try:
        return settings.password()
    except ConfigError as error:  # perhaps readable later: retried, like every failed connect
        raise StoreError("; ".join(map(str, error.faults))) from None
