"""Creates wgsyncd's own tables and grants its account's rights, with an admin's account."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from wgsyncd.config import resources
from wgsyncd.errors import UserError
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.store import SCHEMA_VERSION

MIGRATION_TIMEOUT = 3600.0  # seconds for one statement: millions of buckets may have to be copied
_COPIED = ("wgsyncd_peers", "wgsyncd_buckets", "wgsyncd_days")


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


def init(database: Database, zone: ZoneInfo, account: str | None) -> list[str]:
    """Create wgsyncd's tables, and grant the rights if an account is named. Returns a line for each thing done.

    It is safe to run twice. UserError: the existing tables belong to a newer wgsyncd.
    """
    if account is not None:
        grants(account)  # refuses a badly written account before anything is created
    connection = Connection(database, zone, on_connect=lambda _: None, patience=MIGRATION_TIMEOUT)
    done: list[str] = []
    try:
        have = _tables(connection)
        version = (
            connection.query("SELECT MAX(version) FROM wgsyncd_schema")[0][0] if "wgsyncd_schema" in have else None
        )
        if version is not None and version > SCHEMA_VERSION:
            raise UserError(f"the tables are of version {version}, this wgsyncd knows {SCHEMA_VERSION} only")
        older = version is not None and version < SCHEMA_VERSION
        if older and "wgsyncd_peers_2" not in have:
            # One statement renames all three. An older daemon that still runs can post nothing from here on.
            connection.execute(f"RENAME TABLE {', '.join(f'{name} TO {name}_2' for name in _COPIED)}")
        for one in statements(resources.text("sql/mikyun/wgsyncd.sql")):
            connection.execute(one)
            created = re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", one)
            if created:
                done.append(f"{created[1]}: {'was there' if created[1] in have else 'created'}")
        if older:
            for one in statements(resources.text("sql/mikyun/from_version_2.sql")):
                connection.execute(one)
            done.append(f"tables of version {version}: brought to version {SCHEMA_VERSION}")
        connection.execute(f"DROP TABLE IF EXISTS {', '.join(f'{name}_2' for name in _COPIED)}")
        if account is not None:
            columns = {str(row[0]) for row in connection.query("SHOW COLUMNS FROM customer_devices")}
            missing = frozenset({"deleted_at", "updated_at", "parent_changed_at"} - columns)
            # A GRANT on a column or table that does not exist would fail.
            for one in grants(account, missing=missing, tables=frozenset(_tables(connection))):
                connection.execute(one)
            done.append(f"{account}: granted")
    finally:
        connection.close()
    return done


def _tables(connection: Connection) -> set[str]:
    return {str(row[0]) for row in connection.query("SHOW TABLES")}
