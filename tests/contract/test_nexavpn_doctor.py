"""`wgsyncd doctor` on NexaVPN's database: rights too few and too many, a missing entry, an old server."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest

from tests.nexavpn_database import BERLIN, ROLES, TOKYO, NexavpnDatabase
from tests.pgbouncer import PORT, pooler
from tests.postgres import PrivatePostgres
from tests.wait import until
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, Severity
from wgsyncd.stores.nexavpn import login
from wgsyncd.stores.nexavpn.backend import Backend
from wgsyncd.stores.nexavpn.settings import nexavpn

ROLE = ROLES[BERLIN]


@pytest.fixture
def nexa(postgres: PrivatePostgres) -> NexavpnDatabase:
    made = NexavpnDatabase(postgres, "doctor")
    made.init()
    return made


@pytest.fixture
def admin(nexa: NexavpnDatabase) -> Iterator[psycopg.Connection]:
    with nexa.admin(autocommit=True) as made:
        yield made


def bad(settings: Settings) -> list[Finding]:
    """The findings that are not well. Each of them says what to do."""
    found = [one for one in Backend(settings).check() if one.severity is not Severity.OK]
    assert all(one.fix for one in found)
    return found


def one(settings: Settings) -> Finding:
    (found,) = bad(settings)
    return found


def test_all_is_well_after_init_db(nexa: NexavpnDatabase) -> None:
    found = list(Backend(nexa.settings()).check())
    assert {finding.severity for finding in found} == {Severity.OK}
    assert [finding.check for finding in found] == [
        "database", "server", "role", "tables", "rights", "gateway", "database clock",
    ]  # fmt: skip


def test_a_library_that_the_preshared_keys_need_is_told(
    nexa: NexavpnDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The daemon does not start then."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    settings = nexa.settings()
    assert bad(settings) == [], "without such keys, nobody needs it"
    store = msgspec.structs.replace(nexavpn(settings), preshared_keys={"fra1": tmp_path / "key"})
    found = one(msgspec.structs.replace(settings, store=store))
    assert (found.check, found.severity) == ("preshared keys", Severity.FAULT)
    assert "cryptography" in found.fix or "wgsyncd[nexavpn]" in found.fix


LESS = {
    "REVOKE SELECT ON wgsyncd.users FROM wgsyncd_node": "SELECT on wgsyncd.users",
    "REVOKE DELETE ON wgsyncd.peers FROM wgsyncd_node": "DELETE on wgsyncd.peers",
    "REVOKE INSERT ON wgsyncd.audit_logs FROM wgsyncd_node": "INSERT on wgsyncd.audit_logs",
    "REVOKE UPDATE (last_seen_at) ON wgsyncd.device_times FROM wgsyncd_node": "UPDATE (last_seen_at) on wgsyncd.device_times",
}


@pytest.mark.parametrize("sql", LESS)
def test_a_right_too_few_is_named(nexa: NexavpnDatabase, admin: psycopg.Connection, sql: str) -> None:
    admin.execute(sql.encode())
    found = one(nexa.settings())
    assert (found.check, found.severity, found.fix) == ("rights", Severity.FAULT, "wgsyncd init-db")
    assert found.message == f"the role lacks {LESS[sql]}"
    nexa.init()
    assert bad(nexa.settings()) == []


MORE = {
    f"GRANT SELECT (password_hash) ON users TO {ROLE}": "users",
    "GRANT SELECT ON settings TO PUBLIC": "settings",
    f"GRANT DELETE ON devices TO {ROLE}": "devices",
    f"GRANT UPDATE (gateways) ON wgsyncd.nodes TO {ROLE}": "wgsyncd.nodes",
}


@pytest.mark.parametrize("sql", MORE)
def test_a_right_too_many_is_named(nexa: NexavpnDatabase, admin: psycopg.Connection, sql: str) -> None:
    admin.execute(sql.encode())
    found = one(nexa.settings())
    assert (found.check, found.severity) == ("rights", Severity.FAULT)
    assert MORE[sql] in found.message
    assert "REVOKE ALL ON" in found.fix


def test_a_role_that_can_make_a_trap_for_others_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    """PUBLIC has this right in a database of PostgreSQL 14, and in one that was upgraded from it."""
    admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    found = one(nexa.settings())
    assert (found.check, found.severity) == ("rights", Severity.WARNING)
    admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert bad(nexa.settings()) == []


@pytest.mark.parametrize("attribute", ["SUPERUSER", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION"])
def test_a_role_that_row_security_does_not_bind_is_told(
    nexa: NexavpnDatabase, admin: psycopg.Connection, attribute: str
) -> None:
    admin.execute(f"ALTER ROLE {ROLE} {attribute}".encode())
    try:
        found = next(finding for finding in bad(nexa.settings()) if finding.check == "role")
    finally:
        admin.execute(f"ALTER ROLE {ROLE} NO{attribute}".encode())
    assert attribute in found.message
    assert f"ALTER ROLE {ROLE} NO{attribute}" in found.fix


def test_a_role_that_may_become_another_one_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute(f"GRANT wgsyncd_owner TO {ROLE}".encode())
    try:
        found = [finding.message for finding in bad(nexa.settings()) if finding.check == "role"]
    finally:
        admin.execute(f"REVOKE wgsyncd_owner FROM {ROLE}".encode())
    assert found == [f"{ROLE} is a member of wgsyncd_owner and has its rights"]


def test_a_missing_schema_or_view_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    nexa.init(drop_views=True)
    found = one(nexa.settings())
    assert (found.check, found.fix) == ("tables", "wgsyncd init-db")
    assert "wgsyncd.wireguard_peers" in found.message
    admin.execute("DROP SCHEMA wgsyncd CASCADE")
    assert one(nexa.settings()).message == "there is no schema wgsyncd"


def test_another_version_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE wgsyncd.schema_version SET version = 0")
    assert one(nexa.settings()).fix == "wgsyncd init-db"
    admin.execute("UPDATE wgsyncd.schema_version SET version = 99")
    assert "version 99" in one(nexa.settings()).message


def test_a_node_that_is_not_entered_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE wgsyncd.nodes SET node = 'elsewhere'")
    found = one(nexa.settings())
    assert found.message == "berlin is not entered for this role, but elsewhere is"
    assert found.fix == "wgsyncd init-db --node berlin"


def test_a_gateway_that_the_node_does_not_serve_is_told(nexa: NexavpnDatabase) -> None:
    settings = nexa.settings()
    interface = settings.interfaces[BERLIN]
    other = msgspec.structs.replace(settings, interfaces={BERLIN: msgspec.structs.replace(interface, store_name=TOKYO)})
    found = one(other)
    assert (found.check, found.fix) == ("gateway", "wgsyncd init-db --gateway tokyo")


def test_an_inactive_gateway_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE gateways SET is_active = false")
    found = one(nexa.settings())
    assert (found.check, found.severity) == ("gateway", Severity.WARNING)


def test_a_network_of_all_addresses_is_told_where_it_is_used(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    settings = nexa.settings()
    plain = msgspec.structs.replace(settings.interfaces[BERLIN], networks=())
    default = msgspec.structs.replace(settings, interfaces={BERLIN: plain})
    (told,) = [one.message for one in Backend(default).check() if one.check == "gateway"]
    assert told.startswith("berlin: berlin, devices in ")
    admin.execute("UPDATE gateways SET vpn_cidr = '0.0.0.0/0'")
    assert bad(settings) == []
    found = one(default)
    assert (found.check, found.severity, "vpn_cidr of berlin is 0.0.0.0/0" in found.message) == (
        "gateway", Severity.FAULT, True,
    )  # fmt: skip


def test_row_security_that_is_off_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("ALTER TABLE wgsyncd.peers DISABLE ROW LEVEL SECURITY")
    found = one(nexa.settings())
    assert (found.check, "wgsyncd.peers" in found.message, found.fix) == ("row security", True, "wgsyncd init-db")
    nexa.init()
    assert bad(nexa.settings()) == []


def test_row_security_that_hides_rows_of_the_application_is_told(
    nexa: NexavpnDatabase, admin: psycopg.Connection
) -> None:
    """A gateway that cannot be seen looks like one that is not entered. The statement of the cure shows the rows."""
    admin.execute("ALTER TABLE gateways ENABLE ROW LEVEL SECURITY")
    found = one(nexa.settings())
    assert (found.check, "it is on for public.gateways" in found.message) == ("row security", True)
    admin.execute(shlex.split(found.fix)[-1].encode())
    assert bad(nexa.settings()) == []


def test_rights_that_are_all_gone_are_one_short_line(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("REVOKE ALL ON ALL TABLES IN SCHEMA wgsyncd FROM wgsyncd_node")
    found = one(nexa.settings())
    assert (found.check, len(found.message) < 300, "more rights" in found.message) == ("rights", True, True)
    nexa.init()
    assert bad(nexa.settings()) == []


# By the words of the message: how it is made, how it is taken back, and the statement that the cure has.
REFUSED = {
    "is not permitted to log in": (f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN", f"ALTER ROLE {ROLE} LOGIN"),
    "session is read-only": (
        f"ALTER ROLE {ROLE} SET default_transaction_read_only = on", f"ALTER ROLE {ROLE} RESET ALL", "pg_is_in_recovery()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_a_server_that_lets_nobody_in_is_asked_why(
    nexa: NexavpnDatabase, admin: psycopg.Connection, words: str
) -> None:
    """A start of the server would help nobody: it runs."""
    how, back, cure = REFUSED[words]
    admin.execute(how.encode())
    try:
        found = one(nexa.settings())
        assert (found.check, words in found.message, cure in found.fix) == ("database", True, True), found
        admin.execute(shlex.split(found.fix)[-1].encode())
    finally:
        admin.execute(back.encode())
    assert bad(nexa.settings()) == []


def test_the_command_against_too_many_clients_needs_no_connection(
    nexa: NexavpnDatabase, admin: psycopg.Connection
) -> None:
    admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0".encode())
    try:
        found = one(nexa.settings())
    finally:
        admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1".encode())
    shown = subprocess.run(["sh", "-c", found.fix], check=True, capture_output=True, text=True).stdout
    assert "postgres doctor" in shown, "the connection of this test is listed by role and database"


def test_a_login_that_pg_hba_refuses_shows_its_lines(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    file = nexa.server.directory / "data" / "pg_hba.conf"
    before = file.read_text(encoding="utf-8")
    file.write_text(f"local all {ROLE} reject\n{before}", encoding="utf-8")
    admin.execute("SELECT pg_reload_conf()")
    try:
        until(lambda: bad(nexa.settings()), 10, "the server has read the file")
        found = one(nexa.settings())
        rows = admin.execute(shlex.split(found.fix)[-1].encode()).fetchall()
    finally:
        file.write_text(before, encoding="utf-8")
        admin.execute("SELECT pg_reload_conf()")
    assert "reject" in rows[0]
    until(lambda: not bad(nexa.settings()), 10, "the server has read the file")


def test_a_database_that_cannot_be_entered_is_told(nexa: NexavpnDatabase) -> None:
    def at(**more: object) -> Settings:
        plain = nexa.settings()
        own = msgspec.structs.replace(nexavpn(plain), database=nexa.database(**more))  # type: ignore[arg-type]
        return msgspec.structs.replace(plain, store=own)

    assert one(at(role="nobody")).fix == "wgsyncd init-db"
    assert "systemctl start postgresql" in one(at(hosts=("/nowhere",))).fix
    with pooler(nexa.server, "transaction", ROLE) as socket:
        assert [finding.check for finding in bad(at(hosts=(socket,), port=PORT))] == ["pooler"]
    with pooler(nexa.server, "session", ROLE) as socket:
        assert bad(at(hosts=(socket,), port=PORT)) == []


def test_a_server_that_is_too_old_is_told(nexa: NexavpnDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "OLDEST", 999999)
    found = one(nexa.settings())
    assert "is older than 14" in found.message
    assert "apt-get install postgresql" in found.fix
