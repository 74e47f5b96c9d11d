"""One connection to MariaDB. Only this module imports PyMySQL.

After every failure the connection is closed, and the next statement opens a new one.
"""

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

from wgsyncd.errors import ConfigError, InDoubt, SchemaError, StoreError, StoreErrorCode
from wgsyncd.stores.mikyun.settings import Database

Values = Sequence[object]
Result = tuple[tuple[Any, ...], ...]

# Error numbers of MariaDB (mariadb.com/kb: "MariaDB Error Codes") for which wgsyncd knows what to do.
NO_SUCH_TABLE, SYNTAX, LOCK_WAIT_TIMEOUT, DEADLOCK, DENIED, TIMED_OUT = 1146, 1064, 1205, 1213, 1045, 1969
_MAKER_GONE = ". The account that made a view or a trigger there is gone: make it again"
_UNDOING = frozenset((1053, 1927, LOCK_WAIT_TIMEOUT, DEADLOCK))  # may undo a whole transaction, or end the connection
# The texts of these errors quote hosts, accounts, tables and columns, but never values.
NAMES_ONLY = frozenset((2002, 2003, 2005, 1044, 1045, 1049, 1054, 1142, 1143, 1146, 1227, 1698))
_ADVICE = {
    1044: ". Grant the account its rights: wgsyncd init-db --grants",
    1045: ". Check mikyun.database.user and the password's file",
    1133: ". Create the account first: CREATE USER",
    1142: ". See etc/sql/mikyun/grants.sql: wgsyncd init-db --grants, with an admin's account",
    1143: ". See etc/sql/mikyun/grants.sql: wgsyncd init-db --grants, with an admin's account",
    1698: ". Check mikyun.database.user and how that account is authenticated",
}
ASIDE = 1.0  # seconds for a statement that nothing depends on
IDLE = 30.0  # seconds after which an unused connection is closed: the server may have closed it (wait_timeout)
MOST_JOINED = 4 << 20  # bytes in a value of GROUP_CONCAT: eight times what rows.RowCache usually has in one value
SETTINGS = (f"SET SESSION tx_isolation = 'READ-COMMITTED', SESSION group_concat_max_len = {MOST_JOINED},"
            " SESSION time_zone = %s, SESSION sql_mode = %s, ")  # fmt: skip
# Without NO_AUTO_CREATE_USER, a GRANT to an account that does not exist creates one without a password.
SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER"


class Connection:
    """Runs statements, each committed by itself or in an explicit transaction.

    It raises every failure as a StoreError and closes the connection, so that the next call opens a new one. A syntax
    error is a bug in wgsyncd's own SQL and is raised as PyMySQL raises it. ``on_connect`` is called after each connect.
    ``patience``: seconds that an answer may take, if that is more than the settings' timeout.
    """

    def __init__(
        self, settings: Database, zone: ZoneInfo, *, on_connect: Callable[[Connection], None], patience: float = 0.0
    ) -> None:
        self._settings, self._zone, self._on_connect = settings, zone, on_connect
        self._patience = max(patience, settings.timeout)
        self._live: pymysql.Connection[Cursor] | None = None
        self._in_transaction = False
        self._used = 0.0  # monotonic

    @property
    def alive(self) -> bool:
        """Whether a connection is open, as far as this process knows. The server may have closed it."""
        return self._live is not None

    def query(self, sql: str, values: Values = ()) -> Result:
        """The rows of a SELECT, all at once."""
        with self._cursor() as cursor:
            cursor.execute(sql, tuple(values) or None)
            return tuple(cursor.fetchall())

    def stream(self, sql: str, values: Values = ()) -> Generator[tuple[Any, ...], None, None]:
        """The rows of a SELECT one by one, as the server sends them. No row is kept in memory here.

        Read all rows before the next statement. A caller who stops earlier loses the connection.
        """
        with self._cursor(SSCursor) as cursor:
            cursor.execute(sql, tuple(values) or None)
            yield from cursor

    def execute(self, sql: str, values: Values = ()) -> int:
        """Run a statement. Returns how many rows it matched, even if their values stay the same (FOUND_ROWS is set)."""
        with self._cursor() as cursor:
            return int(cursor.execute(sql, tuple(values) or None))

    def execute_unless_locked(self, sql: str) -> int | None:
        """As :meth:`execute`, but None if another transaction has a row locked for longer than the statement may wait.

        Then the server has undone this statement alone, or the whole transaction (innodb_rollback_on_timeout).
        """
        with self._cursor() as cursor:
            try:
                return int(cursor.execute(sql))
            except pymysql.MySQLError as error:
                if error.args[:1] == (LOCK_WAIT_TIMEOUT,):
                    return None
                raise

    def side_query(self, sql: str, values: Values = (), *, settings: str = "") -> Result | MariaDBError:
        """The rows of a statement that nothing depends on, or the error with which the server refuses it.

        The server ends it after :data:`ASIDE` seconds. A refusal ends neither the connection nor its transaction.
        ``settings``: more session variables for this statement alone, each after a comma.
        """
        with self._cursor() as cursor:
            try:
                most = min(ASIDE, self._patience / 3)  # the server must end it before this side stops to listen
                cursor.execute(f"SET STATEMENT max_statement_time = {most}{settings} FOR {sql}", tuple(values) or None)
                return tuple(cursor.fetchall())
            except pymysql.MySQLError as error:
                number = error.args[0] if error.args else 0
                if not isinstance(number, int) or number in _UNDOING or number // 1000 in (0, 2):
                    raise  # the connection or the transaction may be gone
                refused = _translate(error, entered=True)
                if not isinstance(refused, MariaDBError):
                    raise
                return refused

    @staticmethod
    def quote(text: str) -> str:
        """A text as an SQL literal. The session's sql_mode (:data:`SQL_MODE`) lets the backslash escape characters."""
        return f"'{escape_string(text)}'"

    @contextlib.contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[None]:
        """One transaction. An exception in its body rolls it back.

        InDoubt: the answer to COMMIT is lost. The caller reads the database to learn whether the transaction happened.
        With ``snapshot`` the transaction is read-only, and all its statements see one moment.
        """
        if snapshot:
            # SET TRANSACTION is for the next transaction of this connection only. An idle connection is replaced now.
            self.query("SELECT 1")
            self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.execute("START TRANSACTION" + (" WITH CONSISTENT SNAPSHOT, READ ONLY" if snapshot else ""))
        self._in_transaction = True
        try:
            yield
            try:
                self.execute("COMMIT")
            except StoreError as error:
                raise InDoubt(str(error), error.code) from error
        except BaseException:
            self.close()  # the server rolls back a transaction whose connection ends
            raise
        finally:
            self._in_transaction = False

    def close(self) -> None:
        """Close the connection without a word to the server: it may be dead, or an answer may be half read."""
        if self._live is not None:
            if (unread := self._live._result) is not None:  # type: ignore[attr-defined]
                unread.unbuffered_active = False  # or PyMySQL reads the result to its end when it deletes it
            with contextlib.suppress(Exception):  # errors of a half-dead socket do not matter: it is closed
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
            cursor.close()  # after success only: on a closed connection it would try to read the rest of a result
        except (pymysql.MySQLError, OSError, EOFError) as error:
            self.close()
            raise _translate(error) from error
        except BaseException:
            self.close()  # an answer may still arrive, and a later query must not take it for its own
            raise

    def _connect(self) -> pymysql.Connection[Cursor]:
        s = self._settings
        local = s.socket is not None or s.host in ("127.0.0.1", "::1", "localhost")
        where: dict[str, Any] = {"unix_socket": s.socket} if s.socket else {"host": s.host, "port": s.port}
        # To a server on this machine TLS only costs time. Any other server has to prove its name.
        tls: dict[str, Any] = (
            {"ssl_disabled": True} if local else {"ssl": ssl.create_default_context(cafile=_path(s.tls_ca))}
        )
        actual = pymysql.connect(
            **where, **tls, user=s.user, password=_password(s), database=s.name, charset="utf8mb4", autocommit=True,
            connect_timeout=s.timeout, read_timeout=self._patience, write_timeout=s.timeout,  # default: for ever
            client_flag=CLIENT.FOUND_ROWS, program_name="wgsyncd",
        )  # fmt: skip
        offset = datetime.fromtimestamp(time.time(), self._zone).strftime("%z")
        seconds = max(1, int(s.timeout) - 1)  # below the read timeout, so that the server reports 1205 first
        with actual.cursor() as cursor:
            # The offset is numeric: zone names need the server's zone tables, which are seldom loaded (error 1298).
            cursor.execute(
                SETTINGS + "SESSION innodb_lock_wait_timeout = %s, SESSION lock_wait_timeout = %s",
                (f"{offset[:3]}:{offset[3:]}", SQL_MODE, seconds, seconds),
            )
        return actual


def _password(settings: Database) -> str:
    try:
        return settings.password()
    except ConfigError as error:  # perhaps readable later: retried, like every failed connect
        raise StoreError("; ".join(map(str, error.faults))) from None


def _path(path: object) -> str | None:
    return str(path) if path is not None else None


_VALUES = re.compile(r"(?<![A-Za-z])'(?:[^'\\]|\\.)*'")  # not the apostrophe of "Can't connect"


class MariaDBError(StoreError):
    """An error of the server or the driver. ``number`` is MariaDB's, None if MariaDB gave no number."""

    def __init__(self, text: str, number: int | None) -> None:
        self.number = number
        super().__init__(text, _CODES.get(number or 0, StoreErrorCode.OTHER))


_CODES = {
    **dict.fromkeys((2002, 2003, 2005, 2006, 2013), StoreErrorCode.UNREACHABLE),
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1698), StoreErrorCode.DENIED),
    **dict.fromkeys((1049, NO_SUCH_TABLE), StoreErrorCode.SCHEMA),
    **dict.fromkeys((LOCK_WAIT_TIMEOUT, DEADLOCK), StoreErrorCode.LOCKED),
}


def _translate(error: Exception, *, entered: bool = False) -> StoreError:
    """A StoreError for an error of the driver: its number, its text, and what to do about it.

    Quoted values are left out, because they may be keys. ``entered``: the server has let the account in.
    """
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    if number == SYNTAX:
        raise error
    if number == NO_SUCH_TABLE and "wgsyncd_" in text:
        return SchemaError("wgsyncd's own tables are missing: run `wgsyncd init-db` with an admin's account")
    plain = text if number in NAMES_ONLY else _VALUES.sub("'…'", text)
    advice = _MAKER_GONE if entered and number == DENIED else _ADVICE.get(number or 0, "")
    return MariaDBError(f"{f'{number}: ' if number else ''}{plain[:300]}{advice}", number)
