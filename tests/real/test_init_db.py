"""`init-db` works on every installation, and it refuses what it cannot do in one line."""

from __future__ import annotations

import subprocess

import pytest

from tests.real.bench import Bench
from wgsyncd.demo.mariadb import ACCOUNT

ACCOUNTS = f"'{ACCOUNT}'@'localhost'"


def _granted(bench: Bench) -> set[str]:
    """Returns the account's grants, one by one. The grant of the login is left out."""
    rows = [str(next(iter(row.values()))) for row in bench.sql(f"SHOW GRANTS FOR {ACCOUNTS}")]
    return {row for row in rows if not row.startswith("GRANT USAGE")}


def _strip(bench: Bench, *columns: str) -> None:
    """Makes an installation without some columns and without wgsyncd's tables. Its account has no rights yet."""
    if "deleted_at" in columns:  # the view reads this column
        bench.sql("DROP VIEW v_parent_conflicts")
    for column in columns:
        bench.sql(f"ALTER TABLE customer_devices DROP COLUMN {column}")
    bench.sql("DROP VIEW wgsyncd_audit")
    tables = [name for table in bench.sql("SHOW TABLES LIKE 'wgsyncd\\_%'") for name in table.values()]
    bench.sql(f"DROP TABLE {', '.join(map(str, tables))}")
    bench.sql(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {ACCOUNTS}")


@pytest.mark.parametrize("missing", [(), ("deleted_at",), ("updated_at",), ("deleted_at", "updated_at")])
def test_init_db_makes_an_installation_usable(bench: Bench, missing: tuple[str, ...]) -> None:
    granted = _granted(bench)
    _strip(bench, *missing)
    assert _granted(bench) < granted
    init = ("init-db", "--socket", str(bench.database.socket), "--grants", ACCOUNTS)
    done = bench.daemon.cli(*init, "--user", str(bench.database.connect_args["user"]))
    assert done.stdout.count(": created") == 13
    assert f"{ACCOUNTS}: granted" in done.stdout
    again = bench.daemon.cli(*init, "--user", str(bench.database.connect_args["user"]))
    assert again.stdout.count(": was there") == 13
    assert bench.sql("SELECT version FROM wgsyncd_schema") == [{"version": "3"}]
    assert missing or _granted(bench) == granted
    crowd = bench.make(2)
    bench.daemon.start()
    bench.await_peers(*crowd)
    bench.sql(f"UPDATE customer_devices SET status = 'revoked' WHERE device_id = '{crowd[0].device}'")
    bench.await_peers(crowd[1])
    if "deleted_at" not in missing:
        bench.sql(f"UPDATE customer_devices SET deleted_at = NOW() WHERE device_id = '{crowd[1].device}'")
        bench.await_peers()
    assert bench.sql("SELECT adopted FROM wgsyncd_nodes") == [{"adopted": "0"}], "an admin has to say so first"
    bench.daemon.stop()
    assert bench.daemon.lines(level="error") == []


def test_init_db_without_the_right_says_so_in_one_line(bench: Bench) -> None:
    _strip(bench)
    done = bench.daemon.cli("init-db", "--user", ACCOUNT, "--password-file", str(bench.database.password_file), code=1)
    assert len(done.stderr.splitlines()) == 1
    assert "denied" in done.stderr


def _init(bench: Bench, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return bench.daemon.cli("init-db", "--user", str(bench.database.connect_args["user"]), *args, code=code)


def test_init_db_grants_nothing_to_an_account_that_is_not_there(bench: Bench) -> None:
    """Without NO_AUTO_CREATE_USER, GRANT would create the account with no password. Anybody could then log in."""
    accounts = "SELECT user, host FROM mysql.user ORDER BY user, host"
    before = bench.sql(accounts)
    done = _init(bench, "--grants", "'nobody'@'localhost'", code=1)
    assert len(done.stderr.splitlines()) == 1
    assert "1133" in done.stderr
    assert "Create the account first: CREATE USER" in done.stderr
    assert bench.sql(accounts) == before


@pytest.mark.parametrize("account", ["mikyun", "mikyun@localhost", "'mikyun'@localhost", "'a'@'h'; DROP TABLE x"])
def test_init_db_makes_nothing_for_an_account_that_is_badly_written(bench: Bench, account: str) -> None:
    _strip(bench)
    before = bench.sql("SHOW TABLES")
    done = _init(bench, "--grants", account, code=1)
    assert len(done.stderr.splitlines()) == 1
    assert "is not an account: write it as 'mikyun'@'127.0.0.1'" in done.stderr
    assert bench.sql("SHOW TABLES") == before


def test_init_db_refuses_a_newer_schema(bench: Bench) -> None:
    bench.sql("UPDATE wgsyncd_schema SET version = 4")
    done = bench.daemon.cli("init-db", "--user", str(bench.database.connect_args["user"]), code=1)
    assert done.stderr.splitlines() == ["wgsyncd: the tables are of version 4, this wgsyncd knows 3 only"]
