"""MariaDB undoes a whole transaction for the lock of one row: nothing is posted twice, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pymysql
import pytest

from tests.committing import posted
from tests.contract.test_store_refused import BAD, DROP, NOBODY, TRIGGER, begun, poll, refusing
from tests.samples import NOW, calendar, device_name, record, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import Transition
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import WriteBatch
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.demo.mariadb import DATABASE, PrivateServer

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


@pytest.fixture
def undoing() -> Iterator[RealMikyunTables]:
    """Yields a database on a server that undoes the whole transaction if a statement meets a lock."""
    with PrivateServer(options=["--innodb-rollback-on-timeout"]) as server, ExitStack() as stack:
        server.load()
        server.create_account()
        yield RealMikyunTables(server, stack)


def test_a_locked_row_of_a_trigger_holds_up_nobody_where_a_lock_undoes_the_transaction(
    undoing: RealMikyunTables,
) -> None:
    tables, numbers = undoing, (5, 6, 7, 8)
    for number in numbers:
        tables.insert(number, public_key=text(number), status="issued" if number in (7, 8) else "active")
    tables.sql("CREATE TABLE busy (id INT PRIMARY KEY)")
    tables.sql("INSERT INTO busy VALUES (5), (6), (7), (8)")
    tables.sql(
        "CREATE TRIGGER busy BEFORE UPDATE ON customer_devices FOR EACH ROW UPDATE busy SET id = id WHERE id = OLD.id"
    )
    store = tables.store()
    state = store.load_state(calendar())
    steps = tuple((Transition(row, TransitionKind.ACTIVATE, NOW), None) for row in store.snapshot().rows[2:])
    with pymysql.connect(**tables._server.connect_args, database=DATABASE) as other, other.cursor() as cursor:
        cursor.execute("SELECT * FROM busy WHERE id = 6 FOR UPDATE")
        cursor.execute("SELECT * FROM busy WHERE id = 8 FOR UPDATE")
        for turn in (1, 2):
            some = WriteBatch(
                tuple(posted(n, 20, 1) for n in numbers),
                tuple(record(n, counters=(20 * turn, turn)) for n in numbers),
                transitions=steps[turn - 1 :],
                counts_only=turn == 2,
            )
            state, applied, aside = store.commit(state, some, calendar())
            assert applied == ({7} if turn == 1 else frozenset())
            assert 8 in aside
            store.post_set_aside(calendar(), frozenset())
            assert [tables.posted(number).rx for number in numbers] == [20 * turn, 0, 20 * turn, 0]
        left = store.post_set_aside(calendar(), frozenset())
        assert [(one.device, one.obstacle) for one in left] == [
            (device_name(6), Obstacle.LOCKED),
            (device_name(8), Obstacle.LOCKED),
        ]
        later = calendar(NOW + 2 * 86_400)
        assert store.refresh(later)[1] == 0  # the rows without a lock
        assert [tables.device(number)["rx_bytes_24h"] for number in numbers] == [0, 0, 0, 0]
        other.rollback()
    assert store.post_set_aside(later, frozenset()) == ()
    assert [tables.posted(number).rx for number in numbers] == [40, 40, 40, 40]
