"""Messages about database trouble give number, text and a remedy, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest

from tests.node import CONFIG
from tests.samples import TOKYO, text
from tests.store_sides import RealMikyunTables
from wgsyncd.config.load import parse
from wgsyncd.demo.mariadb import ACCOUNT
from wgsyncd.errors import SchemaError, StoreError, StoreErrorCode
from wgsyncd.stores.mikyun import rows
from wgsyncd.stores.mikyun.connection import Connection, Values
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.store import MariaDBStore
from wgsyncd.stores.mikyun.trouble import MariaDBError, translate

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


def test_a_port_where_nobody_listens_is_told_with_its_host() -> None:
    store = MariaDBStore(parse(CONFIG + '[mikyun.database]\nhost = "127.0.0.1"\nport = 1\n'))
    with pytest.raises(StoreError, match=r"2003: Can't connect to MariaDB at '127\.0\.0\.1:1' .*Connection refused"):
        store.snapshot()


TOLD = {
    "a value": ((1062, f"Duplicate entry '{KEY}' for key 'public_key'"), "1062: Duplicate entry '…' for key 'public_key'"),
    "a value with a quote": ((1366, "Incorrect value: 'a\\'secret' for column"), "1366: Incorrect value: '…' for column"),
    "an apostrophe before a value": (
        (1305, f"Can't use '{KEY}' and don't '{KEY}'"), "1305: Can't use '…' and don't '…'"),
    "names": ((1054, "Unknown column 'd.wg_ip' in 'SELECT'"), "1054: Unknown column 'd.wg_ip' in 'SELECT'"),
    "no server at a socket": (
        (2002, "Can't connect to local server through socket '/run/mysqld/mysqld.sock' (2)"),
        "2002: Can't connect to local server through socket '/run/mysqld/mysqld.sock' (2)",
    ),
    "no text": ((2013,), "2013"),
    "a server that hangs": (
        (2013, "Lost connection to MySQL server during query (timed out)"),
        "2013: Lost connection to MySQL server during query (timed out). The server hangs or is too slow: it did not answer",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("args", "text"), TOLD.values(), ids=TOLD.keys())
def test_values_are_not_quoted_and_words_stay_whole(args: tuple[object, ...], text: str) -> None:
    error = translate(pymysql.OperationalError(*args), Database(), known=True)
    assert str(error).startswith(text)
    assert isinstance(error, MariaDBError)
    assert error.number == args[0]
    assert KEY not in str(error)


@pytest.mark.parametrize(
    ("number", "code"),
    [(2003, StoreErrorCode.UNREACHABLE), (2013, StoreErrorCode.UNREACHABLE), (1045, StoreErrorCode.DENIED),
     (1142, StoreErrorCode.DENIED), (1146, StoreErrorCode.SCHEMA), (1205, StoreErrorCode.LOCKED),
     (1290, StoreErrorCode.OTHER)],
)  # fmt: skip
def test_a_number_of_mariadb_becomes_a_code(number: int, code: StoreErrorCode) -> None:
    assert translate(pymysql.OperationalError(number, "why"), Database(), known=True).code is code
    if number == 1146:
        ours = translate(
            pymysql.OperationalError(number, "Table 'mikyun_cloud.wgsyncd_days' doesn't exist"), Database(), known=True
        )
        assert (type(ours), ours.code) == (SchemaError, code)


def test_what_to_do_is_said() -> None:
    missing = translate(
        pymysql.ProgrammingError(1146, "Table 'mikyun_cloud.wgsyncd_nodes' doesn't exist"), Database(), known=True
    )
    assert isinstance(missing, SchemaError)
    assert "wgsyncd init-db" in str(missing)
    nobody = translate(
        pymysql.OperationalError(1133, "Can't find any matching row in the user table"), Database(), known=True
    )
    assert "1133: Can't find any matching row in the user table. Create the account first: CREATE USER" in str(nobody)


def test_a_server_that_does_not_know_our_sql_ends_nothing() -> None:
    error = translate(pymysql.ProgrammingError(1064, "You have an error near 'secret'"), Database(), known=True)
    assert (
        str(error)
        == "1064: You have an error near '…'. The server or a proxy does not know this SQL, or it is a bug of wgsyncd"
    )


def test_a_password_file_that_cannot_be_read_is_trouble_that_passes() -> None:
    """This is no configuration error. Without a database the agent has work to do, and it asks again later."""
    store = MariaDBStore(parse(CONFIG + '[mikyun.database]\npassword_file = "/nowhere/password"\n'))
    told = "mikyun.database.password_file = /nowhere/password: cannot be read: No such file or directory"
    with pytest.raises(StoreError, match=told):
        store.snapshot()


@pytest.mark.parametrize("known", [False, True], ids=["for the first time", "again"])
def test_a_connection_that_is_lost_in_the_middle_of_an_answer_is_trouble_that_passes(
    odd_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """The answer is larger than the socket buffers, so the server too is in the middle of it."""
    monkeypatch.setattr(rows, "_PAGE", 50)
    odd_tables.sql("ALTER TABLE customer_devices MODIFY preshared_key MEDIUMTEXT")
    for number in range(1, 2501):
        odd_tables.insert(number, public_key=text(number), preshared_key="x" * 300)
    store = odd_tables.store()
    right = store.snapshot().rows
    if not known:
        store._rows = rows.RowCache(TOKYO, 86400)
    stream = Connection.stream
    killed: list[object] = []

    def interrupted(self: Connection, sql: str, values: Values = ()) -> Iterator[object]:
        answer = stream(self, sql, values)
        for one in answer:
            if not killed:
                mine = "SELECT id FROM information_schema.processlist WHERE user = %s AND info LIKE %s"
                killed.extend(odd_tables.sql(mine, ACCOUNT, "%customer_devices d%"))
                odd_tables.sql(f"KILL {killed[0]['id']}")  # type: ignore[index]
            yield one

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "stream", interrupted)
        with pytest.raises(StoreError):
            store.snapshot()
    assert len(killed) == 1
    assert store.snapshot().rows == right
