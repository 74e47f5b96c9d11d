"""Connecting and reading: nothing leaks, nothing is cut short, and a broken part is trouble that passes."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lying_mariadb import LyingServer, slow
from tests.node import CONFIG
from tests.samples import TOKYO, text
from tests.store_sides import RealMikyunTables
from tests.wait import until
from wgsyncd.config.load import parse
from wgsyncd.demo.mariadb import ACCOUNT
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.store import MariaDBStore


def resident() -> int:
    """Returns the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_refused_connects_leave_no_descriptor_thread_or_memory(tmp_path: Path) -> None:
    """PyMySQL's own connect leaves the socket to the garbage collector, which this daemon has tamed."""
    gone = socket.create_server(("127.0.0.1", 0))
    port = gone.getsockname()[1]
    gone.close()
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(tmp_path / "socket"))
    one.close()  # the file stays, and nobody listens
    places = (f'host = "127.0.0.1"\nport = {port}\n', f'socket = "{tmp_path}/socket"\n')
    connections = [Connection(mikyun(parse(f"{CONFIG}[mikyun.database]\n{where}")).database, TOKYO,
                              on_connect=lambda _: None) for where in places]  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        before, most = len(os.listdir("/proc/self/fd")), 0
        for number in range(5_000):
            for connection in connections:
                with pytest.raises(StoreError, match="2003: Can't connect"):
                    connection.query("SELECT 1")
            if number % 500 == 0:
                most = max(most, len(os.listdir("/proc/self/fd")))
            if number == 500:
                threads, memory = threading.active_count(), resident()
        assert threading.active_count() <= threads
        assert resident() - memory < 4 << 20, "bytes"
    finally:
        gc.enable()
    assert most <= before
    assert gc.collect() < 1000, "no garbage in circles grows with the failures"


def test_it_connects_again_after_the_descriptors_ran_out(real_tables: RealMikyunTables) -> None:
    store = real_tables.store()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(50):
            with pytest.raises(StoreError, match="Too many open files"):
                store.snapshot()
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.snapshot().rows == ()


def test_a_connection_that_the_server_ended_between_statements_is_opened_again(
    real_tables: RealMikyunTables,
) -> None:
    """As with a short wait_timeout, a restart or KILL. No statement fails for it."""
    store = real_tables.store()
    store.snapshot()
    mine = "SELECT id FROM information_schema.processlist WHERE user = %s"
    for _ in range(3):
        for row in real_tables.sql(mine, ACCOUNT):
            real_tables.sql(f"KILL {row['id']}")
        until(lambda: not real_tables.sql(mine, ACCOUNT), 20, "the connection is gone")
        store.snapshot()


SPOILED = {"sql_select_limit": 3, "tx_read_only": 1, "sql_big_selects": 0, "max_join_size": 1, "sql_safe_updates": 1, "wait_timeout": 1,
           "completion_type": "RELEASE", "sql_auto_is_null": 1, "max_statement_time": 0.0001}  # fmt: skip


def test_global_variables_cut_no_answer_short(real_tables: RealMikyunTables) -> None:
    """The seventh row has a separator in a column, so that all rows are read one by one."""
    for number in range(1, 21):
        real_tables.insert(number, public_key=text(number))
    real_tables.update(7, preshared_key="a\x1fb")
    before = {name: next(iter(real_tables.sql(f"SELECT @@global.{name} AS v")[0].values())) for name in SPOILED}
    try:
        for name, value in SPOILED.items():
            real_tables.sql(f"SET GLOBAL {name} = %s", value)
        store = real_tables.store()
        assert [row.id for row in store.snapshot().rows] == list(range(1, 21))
        assert [row.id for row in store.snapshot().rows] == list(range(1, 21))
    finally:
        for name, value in before.items():
            real_tables.sql(f"SET GLOBAL {name} = %s", value)


def test_each_statement_is_told_to_who_feeds_the_watchdog(real_tables: RealMikyunTables) -> None:
    store = real_tables.store()
    told: list[int] = []
    store._connection.on_answer = lambda: told.append(1)
    store.snapshot()
    assert len(told) > 3
    store.close()
    lost = MariaDBStore(parse(CONFIG + '[mikyun.database]\nhost = "127.0.0.1"\nport = 1\n'), lambda: told.append(2))
    with pytest.raises(StoreError):
        lost.snapshot()
    assert told[-1] == 2, "a statement that was given up is finished, too"


@pytest.mark.parametrize("password", ["5€", "鍵", "ä"])
def test_a_password_is_sent_in_utf_8(real_tables: RealMikyunTables, tmp_path: Path, password: str) -> None:
    account, path = "'letters'@'localhost'", tmp_path / "password"
    path.write_text("\ufeff" + password + "\n", encoding="utf-8")
    real_tables.sql(f"CREATE USER {account} IDENTIFIED BY %s", password)
    try:
        where = f'socket = "{real_tables._server.socket}"\nuser = "letters"\nname = "information_schema"\n'
        settings = parse(f'{CONFIG}[mikyun.database]\n{where}password_file = "{path}"\n')
        connection = Connection(mikyun(settings).database, TOKYO, on_connect=lambda _: None)
        assert connection.query("SELECT CURRENT_USER()") == (("letters@localhost",),)
        assert password not in repr(vars(connection._live)), "the connection keeps none"
        assert repr(password.encode()) not in repr(vars(connection._live))
        connection.close()
    finally:
        real_tables.sql(f"DROP USER {account}")


def test_a_socket_that_another_account_serves_gets_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "socket"
    where = f'[mikyun.database]\nsocket = "{place}"\n'
    with LyingServer(slow, place) as server:
        monkeypatch.setattr(
            "wgsyncd.stores.mikyun.wire._UCRED", SimpleNamespace(size=12, unpack=lambda _: (1, 65534, 1))
        )
        with pytest.raises(StoreError, match="is served by nobody, but .* belongs to"):
            MariaDBStore(parse(CONFIG + where)).snapshot()
        assert not any(talk.heard for talk in server.talks)


def test_the_session_follows_the_zones_change_of_clocks(
    real_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server reads each TIMESTAMP with the session's offset."""
    connection = real_tables.store(zone="Europe/Berlin")._connection
    told = []
    for now in (1_792_889_999.0, 1_792_890_000.0):  # 02:59:59 in summer, and a second later
        with monkeypatch.context() as patch:
            patch.setattr("wgsyncd.stores.mikyun.connection.time.time", lambda now=now: now)
            told += [connection.query("SELECT @@session.time_zone")[0][0] for _ in range(2)]
    assert told == ["+02:00", "+02:00", "+01:00", "+01:00"]
