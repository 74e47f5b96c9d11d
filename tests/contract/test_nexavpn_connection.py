"""The connection to PostgreSQL: deadlines, transactions, the lock of a node, poolers, and what errors become."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.nexavpn_database import BERLIN, NexavpnDatabase, process
from tests.postgres import PrivatePostgres
from wgsyncd.errors import InDoubt, SchemaError, StoreError, StoreErrorCode
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.trouble import PostgresError


@pytest.fixture(scope="module")
def nexa(postgres: PrivatePostgres) -> NexavpnDatabase:
    made = NexavpnDatabase(postgres, "connection")
    made.init()
    return made


@pytest.fixture
def connection(nexa: NexavpnDatabase) -> Iterator[Connection]:
    with nexa.connected() as made:
        yield made


@pytest.fixture
def stopped(nexa: NexavpnDatabase) -> Iterator[Connection]:
    """Yields a connection whose process of the server is stopped: it breaks no connection and answers nothing."""
    with nexa.connected(timeout=1.0) as made:
        server = process(made)
        os.kill(server, signal.SIGSTOP)
        yield made
        os.kill(server, signal.SIGCONT)


def test_a_stopped_server_is_given_up(stopped: Connection) -> None:
    answers: list[None] = []
    stopped.on_answer = lambda: answers.append(None)
    with pytest.raises(StoreError, match="does not answer in time") as caught:
        stopped.query("SELECT 1")
    assert caught.value.code is StoreErrorCode.UNREACHABLE
    assert answers
    assert not stopped.alive
    assert stopped.query("SELECT 1") == [(1,)]


def test_a_server_that_stops_during_a_stream_or_a_copy_is_given_up(nexa: NexavpnDatabase) -> None:
    for work in (_stream, _copy):
        with nexa.connected(timeout=1.0) as made:
            server = process(made)
            try:
                with pytest.raises(StoreError, match="does not answer in time"):
                    work(made, server)
            finally:
                os.kill(server, signal.SIGCONT)


def _stream(connection: Connection, server: int) -> None:
    for number, _ in enumerate(connection.stream("SELECT repeat('x', 10000) FROM generate_series(1, 100000)")):
        if number == 0:
            os.kill(server, signal.SIGSTOP)


def _copy(connection: Connection, server: int) -> None:
    connection.execute("CREATE TEMPORARY TABLE many (text text)")

    def lines() -> Iterator[str]:
        os.kill(server, signal.SIGSTOP)
        yield from ("x" * 10000 + "\n" for _ in range(5000))  # more than the buffers of a socket take

    connection.copy_text("COPY pg_temp.many FROM STDIN", lines())


def test_the_server_ends_a_lock_first_then_a_statement_then_this_side_stops_to_listen(nexa: NexavpnDatabase) -> None:
    with nexa.connected(timeout=8.0) as made:
        names = ("lock_timeout", "statement_timeout", "search_path", "TimeZone", "client_encoding")
        found = [made.query("SELECT current_setting(%s)", (name,))[0][0] for name in names]
    assert found == ["5s", "6s", "pg_catalog", "UTC", "UTF8"]


def test_rows_come_whole_and_one_by_one(connection: Connection) -> None:
    connection.execute("CREATE TEMPORARY TABLE many (number int, text text)")
    connection.copy_text("COPY pg_temp.many FROM STDIN", (f"{number}\t\\N\n" for number in range(6000)))
    sql = "SELECT number, text FROM pg_temp.many WHERE number >= %s ORDER BY number"
    assert list(connection.stream(sql, (0,))) == connection.query(sql, (0,)) == [(one, None) for one in range(6000)]
    assert connection.execute("UPDATE pg_temp.many SET text = '' WHERE number < %s", (7,)) == 7


def test_an_unfinished_stream_ends_the_connection_and_the_next_statement_opens_one(connection: Connection) -> None:
    rows = connection.stream("SELECT generate_series(1, 100000)")
    assert next(rows) == (1,)
    rows.close()
    assert not connection.alive
    assert connection.query("SELECT 2") == [(2,)]


def test_an_exception_undoes_a_transaction(connection: Connection) -> None:
    with pytest.raises(KeyError), connection.transaction():  # noqa: PT012
        connection.execute("INSERT INTO wgsyncd.boots VALUES (%s, 'b', 0, 0, 0)", (BERLIN,))
        raise KeyError
    assert connection.query("SELECT * FROM wgsyncd.boots") == []


def test_a_snapshot_sees_one_moment_and_writes_nothing(nexa: NexavpnDatabase, connection: Connection) -> None:
    count = "SELECT count(*) FROM wgsyncd.boots"
    with nexa.connected() as other, connection.transaction(snapshot=True):
        before = connection.query(count)
        other.execute("INSERT INTO wgsyncd.boots VALUES (%s, 'later', 0, 0, 0)", (BERLIN,))
        assert connection.query(count) == before
        assert other.execute("DELETE FROM wgsyncd.boots") == 1
    with pytest.raises(PostgresError, match="25006"), connection.transaction(snapshot=True):
        connection.execute("DELETE FROM wgsyncd.boots")


def test_a_refused_change_leaves_the_transaction_as_it_was(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE kept (id int PRIMARY KEY)")
        assert connection.try_change("INSERT INTO pg_temp.kept VALUES (1)") == 1
        refused = connection.try_change("INSERT INTO pg_temp.kept VALUES (1)")
        assert isinstance(refused, PostgresError)
        assert refused.sqlstate == "23505"
        assert connection.try_change("INSERT INTO pg_temp.kept VALUES (2)") == 1
    assert connection.query("SELECT id FROM pg_temp.kept") == [(1,), (2,)]


def test_a_question_aside_is_ended_and_changes_nothing(nexa: NexavpnDatabase) -> None:
    with nexa.connected(timeout=0.9) as made:
        before = process(made)
        assert made.side_query("SELECT 1") == [(1,)]
        refused = made.side_query("SELECT pg_sleep(3600)")
        assert isinstance(refused, PostgresError)
        assert refused.sqlstate == "57014"
        assert isinstance(made.side_query("SELECT nothing"), SchemaError)
        assert process(made) == before


def test_a_commit_without_an_answer_is_in_doubt(nexa: NexavpnDatabase, connection: Connection) -> None:
    with pytest.raises(InDoubt) as caught, connection.transaction():
        nexa.end(connection)
    assert caught.value.code is StoreErrorCode.UNREACHABLE


def fail(connection: Connection) -> None:
    with pytest.raises(StoreError), connection._cursor(keep=True) as cursor:
        cursor.execute("SELECT 1 / 0")


def test_a_commit_that_the_server_turns_into_a_rollback_is_no_success(connection: Connection) -> None:
    with pytest.raises(InDoubt, match="rolled the transaction back"), connection.transaction():
        fail(connection)


def test_a_connection_lost_in_a_transaction_runs_no_further_statement_alone(
    nexa: NexavpnDatabase, connection: Connection
) -> None:
    insert = "INSERT INTO wgsyncd.boots VALUES (%s, %s, 0, 0, 0)"
    with pytest.raises(StoreError, match="lost in a transaction"), connection.transaction():  # noqa: PT012
        connection.execute(insert, (BERLIN, "first"))
        nexa.end(connection)
        with pytest.raises(StoreError, match="57P01"):
            connection.execute(insert, (BERLIN, "second"))
        connection.execute(insert, (BERLIN, "third"))
    assert connection.query("SELECT * FROM wgsyncd.boots") == []


def test_a_connection_that_the_server_ended_between_two_statements_costs_no_error(
    nexa: NexavpnDatabase, connection: Connection
) -> None:
    before = process(connection)
    nexa.end(connection)
    assert process(connection) != before


ERRORS = {
    "SELECT pg_sleep(3600)": ("57014", StoreErrorCode.LOCKED),
    "SELECT * FROM public.users": ("42501", StoreErrorCode.DENIED),
    "SELECT * FROM wgsyncd.nothing": ("wgsyncd init-db", StoreErrorCode.SCHEMA),
    "SELECT nothing FROM wgsyncd.users": ("42703", StoreErrorCode.SCHEMA),
    "SELECT * FROM nowhere.users": ("42P01", StoreErrorCode.SCHEMA),
    "CREATE TABLE nowhere.x (id int)": ("3F000", StoreErrorCode.SCHEMA),
    "SELEC": ("42601", StoreErrorCode.OTHER),
    "SELECT 1 / 0": ("22012", StoreErrorCode.OTHER),
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$": ("40P01", StoreErrorCode.LOCKED),
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$": ("40001", StoreErrorCode.LOCKED),
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$": ("55P03", StoreErrorCode.LOCKED),
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$": ("no room", StoreErrorCode.OTHER),
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57P03'; END $$": ("57P03", StoreErrorCode.UNREACHABLE),
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '08006'; END $$": ("08006", StoreErrorCode.UNREACHABLE),
    "BEGIN READ ONLY; DELETE FROM wgsyncd.boots": ("database.hosts", StoreErrorCode.UNREACHABLE),
}


@pytest.mark.parametrize("sql", ERRORS)
def test_an_error_says_what_to_do_by_its_sqlstate(nexa: NexavpnDatabase, sql: str) -> None:
    words, code = ERRORS[sql]
    with nexa.connected(timeout=0.5) as made, pytest.raises(StoreError) as caught:
        made.query(sql)
    assert words in str(caught.value)
    assert caught.value.code is code
    assert bool(caught.value.todo) is (code in (StoreErrorCode.DENIED, StoreErrorCode.SCHEMA))


def test_an_error_tells_no_value(connection: Connection) -> None:
    connection.execute("CREATE TEMPORARY TABLE secrets (one text PRIMARY KEY CHECK (one <> 'short'))")
    connection.execute("INSERT INTO pg_temp.secrets VALUES ('hidden')")
    for sql in (
        "INSERT INTO pg_temp.secrets VALUES ('hidden')",
        "SELECT one::uuid FROM pg_temp.secrets",
        "DO $$ BEGIN RAISE EXCEPTION 'the key \"hidden\" is bad'; END $$",
    ):
        with connection.undone():
            refused = connection.try_change(sql)
        assert isinstance(refused, PostgresError)
        assert "hidden" not in str(refused)


LOGINS = {"role": ("28000", StoreErrorCode.DENIED), "name": ("3D000", StoreErrorCode.SCHEMA)}


@pytest.mark.parametrize("what", LOGINS)
def test_an_unknown_role_or_database_is_told(nexa: NexavpnDatabase, what: str) -> None:
    words, code = LOGINS[what]
    missing = {"role": "nobody"} if what == "role" else {"name": "nothing"}
    with nexa.connected(**missing) as made, pytest.raises(PostgresError, match="does not exist") as caught:
        made.query("SELECT 1")
    assert (caught.value.sqlstate, caught.value.code) == (words, code)


def test_a_server_that_takes_no_writes_is_left(nexa: NexavpnDatabase) -> None:
    alter = f"ALTER DATABASE {nexa.name} {{}} default_transaction_read_only"
    with nexa.admin() as admin:
        admin.execute(alter.format("SET").encode() + b" = on")
    try:
        with nexa.connected() as made, pytest.raises(PostgresError, match="name all servers") as caught:
            made.query("SELECT 1")
        assert caught.value.code is StoreErrorCode.UNREACHABLE
    finally:
        with nexa.admin() as admin:
            admin.execute(b"SET TRANSACTION READ WRITE")
            admin.execute(alter.format("RESET").encode())


def test_of_several_servers_the_one_that_answers_is_taken(nexa: NexavpnDatabase) -> None:
    with nexa.connected(hosts=("/nowhere", str(nexa.server.directory))) as made:
        assert made.query("SELECT 1") == [(1,)]
