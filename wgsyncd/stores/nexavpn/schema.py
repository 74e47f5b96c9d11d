"""Makes wgsyncd's schema, its roles and views, and enters nodes, with an admin's account."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from wgsyncd.config import resources
from wgsyncd.errors import SchemaError, UserError
from wgsyncd.stores.border import sensible
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.settings import Database
from wgsyncd.stores.nexavpn.trouble import init_db

SCHEMA_VERSION = 1
_PATIENCE = 60.0  # seconds for one statement. It may wait for a lock on a table of the application's
_TRIGGERS = "SELECT event_object_table FROM information_schema.triggers WHERE trigger_name = 'wgsyncd_tell_nodes'"


class NodeEntry(NamedTuple):
    """What `wgsyncd init-db` enters about a node."""

    node: str
    role: str
    gateways: tuple[str, ...]  # names or ids


def views() -> list[str]:
    """The names of the views of the application's tables, each after the views that it needs."""
    return re.findall(r"^CREATE OR REPLACE VIEW (wgsyncd\.\w+)", resources.text("sql/nexavpn/views.sql"), re.MULTILINE)


def install(database: Database, entry: NodeEntry, *, triggers: bool) -> Iterator[str]:
    """Make wgsyncd's schema and enter a node, in one transaction. Yields a line for each thing done.

    It is safe to run twice. No table of the application's is altered, but ``triggers`` puts triggers on them.
    UserError: the schema belongs to a newer wgsyncd, or there is no such gateway.
    """
    done: list[str] = []
    connection = Connection(database, patience=_PATIENCE)
    with contextlib.closing(connection), sensible(connection.close), connection.transaction():
        if not _exists(connection, "public.wireguard_peers"):
            raise UserError(f"the database {database.name} has no table wireguard_peers: NexaVPN makes its tables")
        had = _version(connection)
        for name in ("wgsyncd.sql", "views.sql", *(["triggers.sql"] if triggers else [])):
            connection.execute(resources.text(f"sql/nexavpn/{name}"))
        done.append(f"schema wgsyncd: {'was there' if had else 'created'}, its views are made again")
        if triggers:
            done.append("triggers: made, NOTIFY tells the nodes of each change")
        done += _enter(connection, entry)
        done += _let_application_read(connection)
    yield from done


def drop_views(database: Database) -> Iterator[str]:
    """Drop the views and triggers, so that columns of the application's tables can be changed. Yields what was done."""
    connection = Connection(database, patience=_PATIENCE)
    with contextlib.closing(connection), sensible(connection.close), connection.transaction():
        tables = sorted({str(row[0]) for row in connection.query(_TRIGGERS)})
        for table in tables:
            connection.execute(f"DROP TRIGGER wgsyncd_tell_nodes ON {_quoted(connection, 'public.%I', table)}")
        for name in reversed(views()):
            connection.execute(f"DROP VIEW IF EXISTS {name}")
    yield "views: dropped. No node can read its rows until `wgsyncd init-db` has run again"
    if tables:
        yield "triggers: dropped. `wgsyncd init-db --triggers` makes them again"


def _version(connection: Connection) -> int | None:
    if not _exists(connection, "wgsyncd.schema_version"):
        return None
    version = connection.query("SELECT max(version) FROM wgsyncd.schema_version")[0][0]
    if version is not None and version > SCHEMA_VERSION:
        raise UserError(f"the schema wgsyncd is of version {version}, this wgsyncd knows {SCHEMA_VERSION} only")
    return None if version is None else int(version)


def _enter(connection: Connection, entry: NodeEntry) -> Iterator[str]:
    """Make the node's role, if it is missing, and enter the node with its gateways."""
    found = {str(name): row_id for row_id, name in connection.query("SELECT id, name FROM public.gateways")}
    by_id = {str(row_id): row_id for row_id in found.values()}
    unknown = [one for one in entry.gateways if one not in found and one.lower() not in by_id]
    if unknown or not entry.gateways:
        raise UserError(
            f"no gateway has the name or id {', '.join(unknown) or '(none was named)'}: the table gateways has"
            f" {', '.join(sorted(found)) or 'no row. NexaVPN makes it'}"
            f"{'. Name one with --gateway' if found else ''}"
        )
    gateways = sorted({found.get(one) or by_id[one.lower()] for one in entry.gateways})
    role = connection.query("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = %s", (entry.role,))
    if role and role[0][0]:
        raise UserError(f"{entry.role} is a superuser or bypasses row security: give the node a role of its own")
    if not role:
        connection.execute(_quoted(connection, "CREATE ROLE %I LOGIN", entry.role))
        yield f"role {entry.role}: created without a password. Set one, or let pg_hba.conf know it by its socket"
    connection.execute(_quoted(connection, "GRANT wgsyncd_node TO %I", entry.role))
    database = connection.query("SELECT current_database()")[0][0]
    connection.execute(_quoted(connection, "GRANT CONNECT, TEMPORARY ON DATABASE %I TO wgsyncd_node", database))
    connection.execute(
        """INSERT INTO wgsyncd.nodes (node, role, gateways) VALUES (%s, %s, %s)
           ON CONFLICT (node) DO UPDATE SET role = excluded.role, gateways = excluded.gateways""",
        (entry.node, entry.role, gateways),
    )
    names = [name for name, row_id in sorted(found.items()) if row_id in gateways]
    yield f"node {entry.node}: role {entry.role}, gateway {', '.join(names)}"


def _let_application_read(connection: Connection) -> Iterator[str]:
    """Let the owner of the application's tables read the view wgsyncd.usage."""
    sql = """SELECT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
             WHERE c.oid = 'public.devices'::regclass AND NOT r.rolsuper"""
    for (owner,) in connection.query(sql):
        connection.execute(_quoted(connection, "GRANT USAGE ON SCHEMA wgsyncd TO %I", owner))
        connection.execute(_quoted(connection, "GRANT SELECT ON wgsyncd.usage TO %I", owner))
        yield f"role {owner}: may read wgsyncd.usage"


def _exists(connection: Connection, table: str) -> bool:
    return connection.query("SELECT to_regclass(%s) IS NOT NULL", (table,))[0][0] is True


def _quoted(connection: Connection, statement: str, *names: str) -> str:
    """A statement with names in place of its %I, quoted by the server's own function format()."""
    marks = ", ".join(["%s::text"] * (1 + len(names)))
    return str(connection.query(f"SELECT format({marks})", (statement, *names))[0][0])


def check_schema(connection: Connection, node: str) -> None:
    """SchemaError if wgsyncd's own tables have another version, or if the role does not run this node."""
    version = connection.query("SELECT max(version) FROM wgsyncd.schema_version")[0][0]
    if version != SCHEMA_VERSION:
        is_newer = (version or 0) > SCHEMA_VERSION
        told = f"wgsyncd's tables are of version {version}, this wgsyncd needs {SCHEMA_VERSION}"
        raise SchemaError(
            f"{told}: install a newer one" if is_newer else told, "" if is_newer else init_db(connection.database)
        )
    if not connection.query("SELECT 1 FROM wgsyncd.nodes WHERE node = %s AND role = session_user", (node,)):
        role = connection.query("SELECT session_user::text")[0][0]
        raise SchemaError(
            f"node {node} is not entered for role {role}", init_db(connection.database, f" --node {shlex.quote(node)}")
        )
