"""The application's tables and the server are probed. Each finding has a command, which mends it as it is printed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.samples import TOKYO, calendar, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.inspect.finding import Finding, Severity
from wgsyncd.demo.mariadb import ACCOUNT
from wgsyncd.errors import SchemaError, StoreError
from wgsyncd.stores.mikyun import schema
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_tables import own_tables
from wgsyncd.stores.mikyun.probing import open_probe
from wgsyncd.stores.mikyun.settings import mikyun

D, C, L = (f"ALTER TABLE {table} " for table in ("customer_devices", "contracts", "admin_logs"))
FAULT, WARNING = Severity.FAULT, Severity.WARNING
TRIGGER = "CREATE TRIGGER odd BEFORE UPDATE ON customer_devices FOR EACH ROW "

FOUND: dict[str, tuple[Sequence[str], str, Severity, str, bool]] = {
    # name: (how it is broken, where it is found, how bad it is, a part of the reason, whether the command mends it)
    "MyISAM": ((D + "ENGINE = MyISAM",), "customer_devices", FAULT, "engine is myisam", True),
    "Aria": ((D + "DROP KEY public_key, ENGINE = Aria",), "customer_devices", FAULT, "engine is aria", True),
    "our own table in MyISAM": (("ALTER TABLE wgsyncd_peers ENGINE = MyISAM",), "wgsyncd_peers", FAULT, "engine is myisam", True),
    "no primary key": ((D + "MODIFY id BIGINT NOT NULL, DROP PRIMARY KEY",), "customer_devices", FAULT, "primary key", True),
    "another primary key": ((D + "MODIFY id BIGINT NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (id, contract_id)",),
                            "customer_devices", FAULT, "primary key", True),
    "an index in place of the key": ((D + "MODIFY id BIGINT NOT NULL, DROP PRIMARY KEY, ADD KEY (id)",),
                                     "customer_devices", FAULT, "primary key", True),
    "a view": (("RENAME TABLE customer_devices TO devices", "CREATE VIEW customer_devices AS SELECT * FROM devices"),
               "customer_devices", FAULT, "engine is view", False),
    "ids of text": ((D + "MODIFY id VARCHAR(36) NOT NULL",), "customer_devices", FAULT, "id is of type varchar(36)", False),
    "counters of four bytes": ((D + "MODIFY rx_bytes_total INT UNSIGNED DEFAULT 0 COMMENT 'it''s old'",),
                               "customer_devices", FAULT, "int(10) unsigned, which ends", True),
    "counters with a point": ((D + "MODIFY rx_bytes_24h DOUBLE",), "customer_devices", FAULT, "double, which cannot", True),
    "counters of text": ((D + "MODIFY rx_bytes_24h VARCHAR(20) DEFAULT '0'",), "customer_devices", FAULT, "cannot count", True),
    "short decimals": ((D + "MODIFY tx_bytes_month DECIMAL(12)",), "customer_devices", FAULT, "decimal(12,0), which ends", True),
    "a day for a time": ((D + "MODIFY last_handshake_at DATE",), "customer_devices", FAULT, "last_handshake_at is of type date", True),
    "seconds for a time": ((D + "MODIFY qr_expires_at INT",), "customer_devices", FAULT, "qr_expires_at is of type int", False),
    "a time that moves": ((D + "MODIFY created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",),
                          "customer_devices", FAULT, "created_at changes with each posting", True),
    "a time that moves by default": (("SET SESSION explicit_defaults_for_timestamp = 0", D + "MODIFY issued_at TIMESTAMP",), "customer_devices", FAULT, "issued_at changes", True),
    "a word that is not there": ((D + "MODIFY status ENUM('issued', 'active', 'it''s') NOT NULL DEFAULT 'issued'",),
                                 "customer_devices", FAULT, "cannot be expired", True),
    "words that are short": ((D + "MODIFY status VARCHAR(6) NOT NULL DEFAULT 'issued'",), "customer_devices", FAULT,
                             "cannot hold active and expired", True),
    "a column that is not there": ((D + "DROP rx_bytes_24h",), "customer_devices", FAULT, "no column rx_bytes_24h", True),
    "a device twice": ((D + "DROP KEY device_id",), "customer_devices", WARNING, "no unique key", True),
    "long names": ((D + "MODIFY device_id VARCHAR(99) NOT NULL", "UPDATE customer_devices SET device_id = REPEAT('x', 65)"),
                   "customer_devices", FAULT, "more than 64 characters", False),
    "a column that follows": ((D + "ADD percent TINYINT UNSIGNED AS (FLOOR(rx_bytes_total * 100 / 5000)) PERSISTENT",),
                              "customer_devices", FAULT, "refuses 10000000000000 bytes: 1264: Out of range value for column 'percent'", False),
    "a rule": ((D + "ADD CHECK (status <> 'expired')",), "customer_devices", FAULT, "refuses the status expired: 4025", False),
    "a trigger that refuses": ((TRIGGER + "SIGNAL SQLSTATE '45000'",), "customer_devices", FAULT, "1644", False),
    "a trigger that changes": ((TRIGGER + "SET NEW.rx_bytes_total = OLD.rx_bytes_total",), "customer_devices", FAULT,
                               "does not keep 10000000000000 bytes: a trigger changes it", False),
    "a trigger that renames": ((TRIGGER + "SET NEW.device_id = CONCAT('x', OLD.device_id)",), "customer_devices", FAULT,
                               "does not keep 10000000000000 bytes: a trigger changes it", False),
    "a trigger that empties": ((TRIGGER + "SET NEW.rx_bytes_24h = NULL",), "customer_devices", FAULT,
                               "does not keep 10000000000000 bytes: a trigger changes it", False),
    "two character sets": ((C + "MODIFY contract_id VARCHAR(32) CHARACTER SET latin1 NOT NULL",), "contracts", WARNING,
                           "contract_id is latin1 here", True),
    "a trail in latin1": ((L + "CONVERT TO CHARACTER SET latin1",), "admin_logs", WARNING, "message is latin1", True),
    "a trail in MyISAM": ((L + "ENGINE = MyISAM",), "admin_logs", WARNING, "engine is myisam", True),
    "a trail that wants more": ((L + "ADD admin_id INT NOT NULL",), "admin_logs", WARNING, "1364: Field 'admin_id'", True),
    "a trail that wants a name": ((L + "ADD admin VARCHAR(9) NOT NULL",), "admin_logs", WARNING, "1364: Field 'admin'", True),
    "a trail with other words": ((L + "MODIFY action_type ENUM('login')",), "admin_logs", WARNING, "refuses an audit row: 1265", False),
    "a trail without a column": ((L + "DROP target_id",), "admin_logs", WARNING, "1054: Unknown column 'target_id'", True),
    "names in ucs2": ((D + "MODIFY device_id VARCHAR(64) CHARACTER SET ucs2 NOT NULL",), "customer_devices", FAULT, "device_id is ucs2", True),
    "names that end in spaces": ((D + "MODIFY device_id VARCHAR(64) COLLATE utf8mb4_nopad_bin NOT NULL",), "customer_devices", FAULT,
                                 "device_id is utf8mb4_nopad_bin, which cannot be compared", True),
    "an id of UUID_SHORT()": ((D + "MODIFY id BIGINT UNSIGNED NOT NULL", "UPDATE customer_devices SET id = 9223372036854775900"),
                              "customer_devices", WARNING, "the id 9223372036854775900 is larger", False),
    "our own table with a column more": (("ALTER TABLE wgsyncd_days ADD who INT NOT NULL",), "wgsyncd_days", FAULT, "1364: Field 'who'", True),
    "our own table without a column": (("ALTER TABLE wgsyncd_nodes DROP receipt",), "wgsyncd_nodes", FAULT, "1054: Unknown column 'receipt'", True),
    "our own names in latin1": (("ALTER TABLE wgsyncd_peers MODIFY device VARCHAR(64) CHARACTER SET latin1 NOT NULL",),
                                "wgsyncd_peers", FAULT, "refuses a row of wgsyncd: 1366", True),
    "our own short names": (("ALTER TABLE wgsyncd_set_aside MODIFY node VARCHAR(10) NOT NULL",), "wgsyncd_set_aside", FAULT,
                            "1406: Data too long for column 'node'", True),
    "our own short numbers": (("ALTER TABLE wgsyncd_buckets MODIFY rx INT UNSIGNED NOT NULL",), "wgsyncd_buckets", FAULT,
                              "1264: Out of range value for column 'rx'", True),
    "our own table with a trigger": (("CREATE TRIGGER odd BEFORE INSERT ON wgsyncd_removals FOR EACH ROW SIGNAL SQLSTATE '45000'",),
                                     "wgsyncd_removals", FAULT, "1644", False),
    "our own table without its key": (("ALTER TABLE wgsyncd_buckets DROP PRIMARY KEY",), "wgsyncd_buckets", FAULT, "key is gone", False),
    "records without their key": (("ALTER TABLE wgsyncd_peers DROP KEY node",), "wgsyncd_peers", FAULT, "key is gone", False),
    "a view of somebody who left": (
        ("CREATE OR REPLACE DEFINER = 'x'@'gone' VIEW v_parent_conflicts AS SELECT contract_id, 2 AS parent_count FROM contracts",),
        "v_parent_conflicts", WARNING, "is gone", True),
    "our view of somebody who left": (
        ("CREATE OR REPLACE DEFINER = 'x'@'gone' VIEW wgsyncd_audit AS SELECT * FROM admin_logs",),
        "wgsyncd_audit", WARNING, "is gone", True),
    "a view of what is gone": (("CREATE OR REPLACE VIEW v_parent_conflicts AS SELECT contract_id, max_files AS parent_count FROM contracts",
                                C + "DROP max_files"), "v_parent_conflicts", WARNING, "1356", True),
}  # fmt: skip


def probe(tables: RealMikyunTables) -> list[Finding]:
    """Returns the findings with the account of the daemon, whose audit rows are Japanese."""
    database = mikyun(tables._settings("")).database
    connection = Connection(database, TOKYO, on_connect=lambda _: None)
    try:
        return list(open_probe(connection, "ja").findings())
    finally:
        connection.close()


def run(tables: RealMikyunTables, command: str, directory: Path) -> None:
    """Runs a command in a shell as it is printed. The client finds this server."""
    shim = directory / "mariadb"
    shim.write_text(f'#!/bin/sh\nexec {shutil.which("mariadb")} --no-defaults --socket={tables._server.socket} "$@"\n')
    shim.chmod(0o755)
    path = {"PATH": f"{directory}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", command], env=os.environ | path, check=True, capture_output=True, timeout=60)


def test_the_reference_has_no_finding_and_probing_changes_nothing(odd_tables: RealMikyunTables) -> None:
    checksum = f"CHECKSUM TABLE customer_devices, contracts, admin_logs, {', '.join(own_tables())}"
    assert probe(odd_tables) == [], "without rows"
    for number in (5, 6):
        odd_tables.insert(number, public_key=text(number))
    before = odd_tables.sql(checksum)
    assert probe(odd_tables) == []
    assert odd_tables.sql(checksum) == before
    with odd_tables.locked(6):
        assert probe(odd_tables) == [], "it waits for no row"


@pytest.mark.parametrize(("alter", "where", "severity", "why", "mends"), FOUND.values(), ids=FOUND.keys())
def test_what_is_odd_is_found_and_its_command_mends_it(
    odd_tables: RealMikyunTables,
    tmp_path: Path,
    alter: Sequence[str],
    where: str,
    severity: Severity,
    why: str,
    mends: bool,
) -> None:
    odd_tables.insert(5, public_key=text(5))
    for one in alter:
        odd_tables.sql(one)
    found = [one for one in probe(odd_tables) if one.check == where and why in one.message]
    assert {one.severity for one in found} == {severity}, probe(odd_tables)
    run(odd_tables, found[0].fix, tmp_path)
    if mends:
        assert [one for one in probe(odd_tables) if one.check == where] == []


def test_no_command_makes_a_read_only_server_writable(odd_tables: RealMikyunTables) -> None:
    """After a failover, a primary of before is no replica of any server yet, and two primaries split the data."""
    odd_tables.sql("SET GLOBAL read_only = 1")
    try:
        (found,) = [one for one in probe(odd_tables) if one.check == "server"]
    finally:
        odd_tables.sql("SET GLOBAL read_only = 0")
    assert found.severity is FAULT and "Only if there is no other" in found.message
    assert found.fix == "editor /etc/wgsyncd/wgsyncd.toml && wgsyncd reload"


@pytest.mark.parametrize(
    ("table", "name"), [("customer_devices", "wg_ip"), ("customer_devices", "status"), ("contracts", "contract_status")]
)
def test_no_command_puts_an_empty_column_in_place_of_a_renamed_one(
    odd_tables: RealMikyunTables, tmp_path: Path, table: str, name: str
) -> None:
    """A new contract_status would have its default in each row, and paused contracts would be active again."""
    odd_tables.sql(f"ALTER TABLE {table} RENAME COLUMN {name} TO other")
    before = odd_tables.sql(f"SHOW CREATE TABLE {table}")
    found = next(one for one in probe(odd_tables) if one.check == table)
    assert f"it has no column {name}, which the application fills. Was it renamed?" in found.message
    run(odd_tables, found.fix, tmp_path)
    assert odd_tables.sql(f"SHOW CREATE TABLE {table}") == before


def test_a_type_is_mended_and_the_rest_of_the_column_stays(odd_tables: RealMikyunTables, tmp_path: Path) -> None:
    odd_tables.sql(D + "MODIFY rx_bytes_total INT UNSIGNED NOT NULL DEFAULT 3 COMMENT 'it''s \"old\" $HOME `x` \\\\'")
    (found,) = probe(odd_tables)
    run(odd_tables, found.fix, tmp_path)
    (after,) = odd_tables.sql("SHOW FULL COLUMNS FROM customer_devices LIKE 'rx_bytes_total'")
    assert (after["Type"], after["Null"], after["Default"], after["Comment"]) == (
        "bigint(20)", "NO", "3", "it's \"old\" $HOME `x` \\")  # fmt: skip


INEXACT = ("MyISAM", "no primary key", "a view", "ids of text", "counters with a point", "our own table in MyISAM")


@pytest.mark.parametrize("what", INEXACT)
def test_what_cannot_be_exact_is_refused_in_a_line(odd_tables: RealMikyunTables, what: str) -> None:
    for one in FOUND[what][0]:
        odd_tables.sql(one)
    store = odd_tables.store()
    for ask in (store.snapshot, lambda: store.load_state(calendar()), store.digest):
        with pytest.raises(SchemaError, match="cannot be written exactly") as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_the_daemon_tells_at_its_start_what_it_found(odd_tables: RealMikyunTables) -> None:
    odd_tables.sql(L + "ADD admin_id INT NOT NULL")
    odd_tables.sql(D + "MODIFY rx_bytes_total INT UNSIGNED")
    store = odd_tables.store()
    with capture_logs() as lines:
        store.load_state(calendar(), create=False)
        store.snapshot()
        assert lines == [], "a command that only reads tells nothing"
        store = odd_tables.store()
        store.load_state(calendar())
        assert lines == [], "the peers come first"
        store.refresh(calendar())
        store.refresh(calendar())
    told = [(line["log_level"], line["what"], line["todo"].partition(" ")[0]) for line in lines]
    assert told == [("error", "customer_devices", "mariadb"), ("warning", "admin_logs", "mariadb")]


def test_a_start_that_fails_before_its_end_tells_what_it_found(odd_tables: RealMikyunTables) -> None:
    odd_tables.sql(L + "ADD admin_id INT NOT NULL")
    store = odd_tables.store()
    with capture_logs() as lines:
        store.load_state(calendar())
        store.load_state(calendar())  # as after a failed commit
    assert [line["what"] for line in lines] == ["admin_logs"]


def test_init_db_tells_what_it_found(odd_tables: RealMikyunTables) -> None:
    odd_tables.sql(D + "MODIFY rx_bytes_total INT UNSIGNED, CHANGE deleted_at Deleted_At DATETIME")
    odd_tables.sql(f"REVOKE SELECT (deleted_at) ON customer_devices FROM '{ACCOUNT}'@'localhost'")
    server = odd_tables._server
    database = mikyun(odd_tables._settings("")).database.for_admin(server._user, str(server.socket), None)
    done = schema.init(database, TOKYO, f"'{ACCOUNT}'@'localhost'")
    assert done[-2:-1] == [f"'{ACCOUNT}'@'localhost': granted"]
    assert done[-1].startswith("fault: customer_devices: rx_bytes_total is of type int(10) unsigned, which ends")
    assert f"\n    mariadb --socket {server.socket} -e" in done[-1]
    assert odd_tables.store().snapshot().rows == (), "the column in capitals was granted"


def test_the_start_waits_for_a_slow_database_once_and_briefly(
    odd_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd_tables.insert(5, public_key=text(5))
    monkeypatch.setattr("wgsyncd.stores.mikyun.store.PROBE_AT_START", 0.0)
    store = odd_tables.store()
    with capture_logs() as lines:
        store.load_state(calendar())
        store.load_state(calendar())
    assert [line["event"] for line in lines] == ["the database was not probed to the end"]


def test_a_slow_trigger_ends_with_the_statement(odd_tables: RealMikyunTables) -> None:
    odd_tables.insert(5, public_key=text(5))
    odd_tables.sql(TRIGGER + "SET NEW.status = IF(SLEEP(20), 'active', NEW.status)")
    before = odd_tables.device(5)
    assert "1969" in probe(odd_tables)[0].message
    assert odd_tables.device(5) == before


def test_rules_of_an_application_are_no_faults(odd_tables: RealMikyunTables) -> None:
    """Totals never fall, and only an issued device becomes active. wgsyncd keeps both rules."""
    odd_tables.insert(5, public_key=text(5), status="deleted", rx_bytes_total=2 * 10**13)
    odd_tables.insert(4, public_key=text(4), status="issued")
    odd_tables.sql(TRIGGER + "IF NEW.rx_bytes_total < OLD.rx_bytes_total"
                   " OR (NEW.status <> OLD.status AND OLD.status <> 'issued') THEN SIGNAL SQLSTATE '45000'; END IF")  # fmt: skip
    assert probe(odd_tables) == []


def test_a_connection_that_is_lost_in_a_trial_write_changes_nothing(
    odd_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is old when the trial write comes, as after a pause of the process."""
    odd_tables.insert(5, public_key=text(5))
    ask = Connection.side_query

    def lost(self: Connection, sql: str, *values: Any, **settings: Any) -> Any:
        if sql.startswith("UPDATE"):
            odd_tables.sql(f"KILL {self._live.thread_id()}")  # type: ignore[union-attr]
            self._used -= 3600
        return ask(self, sql, *values, **settings)

    monkeypatch.setattr(Connection, "side_query", lost)
    before = odd_tables.device(5)
    with pytest.raises(StoreError):
        probe(odd_tables)
    assert odd_tables.device(5) == before


@pytest.mark.parametrize("columns", [
    "", "ADD began TIMESTAMP(6) AS ROW START, ADD ended TIMESTAMP(6) AS ROW END, ADD PERIOD FOR SYSTEM_TIME (began, ended), ",
])  # fmt: skip
def test_a_table_that_keeps_old_versions_is_no_fault(odd_tables: RealMikyunTables, columns: str) -> None:
    odd_tables.insert(5, public_key=text(5))
    odd_tables.sql(D + columns + "ADD SYSTEM VERSIONING")
    assert probe(odd_tables) == []
