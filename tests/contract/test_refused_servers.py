"""A server that cannot serve wgsyncd is refused in one line, and the command in the line mends it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tests.samples import TOKYO, calendar
from tests.store_sides import RealMikyunTables
from wgsyncd.demo.mariadb import PrivateServer
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.stores.border import Unsupported
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.settings import mikyun


def test_a_binlog_of_statements_is_refused_and_the_command_mends_it(tmp_path: Path) -> None:
    """With this format, the server refuses every change in READ COMMITTED with 1665."""
    options = (f"--log-bin={tmp_path / 'binlog'}", "--binlog-format=STATEMENT")
    with PrivateServer(options=options) as server, ExitStack() as stack:
        server.load()
        server.create_account()
        tables = RealMikyunTables(server, stack)
        store = tables.store()
        with pytest.raises(Unsupported, match="binlog_format is STATEMENT.* set it to MIXED or ROW") as refused:
            store.load_state(calendar())
        tables.sql(refused.value.todo.partition('"')[2].partition('"')[0])
        assert store.load_state(calendar()).revision == 0


def test_a_refused_account_is_told_that_secrets_are_read_at_the_start(
    real_tables: RealMikyunTables, tmp_path: Path
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("not this one")
    wrong.chmod(0o600)
    database = msgspec.structs.replace(mikyun(real_tables._settings("")).database, password_file=wrong)
    connection = Connection(database, TOKYO, on_connect=lambda _: None)
    with pytest.raises(StoreError, match="1045: .*&& systemctl restart wgsyncd") as denied:
        connection.query("SELECT 1")
    assert denied.value.code is StoreErrorCode.DENIED
