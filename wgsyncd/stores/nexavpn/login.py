"""Logs in at PostgreSQL, with a deadline for every answer and the session's variables set."""

import contextlib
import math
import os
import pwd
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import PQGen

from wgsyncd.errors import ConfigError, StoreError
from wgsyncd.stores import account
from wgsyncd.stores.border import Unsupported, require_plain
from wgsyncd.stores.nexavpn.settings import Database, is_socket
from wgsyncd.stores.resolving import Address, Resolver

Row = tuple[Any, ...]
_T = TypeVar("_T")

TROUBLE = (psycopg.Error, OSError, StoreError)  # what a connection that breaks may raise
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # Debian's. psycopg's own OpenSSL looks for none there
OLDEST = 140000  # server_version_num of the first version that is supported
_LEAST = 2  # seconds for one address: libpq takes no fewer
_MOST_ADDRESSES = 4  # of all servers together, but one of each server
MOST = 64 << 20  # bytes by which an answer, or a part of a stream, may let this process grow
_STEPS = 16  # of an answer between two looks at the memory. One step reads some KiB
_STATM = Path("/proc/self/statm")  # proc(5)
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
    """A connection of psycopg with limits for the answer. psycopg itself would wait and grow without end.

    ``left``: seconds for which the answer may still keep this process waiting. ``pid``: the server's process.
    ``is_pooled``: a pooler is between, because it has told another process id.
    """

    left = math.inf
    pid = 0
    is_pooled = False

    def wait(self, gen: PQGen[_T], interval: float = _SLICE, timeout: float | None = None) -> _T:
        """See :class:`psycopg.Connection`. TimeoutError when no time is left: the connection is closed.

        OSError: the answer is too large.
        """
        began, most = time.monotonic(), max(0.0, self.left)
        try:
            return super().wait(_limited(gen), interval, most if timeout is None else min(most, timeout))
        except psycopg.errors._WaitTimeout:  # it has no public name. No server's error is one
            if timeout is not None and timeout < most:
                raise  # the caller's own limit
            self.close()
            raise TimeoutError("the server does not answer in time") from None
        finally:
            self.left -= time.monotonic() - began

    def cancel_safe(self, *, timeout: float = 0.0) -> None:  # noqa: ARG002
        """Close the connection. psycopg would wait for another one, to cancel a stream that nobody reads to its end."""
        self.close()


def _limited(gen: PQGen[_T]) -> PQGen[_T]:
    """The same steps of psycopg, until this process has grown too much. libpq itself takes an answer of any size."""
    try:
        wanted, steps, most = next(gen), 0, math.inf
        while True:
            ready = yield wanted
            steps += 1
            if steps % _STEPS == 0:  # an answer of usual size needs fewer
                resident = int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                most = min(most, resident + MOST)
                if resident > most:
                    gen.close()
                    raise OSError(f"the answer is larger than {MOST >> 20} MiB")
            wanted = gen.send(ready)
    except StopIteration as done:
        return cast("_T", done.value)


def log_in(settings: Database, patience: float, resolver: Resolver, *, as_account: bool = False) -> Session:
    """A connection to a server that takes writes. ``patience``: seconds that an answer may take.

    ``as_account``: root logs in as the role's own user. All threads change theirs, so only the main thread may ask it.
    Every exception is trouble that passes.
    """
    at_socket = settings.password_file is None and all(map(is_socket, settings.hosts))
    with account.as_account(settings.user, wanted=as_account and at_socket):
        live = _connect(settings, patience, resolver)
    try:
        live.left = patience
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


def _connect(settings: Database, patience: float, resolver: Resolver) -> Session:
    """A connection to the first server that takes writes. All servers share the time of one answer.

    psycopg would resolve names without a time limit, and would give the whole time to each address. It would also let
    the server keep the plan of each statement that comes often, but here only :class:`Connection` says so.
    """
    limit = min(patience, settings.timeout)
    until = time.monotonic() + limit
    parameters = {**_parameters(settings, patience), "autocommit": True, "prepare_threshold": sys.maxsize}
    failures: list[str] = []
    places = _places(settings, resolver, limit / 2)
    for number, place in enumerate(places):
        seconds = max(_LEAST, math.ceil((until - time.monotonic()) / (len(places) - number)))
        try:
            return Session.connect(**{**parameters, **place, "connect_timeout": seconds})
        except psycopg.Error as error:
            failures.append(str(error))
    raise psycopg.OperationalError("; ".join(dict.fromkeys(failures)))


def _places(settings: Database, resolver: Resolver, seconds: float) -> list[dict[str, Any]]:
    """What libpq is told of each address of each server."""
    most = max(1, _MOST_ADDRESSES // len(settings.hosts))
    names = [host for host in settings.hosts if not is_socket(host)]
    found: Sequence[Address] = ()
    try:
        found = resolver.addresses(names, settings.port, seconds) if names else ()
    except OSError:
        if len(names) == len(settings.hosts):
            raise
    of_host = {host: [{"host": host, "hostaddr": info[4][0]} for one, info in found if one == host] for host in names}
    return [place for host in settings.hosts for place in of_host.get(host, [_socket(host)])[:most]]


def _socket(directory: str) -> dict[str, Any]:
    """What libpq is told of a unix socket. A server of another account than the directory's gets nothing."""
    with contextlib.suppress(OSError, KeyError):  # without a directory, the connect says what is wrong
        return {"host": directory, "requirepeer": pwd.getpwuid(Path(directory).stat().st_uid).pw_name}
    return {"host": directory}


def _parameters(settings: Database, patience: float) -> dict[str, Any]:
    """What libpq is told (PostgreSQL's manual, "Database Connection Control Functions")."""
    found: dict[str, Any] = {
        "port": settings.port,
        "dbname": settings.name,
        "user": settings.user,
        "password": _password(settings) or None,
        "client_encoding": "UTF8",
        "application_name": "wgsyncd",
        "target_session_attrs": "read-write",
        "tcp_user_timeout": int(1000 * max(patience, _LEAST)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "gssencmode": "disable",
    }
    if not all(map(is_socket, settings.hosts)):  # libpq leaves TLS out on a unix socket
        for key in ("tls_ca", "tls_certificate", "tls_key"):
            require_plain(key, getattr(settings, key))
        found |= {
            "sslmode": "verify-full",
            "sslrootcert": str(settings.tls_ca or AUTHORITIES),
            "sslcert": settings.tls_certificate and str(settings.tls_certificate),
            "sslkey": settings.tls_key and str(settings.tls_key),
        }
    return {name: value for name, value in found.items() if value is not None}


def _password(settings: Database) -> str:
    try:
        return settings.password()
    except ConfigError as error:  # perhaps readable later: retried, like every failed connect
        raise StoreError("; ".join(map(str, error.faults))) from None
