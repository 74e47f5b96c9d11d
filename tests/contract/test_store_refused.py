"""MariaDB refuses to change a row, in each way that it knows: that row's bytes wait, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pymysql
import pytest

from tests.committing import posted
from tests.node import local
from tests.samples import NOW, calendar, device_name, record, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import Transition
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.demo.mariadb import DATABASE, PrivateServer
from wgsyncd.errors import StoreError
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun.store import MariaDBStore

BAD = 6
NOBODY = frozenset[int]()
TABLE = "ALTER TABLE customer_devices "
TRIGGER = (
    "CREATE TRIGGER refusing BEFORE UPDATE ON customer_devices FOR EACH ROW BEGIN"
    f" IF OLD.id = {BAD} THEN %s; END IF; END"
)
WEAK = TRIGGER.replace("CREATE", "CREATE DEFINER = weak@localhost")
_LACKS = "command denied to user 'weak'@'localhost'"
DROP = "DROP TRIGGER IF EXISTS refusing"
_IS_BAD = f"device_id = '{device_name(BAD)}'"
_CHECK = f"ADD CONSTRAINT refusing CHECK (NOT {_IS_BAD} OR rx_bytes_total < 100)"
_GENERATED = f"ADD refusing TINYINT UNSIGNED AS (IF({_IS_BAD}, rx_bytes_total * 9, 0)) PERSISTENT"
_SAME = f"IF(({_IS_BAD} AND rx_bytes_total > 99) OR device_id = '{device_name(5)}', 'same', device_id)"
_UNIQUE = f"ADD refusing VARCHAR(64) AS ({_SAME}) PERSISTENT, ADD UNIQUE (refusing)"

# By name: the statement that makes the server refuse the row, the one that mends it, and a part of the error.
KINDS = {
    "a column that is too small": (
        TABLE + "MODIFY rx_bytes_total TINYINT DEFAULT 0",
        TABLE + "MODIFY rx_bytes_total BIGINT DEFAULT 0",
        "1264: Out of range value for column 'rx_bytes_total'",
    ),
    "a check": (TABLE + _CHECK, TABLE + "DROP CONSTRAINT refusing", "4025"),
    "a generated column": (TABLE + _GENERATED, TABLE + "DROP COLUMN refusing", "1264: Out of range value for column"),
    "a unique generated column": (TABLE + _UNIQUE, TABLE + "DROP COLUMN refusing", "1062"),
    "a trigger": (TRIGGER % "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'", DROP, "1644: not this one"),
    "a number of its own": (
        TRIGGER % "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no', MYSQL_ERRNO = 31001", DROP, "31001: no"
    ),
    "a trigger without its table": (TRIGGER % "INSERT INTO gone VALUES (1)", DROP, "1146"),
    "a trigger that writes too much": (TRIGGER % "SET NEW.contract_id = REPEAT('x', 999)", DROP, "1406"),
    "a foreign key": (TRIGGER % "INSERT INTO child VALUES (99)", DROP, "1452"),
    "a character set": (TRIGGER % "INSERT INTO plain VALUES ('日')", DROP, "1366"),
    "a sum that is too large": (
        TRIGGER % "SET NEW.rx_bytes_total = 9223372036854775807 + NEW.rx_bytes_total", DROP, "1690"
    ),
    "a number of the client": (
        TRIGGER % "SIGNAL SQLSTATE '08S01' SET MESSAGE_TEXT = 'gone', MYSQL_ERRNO = 2006", DROP, "2006: gone"
    ),
    "a number of a full disk": (
        TRIGGER % "SIGNAL SQLSTATE 'HY000' SET MESSAGE_TEXT = 'full', MYSQL_ERRNO = 1114", DROP, "1114: full"
    ),
    "a trigger without a right": (WEAK % "INSERT INTO plain VALUES ('x')", DROP, f"1142: INSERT {_LACKS}"),
    "a trigger without a column's right": (WEAK % "SET NEW.tx_bytes_total = 1", DROP, f"1143: UPDATE {_LACKS}"),
    "a trigger without a routine's right": (WEAK % "CALL routine()", DROP, "1370: execute command denied"),
    "a slow trigger": (TRIGGER % "DO SLEEP(9)", DROP, "1969: Query execution was interrupted"),
}  # fmt: skip


@contextmanager
def refusing(tables: RealMikyunTables, kind: str) -> Iterator[str]:
    """Within the block, the server refuses to change the row of :data:`BAD`. Yields a part of the error."""
    begin, end, error = KINDS[kind]
    try:
        tables.sql("CREATE TABLE parent (id INT PRIMARY KEY)")
        tables.sql("CREATE TABLE child (id INT, FOREIGN KEY (id) REFERENCES parent (id))")
        tables.sql("CREATE TABLE plain (t VARCHAR(9) CHARACTER SET latin1)")
        tables.sql("CREATE PROCEDURE routine() BEGIN END")
        tables.sql("CREATE USER weak@localhost")
        tables.sql("GRANT TRIGGER, SELECT (id) ON customer_devices TO weak@localhost")
        tables.sql("SET SESSION sql_mode = 'STRICT_ALL_TABLES'")  # a trigger keeps the mode that it was made in
        tables.sql(begin)
        tables.sql("SET SESSION sql_mode = ''")
        yield error
    finally:
        tables.sql(end)
        tables.sql("DROP TABLE IF EXISTS child, parent, plain")
        tables.sql("DROP PROCEDURE routine")
        tables.sql("DROP USER weak@localhost")


def begun(tables: RealMikyunTables) -> tuple[MariaDBStore, NodeState]:
    for number in (5, BAD, 7, 8):
        tables.insert(number, public_key=text(number))
    store = tables.store()
    return store, store.load_state(calendar())


def poll(store: Store, state: NodeState, turn: int, rx: int = 200) -> NodeState:
    numbers = (5, BAD, 7, 8)
    records = tuple(record(n, counters=(rx * turn, turn)) for n in numbers)
    some = tuple(posted(n, rx if n == BAD else 20, 1) for n in numbers)
    counts = turn > 1
    done = store.commit(state, WriteBatch(some, records, counts_only=counts), calendar())
    assert done.set_aside <= {BAD}
    return done.node_state


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_the_server_refuses_is_set_aside_and_named(real_tables: RealMikyunTables, kind: str) -> None:
    store, state = begun(real_tables)
    with refusing(real_tables, kind) as error:
        for turn in (1, 2, 3):
            state = poll(store, state, turn)
            (aside,) = store.post_set_aside(calendar(), NOBODY)
            assert (aside.device, aside.obstacle, aside.since) == (device_name(BAD), Obstacle.REFUSED, NOW)
            assert error in aside.detail
        assert [real_tables.posted(number).rx for number in (5, BAD, 7, 8)] == [60, 0, 60, 60]
        assert store.refresh(calendar()) == (0, 0)
        store = real_tables.store()
        state = store.load_state(calendar())
    assert store.post_set_aside(calendar(), NOBODY) == ()
    assert [real_tables.posted(number).rx for number in (5, BAD, 7, 8)] == [60, 600, 60, 60]
    assert sum(sums.rx for (name, _), sums in real_tables.days().items() if name == device_name(BAD)) == 600
    assert store.refresh(calendar()) == (0, 0)
    poll(store, state, 4)
    assert real_tables.posted(BAD).rx == 800


def test_windows_of_a_refused_row_hold_up_no_other(real_tables: RealMikyunTables) -> None:
    store, state = begun(real_tables)
    poll(store, state, 1)
    with refusing(real_tables, "a trigger"):
        later = calendar(NOW + 2 * 86_400)
        assert store.refresh(later) == (4, 0)
        assert [real_tables.device(number)["rx_bytes_24h"] for number in (5, BAD, 7)] == [0, 200, 0]
    assert store.refresh(later) == (1, 0)
    assert real_tables.device(BAD)["rx_bytes_24h"] == 0


def test_a_status_that_the_server_refuses_holds_up_no_other(real_tables: RealMikyunTables) -> None:
    """The application's ENUM does not know the word."""
    for number in (5, BAD):
        real_tables.insert(number, public_key=text(number), status="issued")
    store = real_tables.store()
    state, rows = store.load_state(calendar()), store.snapshot().rows
    steps = tuple(
        (
            Transition(row, TransitionKind.EXPIRE, NOW),
            AuditEvent(AuditAction.DEVICE_EXPIRED, row.device, AuditFacts(at=NOW)),
        )
        for row in rows
    )
    real_tables.sql(TABLE + "MODIFY status ENUM('issued', 'active', 'paused', 'revoked', 'deleted') NOT NULL")
    try:
        writes = WriteBatch((posted(5, 20, 1),), (record(5),), transitions=steps)
        state, applied, aside = store.commit(state, writes, calendar())
        assert not applied
        assert aside == {5, BAD}
        named = store.post_set_aside(calendar(), {5, BAD})
        assert [one.device for one in named] == [device_name(5), device_name(BAD)]
        assert "1265: Data truncated for column 'status'" in named[0].detail
        assert real_tables.posted(5).rx == 0
        assert not real_tables.logs()
    finally:
        real_tables.sql(TABLE + "MODIFY status VARCHAR(16) NOT NULL DEFAULT 'issued'")
    state, applied, _ = store.commit(state, WriteBatch(transitions=steps), calendar())
    assert applied == {5, BAD}
    assert store.post_set_aside(calendar(), NOBODY) == ()
    assert real_tables.posted(5).rx == 20
    assert len(real_tables.logs()) == 2


def test_a_trigger_that_needs_a_locked_row_lets_only_its_own_row_wait(
    real_tables: RealMikyunTables, mariadbd: PrivateServer
) -> None:
    store, state = begun(real_tables)
    with refusing(real_tables, "a trigger"):
        real_tables.sql(DROP)
        real_tables.sql("INSERT INTO plain VALUES ('x')")
        real_tables.sql(TRIGGER % "UPDATE plain SET t = 'y'")
        with pymysql.connect(**mariadbd.connect_args, database=DATABASE) as other, other.cursor() as cursor:
            cursor.execute("SELECT * FROM plain FOR UPDATE")
            state = poll(store, state, 1)
            (aside,) = store.post_set_aside(calendar(), NOBODY)
            assert aside.obstacle is Obstacle.LOCKED
            assert real_tables.posted(5).rx == 20
            other.rollback()
        assert store.post_set_aside(calendar(), NOBODY) == ()
    assert real_tables.posted(BAD).rx == 200


def test_a_trigger_that_needs_a_locked_table_keeps_nobody_waiting(
    real_tables: RealMikyunTables, mariadbd: PrivateServer
) -> None:
    """`LOCK TABLES ... READ` of a dump. The wait would be for each of the batch's devices, in one transaction."""
    store, state = begun(real_tables)
    with refusing(real_tables, "a trigger"):
        real_tables.sql(DROP)
        real_tables.sql(TRIGGER % "INSERT INTO plain VALUES ('y')")
        with pymysql.connect(**mariadbd.connect_args, database=DATABASE) as other, other.cursor() as cursor:
            cursor.execute("LOCK TABLES plain READ")
            store._connection.execute("SET SESSION lock_wait_timeout = 86400")  # the test would end at its time limit
            done = store.commit(state, WriteBatch((posted(5, 20, 1), posted(BAD, 200, 1))), calendar())
            assert done.set_aside == {5, BAD}, "the server locks the triggers' tables before it looks at the rows"
            assert {one.obstacle for one in store.post_set_aside(calendar(), NOBODY)} == {Obstacle.LOCKED}
            cursor.execute("UNLOCK TABLES")
        assert store.post_set_aside(calendar(), NOBODY) == ()
    assert (real_tables.posted(5).rx, real_tables.posted(BAD).rx) == (20, 200)


def test_what_all_rows_suffer_from_is_trouble_of_the_database(real_tables: RealMikyunTables) -> None:
    store, state = begun(real_tables)
    with refusing(real_tables, "a trigger"):
        real_tables.sql("LOCK TABLES customer_devices READ, wgsyncd_nodes READ")
        try:
            with pytest.raises(StoreError):
                poll(store, state, 1)
        finally:
            real_tables.sql("UNLOCK TABLES")
    state = store.load_state(calendar())
    poll(store, state, 1)
    assert real_tables.posted(BAD).rx == 200


def test_many_refused_rows_are_tried_some_at_a_time(real_tables: RealMikyunTables) -> None:
    numbers = range(1, 251)
    for number in numbers:
        real_tables.insert(number)
    store = real_tables.store()
    state = store.load_state(calendar())
    with refusing(real_tables, "a trigger"):
        real_tables.sql(DROP)
        real_tables.sql((TRIGGER % "SIGNAL SQLSTATE '45000'").replace(f"OLD.id = {BAD}", "OLD.id > 5"))
        writes = WriteBatch(tuple(posted(n, 9, 1) for n in numbers), tuple(record(n) for n in numbers))
        state, _, aside = store.commit(state, writes, calendar())
        assert len(aside) == 245
        for _ in range(4):
            assert len(store.post_set_aside(calendar(), NOBODY)) == 245
    assert store.post_set_aside(calendar(), NOBODY) == ()
    assert {real_tables.posted(number).rx for number in numbers} == {9}


def test_a_quarantined_delta_of_a_refused_row_stays_there(real_tables: RealMikyunTables) -> None:
    store, state = begun(real_tables)
    store.commit(state, WriteBatch(quarantined=(QuarantinedDelta("wg0", BAD, "d", 9, 9, NOW - 9, NOW),)), calendar())
    (held,) = store.quarantine()
    with refusing(real_tables, "a trigger"):
        with pytest.raises(StoreError, match="refuses to change the row of .*1644"):
            store.resolve_quarantine([held.id], [posted(BAD, 9, 9)], [], calendar())
        assert store.quarantine() == (held,)
    store.resolve_quarantine([held.id], [posted(BAD, 9, 9)], [], calendar())
    assert real_tables.posted(BAD).rx == 9


@pytest.mark.parametrize("odd", [0, -1])
def test_a_row_with_an_odd_id_gets_its_bytes(real_tables: RealMikyunTables, odd: int) -> None:
    real_tables.insert(9)
    real_tables.sql("UPDATE customer_devices SET id = %s WHERE id = 9", odd)
    store = real_tables.store()
    posting = replace(posted(0, 50, 5), row_id=odd, device=device_name(9))
    writes = WriteBatch((posting,), (record(9, row_id=odd),))
    store.commit(store.load_state(calendar()), writes, calendar())
    assert real_tables.sql("SELECT rx_bytes_total rx FROM customer_devices WHERE id = %s", odd) == [{"rx": 50}]


@pytest.mark.parametrize("word", ["issued", "Issued", "ISSUED "])
def test_zero_dates_and_capitals_stop_no_transition(odd_tables: RealMikyunTables, word: str) -> None:
    """The zero date means that there is no date. A column with a binary collation knows the case."""
    odd_tables.sql(TABLE + "MODIFY status VARCHAR(16) COLLATE utf8mb4_bin NOT NULL DEFAULT 'issued'")
    zero = dict.fromkeys(("first_handshake_at", "activated_at", "deleted_at"), "0000-00-00 00:00:00")
    for number in (5, BAD):
        odd_tables.insert(number, public_key=text(number), status=word, **zero)
    store = odd_tables.store()
    state, rows, before = store.load_state(calendar()), store.snapshot().rows, store.digest()
    assert not any(row.first_handshake_known or row.inactive for row in rows)
    odd_tables.sql("UPDATE customer_devices SET created_at = created_at - INTERVAL 1 DAY")
    assert store.digest() != before, "its QR code ends at another time"
    odd_tables.sql("UPDATE customer_devices SET created_at = created_at + INTERVAL 1 DAY")
    kinds = TransitionKind.ACTIVATE, TransitionKind.EXPIRE
    steps = tuple((Transition(row, kind, NOW), None) for row, kind in zip(rows, kinds, strict=True))
    assert store.commit(state, WriteBatch(transitions=steps), calendar()).applied == {5, BAD}
    found = odd_tables.device(5)
    assert [odd_tables.device(number)["status"] for number in (5, BAD)] == ["active", "expired"]
    assert found["first_handshake_at"] == found["activated_at"] == local(NOW)
