"""The checks of `wgsyncd doctor` on the database: access, schema, the node's entry, rights and clock."""

import contextlib
import shlex
import time
from collections.abc import Iterable, Iterator
from itertools import combinations

from wgsyncd.config.resources import install_command
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import NTP, Finding, fault, ok, warning
from wgsyncd.core.network import Network
from wgsyncd.errors import NO_ANSWER, ConfigError, StoreError, StoreErrorCode, UserError
from wgsyncd.stores.border import sensible
from wgsyncd.stores.nexavpn.connection import Connection, Pooled
from wgsyncd.stores.nexavpn.psk import read_keys
from wgsyncd.stores.nexavpn.rows import read_vpn_cidr
from wgsyncd.stores.nexavpn.schema import SCHEMA_VERSION, views
from wgsyncd.stores.nexavpn.settings import Database, is_socket, nexavpn
from wgsyncd.stores.nexavpn.trouble import LOCK_TIMEOUT, READ_ONLY, PostgresError, init_db
from wgsyncd.stores.reaching import show_way

_CLOCK = 2.0  # seconds by which the server's clock may differ
_SHOWN = 5  # rights in one line
_EDIT = "editor /etc/wgsyncd/wgsyncd.toml && systemctl reload wgsyncd"
_OWN = ("node_states", "boots", "interfaces", "peers", "conditions", "buckets", "days", "totals", "quarantine",
        "removals", "unwritten")  # fmt: skip
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
_COLUMNS = (
    ("wgsyncd.gateways", "last_sync_at"),
    ("wgsyncd.device_times", "last_seen_at"),
    ("wgsyncd.device_times", "last_connected_at"),
)
# What the role can do with relations that no node needs. A right of PUBLIC is one of the role's, too.
_TOO_MANY = """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
        n.nspname = 'public' AND (has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
                                  OR has_table_privilege(c.oid, 'DELETE, TRUNCATE, TRIGGER'))
        OR n.nspname = 'wgsyncd' AND c.relname IN ('nodes', 'schema_version')
            AND has_any_column_privilege(c.oid, 'INSERT, UPDATE')
        OR n.nspname = 'wgsyncd' AND c.relname = 'usage' AND has_any_column_privilege(c.oid, 'SELECT'))
    ORDER BY 1"""
_WITHOUT_SECURITY = """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid
    WHERE c.relnamespace = 'wgsyncd'::regnamespace AND NOT c.relrowsecurity GROUP BY 1 ORDER BY 1"""
# Tables of the application whose row security binds the owner of the views.
_SECURED = """SELECT c.oid::regclass::text
    FROM pg_class c JOIN pg_roles o ON o.rolname = 'wgsyncd_owner' AND NOT o.rolbypassrls AND NOT o.rolsuper
    WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity AND c.relname = ANY(SELECT relname FROM pg_class
        WHERE relnamespace = 'wgsyncd'::regnamespace AND relkind = 'v' UNION SELECT 'audit_logs')
    AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polroles && ARRAY[0, o.oid])
    ORDER BY 1"""
# By the beginning of an SQLSTATE: what shows the cause to an admin.
_ASK = {
    "28": "SELECT line_number, type, database, user_name, address, auth_method, error FROM pg_hba_file_rules",
    READ_ONLY: "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') AS default_read_only",
    "53": "SELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2 ORDER BY 3 DESC",
    LOCK_TIMEOUT: "SELECT pid, usename, state, xact_start, query FROM pg_stat_activity WHERE xact_start IS NOT NULL",
}
_TOO_MANY_CLIENTS = "53300"
_MAY_LOG_IN = "ALTER ROLE {role} LOGIN"
_ROLES = """SELECT rolname FROM pg_roles
    WHERE rolname NOT IN (session_user, 'wgsyncd_node') AND pg_has_role(session_user, oid, 'MEMBER') ORDER BY 1"""


def check(settings: Settings) -> Iterator[Finding]:
    """All findings about the database. If it cannot be entered, there is one, with the command that helps."""
    try:
        with contextlib.suppress(ConfigError):  # the checks of files tell it
            read_keys(nexavpn(settings).preshared_keys)
    except UserError as error:
        yield fault("preshared keys", str(error), install_command("nexavpn"))
    database = nexavpn(settings).database
    connection = Connection(database)
    with contextlib.closing(connection):
        try:
            with sensible(connection.close):
                began = time.time()
                version, clock = connection.query(
                    "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8"
                )[0]
                found = _clock(clock - began, time.time() - began)
                yield ok("database", f"{database.where}, {database.name} as {database.user}")
                yield ok("server", f"PostgreSQL {version}")
                findings = [*_pooler(connection), *_role(connection), *_schema(connection, settings)]
            yield from findings
            yield found
        except StoreError as error:
            yield fault("database", f"{database.where}: {error.text}", _entering(settings, error))


def _entering(settings: Settings, error: StoreError) -> str:
    if error.todo:
        return error.todo
    own = nexavpn(settings).database
    state = error.sqlstate if isinstance(error, PostgresError) else ""
    if state == "28P01" and own.password_file is not None:
        return f"editor {shlex.quote(str(own.password_file))} && systemctl restart wgsyncd"
    asked = next((sql for prefix, sql in _ASK.items() if state.startswith(prefix)), "")
    if "not permitted to log in" in error.text:
        asked = _MAY_LOG_IN
    if state == _TOO_MANY_CLIENTS and is_socket(own.hosts[0]):  # a command must not need a connection, too
        return "ps -C postgres -o pid,etime,args"
    if asked and "does not exist" not in str(error):  # `wgsyncd init-db` makes the role
        return _psql(own, asked, quoted(own.user))
    if error.code is StoreErrorCode.UNREACHABLE and any(map(is_socket, own.hosts)):
        return "systemctl start postgresql && journalctl -u 'postgresql*' -n 20 --no-pager"
    if error.code in NO_ANSWER:
        return show_way(error, own.hosts[0], own.port, "postgres", own.tls_ca)
    return init_db(own) if error.code in (StoreErrorCode.DENIED, StoreErrorCode.SCHEMA) else "wgsyncd check-config"


def _psql(own: Database, sql: str, role: str = "") -> str:
    """A command by which an admin runs a statement at the first server. ``role``: what stands for {role} in it."""
    host = shlex.quote(own.hosts[0])
    admin = "cd / && runuser -u postgres -- psql" if is_socket(own.hosts[0]) else "psql -U postgres"
    asked = sql.replace("{role}", role)
    word = shlex.quote(asked) if set(asked) & set('"$') else f'"{asked}"'
    return f"{admin} -h {host} -p {own.port} {shlex.quote(own.name)} -c {word}"


def _pooler(connection: Connection) -> Iterator[Finding]:
    if connection.is_pooled:
        if connection.is_lent():
            refused = Pooled()
            yield fault("pooler", refused.text, refused.todo)
        else:
            yield ok("pooler", "one is between, and it lends whole sessions")


def _role(connection: Connection) -> Iterator[Finding]:
    """What makes row security and the views useless, and rights of other roles."""
    flags = connection.query(
        """SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication
           FROM pg_roles WHERE rolname = session_user"""
    )[0]
    words = ("SUPERUSER", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION")
    too_many = [word for word, has in zip(words, flags[1:], strict=True) if has]
    if too_many:
        less = " ".join(f"NO{word}" for word in too_many)
        told = f"{flags[0]} has {', '.join(too_many)}, so it sees every gateway or can make itself see it"
        yield fault("role", told, _psql(connection.database, f"ALTER ROLE {quoted(flags[0])} {less}"))
    roles = [str(row[0]) for row in connection.query(_ROLES)]
    if roles and "SUPERUSER" not in too_many:  # a superuser counts as a member of all
        fix = f"REVOKE {', '.join(map(quoted, roles))} FROM {quoted(flags[0])}"
        told = f"{flags[0]} is a member of {', '.join(roles)} and has its rights"
        yield fault("role", told, _psql(connection.database, fix))
    if not too_many and not roles:
        yield ok("role", f"{flags[0]} is a member of wgsyncd_node alone")


def _schema(connection: Connection, settings: Settings) -> Iterator[Finding]:
    own, init = connection.database, init_db(connection.database)
    needed = ["wgsyncd.schema_version", "wgsyncd.nodes", *(f"wgsyncd.{one}" for one in _OWN), *views()]
    if not connection.query("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'wgsyncd'"):
        yield fault("tables", "there is no schema wgsyncd", init)
        return
    missing = [one for one in needed if not connection.query("SELECT to_regclass(%s) IS NOT NULL", (one,))[0][0]]
    if missing:
        yield fault("tables", f"{', '.join(missing)} is missing", init)
        return
    lacking = [*_lacking(connection)]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more rights" if len(lacking) > _SHOWN else ""
        yield fault("rights", f"the role lacks {'; '.join(lacking[:_SHOWN])}{more}", init)
        return
    version = connection.query("SELECT max(version) FROM wgsyncd.schema_version")[0][0]
    if version != SCHEMA_VERSION:
        told = f"the schema is of version {version}, this wgsyncd knows {SCHEMA_VERSION}"
        yield fault("tables", told, init if (version or 0) < SCHEMA_VERSION else "apt-get install ./wgsyncd_*.deb")
        return
    yield ok("tables", "wgsyncd's own tables and views are there")
    extra = [str(row[0]) for row in connection.query(_TOO_MANY)]
    if extra:
        fix = f"REVOKE ALL ON {', '.join(extra)} FROM PUBLIC, {quoted(own.user)}"
        told = f"the role can also use {', '.join(extra)}, past the views"
        yield fault("rights", told, _psql(own, fix))
    else:
        yield ok("rights", "the role has what it needs, and none on the application's tables")
    hidden = [*_row_security(connection)]
    yield from hidden
    if hidden:  # what is not to be seen may be there
        return
    yield from _groups(connection, settings)
    if connection.query("SELECT has_schema_privilege('public', 'CREATE')")[0][0]:  # PUBLIC has it until version 14
        told = "the role can make objects in the schema public, which other roles may then use by mistake"
        yield warning("rights", told, _psql(own, "REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    yield from _entry(connection, settings)


def _row_security(connection: Connection) -> Iterator[Finding]:
    """Without it a node sees what is another node's. On the application's tables it hides rows from the views."""
    off = [str(row[0]) for row in connection.query(_WITHOUT_SECURITY)]
    if off:
        told = f"it is off for {', '.join(off)}: each node can change what is another's"
        yield fault("row security", told, init_db(connection.database))
    for (table,) in connection.query(_SECURED):
        told = (
            f"it is on for {table}, so the views may hide rows of it, and peers go. The guard withholds many removals"
        )
        allowed = f"CREATE POLICY wgsyncd ON {table} FOR ALL TO wgsyncd_owner USING (true) WITH CHECK (true)"
        yield fault("row security", told, _psql(connection.database, allowed))


def _groups(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Groups that have a bandwidth profile, and no user of this gateway. Their names may be wrong."""
    named = settings.shaping.by_group
    asked = "SELECT name FROM wgsyncd.groups WHERE deleted_at IS NULL AND name = ANY(%s)"
    there = {name for (name,) in connection.query(asked, (list(named),))} if named else set()
    if missing := [name for name in named if name not in there]:
        why = f"no user of this gateway is in {', '.join(missing)}, which shaping.by_group names: is the name right?"
        yield warning("groups", why, _EDIT)


def _lacking(connection: Connection) -> Iterator[str]:
    wanted = [(f"wgsyncd.{one}", right) for one in _OWN for right in _ALL]
    wanted += [(one, "SELECT") for one in ("wgsyncd.schema_version", "wgsyncd.nodes", *views())]
    wanted.append(("wgsyncd.audit_logs", "INSERT"))
    for table, right in wanted:
        if not connection.query("SELECT has_table_privilege(%s, %s)", (table, right))[0][0]:
            yield f"{right} on {table}"
    for table, column in _COLUMNS:
        if not connection.query("SELECT has_column_privilege(%s, %s, 'UPDATE')", (table, column))[0][0]:
            yield f"UPDATE ({column}) on {table}"
    if not connection.query("SELECT has_database_privilege(current_database(), 'TEMPORARY')")[0][0]:
        yield "TEMPORARY on the database"


def _entry(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Whether the node is entered with this role, and sees the gateways of its interfaces."""
    node, own = settings.node.name, connection.database
    nodes = [str(row[0]) for row in connection.query("SELECT node FROM wgsyncd.nodes ORDER BY node")]
    if node not in nodes:
        others = f", but {', '.join(nodes)} is" if nodes else ""
        yield fault(
            "node", f"{node} is not entered for this role{others}", init_db(own, f" --node {shlex.quote(node)}")
        )
        return
    seen = connection.query(
        "SELECT id::text, name, is_active AND deleted_at IS NULL, vpn_cidr::text FROM wgsyncd.gateways"
    )
    networks: list[tuple[str, Network]] = []  # by gateway
    for interface, one in settings.interfaces.items():
        found = [(active, network) for row_id, name, active, network in seen if one.store_name in (row_id, name)]
        if not found:
            fix = init_db(own, f" --gateway {shlex.quote(one.store_name)}")
            told = f"{interface}: no gateway {one.store_name} is there, or it is not entered for {node}"
            yield fault("gateway", told, fix)
            continue
        is_active, network = found[0]
        theirs = read_vpn_cidr(network)
        networks += [(one.store_name, net) for net in one.networks or (() if theirs is None else (theirs,))]
        if not is_active:
            told = f"{interface}: the gateway {one.store_name} is inactive or deleted, so no device wants a peer"
            yield warning("gateway", told, f"wgsyncd explain {interface}")
        elif not one.networks and theirs is None:
            told = f"{interface}: vpn_cidr of {one.store_name} is {network}, which limits nothing: rows are rejected"
            yield fault("gateway", told, _EDIT)
        else:
            devices = "" if one.networks else f", devices in {network}"
            yield ok("gateway", f"{interface}: {one.store_name}{devices}")
    yield from _overlaps(networks)


def _overlaps(networks: Iterable[tuple[str, Network]]) -> Iterator[Finding]:
    """Networks of different gateways that have addresses in common. ``networks``: by gateway."""
    for (here, one), (there, other) in combinations(networks, 2):
        if here != there and (one.covers(other) or other.covers(one)):
            told = f"the network {one} of {here} overlaps {other} of {there}"
            then = "An address that both give to a device reaches nothing. The plan names such addresses"
            yield warning("networks", f"{told}. {then}", "wgsyncd plan")


def _clock(ahead: float, doubt: float) -> Finding:
    if abs(ahead) > _CLOCK + doubt:
        return fault(
            "database clock", f"it is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours",
            NTP,
        )  # fmt: skip
    return ok("database clock", f"agrees with ours within {max(doubt, 0.01):.2f} s")


def quoted(name: str) -> str:
    """A name as SQL quotes it (PostgreSQL's manual, "Identifiers and Key Words")."""
    return name if name.isidentifier() and name.islower() else '"' + name.replace('"', '""') + '"'
