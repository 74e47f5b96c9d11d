"""Asks what the application's tables are like: engines, keys, and the types of their columns.

A table may have been made by hand, by another program, or years ago. So nothing about it is taken for granted. Names of
columns are compared without regard to case, as MariaDB compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wgsyncd.errors import SchemaError
from wgsyncd.stores.mikyun import cures
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.row_text import Schema, join_contracts

SCHEMA_VERSION = 3  # of wgsyncd's own tables
DEVICES, CONTRACTS, LOGS, CONFLICTS = "customer_devices", "contracts", "admin_logs", "v_parent_conflicts"
COUNTERS = tuple(f"{side}_bytes_{window}" for window in ("total", "24h", "month") for side in ("rx", "tx"))
# On a server that compares names of tables without regard to case, they may be kept as they were written.
_COLUMNS = """
SELECT IF(@@lower_case_table_names, LOWER(table_name), table_name), LOWER(column_name), LOWER(data_type), column_type,
       character_set_name, collation_name, character_maximum_length, is_nullable = 'YES', column_default, LOWER(extra),
       column_comment
FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name IN ('customer_devices', 'contracts', 'admin_logs', 'v_parent_conflicts')
"""
_ENGINES = """
SELECT IF(@@lower_case_table_names, LOWER(table_name), table_name), COALESCE(LOWER(engine), 'view')
FROM information_schema.tables WHERE table_schema = DATABASE()
AND (table_name IN ('customer_devices', 'contracts', 'admin_logs', 'v_parent_conflicts') OR table_name LIKE 'wgsyncd%')
"""
_KEYS = """
SELECT LOWER(index_name), GROUP_CONCAT(LOWER(column_name) ORDER BY seq_in_index) FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = 'customer_devices' AND non_unique = 0 GROUP BY index_name
"""
# A table that keeps old versions has the end of a version in each unique key. An account that may not read this hidden
# column sees none of these keys.
_VERSIONED = """
SELECT table_type = 'SYSTEM VERSIONED' FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = 'customer_devices'
"""


# Whether a client that sets no time zone writes its times in the zone of this session.
_SAME_ZONE = """
SELECT ABS(TIMESTAMPDIFF(SECOND, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', @@global.time_zone), NOW())) < 60
"""


class TablesNewer(SchemaError):
    """The tables are of a newer version than this wgsyncd knows."""


def check_schema(connection: Connection) -> None:
    """SchemaError if wgsyncd's own tables have another version than :data:`SCHEMA_VERSION`."""
    version = connection.query("SELECT MAX(version) FROM wgsyncd_schema")[0][0]
    if version is None or version < SCHEMA_VERSION:
        raise SchemaError(
            f"wgsyncd's tables are of version {version}, older than this wgsyncd", cures.init_db(connection.database)
        )
    if version > SCHEMA_VERSION:
        raise TablesNewer(
            f"wgsyncd's tables are of version {version}, this wgsyncd knows {SCHEMA_VERSION}: install a newer one"
        )


def touch(table: str) -> str:
    """A statement that changes nothing and that the account may run. So the server tells if the table is missing."""
    insert = f"INSERT INTO {table} (message) SELECT '' FROM DUAL WHERE 1 = 0"  # noqa: S608
    return insert if table == LOGS else f"SELECT 1 FROM {table} LIMIT 0"  # noqa: S608


class Column(NamedTuple):
    """One column. ``written``: its type as a statement has it. ``default``: as DEFAULT takes it, None without one."""

    type: str
    written: str
    charset: str | None
    collation: str | None
    length: int | None  # in characters, of a text
    nullable: bool
    default: str | None
    extra: str
    comment: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What the account can see of the application's tables. Views have the engine "view"."""

    columns: Mapping[tuple[str, str], Column]  # by table and name
    engines: Mapping[str, str]  # by table, also of wgsyncd's own
    is_same_zone: bool  # whether the server's default time zone is the one of the session
    keys: Mapping[str, str] | None  # unique keys of the devices: their columns, with commas. None: they cannot be seen

    def of(self, table: str) -> dict[str, Column]:
        """The columns of one table that the account can see."""
        return {name: column for (of, name), column in self.columns.items() if of == table}

    @property
    def schema(self) -> Schema:
        """What the statements that read rows depend on."""
        short = {DEVICES: "d", CONTRACTS: "c"}
        ours = {(table, name): one for (table, name), one in self.columns.items() if table in short}
        utf8 = frozenset(f"{short[table]}.{name}" for (table, name), one in ours.items() if one.charset == "utf8mb4")
        of_devices, of_contracts = (
            one.collation if (one := self.columns.get((table, "contract_id"))) else None for table in short
        )
        has_deleted_at = (DEVICES, "deleted_at") in self.columns
        # The server sets this time by itself, in the zone of the session that changes the row.
        one = self.columns.get((DEVICES, "updated_at"))
        is_kept = self.is_same_zone and one is not None and "on update" in one.extra
        changed = "NULLIF(d.updated_at, 0)" if is_kept else "NULL"
        return Schema(has_deleted_at, changed, utf8, join_contracts(of_devices, of_contracts))


def read_shape(connection: Connection) -> Shape:
    """Ask the server for the shape of the tables."""
    is_versioned = any(one for (one,) in connection.query(_VERSIONED))
    keys = None if is_versioned else {str(name): str(columns) for name, columns in connection.query(_KEYS)}
    return Shape(
        {(str(one[0]), str(one[1])): Column(*one[2:]) for one in connection.query(_COLUMNS)},
        {str(table): str(engine) for table, engine in connection.query(_ENGINES)},
        bool(connection.query(_SAME_ZONE)[0][0]),
        keys,
    )
