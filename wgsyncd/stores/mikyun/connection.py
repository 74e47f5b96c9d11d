"""One connection to MariaDB, as the store uses it: statements, answers and transactions.

After every failure the connection is closed, and the next statement opens a new one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pymysql
from pymysql.converters import escape_string
from pymysql.cursors import Cursor, SSCursor

from wgsyncd.errors import InDoubt, StoreError, WgsyncdError
from wgsyncd.stores.border import Unsupported, forget_frames
from wgsyncd.stores.mikyun import cures
from wgsyncd.stores.mikyun.login import log_in
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.trouble import DEADLOCK, LOCK_WAIT_TIMEOUT, MariaDBError, translate
from wgsyncd.stores.mikyun.wire import Wire, is_dead

Values = Sequence[object]
Result = tuple[tuple[Any, ...], ...]

_UNDOING = frozenset((1053, 1927, LOCK_WAIT_TIMEOUT, DEADLOCK))  # may undo a whole transaction, or end the connection
ASIDE = 1.0  # seconds for a statement that nothing depends on
OLDEST = (10, 6)  # the first version with SKIP LOCKED
IDLE = 30.0  # seconds after which an unused connection is closed. Something on the way may have ended it.
MOST_JOINED = 4 << 20  # bytes in a value of GROUP_CONCAT: eight times what rows.RowCache usually has in one value
# Without NO_AUTO_CREATE_USER, a GRANT to an account that does not exist creates one without a password.
SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER"
# Every variable of a session that changes what our statements give or take, and that an account may set.
SETTINGS = {
    "tx_isolation": "READ-COMMITTED",
    "tx_read_only": 0,
    "sql_mode": SQL_MODE,
    "sql_select_limit": 2**64 - 1,  # or a SELECT of all rows gives some of them without a word
    "sql_big_selects": 1,
    "sql_safe_updates": 0,
    "sql_auto_is_null": 0,
    "group_concat_max_len": MOST_JOINED,
    "completion_type": "NO_CHAIN",  # or a COMMIT begins a transaction, or ends the connection
    "unique_checks": 1,
    "foreign_key_checks": 1,
    "wait_timeout": int(2 * IDLE),
}
MIXED = "SET GLOBAL binlog_format = 'MIXED'"
_SLOW = 60.0  # seconds after which the server gives a statement up whose answer nobody awaits any more


class Connection:
    """Runs statements, each committed by itself or in an explicit transaction.

    It raises every failure as a StoreError and closes the connection, so that the next call opens a new one.
    ``on_connect`` is called after each connect. ``on_answer`` is called after each statement, answered or given up.
    ``patience``: seconds that an answer may take as a whole, if that is more than the settings' timeout.
    """

    def __init__(
        self, settings: Database, zone: ZoneInfo, *, on_connect: Callable[[Connection], None], patience: float = 0.0
    ) -> None:
        self.database, self._zone, self._on_connect = settings, zone, on_connect
        self.patience = max(patience, settings.timeout)
        self._wire = Wire()
        self._live: pymysql.Connection[Cursor] | None = None
        self._in_transaction = False
        self._used = 0.0  # monotonic
        self._offset = ""  # the session's time zone, as +09:00
        self.on_answer: Callable[[], object] = lambda: None

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
            for row in cursor:
                self._wire.limit.next_row()
                yield row

    def execute(self, sql: str, values: Values = ()) -> int:
        """Run a statement. Returns how many rows it matched, even if their values stay the same (FOUND_ROWS is set)."""
        with self._cursor() as cursor:
            return int(cursor.execute(sql, tuple(values) or None))

    def try_change(self, sql: str, values: Values = ()) -> int | StoreError:
        """As :meth:`execute` for a change of rows, but an error of the server is returned.

        The server has then undone this statement alone, or the whole transaction. The connection goes on.
        """
        with self._cursor() as cursor:
            try:
                return int(cursor.execute(sql, tuple(values) or None))
            except pymysql.MySQLError as error:
                has_number = error.args and isinstance(error.args[0], int)
                if has_number and self._live is not None and self._live.open:  # no answer would have closed it
                    return translate(error, self.database, known=True, of_rows=True)
                raise

    def side_query(self, sql: str, values: Values = (), *, settings: str = "") -> Result | MariaDBError:
        """The rows of a statement that nothing depends on, or the error with which the server refuses it.

        The server ends it after :data:`ASIDE` seconds. A refusal ends neither the connection nor its transaction.
        ``settings``: more session variables for this statement alone, each after a comma.
        """
        with self._cursor() as cursor:
            try:
                most = min(ASIDE, self.patience / 3)  # the server must end it before this side stops to listen
                cursor.execute(f"SET STATEMENT max_statement_time = {most}{settings} FOR {sql}", tuple(values) or None)
                return tuple(cursor.fetchall())
            except pymysql.MySQLError as error:
                number = error.args[0] if error.args else 0
                if not isinstance(number, int) or number in _UNDOING or number // 1000 in (0, 2):
                    raise  # the connection or the transaction may be gone
                refused = translate(error, self.database, known=True)
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
        with self._begun(" WITH CONSISTENT SNAPSHOT, READ ONLY" if snapshot else ""):
            yield
            try:
                self.execute("COMMIT")
            except StoreError as error:
                raise InDoubt(str(error), error.code) from error

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """A transaction that is rolled back at its end. After a lost connection, no statement of it runs alone."""
        with self._begun():
            yield
            self.execute("ROLLBACK")

    @contextlib.contextmanager
    def _begun(self, how: str = "") -> Iterator[None]:
        self.execute(f"START TRANSACTION{how}")
        self._in_transaction = True
        try:
            yield
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
        live = None
        try:
            self._drop_if_stale()
            if self._live is None:
                if self._in_transaction:
                    raise StoreError("the connection was lost in a transaction")
                self._connect()
                self._used = time.monotonic()
                self._on_connect(self)
            live = self._live
            self._used = time.monotonic()
            self._wire.limit.begin(self.patience)
            cursor = self._live.cursor(kind)  # type: ignore[union-attr]
            yield cursor
            cursor.close()  # after success only: on a closed connection it would try to read the rest of a result
        except Exception as error:
            self.close()
            if isinstance(error, WgsyncdError):
                raise
            forget_frames(error)
            known = isinstance(error, pymysql.MySQLError)
            raise translate(error, self.database, known=known, at_login=live is None) from error
        except BaseException:
            if live is None or self._live is live:
                self.close()  # an answer may still arrive, and a later query must not take it for its own
            raise
        finally:
            self.on_answer()

    def _drop_if_stale(self) -> None:
        """Close a connection between transactions that the server has closed, or that may be closed or out of date."""
        if self._live is None or self._in_transaction:
            return
        idle = time.monotonic() - self._used
        if idle > IDLE or is_dead(self._live._sock) or self._offset != self._offset_now():  # type: ignore[attr-defined]
            self.close()

    def _connect(self) -> None:
        """Open a connection, refuse a server that cannot serve us, and set the session's variables."""
        self._live = live = log_in(self.database, self._wire)
        self._offset = self._offset_now()
        seconds = max(1, int(self.database.timeout) - 1)  # below our own limit, so that the server reports 1205 first
        settings = {
            **SETTINGS,
            # The offset is numeric: zone names need the server's zone tables, which are seldom loaded (error 1298).
            "time_zone": self._offset,
            "innodb_lock_wait_timeout": seconds,
            "lock_wait_timeout": seconds,
            "max_statement_time": max(_SLOW, self.patience),
        }
        with live.cursor() as cursor:
            cursor.execute("SELECT VERSION(), @@log_bin AND @@binlog_format = 'STATEMENT'")
            version, statement_based = cursor.fetchall()[0]
            _check_server(self.database, str(version), statement_based=str(statement_based) == "1")
            sets = ", ".join(f"SESSION {name} = %s" for name in settings)
            cursor.execute(f"SET {sets}", tuple(settings.values()))

    def _offset_now(self) -> str:
        offset = datetime.fromtimestamp(time.time(), self._zone).strftime("%z")
        return f"{offset[:3]}:{offset[3:]}"


def version_of(text: str) -> tuple[int, ...] | None:
    """The numbers of a server's version. None if the server is not MariaDB."""
    number = text.partition("-")[0]
    if "MariaDB" not in text or not all(part.isdecimal() for part in number.split(".")):
        return None
    return tuple(map(int, number.split(".")))


def _check_server(database: Database, text: str, *, statement_based: bool) -> None:
    """Unsupported if wgsyncd cannot work, or cannot be exact, with this server."""
    version = version_of(text)
    if version is None:
        raise Unsupported(f"{text[:80]} is not MariaDB", "apt-get install mariadb-server")
    if version < OLDEST:
        todo = "apt-get update && apt-get install mariadb-server"
        raise Unsupported(f"MariaDB {text[:80]} is older than 10.6, which knows SKIP LOCKED", todo)
    if statement_based:
        raise Unsupported(
            "binlog_format is STATEMENT, so the server refuses every change: set it to MIXED or ROW",
            f"{cures.mariadb(database, MIXED)}  # and in the server's configuration",
        )
