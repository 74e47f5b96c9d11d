"""Creates wgsyncd's own tables and grants its account's rights, with an admin's account."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from wgsyncd.config import resources
from wgsyncd.errors import UserError
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.store import SCHEMA_VERSION


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
    connection = Connection(database, zone, on_connect=lambda _: None)
    done: list[str] = []
    try:
        have = {str(row[0]) for row in connection.query("SHOW TABLES")}
        if "wgsyncd_schema" in have:
            version = connection.query("SELECT MAX(version) FROM wgsyncd_schema")[0][0]
            if version is not None and version > SCHEMA_VERSION:
                raise UserError(f"the tables are of version {version}, this wgsyncd knows {SCHEMA_VERSION} only")
        for one in statements(resources.text("sql/mikyun/wgsyncd.sql")):
            connection.execute(one)
            created = re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", one)
            if created:
                done.append(f"{created[1]}: {'was there' if created[1] in have else 'created'}")
        connection.execute("UPDATE wgsyncd_schema SET version = %s", (SCHEMA_VERSION,))
        if account is not None:
            have |= {str(row[0]) for row in connection.query("SHOW TABLES")}
            columns = {str(row[0]) for row in connection.query("SHOW COLUMNS FROM customer_devices")}
            missing = frozenset({"deleted_at", "updated_at", "parent_changed_at"} - columns)
            # A GRANT on a column or table that does not exist would fail.
            for one in grants(account, missing=missing, tables=frozenset(have)):
                connection.execute(one)
            done.append(f"{account}: granted")
    finally:
        connection.close()
    return done
