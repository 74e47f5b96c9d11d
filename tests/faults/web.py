"""The web application is a second client of the database, and it never waits for a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from wgsyncd.demo.mariadb import DATABASE, PrivateServer

T = TypeVar("T")
Rows = list[tuple[Any, ...]]


class Away(Exception):
    """Reports that a transaction failed now. It may still have happened."""


class Web:
    """Makes transactions as the administrator.

    Steps that take the database away on purpose set ``usable`` to False.
    """

    def __init__(self, database: PrivateServer, timeout: float) -> None:
        self._database, self._timeout = database, timeout
        self._live: Connection[Cursor] | None = None
        self.usable = True

    def transact(self, work: Callable[[Any], T]) -> T:
        """Runs one transaction. Raises Away if it fails at the database for any reason."""
        if not self.usable:
            raise Away
        try:
            if self._live is None:
                self._live = self.connect()
            with self._live.cursor() as cursor:
                result = work(cursor)
            self._live.commit()
        except (pymysql.MySQLError, OSError) as error:
            self.close()
            raise Away(str(error)) from error
        return result

    def connect(self, lock_wait: int = 0) -> Connection[Cursor]:
        """Returns a new connection, which waits at most `lock_wait` seconds for locks."""
        actual = pymysql.connect(
            **self._database.connect_args, database=DATABASE, autocommit=False,
            connect_timeout=self._timeout, read_timeout=lock_wait + self._timeout, write_timeout=self._timeout,
        )  # fmt: skip
        with actual.cursor() as cursor:
            cursor.execute(
                "SET SESSION innodb_lock_wait_timeout = %s, SESSION tx_isolation = 'READ-COMMITTED'", (lock_wait,)
            )
        return actual

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> Rows:
        """Returns the rows of a SELECT."""

        def work(cursor: Cursor) -> Rows:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

        return self.transact(work)

    def close(self) -> None:
        """Drops the connection."""
        if self._live is not None:
            with contextlib.suppress(Exception):  # a connection that is half dead may raise anything
                self._live.close()
            self._live = None
