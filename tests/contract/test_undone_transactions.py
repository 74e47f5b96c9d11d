"""MariaDB undoes a whole transaction for the lock of one row: nothing is posted twice, and nothing is lost."""

from __future__ import annotations

from contextlib import ExitStack

import pymysql
import pytest

from tests.contract.test_store_refused import BAD, DROP, NOBODY, TRIGGER, begun, poll, refusing
from tests.samples import calendar
from tests.store_sides import RealMikyunTables
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.demo.mariadb import DATABASE, PrivateServer
from wgsyncd.errors import StoreError, StoreErrorCode

NUMBERS = (5, BAD, 7, 8)


def test_a_deadlock_of_a_trigger_is_its_own_rows_trouble(real_tables: RealMikyunTables) -> None:
    """A trigger that signals 1213 for one row did so at each poll. The server has undone that statement alone."""
    store, state = begun(real_tables)
    with refusing(real_tables, "a trigger"):
        real_tables.sql(DROP)
        real_tables.sql(TRIGGER % "SIGNAL SQLSTATE '40001' SET MESSAGE_TEXT = 'no', MYSQL_ERRNO = 1213")
        for turn in (1, 2):
            state = poll(store, state, turn)
        (aside,) = store.post_set_aside(calendar(), NOBODY)
        assert aside.obstacle is Obstacle.LOCKED
        assert [real_tables.posted(number).rx for number in NUMBERS] == [40, 0, 40, 40]
    assert store.post_set_aside(calendar(), NOBODY) == ()
    assert real_tables.posted(BAD).rx == 400


def test_innodb_rollback_on_timeout_loses_and_doubles_nothing() -> None:
    """With ON, a lock that a trigger meets undoes the transaction of all. They wait until the lock ends."""
    with ExitStack() as stack:
        server = stack.enter_context(PrivateServer(options=("--innodb-rollback-on-timeout=ON",)))
        server.load()
        server.create_account()
        tables = RealMikyunTables(server, stack)
        store, state = begun(tables)
        with refusing(tables, "a trigger"):
            tables.sql(DROP)
            tables.sql("INSERT INTO plain VALUES ('x')")
            tables.sql(TRIGGER % "UPDATE plain SET t = 'y'")
            with pymysql.connect(**server.connect_args, database=DATABASE) as other, other.cursor() as cursor:
                cursor.execute("SELECT * FROM plain FOR UPDATE")
                with pytest.raises(StoreError) as trouble:
                    poll(store, state, 1)
                assert trouble.value.code is StoreErrorCode.LOCKED
                assert [tables.posted(number).rx for number in NUMBERS] == [0, 0, 0, 0]
                other.rollback()
            poll(store, store.load_state(calendar()), 1)
            assert [tables.posted(number).rx for number in NUMBERS] == [20, 200, 20, 20]
            assert store.post_set_aside(calendar(), NOBODY) == ()
        assert store.refresh(calendar()) == (0, 0)
