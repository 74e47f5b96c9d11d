"""The lock of a node: one session holds it, and a pooler that lends sessions by transaction is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.fakemachine import FakeMachine
from tests.nexavpn_database import BERLIN, ROLES, TOKYO, NexavpnDatabase, process
from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.pgbouncer import PORT, pooler
from tests.postgres import PrivatePostgres
from tests.wait import until
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.stores.nexavpn.connection import Connection, Pooled


@pytest.fixture(scope="module")
def nexa(postgres: PrivatePostgres) -> NexavpnDatabase:
    made = NexavpnDatabase(postgres, "lock")
    made.init()
    return made


@pytest.fixture
def connection(nexa: NexavpnDatabase) -> Iterator[Connection]:
    with nexa.connected() as made:
        yield made


def test_the_lock_of_a_node_is_held_by_one_session(nexa: NexavpnDatabase, connection: Connection) -> None:
    connection.hold(BERLIN)
    connection.check_held()
    with nexa.connected() as other:
        with pytest.raises(StoreError, match=f"lock of node berlin is held by role {ROLES[BERLIN]}") as caught:
            other.hold(BERLIN)
        assert caught.value.code is StoreErrorCode.LOCKED
        assert str(process(connection)) in str(caught.value)
        other.hold("another")
    with nexa.connected() as other:
        connection.close()
        until(lambda: _holds(other), 30, "the lock is free")


def test_the_role_of_another_node_is_named_if_it_holds_the_lock(nexa: NexavpnDatabase) -> None:
    nexa.init(TOKYO)
    with nexa.connected(ROLES[TOKYO]) as thief, nexa.connected() as own:
        thief.hold(BERLIN)
        with pytest.raises(StoreError, match=f"lock of node berlin is held by role {ROLES[TOKYO]} from"):
            own.hold(BERLIN)


def _holds(connection: Connection) -> bool:
    try:
        connection.hold(BERLIN)
    except StoreError:
        return False
    connection.check_held()
    return True


def test_a_session_takes_the_lock_again_after_each_connect(nexa: NexavpnDatabase, connection: Connection) -> None:
    connection.hold(BERLIN)
    nexa.end(connection)
    with connection.transaction():
        connection.check_held()


def test_a_session_that_the_server_has_not_missed_gives_the_lock_to_its_successor(nexa: NexavpnDatabase) -> None:
    """The server's process is stopped, so it holds the lock. The next session tells the server to end it."""
    with nexa.connected(timeout=1.0) as made:
        made.hold(BERLIN)
        before = process(made)
        os.kill(before, signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="does not answer in time"):
                made.query("SELECT 1")
            with pytest.raises(StoreError) as caught:
                made.query("SELECT 1")
            assert caught.value.code is StoreErrorCode.LOCKED
        finally:
            os.kill(before, signal.SIGCONT)
        until(lambda: _holds(made), 30, "the lock is held again")
        assert process(made) != before


def test_after_a_reload_the_new_store_holds_the_lock(
    postgres: PrivatePostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload keeps the claim and makes a new store. The server has not noticed yet that the old session has ended."""
    with ExitStack() as stack:
        node = NexavpnNode(NexavpnTables(postgres, stack), tmp_path)
        node.machine = FakeMachine()
        node.start()
        node.device(5)
        node.cycle()
        old = node.store._connection  # type: ignore[attr-defined]
        stack.callback(old._live.close)
        monkeypatch.setattr(old._live, "close", lambda: None)
        old.close()
        node.store = node.tables.store()  # type: ignore[assignment]
        node.reload()
        node.traffic(5, 100)
        node.cycle()
        node.right()
        other = stack.enter_context(closing(Connection(node.store._database)))  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match=f"process {process(node.store._connection)} "):  # type: ignore[attr-defined]
            other.hold("r640")


def test_a_transaction_without_the_lock_is_refused(connection: Connection) -> None:
    connection.hold(BERLIN)
    connection.query("SELECT pg_advisory_unlock_all()")
    with pytest.raises(Pooled, match="pool_mode = session"), connection.transaction():
        connection.check_held()


def test_a_pooler_that_lends_sessions_by_transaction_is_refused(nexa: NexavpnDatabase) -> None:
    with (
        pooler(nexa.server, "transaction", ROLES[BERLIN]) as socket,
        nexa.connected(hosts=(socket,), port=PORT) as made,
        pytest.raises(Pooled, match=r"lends .* by transaction"),
    ):
        made.hold(BERLIN)


def test_a_pooler_that_lends_whole_sessions_serves(nexa: NexavpnDatabase) -> None:
    with pooler(nexa.server, "session", ROLES[BERLIN]) as socket, nexa.connected(hosts=(socket,), port=PORT) as made:
        made.hold(BERLIN)
        assert made.is_pooled
        with made.transaction():
            made.check_held()


def test_a_pooler_that_lends_sessions_by_statement_is_refused(nexa: NexavpnDatabase) -> None:
    with (
        pooler(nexa.server, "statement", ROLES[BERLIN]) as socket,
        nexa.connected(hosts=(socket,), port=PORT) as made,
        pytest.raises(StoreError, match="set pool_mode = session"),
    ):
        made.hold(BERLIN)


def test_a_pooler_that_does_not_reset_sessions_is_named(nexa: NexavpnDatabase) -> None:
    """The next client gets a session that knows the plans of the last one."""
    with pooler(nexa.server, "session", ROLES[BERLIN], "server_reset_query =\n") as socket:
        for fails in (False, True):
            with nexa.connected(hosts=(socket,), port=PORT) as made:
                made.hold(BERLIN)
                if not fails:
                    made.query("SELECT 1", often=True)
                    continue
                with pytest.raises(StoreError, match="set server_reset_query = DISCARD ALL"):
                    made.query("SELECT 1", often=True)


def test_a_plan_is_kept_only_by_a_session_that_holds_the_lock(connection: Connection) -> None:
    """A pooler may lend another session for the next statement, and that one would not know the plan."""
    kept = "SELECT statement FROM pg_prepared_statements"
    connection.query("SELECT 'early'", often=True)
    assert connection.query(kept) == []
    connection.hold(BERLIN)
    for _ in range(2):
        assert connection.query("SELECT %s::int", (7,), often=True) == [(7,)]
        connection.execute("SELECT 'once'")
        assert connection.query(kept) == [("SELECT $1::int",)]
    connection.close()
    assert connection.query("SELECT %s::int", (8,), often=True) == [(8,)]
    assert connection.query(kept) == [("SELECT $1::int",)]
