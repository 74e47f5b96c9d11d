"""`wgsyncd doctor` finds no fault on a good machine, and finds and explains each broken part."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.real.bench import Bench, wait
from tests.real.installed import Node
from tests.wait import until
from wgsyncd.demo.mariadb import ACCOUNT

OURS = f"'{ACCOUNT}'@'localhost'"


def doctor(bench: Bench, code: int | None = 0) -> dict[str, dict[str, Any]]:
    """Returns the findings by check. If a check has several findings, the worse one is kept."""
    done = bench.daemon.cli("doctor", "--json", code=code)
    assert done.stdout, (done.returncode, done.stderr)
    data = json.loads(done.stdout)
    found: dict[str, dict[str, Any]] = {}
    for one in data["checks"]:
        if found.get(one["check"], {}).get("level") in (None, "ok"):
            found[one["check"]] = one
        assert bool(one["fix"]) == (one["severity"] != "ok")
    assert data["faults"] == sum(1 for one in data["checks"] if one["severity"] == "fault")
    return found


@pytest.fixture
def good(bench: Bench) -> Bench:
    """Returns a bench whose daemon runs with two peers."""
    bench.make(2)
    bench.daemon.start()
    wait(lambda: len(bench.peers()) == 2, "peers")
    return bench


def what_doctor_could_change(bench: Bench) -> object:
    """Returns what stays as it is while nothing happens. The daemon's heartbeat changes the rest of its node's row."""
    tables = bench.sql("CHECKSUM TABLE wgsyncd_interfaces, customer_devices, admin_logs")
    return tables, bench.sql(
        "SELECT node, revision, approved_plan, accounting_since, spool_position, machine, host, boot FROM wgsyncd_nodes"
    )


def test_a_good_machine_has_no_fault(good: Bench) -> None:
    before = what_doctor_could_change(good)
    found = doctor(good)
    levels = {name: one["severity"] for name, one in found.items()}
    assert {name for name, level in levels.items() if level == "fault"} == set()
    for name in ("configuration", "password", "database", "server", "tables", "rights", "secrets", "written times",
                 "database clock", "wg0", "wg0 address", "wg1", "daemon", "capability", "metrics"):  # fmt: skip
        assert levels[name] == "ok", found[name]
    assert "2 peers" in found["wg0"]["message"]
    text = good.daemon.cli("doctor", "-v").stdout
    assert text.splitlines()[0].startswith("ok       configuration   ")
    assert text.splitlines()[-1].startswith("0 faults, ")
    assert what_doctor_could_change(good) == before


Break = Callable[[Bench], object]
BROKEN: dict[str, tuple[Break, str, str, str, str]] = {
    # name: (how it breaks, check, severity, a part of the message, a part of the fix)
    "a secret is readable": (
        lambda b: b.sql(f"GRANT SELECT (private_key) ON customer_devices TO {OURS}"),
        "secrets", "fault", "can read customer_devices.private_key", "REVOKE ALL PRIVILEGES"),
    "everything is readable": (
        lambda b: b.sql(f"GRANT SELECT ON mikyun_cloud.* TO {OURS}"),
        "secrets", "fault", "contracts.identity_passphrase", "wgsyncd init-db"),
    "too much": (
        lambda b: b.sql(f"GRANT DELETE ON mikyun_cloud.* TO {OURS}"),
        "rights", "warning", "DELETE on the whole database", "REVOKE ALL PRIVILEGES"),
    "too much everywhere": (
        lambda b: b.sql(f"GRANT PROCESS, RELOAD ON *.* TO {OURS}"),
        "rights", "warning", "PROCESS, RELOAD on everything", "REVOKE ALL PRIVILEGES"),
    "too little of a column": (
        lambda b: b.sql(f"REVOKE SELECT (deleted_at) ON customer_devices FROM {OURS}"),
        "rights", "fault", "lacks SELECT (deleted_at) on customer_devices", f'--grants "{OURS}"'),
    "may not delete": (
        lambda b: b.sql(f"REVOKE DELETE ON wgsyncd_peers FROM {OURS}"),
        "rights", "fault", "lacks DELETE on wgsyncd_peers", "init-db"),
    "may nothing with a table": (
        lambda b: b.sql(f"REVOKE ALL PRIVILEGES ON wgsyncd_days FROM {OURS}"),
        "rights", "fault", "SELECT, INSERT, UPDATE, DELETE on wgsyncd_days", "init-db"),
    "may not audit": (
        lambda b: b.sql(f"REVOKE INSERT (message) ON admin_logs FROM {OURS}"),
        "rights", "fault", "lacks INSERT (message) on admin_logs", "init-db"),
    "an older schema": (
        lambda b: b.make_tables_of_version_2(), "tables", "fault", "of version 2", "init-db"),
    "a newer schema": (
        lambda b: b.sql("UPDATE wgsyncd_schema SET version = 99"), "tables", "fault", "of version 99", "apt-get install"),
    "a table is missing": (
        lambda b: b.sql("DROP TABLE wgsyncd_quarantine"), "tables", "fault", "wgsyncd_quarantine is missing", "init-db"),
    "no audit table": (
        lambda b: b.sql("RENAME TABLE admin_logs TO old"), "admin_logs", "fault", "does not exist", "man wgsyncd-install"),
    "no table of owners": (
        lambda b: b.sql("RENAME TABLE contracts TO old"), "contracts", "fault", "does not exist", "man wgsyncd-install"),
    "another name": (
        lambda b: b.configure({"node.name": "other"}), "tables", "warning", "was this server renamed?", "wgsyncd plan"),
    "no database": (
        lambda b: b.configure({"mikyun.database.socket": "/nowhere.sock"}), "database", "fault", "Can't connect", "systemctl start mariadb"),
    "another account": (
        lambda b: b.configure({"mikyun.database.user": "nobody-of-that-name"}), "database", "fault", "1045", "editor "),
    "the application writes another zone": (
        lambda b: b.sql("UPDATE customer_devices SET created_at = UTC_TIMESTAMP() + INTERVAL 15 HOUR"),
        "written times", "fault", "h from now", "@@global.time_zone"),
    "a replica": (
        lambda b: b.sql("SET GLOBAL read_only = 1"), "server", "fault", "it is read-only", "bench/wgsyncd.toml && wgsyncd reload"),
    "no interface": (
        lambda b: b.world.server.run("ip", "link", "del", "wg0"), "wg0", "fault", "no process such as wireguard-go provides it",
        "systemctl restart wg-quick@wg0"),
    "no address": (
        lambda b: b.world.server.run("ip", "address", "flush", "dev", "wg1"),
        "wg1 address", "fault", "10.251.0.1/24 is not configured", "ip address add 10.251.0.1/24 dev wg1"),
    "an address of its own that nobody named": (
        lambda b: b.world.server.run("ip", "address", "add", "10.251.0.9/24", "dev", "wg1"),
        "wg1 address", "warning", "10.251.0.9/24 is not in interfaces.wg1.addresses", "editor"),
    "down": (
        lambda b: b.world.server.run("ip", "link", "set", "wg1", "down"),
        "wg1 address", "fault", "is down", "ip link set wg1 up || ss -lunp"),
    "no daemon": (lambda b: b.daemon.stop(), "daemon", "fault", "none runs here", "systemctl enable --now wgsyncd"),
    "another port": (
        lambda b: b.configure({"metrics.listen": "127.0.0.1:9999"}),
        "metrics", "fault", "nobody answers on 127.0.0.1:9999", "systemctl restart wgsyncd"),
    "a bad configuration": (
        lambda b: b.configure({"mikyun.qr.lifetime": "soon"}), "configuration", "fault", "mikyun.qr.lifetime", "check-config"),
    "a configuration for everybody": (
        lambda b: b.daemon.config.chmod(0o666), "configuration", "fault", "can be written by others", "chmod go-w"),
}  # fmt: skip


@pytest.fixture
def shell(good: Bench) -> Callable[[str], str]:
    """Returns a function that runs a command in root's shell, with this server's MariaDB and wgsyncd."""
    shims = good.directory / "bin"
    shims.mkdir()
    database, daemon = good.database, good.daemon
    account = database.connect_args["user"]
    client = f"mariadb --no-defaults --socket={database.socket} --user={account} mikyun_cloud"
    environment = " ".join(f"{name}={value}" for name, value in daemon.environment.items())
    for name, command in (("mariadb", f"{shutil.which('mariadb')} {client.partition(' ')[2]}"),
                          ("wgsyncd", f"env {environment} {sys.executable} -m wgsyncd")):  # fmt: skip
        (shims / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (shims / name).chmod(0o755)
    return lambda text: good.world.server.run("sh", "-ec", f"PATH={shims}:$PATH; {text}")


MENDED = ("a secret is readable", "everything is readable", "too much", "too much everywhere", "too little of a column",
          "may not delete", "may nothing with a table", "may not audit", "an older schema", "a table is missing",
          "no address", "down", "a configuration for everybody")  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_and_its_command_mends_it(good: Bench, shell: Callable[[str], str], what: str) -> None:
    """The test runs the command of the fix in a shell, exactly as it is printed."""
    how, check, level, why, mend = BROKEN[what]
    how(good)
    found = doctor(good, code=1 if level == "fault" else 0)
    assert check in found, [one for one in found.values() if one["severity"] != "ok"]
    assert check != "admin_logs" or found["rights"]["severity"] == "ok", "no right is missing, but the table"
    one = found[check]
    assert (one["severity"], why in one["message"], mend in one["fix"]) == (level, True, True), one
    if what == "down":
        assert "wg1: is down, so nobody can connect" in good.daemon.cli("status", code=2).stdout
    if what in MENDED:
        shell(one["fix"])
        found = doctor(good, code=None)
        assert found[check]["severity"] == "ok"
        if found["metrics"]["severity"] != "ok":
            wait(lambda: doctor(good, code=None)["metrics"]["severity"] == "ok", "the daemon is well again")


def test_a_session_that_sleeps_and_holds_a_table_is_named_with_what_ends_it(
    good: Bench, shell: Callable[[str], str]
) -> None:
    """`status` and `doctor` both print the statement, and its first line is the session."""
    with contextlib.closing(pymysql.connect(**good.database.connect_args, database="mikyun_cloud")) as session:
        cursor = session.cursor()
        cursor.execute("SELECT CONNECTION_ID()")
        number = cursor.fetchall()[0][0]
        cursor.execute("LOCK TABLES customer_devices WRITE")
        good.daemon.signal(signal.SIGUSR1)
        wait(lambda: "1205" in good.daemon.status()["database"]["error"], "the daemon waited for the table in vain")
        fixes = [one["fix"] for one in good.daemon.status()["troubles"] if one["check"] == "database"]
        fixes.append(doctor(good, code=1)["daemon: database"]["fix"])
        assert len(fixes) == 2
        for fix in fixes:
            _, first, *_ = shell(fix).splitlines()
            assert first.split("\t")[0] == f"KILL {number}"
        shell(f"mariadb -e '{first.split(chr(9))[0]}'")
        wait(lambda: good.daemon.status()["verdict"] == "ok", "the table is free")


@pytest.fixture
def secret(good: Bench) -> Path:
    """Returns a password file of the test's own."""
    file = good.directory / "password"
    shutil.copy(good.database.password_file, file)
    file.chmod(0o600)
    good.configure({"mikyun.database.password_file": str(file)})
    return file


def test_a_password_that_others_can_read(good: Bench, secret: Path) -> None:
    assert doctor(good)["password"]["severity"] == "ok"
    secret.chmod(0o644)
    one = doctor(good, code=1)["password"]
    assert "open to everybody (-rw-r--r--)" in one["message"]
    assert f"chmod 640 {secret}" in one["fix"]
    secret.chmod(0o660)
    assert doctor(good)["password"]["severity"] == "warning"
    secret.write_text("")
    assert doctor(good, code=1)["password"]["message"].endswith("is empty")
    secret.unlink()
    found = doctor(good, code=1)
    assert "does not exist" in found["password"]["message"]
    assert found["database"]["severity"] == "fault"


def test_another_program_on_the_port(good: Bench) -> None:
    """The other program answers, but it is not wgsyncd."""
    good.daemon.stop()
    good.world.server.start("python3", "-m", "http.server", "9586", "--bind", "127.0.0.1")
    wait(lambda: "another program answers" in doctor(good, code=1)["metrics"]["message"], "the other program")


def test_an_installed_service(installed: Node) -> None:
    """wgsyncd runs under systemd as the README installs it. The test breaks it in typical ways."""
    run = installed.system.run

    def look() -> dict[str, dict[str, Any]]:
        data = json.loads(run("/usr/bin/wgsyncd", "doctor", "--json", check=False))
        return {one["check"]: one for one in data["checks"]}

    installed.configure()
    run("systemctl", "enable", "wgsyncd")
    installed.systemctl("restart")
    until(lambda: installed.get("/readyz").strip() == "ok", 20, "ready")
    found = look()
    for name in ("daemon", "unit", "capability", "metrics", "state", "secrets", "rights", "wg0"):
        assert found[name]["severity"] == "ok", found[name]
    assert "wg0: 1 peer" in found["unit"]["message"]
    assert "cannot be written" not in found["state"]["message"]
    run("chown", "-R", "root:root", "/var/lib/wgsyncd")
    one = look()["state"]
    assert one["severity"] == "fault"
    own = "chown -R wgsyncd:wgsyncd /var/lib/wgsyncd"
    assert one["fix"] == f"install -d -m 700 -o wgsyncd -g wgsyncd /var/lib/wgsyncd && {own}"
    run("sh", "-c", one["fix"])
    assert look()["state"]["severity"] == "ok", "the command mends it"
    good = run("cat", "/etc/wireguard/wg0.conf")
    bad = f"{good}SaveConfig = true\n[Peer]\nPublicKey = x\n[Peer]\nPublicKey = y\n"
    installed.system.write("/etc/wireguard/wg0.conf", bad, mode=0o600)
    findings = json.loads(run("/usr/bin/wgsyncd", "doctor", "--json", check=False))["checks"]
    mends = [one["fix"] for one in findings if one["check"] == "wg-quick"]
    assert mends[1:] == ["wgsyncd adopt"], "peers of no row are not removed by a command"
    run("sh", "-c", mends[0])
    assert run("cat", "/etc/wireguard/wg0.conf") == bad.replace("SaveConfig = true\n", "")
    assert "editor /etc/wireguard/wg0.conf" in run("sh", "-c", mends[1], check=False)
    installed.system.write("/etc/wireguard/wg0.conf", good, mode=0o600)
    assert look()["wg-quick"]["severity"] == "ok"
    nobody = run("runuser", "-u", "nobody", "--", "/usr/bin/wgsyncd", "doctor")
    assert "not entered: you are not the user wgsyncd" in nobody
    assert nobody.splitlines()[-1].startswith("0 faults, "), "what only root may see is no fault"
    run("chmod", "600", "/etc/wgsyncd/wgsyncd.toml")
    nobody = run("runuser", "-u", "nobody", "--", "/usr/bin/wgsyncd", "doctor")
    assert nobody.startswith("warning  configuration  (file): cannot be read: Permission denied\n")
    run("chmod", "644", "/etc/wgsyncd/wgsyncd.toml")
    run("systemctl", "stop", "wgsyncd")
    found = look()
    assert found["daemon"]["severity"] == found["unit"]["severity"] == "fault"
    assert found["unit"]["message"] == "it is inactive (dead)"
    installed.configure(text="[interfaces.wg0]\n")
    run("systemctl", "start", "wgsyncd", check=False)
    until(lambda: installed.show("ActiveState") == "failed", 20, "refused")
    found = look()
    assert "it failed: a bad configuration" in found["unit"]["message"]
    assert found["configuration"]["severity"] == "fault"
    installed.configure()
    run("systemctl", "reset-failed", "wgsyncd")
    run("systemctl", "disable", "wgsyncd")
