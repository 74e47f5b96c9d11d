"""Changes rows of customer_devices, and leaves out each row that the server refuses or is slow with.

A trigger of the application may raise any error, may need a locked row, and may take any time. That is trouble of its
row alone. Trouble of all rows also meets an EXPLAIN of the same statement, which runs no trigger.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from wgsyncd.core.model import DeviceId
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.trouble import TIMED_OUT, MariaDBError

PARTS = 16  # parts of a refused statement. Each slow row costs the time of one part, and its own
RETRY = 60.0  # seconds until rows are tried again, if slow statements took all the time
RETRY_SLOW = 600.0  # seconds until a slow row is tried again
TIME_IS_UP = StoreError("the server is too slow to change rows", StoreErrorCode.LOCKED)
_T = TypeVar("_T")


class RolledBack(StoreError):
    """The server has undone the whole transaction (innodb_rollback_on_timeout). ``rows``: of the statement."""

    def __init__(self, error: StoreError, rows: Collection[DeviceId]) -> None:
        self.rows = frozenset(rows)
        super().__init__(str(error), error.code)


def no_waiting(connection: Connection, *, is_part: bool = False) -> str:
    """The beginning of an UPDATE of devices, which waits for no lock. The server ends it before wgsyncd gives it up.

    A trigger may need a row or a table that somebody has locked.
    """
    most = connection.patience / (16 if is_part else 4)
    return f"SET STATEMENT innodb_lock_wait_timeout = 0, lock_wait_timeout = 0, max_statement_time = {most:.6f} FOR "


class Changer:
    """Changes rows of one node. It remembers the slow rows. ``clock``: monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tired_until = float("-inf")
        self._slow: dict[DeviceId, tuple[float, StoreError]] = {}  # when each is tried again

    @property
    def is_tired(self) -> bool:
        """Whether no row is tried now, because the server is too slow."""
        return self._clock() < self._tired_until

    def change(
        self, connection: Connection, rows: Collection[DeviceId],
        statement: Callable[[Sequence[DeviceId]], tuple[str, Values]],
    ) -> dict[DeviceId, StoreError]:  # fmt: skip
        """Change rows in the open transaction by one statement, or by several ones for parts of the rows.

        Returns the rows that are not changed, and why. RolledBack: see there. StoreError: no row can be changed.
        """
        if self.is_tired:
            return dict.fromkeys(rows, TIME_IS_UP)
        spent, is_asked, now = 0.0, False, self._clock()
        left = {one: self._slow[one][1] for one in rows if one in self._slow}
        due = [[one] for one in left if self._slow[one][0] <= now][:1]
        todo = [*due, [one for one in rows if one not in left]]
        while todo:
            if not (some := todo.pop()):
                continue
            if spent > connection.patience:
                self._tired_until = self._clock() + RETRY
                left |= dict.fromkeys(some, TIME_IS_UP)
                continue
            sql, values = statement(some)
            began = self._clock()
            error = connection.try_change(no_waiting(connection, is_part=len(some) < len(rows)) + sql, values)
            if isinstance(error, int):
                self._forget(some, left)
                continue
            if connection.query("SELECT @@in_transaction") != ((1,),):
                raise RolledBack(error, some)
            if is_slow := isinstance(error, MariaDBError) and error.number == TIMED_OUT:
                spent += self._clock() - began
            if not is_asked and not is_slow and error.code is not StoreErrorCode.LOCKED:
                is_asked = True
                _raise_if_for_all(connection, error, sql, values)
            if len(some) == 1:
                left[some[0]] = error
                if is_slow:
                    self._slow[some[0]] = self._clock() + RETRY_SLOW, error
                continue
            size = -(-len(some) // PARTS)
            todo += [some[at : at + size] for at in range(0, len(some), size)]
        return left

    def _forget(self, rows: Sequence[DeviceId], left: dict[DeviceId, StoreError]) -> None:
        for one in rows:
            left.pop(one, None)
            self._slow.pop(one, None)


def apart(connection: Connection, some: Sequence[_T], work: Callable[[Sequence[_T]], None]) -> Sequence[_T]:
    """Do ``work`` in one transaction. If the server undoes it as a whole, do it for each half.

    Returns those for which it was undone alone.
    """
    try:
        with connection.transaction():
            work(some)
        return ()
    except RolledBack:
        if len(some) == 1:
            return some
        middle = len(some) // 2
        return [*apart(connection, some[:middle], work), *apart(connection, some[middle:], work)]


def _raise_if_for_all(connection: Connection, error: StoreError, sql: str, values: Values) -> None:
    found = connection.side_query(f"EXPLAIN {sql}", values)
    if isinstance(found, MariaDBError) and isinstance(error, MariaDBError) and found.number == error.number:
        raise found
