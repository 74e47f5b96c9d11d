"""`init-db` brings tables of versions 1 and 2 to version 3, with everything that is in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.real.bench import Bench, Device
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.stores.mikyun import schema

MIB = 1 << 20
TOKYO = ZoneInfo("Asia/Tokyo")  # the zone of a bench


def _make_old_tables(bench: Bench, version: int, crowd: Sequence[Device]) -> None:
    """Replaces wgsyncd's tables by older ones, in which two devices have bytes. Row 999 and row 7000 are gone.

    Row 7000 was replaced by another row with the same device, the second one of ``crowd``.
    """
    bench.make_tables_of_version_2()
    now = int(time.time())
    bucket = now // 900 * 900
    bench.sql(f"INSERT INTO wgsyncd_nodes VALUES ('bench', 7, NULL, {now - 90 * 86400}, '')")
    bench.sql("INSERT INTO wgsyncd_interfaces VALUES ('bench', 'wg0', 'an earlier boot:3', 1700000000)")
    for number, state, row in ((1, "adding", 1), (2, "restoring", 7000), (3, "present", 2)):
        bench.sql(
            "INSERT INTO wgsyncd_peers VALUES"
            f" ('bench', 'wg{number - 1}', x'{number:064x}', {row}, '{crowd[number > 1].device}', '0001', '10.200.0.9/32',"
            f" x'{number:016x}', '{state}', 'an earlier boot:3', {number}000, {number}500, 0, 1700000000)"
        )
    bench.sql(f"INSERT INTO wgsyncd_buckets VALUES (1, {bucket}, 11, 12), (2, {bucket}, 100, 200),"
              f" (7000, {bucket}, 1, 2), (999, {bucket}, 5, 6)")  # fmt: skip
    # This is the day of the node, of which the server may see the day before: its month then differs as well.
    day = f"'{datetime.now(TOKYO).date()}'"
    bench.sql(f"INSERT INTO wgsyncd_days VALUES (1, {day}, 11, 12), (2, {day}, 100, 200),"
              f" (7000, {day}, 1, 2), (999, {day}, 5, 6)")  # fmt: skip
    bench.sql("INSERT INTO wgsyncd_quarantine VALUES (4, 'bench', 'wg0', 1, 'gone', 1, 2, 3, 4)")
    for number, (rx, tx) in ((1, (11, 12)), (2, (101, 202))):
        columns = ("total", "24h", "month")
        sets = ", ".join(f"rx_bytes_{one} = {rx}, tx_bytes_{one} = {tx}" for one in columns)
        bench.sql(f"UPDATE customer_devices SET {sets} WHERE id = {number}")
    if version == 1:
        bench.sql(
            "ALTER TABLE wgsyncd_nodes DROP COLUMN begun, DROP COLUMN spool; UPDATE wgsyncd_schema SET version = 1"
        )


def _init(bench: Bench) -> str:
    account = ("--grants", "'mikyun'@'localhost'")
    return bench.daemon.cli("init-db", "--user", str(bench.database.connect_args["user"]), *account).stdout


def _check(bench: Bench, crowd: Sequence[Device]) -> None:
    one, two = (device.device for device in crowd)
    assert bench.sql("SELECT version FROM wgsyncd_schema") == [{"version": "3"}]
    assert bench.sql(
        "SELECT revision = 7 AS same, accounting_since > 1000000000 AS known, spool_position, heartbeat FROM wgsyncd_nodes"
    ) == [{"same": "1", "known": "1", "spool_position": "", "heartbeat": "0"}]
    for table in ("buckets", "days"):
        assert bench.sql(f"SELECT device, rx, tx FROM wgsyncd_{table} ORDER BY device") == [
            {"device": one, "rx": "11", "tx": "12"},
            {"device": two, "rx": "101", "tx": "202"},
            {"device": "row 999", "rx": "5", "tx": "6"},
        ]
    found = bench.sql("SELECT row_id, device, state, rx, tx, open_rx FROM wgsyncd_peers ORDER BY interface")
    assert found == [
        {"row_id": "1", "device": one, "state": "arrives", "rx": "1000", "tx": "1500", "open_rx": "0"},
        {"row_id": "7000", "device": two, "state": "returns", "rx": "2000", "tx": "2500", "open_rx": "0"},
        {"row_id": "2", "device": two, "state": "present", "rx": "3000", "tx": "3500", "open_rx": "0"},
    ]
    assert bench.sql("SELECT id, device FROM wgsyncd_quarantine") == [{"id": "4", "device": "gone"}]
    assert bench.sql("SHOW TABLES WHERE Tables_in_mikyun_cloud RLIKE '_[23]$'") == []


@pytest.mark.parametrize("version", [1, 2])
def test_older_tables_keep_what_is_in_them(bench: Bench, version: int) -> None:
    crowd = bench.make(2)
    _make_old_tables(bench, version, crowd)
    assert f"tables of version {version}: brought to version 3" in _init(bench)
    _check(bench, crowd)
    assert "brought to" not in _init(bench), "a second run changes nothing"
    _check(bench, crowd)
    bench.daemon.start()
    bench.await_peers(*crowd)
    bench.daemon.stop()
    assert bench.daemon.lines(level="error") == []
    found = bench.sql("SELECT rx_bytes_total, rx_bytes_24h, tx_bytes_month FROM customer_devices ORDER BY id")
    assert found == [
        {"rx_bytes_total": "11", "rx_bytes_24h": "11", "tx_bytes_month": "12"},
        {"rx_bytes_total": "101", "rx_bytes_24h": "101", "tx_bytes_month": "202"},
    ]


def _run_to(bench: Bench, done: str) -> None:
    """Runs the migration's statements up to one of them, in one connection, as an interrupted run does."""
    steps = [*schema.migration(renamed=False), schema.swap()]
    last = {
        "renamed": "RENAME TABLE wgsyncd_peers TO", "created": "CREATE TABLE IF NOT EXISTS wgsyncd_days_3",
        "half created": "CREATE TABLE IF NOT EXISTS wgsyncd_peers_3", "columns renamed": "ALTER TABLE wgsyncd_nodes\n    CHANGE",
            "altered": "ALTER TABLE wgsyncd_nodes\n    ADD",
        "half copied": "INSERT INTO wgsyncd_buckets_3", "copied": "COMMIT", "marked": "UPDATE wgsyncd_schema",
        "swapped": "RENAME TABLE wgsyncd_peers_3 TO",
    }[done]  # fmt: skip
    (count,) = (number for number, one in enumerate(steps, start=1) if one.startswith(last))
    bench.sql(";\n".join(steps[:count]))


@pytest.mark.parametrize(
    "done",
    ["renamed", "half created", "created", "columns renamed", "altered", "half copied", "copied", "marked", "swapped"],
)
def test_an_interrupted_migration_is_completed(bench: Bench, done: str) -> None:
    """A run that ended after any step leaves tables from which the next run reaches the same result."""
    crowd = bench.make(2)
    _make_old_tables(bench, 2, crowd)
    _run_to(bench, done)
    assert bench.sql("SELECT version FROM wgsyncd_schema") == [
        {"version": "3" if done in ("marked", "swapped") else "2"}
    ]
    _init(bench)
    _check(bench, crowd)


# The statements of a daemon of version 2: how it loads its records, and how it commits the bytes of one device.
LOAD = """SELECT interface, public_key, row_id, device, contract, address, config, state, epoch, rx, tx, handshake, sampled_at
          FROM wgsyncd_peers WHERE node = 'bench'"""
REVISION = "UPDATE wgsyncd_nodes SET seq = seq + 1, spool = IF('' = '', spool, '') WHERE node = 'bench' AND seq = 7"
RECORDS = f"""UPDATE (SELECT x'' AS public_key, 0 AS rx, 0 AS tx, 0 AS handshake, 0e0 AS sampled_at
                      UNION ALL VALUES (x'{1:064x}', 1010, 1510, 0, 1.0)) v
              STRAIGHT_JOIN wgsyncd_peers p FORCE INDEX (PRIMARY)
                  ON p.node = 'bench' AND p.interface = 'wg0' AND p.public_key = v.public_key
              SET p.rx = v.rx, p.tx = v.tx, p.handshake = v.handshake, p.sampled_at = v.sampled_at"""
COLUMNS = "UPDATE customer_devices SET rx_bytes_total = rx_bytes_total + 10 WHERE id = 1"


def _refusal(bench: Bench, *statements: str) -> str:
    """Runs statements in one connection, which one of them ends with an error. Returns the server's message."""
    with pytest.raises(CommandFailed) as failed:
        bench.sql(";\n".join(statements))
    return str(failed.value)


def test_an_older_daemon_commits_nothing_meanwhile(bench: Bench) -> None:
    """It finds no records, and its commits are refused from the first statement on."""
    crowd = bench.make(2)
    _make_old_tables(bench, 2, crowd)
    assert len(bench.sql(LOAD)) == 3
    commit = ("START TRANSACTION", REVISION, RECORDS, COLUMNS)
    assert bench.sql(";\n".join((*commit[:2], "SELECT ROW_COUNT() AS found; ROLLBACK"))) == [{"found": "1"}]
    first, *others = schema.migration(renamed=False)
    bench.sql(first)
    for count in range(len(others) + 1):
        if count:
            bench.sql(";\n".join(others[:count]))
        assert "1146" in _refusal(bench, LOAD), others[:count]
        refusal = _refusal(bench, *commit)
        assert "1146" in refusal or "Unknown column 'seq'" in refusal, others[:count]
    _init(bench)
    assert "Unknown column 'config'" in _refusal(bench, LOAD)
    assert "Unknown column 'seq'" in _refusal(bench, *commit)
    _check(bench, crowd)
    assert bench.sql("SELECT rx_bytes_total FROM customer_devices WHERE id = 1") == [{"rx_bytes_total": "11"}]
