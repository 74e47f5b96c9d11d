"""One connection to PostgreSQL: statements, answers, transactions and the lock of the node."""

from __future__ import annotations

import contextlib
import hashlib
import select
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import LiteralString

import psycopg
from psycopg import Cursor, capabilities
from psycopg.pq import TransactionStatus

from wgsyncd.errors import InDoubt, StoreError, StoreErrorCode, WgsyncdError
from wgsyncd.stores.border import Unsupported, forget_frames
from wgsyncd.stores.nexavpn.login import Row, Session, log_in
from wgsyncd.stores.nexavpn.settings import Database
from wgsyncd.stores.nexavpn.trouble import init_db, of_login, of_system, translate
from wgsyncd.stores.resolving import Resolver

Values = Sequence[object]
ASIDE = 1.0  # seconds for a statement that nothing depends on
AT_ONCE = 500  # rows of one statement. With 1,000, a first fill takes one MiB more
_CHUNK, _LINES = 200, 2500  # rows that a stream has in memory at once, and lines of one COPY
_EARNING = 1000  # rows of a stream that earn it one more second, because many take their time
_MOST_EARNED = 20.0  # seconds. Together with the longest timeout, that is below the time of the watchdog
_PID = "SELECT pg_backend_pid()"
# The key of an advisory lock is in two columns (PostgreSQL's manual, "pg_locks").
_HELD = """l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::bigint << 32) | l.objid::bigint = %s
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_HOLDERS = f"""SELECT l.pid, a.usename::text, COALESCE(a.client_addr::text, 'a unix socket')
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE {_HELD}"""  # noqa: S608
_MINE = f"SELECT FROM pg_locks l WHERE {_HELD} AND l.pid = pg_backend_pid()"

# By the key of a lock: the server's process of the session by which this process held it last. A reload makes a new
# connection, and the server may not have noticed yet that the session of before has ended.
_ended: dict[int, int] = {}


class Pooled(Unsupported):
    """A pooler is between, and it lends the sessions of the server by transaction."""

    def __init__(self) -> None:
        super().__init__(
            "a pooler lends the server's sessions by transaction, so locks and temporary tables are lost: let"
            " nexavpn.database.hosts name the server itself, or set pool_mode = session",
            "editor /etc/wgsyncd/wgsyncd.toml  # nexavpn.database.hosts",
        )


class Connection:
    """Runs statements, each committed by itself or in an explicit transaction.

    It raises every failure as a StoreError and closes the connection, so that the next call opens a new one.
    ``on_connect`` is called after each connect. ``on_answer`` is called after each statement, answered or given up.
    ``patience``: seconds that an answer may take as a whole, if that is more than the settings' timeout.
    """

    def __init__(
        self, settings: Database, *, on_connect: Callable[[Connection], object] = lambda _: None, patience: float = 0.0
    ) -> None:
        self.database, self._on_connect = settings, on_connect
        self.patience = max(patience, settings.timeout)
        self._live: Session | None = None
        self._resolver = Resolver()
        self._in_transaction = False
        self._node, self._key = "", 0  # the node whose lock this session holds, and the key of the lock
        self._holds = False  # this session has taken the lock
        self.on_answer: Callable[[], object] = lambda: None

    @property
    def alive(self) -> bool:
        """Whether a connection is open, as far as this process knows. The server may have closed it."""
        return self._live is not None

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is between. False if no connection is open."""
        return self._live is not None and self._live.is_pooled

    def query(self, sql: str, values: Values = (), *, often: bool = False) -> list[Row]:
        """The rows of a SELECT, all at once. ``often``: see :meth:`execute`."""
        with self._cursor() as cursor:
            return cursor.execute(sql, values or None, prepare=often and self._holds).fetchall()

    def stream(self, sql: str, values: Values = ()) -> Generator[Row, None, None]:
        """The rows of a SELECT one by one. At most :data:`_CHUNK` of them are in memory.

        Read all rows before the next statement. A caller who stops earlier loses the connection.
        """
        size = _CHUNK if capabilities.has_stream_chunked() else 1
        with self._cursor() as cursor:
            earned = 0.0
            for number, row in enumerate(cursor.stream(sql, values or None, size=size)):
                if number % _EARNING == 0 and earned < _MOST_EARNED and self._live is not None:
                    earned += 1.0
                    self._live.left += 1.0
                yield row

    def execute(self, sql: str, values: Values = (), *, often: bool = False) -> int:
        """Run a statement, or without values a script. Returns how many rows the last statement found or changed.

        ``often``: the server keeps the plan, because to plan takes longer than to execute. Only a session that holds
        the lock lets it: a pooler may lend the next statement another session.
        """
        with self._cursor() as cursor:
            return cursor.execute(sql, values or None, prepare=often and self._holds).rowcount

    def copy_text(self, sql: str, lines: Iterable[str]) -> None:
        """Send lines of COPY's text form. A table with row level security takes none, a temporary table does."""
        waiting = iter(lines)
        while some := "".join(islice(waiting, _LINES)):  # libpq keeps what the server does not take at once
            with self._cursor() as cursor, cursor.copy(sql) as copy:
                copy.write(some)

    def try_change(self, sql: str, values: Values = ()) -> int | StoreError:
        """As :meth:`execute` in the open transaction, but an error of the server is returned.

        The server has then undone this statement alone, and the transaction goes on.
        """
        self.execute("SAVEPOINT change")
        try:
            with self._cursor(keep=True) as cursor:
                changed = cursor.execute(sql, values or None).rowcount
        except StoreError as error:
            if self._live is None:
                raise
            self.execute("ROLLBACK TO SAVEPOINT change")
            return error
        self.execute("RELEASE SAVEPOINT change")
        return changed

    def side_query(self, sql: str, values: Values = ()) -> list[Row] | StoreError:
        """The rows of a SELECT that nothing depends on, or the error with which the server refuses it.

        The server ends it after :data:`ASIDE` seconds. It has a transaction of its own.
        """
        with self.undone():
            self.execute(f"SET LOCAL statement_timeout = {int(1000 * min(ASIDE, self.patience / 3))}")
            try:
                with self._cursor(keep=True) as cursor:
                    return cursor.execute(sql, values or None).fetchall()
            except StoreError as error:
                if self._live is None:
                    raise
                return error

    @contextlib.contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[None]:
        """One transaction. An exception in its body rolls it back.

        InDoubt: the answer to COMMIT is lost. The caller reads the database to learn whether the transaction happened.
        With ``snapshot`` the transaction is read-only, and all its statements see one moment.
        """
        with self._begun("REPEATABLE READ READ ONLY" if snapshot else "READ COMMITTED"):
            yield
            try:
                with self._cursor() as cursor:
                    # The server answers ROLLBACK if a statement of the transaction has failed.
                    if cursor.execute("COMMIT").statusmessage != "COMMIT":
                        raise StoreError("the server has rolled the transaction back")
            except StoreError as error:
                raise InDoubt(str(error), error.code) from error

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """A transaction that is rolled back at its end. After a lost connection, no statement of it runs alone."""
        with self._begun("READ COMMITTED"):
            yield
            self.execute("ROLLBACK")

    @contextlib.contextmanager
    def _begun(self, level: LiteralString) -> Iterator[None]:
        self.execute(f"BEGIN ISOLATION LEVEL {level}")
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self.close()  # the server rolls back a transaction whose connection ends
            raise
        finally:
            self._in_transaction = False

    def hold(self, node: str) -> None:
        """Hold the lock of a node from now on, also after each new connect. One session at a time holds it.

        StoreError: another session holds it. Pooled: no session can hold a lock here.
        """
        if self._node == node and self._live is not None:
            return
        digest = hashlib.blake2b(node.encode(), digest_size=8, person=b"wgsyncd.node").digest()
        self._node, self._key = node, int.from_bytes(digest, signed=True)
        if self._live is None:
            self.query(_PID)  # takes the lock as soon as it is connected
        else:
            self._take_lock()

    def check_held(self) -> None:
        """StoreError unless this session holds the lock of :meth:`hold`. To be asked in each transaction that posts."""
        if self._node and not self.query(_MINE, (self._key,), often=True):
            raise Pooled

    def _holders(self) -> dict[int, str]:
        """Who holds the lock: the server's process, and its role and place for people."""
        found = self.query(_HOLDERS, (self._key,))
        return {pid: f"role {role or '?'} from {where}, process {pid} of the server" for pid, role, where in found}

    def _take_lock(self) -> None:
        if self.is_pooled and self.is_lent():
            self.close()
            raise Pooled
        self._holds = self.query("SELECT pg_try_advisory_lock(%s)", (self._key,))[0][0]
        if self._holds:
            return
        holders, before = self._holders(), _ended.get(self._key)
        if before in holders:  # our session of before: the server has not noticed its end
            self.query("SELECT pg_terminate_backend(%s)", (before,))
            self.query("SELECT pg_advisory_lock(%s)", (self._key,))  # lock_timeout limits it
            self._holds = True
            return
        self.close()
        who = "; ".join(holders.values()) or "a session that has just ended"
        told = f"the lock of node {self._node} is held by {who}: does another wgsyncd run under this name?"
        raise StoreError(told, StoreErrorCode.LOCKED)

    def is_lent(self) -> bool:
        """Whether the server's session changes while another session of the same pool has a transaction."""
        other = Connection(self.database)
        with contextlib.closing(other):
            for _ in range(2):
                mine = self.query(_PID)[0][0]
                with other.undone():
                    # A pooler lends what was given back last.
                    if other.query(_PID)[0][0] == mine or self.query(_PID)[0][0] != mine:
                        return True
        return False

    def close(self) -> None:
        """Close the connection without waiting for the server: it may be dead, or an answer may be half read."""
        if self._live is not None:
            if self._holds:
                _ended[self._key], self._holds = self._live.pid, False
            with contextlib.suppress(Exception):  # errors of a half-dead socket do not matter: it is closed
                self._live.close()
            self._live = None

    @contextlib.contextmanager
    def _cursor(self, *, keep: bool = False) -> Iterator[Cursor[Row]]:
        """``keep``: an error of the statement leaves the connection open. The caller then undoes the statement."""
        live = None
        try:
            self._drop_if_stale()
            if self._live is None:
                self._connect()
            live = self._live
            live.left = self.patience  # type: ignore[union-attr]
            with live.cursor() as cursor:  # type: ignore[union-attr]
                yield cursor
        except Exception as error:
            if not (keep and live is not None and live.info.transaction_status is TransactionStatus.INERROR):
                self.close()
            if isinstance(error, WgsyncdError):
                raise
            forget_frames(error)
            raise _translated(error, init_db(self.database), at_login=live is None) from error
        except BaseException:
            if live is None or self._live is live:
                self.close()  # an answer may still arrive, and a later query must not take it for its own
            raise
        finally:
            self.on_answer()

    def _connect(self) -> None:
        if self._in_transaction:
            raise StoreError("the connection was lost in a transaction", StoreErrorCode.UNREACHABLE)
        self._live = log_in(self.database, self.patience, self._resolver, as_account=True)
        if self._node:
            self._take_lock()
        self._on_connect(self)

    def _drop_if_stale(self) -> None:
        """Close a connection on which the server has said something unasked. Usually it has said goodbye."""
        if self._live is not None and not self._in_transaction:
            waiting = select.poll()
            with contextlib.suppress(psycopg.Error, ValueError):
                waiting.register(self._live.fileno(), select.POLLIN)
            if self._live.closed or waiting.poll(0):
                self.close()


def _translated(error: Exception, init: str, *, at_login: bool) -> StoreError:
    """The StoreError for an error of psycopg or of the system. Any other is an answer that cannot be read."""
    if isinstance(error, psycopg.Error):
        told = error.diag.message_primary or str(error)
        return of_login(told, init) if at_login and error.sqlstate is None else translate(error.sqlstate, told, init)
    if isinstance(error, OSError):
        return of_system(error)
    return StoreError(f"the server's answer cannot be read ({type(error).__name__})")
