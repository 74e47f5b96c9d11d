"""The shipped unit under a booted systemd: a private MariaDB, a userspace WireGuard, the daemon as its own user."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.nspawn import OPT, REPOSITORY
from tests.real.installed import UNIT, Node, needs_systemd
from tests.wait import until

pytestmark = needs_systemd


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """The daemon running with the good configuration and one complete reconcile behind it."""
    installed.configure()
    installed.systemctl("restart")
    until(lambda: installed.get("/readyz").strip() == "ok", 20, "readyz says ok")
    yield installed
    installed.system.run("systemctl", "stop", UNIT, check=False)
    installed.system.run("systemctl", "reset-failed", UNIT, check=False)


def test_start(node: Node) -> None:
    assert node.show("ActiveState") == "active"
    status = node.show("StatusText")
    assert status
    assert status.isascii()
    assert node.key in node.peers()
    assert node.preshared_key in node.peers()


def test_runs_with_one_capability_and_no_more(node: Node) -> None:
    pid = node.show("MainPID")
    status = dict(line.split(":", 1) for line in node.system.run("cat", f"/proc/{pid}/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12  # CAP_NET_ADMIN, capabilities(7)
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert node.system.run("ps", "-o", "user=", "-p", pid).strip() == "wgsyncd"


def test_journal_has_priorities_and_no_key(node: Node) -> None:
    node.database.sql("UPDATE customer_devices SET wg_ip = 'nonsense'")
    until(lambda: node.said("bad_address"), 20, "the rejected row is in the journal")
    node.database.sql("UPDATE customer_devices SET wg_ip = '10.200.0.5'")
    lines = [json.loads(line) for line in node.system.journal(UNIT, "--output=json").splitlines()]
    ours = [line for line in lines if line.get("SYSLOG_IDENTIFIER") == "wgsyncd"]
    names = {"error": "3", "warning": "4", "info": "6", "debug": "7"}
    for line in ours:
        level = re.match(r"level=(\w+) event=", line["MESSAGE"])
        assert level, line["MESSAGE"]
        assert line["PRIORITY"] == names[level[1]]
        assert "timestamp=" not in line["MESSAGE"]
    assert {"4", "6"} <= {line["PRIORITY"] for line in ours}
    text = json.dumps(lines)
    assert node.key not in text
    assert node.preshared_key not in text
    assert not re.search(r"[A-Za-z0-9+/]{43}=", text)


def test_reload_applies(node: Node) -> None:
    pid = node.show("MainPID")
    node.configure('persistent_keepalive = "25s"')
    node.systemctl("reload")
    assert node.peers().strip().endswith("\t25"), "when it returns, the new configuration is in force"
    assert node.show("MainPID") == pid


def test_reload_of_a_bad_configuration_changes_nothing(node: Node) -> None:
    pid, before, since = node.show("MainPID"), node.peers(), node.cursor()
    node.configure('max_rate = "fast"\nshare = 7')
    with pytest.raises(AssertionError, match="Job for wgsyncd.service failed"):
        node.systemctl("reload")
    until(lambda: "wgsyncd_config_ok 0.0" in node.get("/metrics"), 10, "the gauge says so")
    assert node.said("interfaces.wg0.max_rate", since)
    assert node.said("interfaces.wg0.share", since)
    assert node.show("MainPID") == pid
    assert node.peers() == before
    node.configure()
    node.systemctl("reload")
    until(lambda: "wgsyncd_config_ok 1.0" in node.get("/metrics"), 10, "the gauge says so")


def test_stop(node: Node) -> None:
    began = time.monotonic()
    node.systemctl("stop")
    assert time.monotonic() - began < 10
    assert node.show("Result") == "success"
    assert node.show("ExecMainStatus") == "0"
    assert node.key in node.peers()


def test_hanging_daemon_is_restarted(node: Node) -> None:
    pid, since = node.show("MainPID"), node.cursor()
    node.system.run("kill", "-STOP", pid)
    until(lambda: node.show("MainPID") not in (pid, "0") and node.show("ActiveState") == "active", 40, "a new process")
    assert node.said("Watchdog timeout", since)
    until(lambda: node.get("/readyz").strip() == "ok", 20, "readyz says ok")
    assert node.key in node.peers()


def test_killed_daemon_is_restarted(node: Node) -> None:
    pid = node.show("MainPID")
    node.system.run("kill", "-KILL", pid)
    until(lambda: node.show("MainPID") not in (pid, "0"), 20, "a new process")
    until(lambda: node.get("/readyz").strip() == "ok", 20, "readyz says ok")


def test_bad_configuration_at_start_is_final(installed: Node) -> None:
    since = installed.cursor()
    installed.configure(text='[interfaces.wg0]\nnetworks = ["10.0.0.1/8"]\n[guard]\nshare = 7\n')
    installed.system.run("systemctl", "start", UNIT, check=False)
    assert installed.show("ActiveState") == "failed"
    assert installed.show("ExecMainStatus") == "2"
    assert installed.show("NRestarts") == "0"
    assert installed.said("interfaces.wg0.networks", since)  # all faults, with key and reason
    assert installed.said("guard.share", since)
    installed.system.run("systemctl", "reset-failed", UNIT)


def test_database_away_at_start(installed: Node) -> None:
    installed.configure()
    before = installed.peers()
    installed.database.stop()
    try:
        installed.systemctl("start")  # returns at READY=1
        until(lambda: "database" in installed.show("StatusText"), 10, "STATUS names the database")
        assert installed.get("/readyz") == ""
        assert installed.get("/healthz").strip() == "ok"
        assert installed.peers() == before
    finally:
        installed.database.start()
    until(lambda: installed.get("/readyz").strip() == "ok", 30, "readyz says ok")
    installed.systemctl("stop")


def test_socket_unit_holds_the_port_through_a_restart(node: Node) -> None:
    system = node.system
    node.systemctl("stop")
    system.write("/etc/systemd/system/wgsyncd.socket", (REPOSITORY / "systemd" / "wgsyncd.socket").read_text())
    system.run("systemctl", "daemon-reload")
    system.run("systemctl", "start", "wgsyncd.socket")
    try:
        assert node.get("/healthz").strip() == "ok"  # waited for the start that it caused
        until(lambda: node.show("ActiveState") == "active", 20, "the service is up")
        system.run("systemctl", "restart", "--no-block", UNIT)
        assert node.get("/healthz").strip() == "ok"
    finally:
        system.run("systemctl", "stop", "wgsyncd.socket", UNIT)
        (system.root / "etc/systemd/system/wgsyncd.socket").unlink()
        system.run("systemctl", "daemon-reload")


def test_second_daemon_is_refused(node: Node) -> None:
    pid = node.show("MainPID")
    again = f"setpriv --reuid=wgsyncd --regid=wgsyncd --clear-groups {OPT}/bin/wgsyncd run 2>&1; echo exit $?"
    assert re.search(rf"pid {pid} holds /run/wgsyncd/lock\b.*\nexit 1$", node.system.run("sh", "-c", again).strip())
    assert node.show("MainPID") == pid
