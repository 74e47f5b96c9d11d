"""Rows with a slow trigger cost a bounded time, once, and an error that meets all rows is told apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from wgsyncd.core.model import DeviceId
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.stores.mikyun.changing import PARTS, RETRY, RETRY_SLOW, Changer
from wgsyncd.stores.mikyun.connection import Result, Values
from wgsyncd.stores.mikyun.trouble import TIMED_OUT, MariaDBError

SLOW = MariaDBError("1969: too slow", TIMED_OUT)
ROWS = range(250)


class Server:
    """Plays a connection to a server. A change of one of the rows ``slow`` takes until the server gives it up."""

    patience = 4.0

    def __init__(self) -> None:
        self.now = 0.0
        self.slow: Sequence[int] = ()
        self.error: StoreError = SLOW
        self.for_all: MariaDBError | None = None  # the answer to EXPLAIN
        self.changed: list[int] = []
        self.statements = 0

    def clock(self) -> float:
        return self.now

    def try_change(self, sql: str, values: Sequence[int]) -> int | StoreError:
        self.statements += 1
        if {*self.slow} & {*values}:
            self.now += float(sql.partition("max_statement_time = ")[2].split()[0])
            return self.error
        self.changed += values
        return len(values)

    def query(self, sql: str) -> Result:
        return ((1,),)

    def side_query(self, sql: str, values: Values) -> Result | MariaDBError:
        assert sql.startswith("EXPLAIN UPDATE")
        return self.for_all or ()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def changer(server: Server) -> Changer:
    return Changer(server.clock)


def change(changer: Changer, server: Server, rows: Sequence[int] = ROWS) -> dict[DeviceId, StoreError]:
    server.changed, server.statements = [], 0
    left = changer.change(server, rows, lambda some: ("UPDATE", some))  # type: ignore[arg-type]
    assert sorted([*server.changed, *left]) == sorted(rows), "each row is changed once, or it is left"
    return left


def test_a_slow_row_costs_a_bounded_time_once(server: Server, changer: Changer) -> None:
    server.slow = [77]
    assert change(changer, server) == {77: SLOW}
    assert server.now <= server.patience / 2
    assert server.statements <= 1 + 2 * PARTS
    before = server.now
    assert change(changer, server) == {77: SLOW}
    assert (server.now, server.statements) == (before, 1), "nobody tries the row again"
    server.now += RETRY_SLOW
    assert change(changer, server) == {77: SLOW}
    assert server.statements == 2, "the row is tried again alone"
    server.now += RETRY_SLOW
    server.slow = []
    assert change(changer, server) == {}
    assert change(changer, server) == {}
    assert server.statements == 1


def test_a_server_that_is_slow_for_all_rows_is_left_alone_for_a_while(server: Server, changer: Changer) -> None:
    server.slow = ROWS
    left = change(changer, server)
    assert server.now <= server.patience * 1.5
    assert {error.code for error in left.values()} == {StoreErrorCode.OTHER, StoreErrorCode.LOCKED}
    assert changer.is_tired
    assert {error.code for error in change(changer, server).values()} == {StoreErrorCode.LOCKED}
    assert server.statements == 0
    server.now += RETRY
    server.slow = []
    assert not changer.is_tired
    assert {error.code for error in change(changer, server).values()} == {StoreErrorCode.OTHER}, "these are slow rows"


def test_an_error_that_meets_all_rows_is_trouble_of_the_database(server: Server, changer: Changer) -> None:
    server.slow, server.error = [7], MariaDBError("1142: denied", 1142)
    server.for_all = MariaDBError("1142: denied. See grants.sql", 1142)
    with pytest.raises(MariaDBError, match="grants"):
        change(changer, server)
    server.for_all = MariaDBError("1054: another one", 1054)
    assert change(changer, server) == {7: server.error}
