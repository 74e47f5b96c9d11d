"""A node's role does on NexaVPN's database all that the store needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nexavpn_database import BERLIN, ROLES, TOKYO, NexavpnDatabase, refusal, row_id
from tests.postgres import PrivatePostgres
from wgsyncd.stores.nexavpn.connection import Connection

DENIED, CHECK = "42501", "44000"
READ = {
    "gateways": "name", "wireguard_peers": "preshared_key_ciphertext", "devices": "name", "users": "username",
    "policies": "name", "audit_logs": "message",
}  # fmt: skip


@pytest.fixture(scope="module")
def nexa(postgres: PrivatePostgres) -> NexavpnDatabase:
    """Returns a database with two gateways and their nodes. No test changes it for good."""
    made = NexavpnDatabase(postgres, "rights")
    for gateway in ROLES:
        made.init(gateway)
    return made


@pytest.fixture
def berlin(nexa: NexavpnDatabase) -> Iterator[Connection]:
    """Yields the connection of the node in Berlin."""
    with nexa.connected() as connection:
        yield connection


@pytest.mark.parametrize("view", READ)
def test_a_node_sees_what_belongs_to_its_gateway(berlin: Connection, view: str) -> None:
    found = {text for (text,) in berlin.query(f"SELECT {READ[view]} FROM wgsyncd.{view}")}
    assert found
    assert not [text for text in found if TOKYO in text]


@pytest.mark.parametrize("view", ["ip_allocations", "policy_targets", "policy_destinations", "group_memberships"])
def test_a_node_sees_one_row_where_each_gateway_has_one(nexa: NexavpnDatabase, berlin: Connection, view: str) -> None:
    assert len(berlin.query(f"SELECT * FROM wgsyncd.{view}")) == 1
    with nexa.admin() as admin:
        assert len(admin.execute(f"SELECT * FROM public.{view}".encode()).fetchall()) == 2


def test_a_policy_without_a_target_is_seen(berlin: Connection) -> None:
    assert ("for nobody",) in berlin.query("SELECT name FROM wgsyncd.policies")


def test_the_two_nodes_see_each_other_nowhere(nexa: NexavpnDatabase, berlin: Connection) -> None:
    write = "INSERT INTO wgsyncd.node_states (node, revision, accounting_since) VALUES (%s, 0, 0)"
    with berlin.undone():
        berlin.execute(write, (BERLIN,))
        assert berlin.query("SELECT node FROM wgsyncd.node_states") == [(BERLIN,)]
        assert berlin.query("SELECT node FROM wgsyncd.nodes") == [(BERLIN,)]
    assert DENIED in refusal(berlin, write, TOKYO)
    assert DENIED in refusal(berlin, "UPDATE wgsyncd.nodes SET gateways = '{}'")
    assert DENIED in refusal(berlin, "INSERT INTO wgsyncd.nodes VALUES ('x', %s, '{}')", ROLES[BERLIN])


@pytest.mark.parametrize(
    "table",
    [
        "users",
        "wireguard_peers",
        "devices",
        "gateways",
        "audit_logs",
        "settings",
        "sessions",
        "refresh_tokens",
        "policies",
    ],
)
def test_the_tables_themselves_are_refused(berlin: Connection, table: str) -> None:
    assert DENIED in refusal(berlin, f"SELECT * FROM public.{table}")
    assert DENIED in refusal(berlin, f"SELECT count(*) FROM public.{table}")
    assert DENIED in refusal(berlin, f"DELETE FROM public.{table}")


def test_hashes_and_addresses_of_users_are_in_no_view(berlin: Connection) -> None:
    for column in ("password_hash", "email", "display_name"):
        assert "42703" in refusal(berlin, f"SELECT {column} FROM wgsyncd.users")
    columns = """SELECT DISTINCT attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'wgsyncd') AND attnum > 0 AND has_column_privilege(c.oid, attnum, 'SELECT')"""
    readable = {name for (name,) in berlin.query(columns)}
    assert "username" in readable
    assert not readable & {"password_hash", "email", "token_hash", "value", "device_fingerprint", "actor_user_id"}


UPDATES = {
    "gateways": ("id", "name", "endpoint", "public_key", "listen_port", "vpn_cidr", "dns_servers", "is_active", "deleted_at"),
    "devices": ("id", "user_id", "public_key", "status", "approved_at", "revoked_at", "last_seen_at"),
    "device_times": ("id",),
    "wireguard_peers": ("public_key", "assigned_ip", "preshared_key_ciphertext"),
    "users": ("is_active",),
    "moved_devices": ("id",),
    "policies": ("effect", "is_active"),
    "audit_logs": ("message",),
}  # fmt: skip


@pytest.mark.parametrize(("view", "column"), [(view, column) for view, some in UPDATES.items() for column in some])
def test_no_other_column_is_written(berlin: Connection, view: str, column: str) -> None:
    assert DENIED in refusal(berlin, f"UPDATE wgsyncd.{view} SET {column} = {column}")
    assert DENIED in refusal(berlin, f"DELETE FROM wgsyncd.{view}")


def test_the_columns_of_its_devices_and_gateways_are_written(nexa: NexavpnDatabase, berlin: Connection) -> None:
    with berlin.undone():
        locked = berlin.query("SELECT id FROM wgsyncd.device_times ORDER BY id FOR UPDATE SKIP LOCKED")
        assert locked == [(row_id("device", BERLIN),)]
        changed = berlin.execute("UPDATE wgsyncd.device_times SET last_seen_at = now(), last_connected_at = now()")
        assert changed == berlin.execute("UPDATE wgsyncd.gateways SET last_sync_at = now()") == 1
        assert berlin.query("SELECT last_seen_at IS NOT NULL FROM wgsyncd.devices") == [(True,)]
    other = row_id("device", TOKYO)
    assert berlin.execute("UPDATE wgsyncd.device_times SET last_seen_at = now() WHERE id = %s", (other,)) == 0


RECORD = """INSERT INTO wgsyncd.peers (node, interface, public_key, row_id, device, owner, address, config_digest, state, epoch,
                                   rx, tx, latest_handshake, sampled_at)
            VALUES (%s, 'wg0', %s, %s, '', '', '', '', 'present', '', 0, 0, 0, 0)"""


def test_of_a_recorded_device_a_node_learns_only_that_another_gateway_has_it(
    nexa: NexavpnDatabase, berlin: Connection
) -> None:
    """Who knows no id of a device learns nothing. Who has the id learns neither the gateway nor anything else."""
    own, other = row_id("device", BERLIN), row_id("device", TOKYO)
    asked = "SELECT * FROM wgsyncd.moved_devices"
    with nexa.connected(role=ROLES[TOKYO]) as tokyo, tokyo.undone():
        tokyo.execute(RECORD, (TOKYO, b"1", own))
        assert (tokyo.query(asked), berlin.query(asked)) == ([(own,)], [])
    with berlin.undone():
        berlin.execute(RECORD, (BERLIN, b"1", own))
        assert berlin.query(asked) == []
        berlin.execute(RECORD, (BERLIN, b"2", other))
        assert berlin.query(asked) == [(other,)]
        assert berlin.query("SELECT * FROM wgsyncd.devices WHERE id = %s", (other,)) == []
    assert DENIED in refusal(berlin, RECORD, TOKYO, b"1", own)


AUDIT = """INSERT INTO wgsyncd.audit_logs (id, event_type, entity_type, status, message, metadata)
           VALUES (gen_random_uuid(), %s, 'gateway', 'success', '', jsonb_build_object('gateway_id', %s::text, 'node', %s::text))"""


def test_audit_rows_name_the_own_gateway_and_node(berlin: Connection) -> None:
    own, other = str(row_id("gateway", BERLIN)), str(row_id("gateway", TOKYO))
    with berlin.undone():
        assert berlin.execute(AUDIT, ("gateway.daemon_started", own, BERLIN)) == 1
        assert len(berlin.query("SELECT * FROM wgsyncd.audit_logs")) == 2
    assert CHECK in refusal(berlin, AUDIT, "gateway.daemon_started", other, BERLIN)
    assert CHECK in refusal(berlin, AUDIT, "gateway.daemon_started", own, TOKYO)
    assert CHECK in refusal(berlin, AUDIT, "user.login", own, BERLIN)
    actor = AUDIT.replace("(id, ", "(actor_user_id, id, ").replace("(gen", "(gen_random_uuid(), gen")
    assert "42703" in refusal(berlin, actor, "gateway.daemon_started", own, BERLIN)


@pytest.mark.parametrize("role", ["wgsyncd_owner", "postgres", ROLES[TOKYO]])
def test_another_role_cannot_be_taken(berlin: Connection, role: str) -> None:
    assert DENIED in refusal(berlin, f"SET ROLE {role}")
    assert DENIED in refusal(berlin, f"SET SESSION AUTHORIZATION {role}")


def test_the_role_of_all_nodes_shows_no_more(berlin: Connection) -> None:
    with berlin.undone():
        berlin.execute("SET LOCAL ROLE wgsyncd_node")
        assert berlin.query("SELECT name FROM wgsyncd.gateways") == [(BERLIN,)]


def test_a_function_of_the_node_sees_no_row_that_a_view_hides(berlin: Connection) -> None:
    """The server would ask a cheap function before the view's own condition, if the view were no security barrier."""
    berlin.execute("CREATE TEMPORARY TABLE seen (text text)")
    berlin.execute(
        """CREATE FUNCTION pg_temp.spy(one text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
           $$ BEGIN INSERT INTO pg_temp.seen VALUES (one); RETURN true; END $$"""
    )
    berlin.query("SELECT id FROM wgsyncd.wireguard_peers WHERE pg_temp.spy(preshared_key_ciphertext)")
    assert berlin.query("SELECT text FROM pg_temp.seen") == [(f"sealed for {BERLIN}",)]


def test_the_schemas_take_no_new_table(berlin: Connection) -> None:
    for schema in ("public", "wgsyncd"):
        assert DENIED in refusal(berlin, f"CREATE TABLE {schema}.mine (id int)")


def test_own_rows_are_written_as_the_store_writes_them(berlin: Connection) -> None:
    with berlin.undone():
        berlin.execute(
            "CREATE TEMPORARY TABLE stage (node text, device uuid, rx bigint, tx bigint) ON COMMIT DELETE ROWS"
        )
        berlin.copy_text("COPY pg_temp.stage FROM STDIN", [f"{BERLIN}\t{row_id('device', BERLIN)}\t1\t2\n"])
        add = """INSERT INTO wgsyncd.totals (node, device, rx, tx) SELECT * FROM pg_temp.stage
                 ON CONFLICT (node, device) DO UPDATE SET rx = totals.rx + excluded.rx, tx = totals.tx + excluded.tx"""
        assert berlin.execute(add) == berlin.execute(add) == 1
        assert berlin.query("SELECT rx, tx FROM wgsyncd.totals") == [(2, 4)]
        assert DENIED in str(berlin.try_change("SELECT * FROM wgsyncd.usage"))
        assert berlin.execute("DELETE FROM wgsyncd.totals") == 1


def test_the_application_reads_the_usage_of_all_nodes(nexa: NexavpnDatabase) -> None:
    device = row_id("device", BERLIN)
    with nexa.admin() as admin:
        for node, rx in ((BERLIN, 1), (TOKYO, 2)):
            admin.execute(
                "INSERT INTO wgsyncd.totals (node, device, rx, tx) VALUES (%s, %s, %s, 5)", (node, device, rx)
            )
        assert admin.execute("SELECT * FROM wgsyncd.usage").fetchall() == [(device, 3, 10)]
        admin.rollback()
