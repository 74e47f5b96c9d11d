"""One connection to MariaDB, made anew after every failure. The only importer of PyMySQL."""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pymysql
from pymysql.constants import CLIENT
from pymysql.converters import escape_string
from pymysql.cursors import Cursor, SSCursor

from wgsyncd.config.schema import Database
from wgsyncd.errors import ConfigError, InDoubt, SchemaError, StoreError

Values = Sequence[object]
Result = tuple[tuple[Any, ...], ...]

# Error numbers of MariaDB (mariadb.com/kb: "MariaDB Error Codes") that say what to do.
NO_SUCH_TABLE, SYNTAX = 1146, 1064
# What these quote are hosts, accounts, tables and columns, never values.
NAMES_ONLY = frozenset((2002, 2003, 2005, 1044, 1045, 1049, 1054, 1142, 1143, 1146, 1227, 1698))
_HINTS = {
    1044: "; grant the account its rights: wgsyncd init-db --grants",
    1045: "; check mikyun.database.user and the password's file",
    1133: "; create the account first: CREATE USER",
    1142: "; see etc/sql/mikyun/grants.sql: wgsyncd init-db --grants, with an admin's account",
    1143: "; see etc/sql/mikyun/grants.sql: wgsyncd init-db --grants, with an admin's account",
    1698: "; check mikyun.database.user and how that account is authenticated",
}
IDLE = 30.0  # seconds after which a connection is not trusted: the server may have closed it (wait_timeout)
MOST_JOINED = 4 << 20  # bytes of what GROUP_CONCAT makes: eight times what rows.RowReader usually has in one value
SETTINGS = (f"SET SESSION tx_isolation = 'READ-COMMITTED', SESSION group_concat_max_len = {MOST_JOINED},"
            " SESSION time_zone = %s, SESSION sql_mode = %s, ")  # fmt: skip
# Without NO_AUTO_CREATE_USER a GRANT to an account that is not there makes one without a password.
SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER"


class Connection:
    """Autocommitting reads and explicit transactions. Every failure is a StoreError and drops the connection, so the
    next call begins with a fresh one; a bug in our own SQL (a syntax error) is raised as it is."""

    def __init__(self, settings: Database, zone: ZoneInfo, *, on_connect: Callable[[Connection], None]) -> None:
        self._settings, self._zone, self._on_connect = settings, zone, on_connect
        self._live: pymysql.Connection[Cursor] | None = None
        self._in_transaction = False
        self._used = 0.0  # monotonic

    @property
    def alive(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._live is not None

    def query(self, sql: str, values: Values = ()) -> Result:
        """The rows of a SELECT."""
        with self._cursor() as cursor:
            cursor.execute(sql, tuple(values) or None)
            return tuple(cursor.fetchall())

    def stream(self, sql: str, values: Values = ()) -> Generator[tuple[Any, ...], None, None]:
        """The rows of a SELECT as they come, none of which is kept here. To be read to the end before anything else is
        asked: if not, the connection is dropped."""
        with self._cursor(SSCursor) as cursor:
            cursor.execute(sql, tuple(values) or None)
            yield from cursor

    def execute(self, sql: str, values: Values = ()) -> int:
        """Run a statement; returns the rows matched (not changed: FOUND_ROWS is set)."""
        with self._cursor() as cursor:
            return int(cursor.execute(sql, tuple(values) or None))

    @staticmethod
    def quote(text: str) -> str:
        """A text as a literal; the session's sql_mode (:data:`SQL_MODE`) has the backslash escape."""
        return f"'{escape_string(text)}'"

    @contextlib.contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[None]:
        """One transaction. If its body raises it is rolled back; if COMMIT's answer is lost InDoubt is raised and
        nobody knows: look. With ``snapshot`` all that it reads is of one moment, and it writes nothing."""
        if snapshot:
            self.query("SELECT 1")  # what is set for the next transaction would be lost with a connection made anew
            self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.execute("START TRANSACTION" + (" WITH CONSISTENT SNAPSHOT, READ ONLY" if snapshot else ""))
        self._in_transaction = True
        try:
            yield
            try:
                self.execute("COMMIT")
            except StoreError as error:
                raise InDoubt(str(error), error.number) from error
        except BaseException:
            self.close()  # the server rolls back what the connection leaves open
            raise
        finally:
            self._in_transaction = False

    def close(self) -> None:
        """Drop the connection without a word: it may be dead or in the middle of something."""
        if self._live is not None:
            if (unread := self._live._result) is not None:  # type: ignore[attr-defined]
                unread.unbuffered_active = False  # or it would still be read to its end when it is thrown away
            with contextlib.suppress(Exception):  # whatever a half-dead socket says, it is gone
                self._live._force_close()  # type: ignore[attr-defined]
            self._live = None

    @contextlib.contextmanager
    def _cursor(self, kind: type[Cursor] = Cursor) -> Iterator[Cursor]:
        try:
            if self._live is not None and not self._in_transaction and time.monotonic() - self._used > IDLE:
                self.close()
            if self._live is None:
                if self._in_transaction:
                    raise StoreError("the connection was lost in a transaction")
                self._live = self._connect()
                self._used = time.monotonic()
                self._on_connect(self)
            self._used = time.monotonic()
            cursor = self._live.cursor(kind)
            yield cursor
            cursor.close()  # only after a good end: it would go on to read what a connection that is gone still owes
        except (pymysql.MySQLError, OSError, EOFError) as error:
            self.close()
            raise _translate(error) from error
        except BaseException:
            self.close()  # an answer may still be on its way: no later query may take it for its own
            raise

    def _connect(self) -> pymysql.Connection[Cursor]:
        s = self._settings
        local = s.socket is not None or s.host in ("127.0.0.1", "::1", "localhost")
        where: dict[str, Any] = {"unix_socket": s.socket} if s.socket else {"host": s.host, "port": s.port}
        # On this machine TLS would only cost; elsewhere a server that cannot prove its name is not ours.
        tls: dict[str, Any] = (
            {"ssl_disabled": True} if local else {"ssl": ssl.create_default_context(cafile=_path(s.tls_ca))}
        )
        actual = pymysql.connect(
            **where, **tls, user=s.user, password=_password(s), database=s.name, charset="utf8mb4", autocommit=True,
            connect_timeout=s.timeout, read_timeout=s.timeout, write_timeout=s.timeout,  # the default is for ever
            client_flag=CLIENT.FOUND_ROWS, program_name="wgsyncd",
        )  # fmt: skip
        offset = datetime.fromtimestamp(time.time(), self._zone).strftime("%z")
        seconds = max(1, int(s.timeout) - 1)  # below our own patience: the server names the trouble (1205) before we go
        with actual.cursor() as cursor:
            # A numeric offset: names need the server's zone tables, which are seldom loaded (error 1298).
            cursor.execute(
                SETTINGS + "SESSION innodb_lock_wait_timeout = %s, SESSION lock_wait_timeout = %s",
                (f"{offset[:3]}:{offset[3:]}", SQL_MODE, seconds, seconds),
            )
        return actual


def _password(settings: Database) -> str:
    try:
        return settings.password()
    except ConfigError as error:  # a file that cannot be read just now is trouble that passes, like all of connecting
        raise StoreError("; ".join(map(str, error.faults))) from None


def _path(path: object) -> str | None:
    return str(path) if path is not None else None


_VALUES = re.compile(r"(?<![A-Za-z])'(?:[^'\\]|\\.)*'")  # not the apostrophe of "Can't connect"


def _translate(error: Exception) -> StoreError:
    """A driver's error as ours: number and text, without quoted values (they may be keys), and what to do about it."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    if number == SYNTAX:
        raise error
    if number == NO_SUCH_TABLE and "wgsyncd_" in text:
        return SchemaError("wgsyncd's own tables are missing: run `wgsyncd init-db` with an admin's account", number)
    plain = text if number in NAMES_ONLY else _VALUES.sub("'…'", text)
    return StoreError(f"{f'{number}: ' if number else ''}{plain[:300]}{_HINTS.get(number or 0, '')}", number)
