"""The shipped grants are enough and no more, and a schema or a view that is not right changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.real.bench import Bench, Device, real_device, wait
from wgsyncd.demo.mariadb import ACCOUNT, DATABASE, PrivateServer

DENIED = {1044, 1142, 1143, 1227, 1370}  # MariaDB's error numbers for a database, table, column, privilege and routine
ACCOUNTS = f"'{ACCOUNT}'@'localhost'"


@pytest.fixture
def login(database: PrivateServer) -> Iterator[Connection[Cursor]]:
    """Yields a connection with the daemon's own login."""
    password = database.password_file.read_text().strip()
    actual = pymysql.connect(
        unix_socket=str(database.socket), user=ACCOUNT, password=password, database=DATABASE, autocommit=True
    )
    yield actual
    actual.close()


KEPT = "NOTHING WAS REMOVED: the guard keeps peers that would go"


def test_everything_works_with_exactly_the_grants(bench: Bench) -> None:
    """The cases are an addition, a handshake, bytes, an expired QR, a rejected row, a foreign peer, the guard and an
    approval.
    """
    held = real_device("0001-held", "10.200.0.11", status="issued", preshared_key=None)
    late = Device("0001-late", "10.200.0.12", status="issued", qr_expires_at="NOW() + INTERVAL 3 SECOND")
    bad = Device("0001-bad", "192.168.0.1")
    bench.insert(held, late, bad)
    crowd = bench.make(4, first=20)
    bench.configure({"guard.always_allowed": 1, "guard.max_share": 0.0})
    bench.world.server.run("wg", "set", "wg1", "peer", Device("", "").keys.public, "allowed-ips", "10.251.0.9/32")
    daemon = bench.daemon.start()
    bench.await_peers(interface="wg1")
    assert bench.customer(held).transfer(up=100_000, down=50_000).wait() == 0
    wait(lambda: len(bench.logs("device_activated")) == 1, "activated")
    wait(lambda: len(bench.logs("qr_expired")) == 1, "expired")
    bench.await_peers(held, *crowd)
    row = bench.sql("SELECT status, activated_at = first_handshake_at AS same, last_handshake_at >= first_handshake_at"
                    " AS later FROM customer_devices WHERE device_id = '0001-held'")  # fmt: skip
    assert row == [{"status": "active", "same": "1", "later": "1"}]
    posted = ("SELECT rx_bytes_total rx, tx_bytes_24h tx, rx_bytes_month - rx_bytes_total differ"
              " FROM customer_devices WHERE device_id = '0001-held'")  # fmt: skip
    wait(lambda: int(bench.sql(posted)[0]["rx"] or 0) > 100_000, "posted")
    totals = bench.sql(posted)[0]
    assert int(totals["tx"] or 0) > 50_000
    assert totals["differ"] == "0"
    bench.sql("UPDATE customer_devices SET status = 'paused' WHERE device_id <> '0001-held'")
    wait(lambda: bench.logs("guard_tripped"), "guard")
    plan = daemon.status()["guard"]["plan"]
    daemon.cli("approve", plan)
    bench.await_peers(held)
    daemon.stop()
    assert any(line["plan"] == plan for line in daemon.lines(event="withheld removals approved by an admin"))
    actions = {action for action, _, _ in bench.logs()}
    assert actions >= {"daemon_started", "daemon_stopped", "peer_added", "peer_removed", "device_activated",
                       "qr_expired", "row_rejected", "row_accepted", "foreign_peer_removed", "guard_tripped",
                       "guard_approved"}  # fmt: skip
    (error,) = daemon.lines(level="error")
    assert (error["event"], error["removals"]) == (KEPT, 4)
    assert error["todo"].endswith(f"Meant? {daemon.proposed('approve')} {plan}")
    assert not {number for number in DENIED if f'"{number}:' in daemon.log.read_text()}


REFUSED = (
    "SELECT private_key FROM customer_devices",
    "SELECT * FROM customer_devices",
    "SELECT nc_password FROM customer_devices",
    "SELECT nc_user FROM customer_devices",
    "SELECT 1 FROM customer_devices WHERE private_key LIKE 'a%'",
    "SELECT COUNT(*) FROM customer_devices ORDER BY MAX(private_key)",
    "SELECT identity_passphrase FROM contracts",
    "SELECT nc_password FROM contracts",
    "SELECT customer_name FROM contracts",
    "SELECT customer_email FROM contracts",
    "SELECT message FROM admin_logs",
    "SELECT note FROM contract_notes",
    "SELECT user FROM mysql.user",
    "UPDATE customer_devices SET public_key = 'x'",
    "UPDATE customer_devices SET preshared_key = NULL",
    "UPDATE customer_devices SET private_key = 'x'",
    "UPDATE customer_devices SET status = private_key",
    "UPDATE customer_devices SET wg_ip = '10.200.0.1'",
    "UPDATE customer_devices SET deleted_at = NOW()",
    "UPDATE contracts SET contract_status = 'active'",
    "UPDATE admin_logs SET message = ''",
    "DELETE FROM customer_devices",
    "DELETE FROM contracts",
    "DELETE FROM admin_logs",
    "INSERT INTO customer_devices (device_id, contract_id) VALUES ('x', '0001')",
    "INSERT INTO contracts (contract_id) VALUES ('x')",
    "TRUNCATE wgsyncd_days",
    "DELETE FROM wgsyncd_nodes",
    "UPDATE wgsyncd_quarantine SET rx = 0",
    "UPDATE wgsyncd_schema SET version = 3",
    "UPDATE wgsyncd_audit SET message = ''",
    "INSERT INTO wgsyncd_audit (message) VALUES ('')",
    "DROP TABLE wgsyncd_peers",
    "ALTER TABLE customer_devices ADD COLUMN x INT",
    "ALTER TABLE wgsyncd_peers ADD COLUMN x INT",
    "CREATE TABLE wgsyncd_more (a INT)",
    "CREATE VIEW v AS SELECT id FROM customer_devices",
    "GRANT SELECT ON mikyun_cloud.* TO 'mikyun'@'localhost'",
    "LOCK TABLES customer_devices WRITE",
    "SET GLOBAL read_only = 0",
)


def _refusal(login: Connection[Cursor], statement: str) -> int | None:
    """Returns the number of the server's error, or None if the statement works."""
    with login.cursor() as cursor:
        try:
            cursor.execute(statement)
        except pymysql.MySQLError as error:
            return int(error.args[0])
    return None


def test_nothing_else_is_allowed(login: Connection[Cursor]) -> None:
    for statement in REFUSED:
        assert _refusal(login, statement) in DENIED, statement


def test_counting_does_not_move_updated_at(bench: Bench) -> None:
    held = real_device("0001-held", "10.200.0.11", status="issued")
    bench.insert(held)
    bench.sql("UPDATE customer_devices SET updated_at = '2001-02-03 04:05:06'")
    bench.daemon.start()
    assert bench.customer(held).transfer(up=30_000, down=0).wait() == 0
    wait(
        lambda: bench.sql("SELECT 1 FROM customer_devices WHERE status = 'active' AND rx_bytes_total > 30000"), "posted"
    )
    assert bench.sql("SELECT updated_at FROM customer_devices") == [{"updated_at": "2001-02-03 04:05:06"}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP TABLE wgsyncd_schema", "wgsyncd init-db"),
        ("DELETE FROM wgsyncd_schema", "wgsyncd init-db"),
        (
            "UPDATE wgsyncd_schema SET version = 0",
            "version 0, older than this wgsyncd; wgsyncd init-db --config; --socket",
        ),
        ("UPDATE wgsyncd_schema SET version = 4", "version 4, this wgsyncd knows 3"),
        ("DROP TABLE wgsyncd_nodes", "wgsyncd init-db"),
    ],
)
def test_a_schema_that_is_not_ours_is_told_in_one_line(bench: Bench, change: str, told: str) -> None:
    """The command reports the schema. The daemon also reports it, waits for a fix and changes nothing meanwhile.

    ``told``: the words, and after a semicolon the cure.
    """
    stranger = Device("", "10.200.0.77")
    bench.ear.keep(*stranger.keys)
    bench.world.server.run("wg", "set", "wg0", "peer", stranger.keys.public, "allowed-ips", "10.200.0.77/32")
    device = bench.make(1)[0]
    before = bench.sql("SHOW CREATE TABLE wgsyncd_nodes")[0]["Create Table"] if "nodes" in change else None
    bench.sql(change)
    shown = bench.daemon.cli("status", code=2).stdout
    assert [one for one in told.split("; ") if one not in shown] == []
    bench.daemon.start()
    assert bench.daemon.notices.has("STATUS=database does not serve…")
    wait(lambda: bench.daemon.cycles("watch") >= 1, "a second look")
    assert len(bench.daemon.lines(level="error")) == 1  # there is one line, though every check failed
    logged = bench.daemon.lines(level="error")[0]["error"]
    assert [one for one in told.split("; ") if one not in logged] == []
    assert set(bench.peers()) == {stranger.keys.public}
    if before is not None:
        bench.sql(before)
    elif "DROP" in change:
        bench.sql("CREATE TABLE wgsyncd_schema (version INT NOT NULL PRIMARY KEY)")
    bench.sql("DELETE FROM wgsyncd_schema; INSERT INTO wgsyncd_schema VALUES (3)")
    bench.await_peers(device)
    bench.daemon.stop()


def test_a_view_without_its_column_is_no_reason_to_let_deleted_devices_in(bench: Bench) -> None:
    """A deleted_at that cannot be read is different from a deleted_at that does not exist."""
    device = bench.make(1)[0]
    bench.sql(f"UPDATE customer_devices SET deleted_at = NOW() WHERE device_id = '{device.device}'")
    bench.sql(f"REVOKE SELECT (deleted_at) ON customer_devices FROM {ACCOUNTS}")
    done = bench.daemon.cli("plan", code=1)
    assert f"`sudo {bench.daemon.proposed('doctor')}` tells how to grant it" in done.stderr
    bench.daemon.start()
    assert not bench.peers()
    bench.sql(f"GRANT SELECT (deleted_at) ON customer_devices TO {ACCOUNTS}")
    wait(
        lambda: bench.daemon.lines(
            event="the database works again. wgsyncd goes on, and posts the traffic that it kept"
        ),
        "well again",
    )
    assert not bench.peers()


def test_conflicts_that_can_no_longer_be_seen_still_stand(bench: Bench) -> None:
    """A view without its grant is different from a view without rows."""
    crowd = bench.make(2)
    bench.sql("UPDATE customer_devices SET is_parent = 1")
    bench.daemon.start()
    bench.await_peers(*crowd)
    wait(lambda: bench.logs("parent_conflict"), "a conflict")
    bench.daemon.stop()
    bench.sql(f"REVOKE SELECT ON v_parent_conflicts FROM {ACCOUNTS}; UPDATE customer_devices SET is_parent = 0")
    bench.daemon.start()
    bench.daemon.reconcile(2)
    assert len(bench.daemon.lines(event="v_parent_conflicts cannot be read: parent conflicts are not watched")) == 1
    assert not bench.logs("parent_conflict_cleared")
    bench.daemon.stop()
    bench.sql(f"GRANT SELECT ON v_parent_conflicts TO {ACCOUNTS}")
    bench.daemon.start()
    wait(lambda: bench.logs("parent_conflict_cleared"), "cleared")


def test_a_database_that_is_not_there_is_told_in_whole_words(bench: Bench) -> None:
    bench.configure({"mikyun.database.socket": str(bench.directory / "none.sock")})
    said = bench.daemon.cli("status", code=2).stdout
    assert "Can't connect to" in said
    assert "…" not in said
