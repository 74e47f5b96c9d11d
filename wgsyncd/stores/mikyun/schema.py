"""Creates wgsyncd's own tables and grants its account's rights, with an admin's account."""

import contextlib
import re
from zoneinfo import ZoneInfo

from wgsyncd.config import resources
from wgsyncd.errors import StoreError, UserError
from wgsyncd.stores.border import sensible
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.probing import open_probe
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.shape import SCHEMA_VERSION

MIGRATION_TIMEOUT = 3600.0  # seconds for one statement: millions of buckets may have to be copied
_REPLACED = ("wgsyncd_peers", "wgsyncd_buckets", "wgsyncd_days")


def statements(script: str) -> list[str]:
    """The statements of a shipped SQL file. No string in such a file holds a semicolon or two dashes."""
    plain = re.sub(r"--[^\n]*", "", script)
    return [one.strip() for one in plain.split(";") if one.strip()]


def grants(account: str, *, missing: frozenset[str] = frozenset(), tables: frozenset[str] | None = None) -> list[str]:
    """The shipped GRANT statements for an account such as ``'mikyun'@'127.0.0.1'``.

    ``missing``: optional columns that the installation does not have. ``tables``: all tables that it has. Grants on
    other columns and tables are left out. UserError: the account is written in another way.
    """
    if not re.fullmatch(r"'[^'\\]{1,80}'@'[^'\\]{1,255}'", account):
        raise UserError(f"{account} is not an account: write it as 'mikyun'@'127.0.0.1', quotes and all")
    script = resources.text("sql/mikyun/grants.sql")
    for column in missing:
        script = re.sub(rf",\s*{column}\b", "", script)
    found = [one.replace("{account}", account) for one in statements(script)]
    if tables is not None:
        found = [one for one in found if str(re.search(r"\bON (\w+) TO", one)[1]) in tables]  # type: ignore[index]
    return found


def init(database: Database, zone: ZoneInfo, account: str | None, language: str = "en") -> list[str]:
    """Create wgsyncd's tables, and grant the rights if an account is named. Returns a line for each thing done.

    The last lines say what is wrong with the application's tables. ``language``: of the audit rows.

    It is safe to run twice. UserError: the existing tables belong to a newer wgsyncd.
    """
    if account is not None:
        grants(account)  # refuses a badly written account before anything is created
    connection = Connection(database, zone, on_connect=lambda _: None, patience=MIGRATION_TIMEOUT)
    done: list[str] = []
    with contextlib.closing(connection), sensible(connection.close):
        have = _tables(connection)
        version = (
            connection.query("SELECT MAX(version) FROM wgsyncd_schema")[0][0] if "wgsyncd_schema" in have else None
        )
        if version is not None and version > SCHEMA_VERSION:
            raise UserError(f"the tables are of version {version}, this wgsyncd knows {SCHEMA_VERSION} only")
        if version is not None and version < SCHEMA_VERSION:
            for one in migration(renamed="wgsyncd_peers_2" in have):
                connection.execute(one)
            done.append(f"tables of version {version}: brought to version {SCHEMA_VERSION}")
        if "wgsyncd_peers_3" in _tables(connection):  # also after a run that was interrupted just before
            connection.execute(swap())
        for one in statements(resources.text("sql/mikyun/wgsyncd.sql")):
            connection.execute(one)
            created = re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", one)
            if created:
                done.append(f"{created[1]}: {'was there' if created[1] in have else 'created'}")
        connection.execute(f"DROP TABLE IF EXISTS {', '.join(f'{name}_2' for name in _REPLACED)}")
        if account is not None:
            columns = {str(row[0]).lower() for row in connection.query("SHOW COLUMNS FROM customer_devices")}
            missing = frozenset({"deleted_at", "updated_at", "parent_changed_at"} - columns)
            # A GRANT on a column or table that does not exist would fail.
            for one in grants(account, missing=missing, tables=frozenset(_tables(connection))):
                connection.execute(one)
            done.append(f"{account}: granted")
        try:
            for found in open_probe(connection, language).findings():
                done.append(f"{found.severity.value}: {found.check}: {found.message}\n    {found.fix}")
        except StoreError as error:
            done.append(f"warning: the application's tables were not probed to the end: {error}")
    return done


def migration(*, renamed: bool) -> list[str]:
    """The statements that bring older tables to version 3. The new tables have `_3` at the end of their names.

    A run may end after any statement. As long as the version is not 3, the next run does all of them again.
    ``renamed``: an earlier run has renamed the old tables.

    A daemon of version 2 may still run. It can post no byte from the first statement on, because no table has the name
    wgsyncd_peers. This name comes back with all records in it (:func:`swap`). By then, columns that its statements name
    have other names, so each of them is refused. Each failure closes its connection. After the migration, the next
    connect finds the tables newer.
    """
    script = resources.text("sql/mikyun/wgsyncd.sql")
    created = (re.match(r"(CREATE TABLE IF NOT EXISTS (\w+))(.*)", one, re.DOTALL) for one in statements(script))
    return [
        *([] if renamed else [_rename("", "_2")]),
        *(f"{one[1]}_3{one[3]}" for one in created if one and one[2] in _REPLACED),
        *statements(resources.text("sql/mikyun/from_version_2.sql")),
    ]


def swap() -> str:
    """The statement that gives the new tables their final names, all at once."""
    return _rename("_3", "")


def _rename(old: str, new: str) -> str:
    return f"RENAME TABLE {', '.join(f'{name}{old} TO {name}{new}' for name in _REPLACED)}"


def _tables(connection: Connection) -> set[str]:
    return {str(row[0]) for row in connection.query("SHOW TABLES")}
