"""Reads from a database the facts that `wgsyncd doctor` judges.

It asks with the daemon's account and writes nothing.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from wgsyncd.config import resources
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, warning
from wgsyncd.core.words import counted
from wgsyncd.errors import SchemaError, StoreError
from wgsyncd.stores.border import sensible
from wgsyncd.stores.holding import NodeHolder
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.dialect import MARIADB
from wgsyncd.stores.mikyun.doctor import Database
from wgsyncd.stores.mikyun.probing import open_probe
from wgsyncd.stores.mikyun.reading import to_seconds
from wgsyncd.stores.mikyun.schema import statements
from wgsyncd.stores.mikyun.set_aside import load
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.shape import TablesNewer, check_schema, touch
from wgsyncd.stores.mikyun.trouble import MariaDBError

_NO_TABLE, _NO_COLUMN, _READ_ONLY, _BROKEN_VIEW = 1146, 1054, 1290, 1356
_DENIED = frozenset((1142, 1143))
_SECRETS = {
    "customer_devices": {"private_key", "nc_user", "nc_password"},
    "contracts": {"identity_passphrase", "nc_password", "customer_name", "customer_email", "customer_phone"},
}
_NODES = "SELECT node FROM wgsyncd_nodes ORDER BY node"
_UNWRITTEN = "SELECT COUNT(*) FROM wgsyncd_unwritten WHERE node = %s"
_T = TypeVar("_T")
Rights = Mapping[tuple[str, str], frozenset[str]]  # table and column: the privileges that the account has


def examine(settings: Settings) -> Database:
    """All facts about the configured database. StoreError where the database cannot be entered."""
    connection = Connection(mikyun(settings).database, settings.node.zone, on_connect=lambda _: None)
    with contextlib.closing(connection), sensible(connection.close):
        version, account, socket = connection.query("SELECT VERSION(), CURRENT_USER(), @@socket")[0]
        name, _, host = str(account).rpartition("@")
        account = f"'{name}'@'{host}'"
        schema, newer = _schema(connection)
        rights, node = _rights(connection), settings.node.name

        def own(ask: Callable[[], _T], unknown: _T) -> _T:
            """What an own table says. ``unknown``: nobody knows, and another finding reports why."""
            with contextlib.suppress(StoreError):
                return ask() if not schema else unknown
            return unknown

        probed: list[Finding] = []
        try:
            for found in open_probe(connection, mikyun(settings).language).findings():
                probed.append(found)
        except StoreError as error:
            told = f"its tables could not be checked to the end: {error.text}"
            probed.append(warning("application", told, error.todo or "wgsyncd check-config --database"))
        # Columns of own tables that are of another version are no findings of their own.
        application = tuple(one for one in probed if not (schema and one.check.startswith("wgsyncd_")))
        # The server's clock is compared with the middle of the question. Half its duration is the doubt.
        before = time.time()
        session, at = connection.query(f"SELECT {_OFFSET}, CAST(UNIX_TIMESTAMP(NOW(6)) AS CHAR)")[0]
        after = time.time()
        return Database(
            version=str(version),
            account=account,
            socket=str(socket),
            schema=schema,
            newer=newer,
            nodes=own(lambda: tuple(str(row[0]) for row in connection.query(_NODES)), ()),
            lacking=tuple(_lacking(connection, rights)),
            secrets=tuple(_secrets(rights)),
            extra=(*_everywhere(connection, account), *_extra(rights)),
            session_offset=int(session),
            server_offset=_server_offset(connection),
            ahead=float(at) - (before + after) / 2,
            doubt=(after - before) / 2,
            newest=_newest(connection, settings),
            set_aside=own(lambda: load(connection, node), ()),
            unwritten=own(lambda: int(connection.query(_UNWRITTEN, (node,))[0][0]), 0),
            holder=own(lambda: _holder(connection, node), ""),
            application=application,
        )


# Seconds by which the session's time zone is ahead of UTC.
_OFFSET = "TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW())"


def _schema(connection: Connection) -> tuple[str, bool]:
    try:
        check_schema(connection)
        for table in _wanted():
            if table.startswith("wgsyncd_") and _refusal(connection, f"SELECT 1 FROM {table} LIMIT 0") == _NO_TABLE:  # noqa: S608
                return f"{table} is missing", False
    except SchemaError as error:
        return error.text, isinstance(error, TablesNewer)
    except MariaDBError as error:
        if error.number in _DENIED:
            return "", False  # the finding about rights reports it
        raise
    return "", False


def _holder(connection: Connection, node: str) -> str:
    known = NodeHolder(connection, MARIADB, node).load()
    if known is None or not known.identity.machine:
        return ""
    heard = "its wgsyncd has stopped" if known.age is None else f"heartbeat {max(0.0, known.age):.0f} s ago"
    return f"host {known.identity.host}, {heard}"


def _server_offset(connection: Connection) -> int:
    """Seconds by which the server's default time zone is ahead of UTC."""
    connection.execute("SET SESSION time_zone = @@global.time_zone")
    offset = int(connection.query(f"SELECT {_OFFSET}")[0][0])
    connection.close()  # the next connection has the configured zone again
    return offset


def _newest(connection: Connection, settings: Settings) -> float | None:
    """The latest time that the application wrote, in UNIX seconds. None without a row or without the right to read.

    Columns that wgsyncd writes are left out: their times are in the configured zone.
    """
    try:
        row = connection.query("SELECT MAX(created_at), MAX(issued_at) FROM customer_devices")[0]
    except StoreError:
        return None
    return max((at for value in row if (at := to_seconds(value, settings.node.zone)) is not None), default=None)


# -- rights


def _wanted() -> dict[str, dict[str, frozenset[str]]]:
    """What the shipped script grants: table, privilege, columns. No columns: the privilege is for the whole table."""
    wanted: dict[str, dict[str, frozenset[str]]] = {}
    for one in statements(resources.text("sql/mikyun/grants.sql")):
        found = re.fullmatch(r"GRANT (.+) ON (\w+) TO \{account\}", " ".join(one.split()))
        assert found, one
        for privilege, columns in re.findall(r"([A-Z]+)(?: \(([^)]*)\))?", found[1]):
            wanted.setdefault(found[2], {})[privilege] = frozenset(columns.split(", ")) if columns else frozenset()
    return wanted


def _rights(connection: Connection) -> dict[tuple[str, str], frozenset[str]]:
    """The account's privileges on each column. A column without any privilege is left out.

    ``information_schema.columns`` shows what the account may do, however the account got the privilege.
    """
    rows = connection.query(
        "SELECT table_name, column_name, privileges FROM information_schema.columns WHERE table_schema = DATABASE()"
    )
    return {(str(t), str(c)): frozenset(str(p).upper().split(",")) - {"REFERENCES", ""} for t, c, p in rows}


def _lacking(connection: Connection, rights: Rights) -> Iterable[str]:
    for table, privileges in _wanted().items():
        there = {column for name, column in rights if name == table}
        if not there:
            # A table without rights and a table that does not exist both show no column. The error number differs.
            if _refusal(connection, touch(table)) not in (_NO_TABLE, _BROKEN_VIEW):
                yield f"{', '.join(privileges)} on {table}"
            continue
        for privilege, columns in privileges.items():
            if privilege == "DELETE":  # not a column's privilege: EXPLAIN needs it and deletes nothing
                if _refusal(connection, f"EXPLAIN DELETE FROM {table} WHERE 1 = 0") is not None:  # noqa: S608
                    yield f"DELETE on {table}"
                continue
            missing = {one for one in columns or there if privilege not in rights.get((table, one), ())}
            missing -= {one for one in missing - there if _is_no_column(connection, table, one)}
            if missing:
                yield f"{privilege} ({', '.join(sorted(missing))}) on {table}"


def _is_no_column(connection: Connection, table: str, column: str) -> bool:
    return _refusal(connection, f"SELECT {column} FROM {table} LIMIT 0") == _NO_COLUMN  # noqa: S608


def _refusal(connection: Connection, sql: str) -> int | None:
    """The error number with which the server refuses a statement: no right, no table or no column. None: it runs."""
    try:
        connection.query(sql)
    except SchemaError:
        return _NO_TABLE
    except MariaDBError as error:
        if error.number in _DENIED or error.number in (_NO_TABLE, _NO_COLUMN, _BROKEN_VIEW):
            return error.number
        if error.number != _READ_ONLY:  # nobody knows then, and the finding about the server reports it
            raise
    return None


def _secrets(rights: Rights) -> Iterable[str]:
    for (table, column), have in sorted(rights.items()):
        if "SELECT" in have and column in _SECRETS.get(table, ()):
            yield f"{table}.{column}"


def _extra(rights: Rights) -> Iterable[str]:
    wanted = _wanted()
    more: dict[tuple[str, str], list[str]] = {}
    for (table, column), have in sorted(rights.items()):
        for privilege in sorted(have):
            granted = wanted.get(table, {}).get(privilege)
            if granted is None or (granted and column not in granted):
                more.setdefault((privilege, table), []).append(column)
    for (privilege, table), columns in more.items():
        yield f"{privilege} on {counted(len(columns), 'more column')} of {table}"


def _everywhere(connection: Connection, account: str) -> Iterable[str]:
    everything = connection.query(
        "SELECT privilege_type FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE'"
        " AND grantee = %s",
        (account,),
    )
    if everything:
        yield f"{_some(everything)} on everything"
    schemas = connection.query(
        "SELECT privilege_type FROM information_schema.schema_privileges WHERE table_schema = DATABASE()"
        " AND grantee = %s",
        (account,),
    )
    if schemas:
        yield f"{_some(schemas)} on the whole database"


def _some(rows: Iterable[tuple[object, ...]]) -> str:
    names = sorted(str(row[0]) for row in rows)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
