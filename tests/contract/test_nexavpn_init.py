"""`wgsyncd init-db` on NexaVPN's database: it leaves the application's tables alone, and runs again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import psycopg
import pytest

from tests.nexavpn_database import BERLIN, ROLES, TOKYO, NexavpnDatabase, row_id
from tests.postgres import PrivatePostgres
from tests.samples import calendar
from tests.wait import until
from wgsyncd.errors import SchemaError, StoreError, UserError
from wgsyncd.stores.nexavpn.schema import views
from wgsyncd.stores.nexavpn.store import NexaStore


@pytest.fixture
def nexa(postgres: PrivatePostgres) -> NexavpnDatabase:
    """Returns a database that no `init-db` has seen."""
    return NexavpnDatabase(postgres, "init")


@pytest.fixture
def admin(nexa: NexavpnDatabase) -> Iterator[psycopg.Connection]:
    with nexa.admin(autocommit=True) as made:
        yield made


def test_the_applications_tables_and_rows_stay_as_they_are(nexa: NexavpnDatabase) -> None:
    before = nexa.dump()
    assert "CREATE TABLE public.wireguard_peers" in before
    assert "sealed for berlin" in before
    assert any("schema wgsyncd: created" in line for line in nexa.init())
    assert nexa.dump() == before
    assert any("schema wgsyncd: was there" in line for line in nexa.init())
    nexa.init(TOKYO)
    assert nexa.dump() == before


def test_a_second_run_keeps_what_is_there(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    nexa.init()
    admin.execute("INSERT INTO wgsyncd.totals (node, device, rx, tx) VALUES ('berlin', gen_random_uuid(), 7, 8)")
    rights = nexa.dump("-s", schema="wgsyncd")
    nexa.init()
    assert nexa.dump("-s", schema="wgsyncd") == rights
    assert admin.execute("SELECT rx, tx FROM wgsyncd.totals").fetchall() == [(7, 8)]


def test_a_node_is_entered_by_what_its_configuration_says(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    sql = "SELECT node, role, gateways FROM wgsyncd.nodes ORDER BY node"
    berlin, tokyo = row_id("gateway", BERLIN), row_id("gateway", TOKYO)
    nexa.init()
    assert admin.execute(sql).fetchall() == [(BERLIN, ROLES[BERLIN], [berlin])]
    told = nexa.init(node="both", gateway=[TOKYO, str(berlin).upper()], role="a role's")
    assert any("role a role's: created" in line for line in told)
    assert admin.execute(sql).fetchall() == [
        (BERLIN, ROLES[BERLIN], [berlin]), ("both", "a role's", sorted([berlin, tokyo])),
    ]  # fmt: skip
    with nexa.connected("a role's") as made:
        assert sorted(made.query("SELECT name FROM wgsyncd.gateways")) == [(BERLIN,), (TOKYO,)]
    admin.execute('DROP OWNED BY "a role\'s"')
    admin.execute('DROP ROLE "a role\'s"')


def test_an_unknown_gateway_makes_nothing(nexa: NexavpnDatabase) -> None:
    with pytest.raises(UserError, match=r"no gateway has the name or id oslo: the table gateways has berlin, tokyo"):
        nexa.init(gateway=[BERLIN, "oslo"])
    assert "wgsyncd" not in nexa.dump("-s", schema="*")


def test_a_superuser_is_no_role_of_a_node(nexa: NexavpnDatabase) -> None:
    with pytest.raises(UserError, match="postgres is a superuser"):
        nexa.init(role="postgres")


def test_a_database_without_the_application_is_told(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("DROP TABLE wireguard_peers CASCADE")
    with pytest.raises(UserError, match="has no table wireguard_peers"):
        nexa.init()


def test_a_missing_column_is_named(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("ALTER TABLE wireguard_peers DROP COLUMN assigned_ip")
    with pytest.raises(StoreError, match='42703: column "assigned_ip" of relation "wireguard_peers" does not exist'):
        nexa.init()


def test_tables_of_an_older_wgsyncd_are_told_with_the_cure_that_works(
    nexa: NexavpnDatabase, admin: psycopg.Connection
) -> None:
    nexa.init()
    admin.execute("ALTER TABLE wgsyncd.removals DROP COLUMN access")
    with contextlib.closing(NexaStore(nexa.settings())) as store:
        with pytest.raises(SchemaError, match='column "access" does not exist.* As root: wgsyncd init-db'):
            store.load_state(calendar())
        nexa.init()
        assert store.load_state(calendar()).removals == ()


def test_a_newer_schema_is_left_alone(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    nexa.init()
    admin.execute("UPDATE wgsyncd.schema_version SET version = 99")
    with pytest.raises(UserError, match="version 99, this wgsyncd knows 1 only"):
        nexa.init()


def test_the_owner_of_the_application_reads_the_usage(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    admin.execute("CREATE ROLE application LOGIN")
    try:
        admin.execute("ALTER TABLE devices OWNER TO application")
        assert "role application: may read wgsyncd.usage" in nexa.init()
        with nexa.connected("application") as made:
            assert made.query("SELECT * FROM wgsyncd.usage") == []
    finally:
        admin.execute("DROP OWNED BY application CASCADE")
        admin.execute("DROP ROLE application")


def test_columns_can_be_changed_while_the_views_are_dropped(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    nexa.init(triggers=True)
    retype = "ALTER TABLE devices ALTER status TYPE varchar(40)"
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        admin.execute(retype)
    told = nexa.init(drop_views=True)
    assert told[0].startswith("views: dropped")
    assert told[1].startswith("triggers: dropped")
    admin.execute(retype)
    nexa.init()
    with nexa.connected() as made:
        assert made.query("SELECT status FROM wgsyncd.devices") == [("active",)]


def test_all_views_of_the_script_are_known(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    nexa.init()
    found = admin.execute("SELECT schemaname || '.' || viewname FROM pg_views WHERE schemaname = 'wgsyncd'").fetchall()
    assert {name for (name,) in found} == {*views(), "wgsyncd.usage"}


CHANGES = {
    "UPDATE devices SET status = 'blocked'": True,
    "UPDATE wireguard_peers SET deleted_at = now()": True,
    "UPDATE users SET is_active = false": True,
    "DELETE FROM policy_destinations": True,
    "TRUNCATE group_memberships": True,
    "INSERT INTO groups (name) VALUES ('new')": True,
    "UPDATE devices SET last_seen_at = now(), app_version = '2', updated_at = now()": False,
    "UPDATE users SET last_login_at = now()": False,
    "UPDATE gateways SET last_sync_at = now()": False,
}


def test_triggers_tell_of_each_change_that_matters_and_of_no_other(
    nexa: NexavpnDatabase, admin: psycopg.Connection
) -> None:
    nexa.init(triggers=True)
    nexa.init(triggers=True)
    admin.execute("LISTEN wgsyncd")
    told = {}
    for sql in CHANGES:
        with nexa.admin() as application:
            application.execute(sql.encode())
        admin.execute("NOTIFY wgsyncd, 'end'")  # comes after what was sent before
        found = []
        for one in admin.notifies():
            if one.payload == "end":
                break
            found.append(one.payload)
        told[sql] = found
    assert told == {sql: [""] if matters else [] for sql, matters in CHANGES.items()}


def test_root_enters_as_the_systems_user_of_the_admin(nexa: NexavpnDatabase, admin: psycopg.Connection) -> None:
    """Debian's pg_hba.conf lets the role postgres in from the system's user postgres alone."""
    hba = nexa.server.directory / "data" / "pg_hba.conf"
    before = hba.read_text(encoding="utf-8")
    hba.write_text(f"local all postgres peer\n{before}", encoding="utf-8")
    try:
        admin.execute("SELECT pg_reload_conf()")
        until(lambda: _is_refused(nexa), 30, "root is no postgres")
        assert any("schema wgsyncd: created" in line for line in nexa.init())
        assert os.geteuid() == 0
        assert any("views: dropped" in line for line in nexa.init(drop_views=True))
    finally:
        hba.write_text(before, encoding="utf-8")
        admin.execute("SELECT pg_reload_conf()")
        until(lambda: not _is_refused(nexa), 30, "root is postgres again")


def _is_refused(nexa: NexavpnDatabase) -> bool:
    try:
        nexa.admin().close()
    except psycopg.OperationalError:
        return True
    return False
