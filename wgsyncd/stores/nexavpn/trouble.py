"""Makes a StoreError of everything that can go wrong at the border to PostgreSQL and its driver.

What the driver raises, and an answer that makes no sense, is trouble that passes. It never ends the daemon.

An error is known by its SQLSTATE (PostgreSQL's manual, appendix "PostgreSQL Error Codes"). Only its primary message is
told, because details and hints quote values of rows.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

from wgsyncd.errors import SchemaError, StoreError, StoreErrorCode
from wgsyncd.stores.account import init_db_with_password
from wgsyncd.stores.nexavpn.settings import Database, is_socket
from wgsyncd.stores.resolving import UnresolvedError

READ_ONLY, DENIED, LOCK_TIMEOUT, CANCELED = "25006", "42501", "55P03", "57014"
_SCHEMA = ("42P01", "42703", "3F000")  # undefined table, undefined column, invalid schema name
# The longest prefix decides. 57014 is no lost server.
_CODES = {
    "08": StoreErrorCode.UNREACHABLE,  # connection exception
    "57P": StoreErrorCode.UNREACHABLE,  # admin shutdown, crash shutdown, cannot connect now
    READ_ONLY: StoreErrorCode.UNREACHABLE,  # a standby answers: the primary is elsewhere
    "28": StoreErrorCode.DENIED,  # invalid authorization
    DENIED: StoreErrorCode.DENIED,
    **dict.fromkeys(_SCHEMA, StoreErrorCode.SCHEMA),
    "3D": StoreErrorCode.SCHEMA,  # no such database
    LOCK_TIMEOUT: StoreErrorCode.LOCKED,
    CANCELED: StoreErrorCode.LOCKED,
    "40": StoreErrorCode.LOCKED,  # serialization failure, deadlock
}
_ADVICE = {
    READ_ONLY: ". This server is a standby or read-only: name all servers in nexavpn.database.hosts",
    "28": ". The role must exist and may have to be entered: wgsyncd init-db, see pg_hba.conf for how it logs in",
    "3D": ". The application makes its database and its tables",
    LOCK_TIMEOUT: ". Another session holds a lock: it is tried again. pg_stat_activity shows sessions that are 'idle in"
    " transaction'",
    CANCELED: ". The server is slow, or another session holds a lock: it is tried again",
    "40": ". It is tried again",
    "53": ". The server has no room left for it: see its disk and its memory",
    "53300": ". Programs keep connections open: pg_stat_activity names them",
    "08P01": ". If a pooler lends the server's sessions by statement: set pool_mode = session",
    "42P05": ". A pooler lends a session that it did not reset: set server_reset_query = DISCARD ALL",
    "42": ". The server's tables are strange, or it is a bug of wgsyncd",
}
# libpq gives no SQLSTATE for an error at the login, so its words tell which it is. A server may speak another language.
_AT_LOGIN = (
    ("read-only", READ_ONLY),
    ("authentication failed", "28P01"),
    ("pg_hba.conf", "28000"),  # it has no entry, or one that rejects
    ("no password supplied", "28P01"),
    ("is not permitted to log in", "28000"),
    ("permission denied for database", DENIED),
    ("too many", "53300"),
    ("connection slots", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
)
_MISSING = re.compile(r'(role|database) ".*" does not exist')
_QUOTED = re.compile(r'"[^"]*"')
_QUOTES_VALUES = ("22", "P0", "45")  # data exceptions, and texts that the application's own triggers raise
_T = TypeVar("_T")


class PostgresError(StoreError):
    """An error of the server or the driver. ``sqlstate``: five characters, "" if the server gave none."""

    def __init__(self, text: str, sqlstate: str, todo: str = "", *, is_unresolved: bool = False) -> None:
        self.sqlstate = sqlstate
        away = StoreErrorCode.UNRESOLVED if is_unresolved else StoreErrorCode.UNREACHABLE
        super().__init__(text, _of(_CODES, sqlstate) or (StoreErrorCode.OTHER if sqlstate else away), todo)


def init_db(database: Database, options: str = "") -> str:
    """The command that makes wgsyncd's own schema at the first server and enters the role."""
    host = database.hosts[0]
    return f"wgsyncd init-db{options}" if is_socket(host) else init_db_with_password(host, options)


def translate(sqlstate: str | None, text: str, init: str = "") -> StoreError:
    """A StoreError for an error of the server. ``text``: its primary message, or what the driver says without one.

    ``init``: the command against missing tables and rights, see :func:`init_db`.
    """
    state = sqlstate or ""
    first = " ".join(text.split())[:300] or "the connection was lost"
    first = first.rstrip(".")
    if state in _SCHEMA:
        told = f"{state}: {first}: the application's tables or wgsyncd's views were changed"
        return SchemaError("wgsyncd's own tables or views are missing" if "wgsyncd." in first else told, init)
    if state[:2] in _QUOTES_VALUES:
        first = _QUOTED.sub('"…"', first)
    told = f"{f'{state}: ' if state else ''}{first}{_of(_ADVICE, state) or ''}"
    return PostgresError(told, state, init if state == DENIED else "")


def of_system(error: OSError) -> PostgresError:
    """A PostgresError for a connection that failed without a word of the server."""
    told = f"the connection failed: {error.strerror or error}"
    return PostgresError(told, "", is_unresolved=isinstance(error, UnresolvedError))


def of_login(text: str, init: str) -> StoreError:
    """A StoreError for an error at the login. ``text``: what libpq says. It names hosts, roles and databases."""
    state = next((state for words, state in _AT_LOGIN if words in text), "")
    if missing := _MISSING.search(text):
        state = "28000" if missing[1] == "role" else "3D000"
    told = "\n".join(line for line in text.splitlines() if not line.startswith("\t"))  # a tab: a question of libpq's
    return translate(state, told.removeprefix("connection failed: ").removeprefix("connection is bad: "), init)


def _of(some: Mapping[str, _T], state: str) -> _T | None:
    """The value for the longest prefix of an SQLSTATE. None if there is no such prefix."""
    found = [prefix for prefix in some if state.startswith(prefix)]
    return some[max(found, key=len)] if found else None
