"""The shipped unit works under a booted systemd, with MariaDB, WireGuard and the daemon's own user.

The WireGuard is a userspace one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.real.installed import CONFIG, DEVICE, SELDOM, UNIT, Node
from tests.wait import until


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """Yields a system whose daemon runs with the good configuration, after one complete reconcile."""
    installed.configure()
    installed.systemctl("restart")
    installed.await_ready()
    yield installed
    installed.system.run("systemctl", "stop", UNIT, check=False)
    installed.system.run("systemctl", "reset-failed", UNIT, check=False)


def test_start(node: Node) -> None:
    assert node.show("ActiveState") == "active"
    until(lambda: re.fullmatch(r"wg0: 1 peer, [01] online", node.show("StatusText")), 10, "STATUS after the cycle")
    assert node.key in node.peers()
    assert node.preshared_key in node.peers()


def test_status_says_how_it_is(node: Node) -> None:
    """STATUS is one line in ASCII, which is the encoding of sd_notify. It follows every event."""
    node.connect()
    node.traffic()
    until(lambda: node.show("StatusText") == "wg0: 1 peer, 1 online", 20, "the customer is online")
    node.database.sql("UPDATE customer_devices SET wg_ip = 'nonsense'")
    until(lambda: "1 row rejected" in node.show("StatusText"), 20, "STATUS counts the row")
    node.database.sql(f"UPDATE customer_devices SET wg_ip = '{DEVICE}'")
    until(lambda: node.show("StatusText") == "wg0: 1 peer, 1 online", 20, "and forgets it")


def test_runs_with_one_capability_and_no_more(node: Node) -> None:
    pid = node.show("MainPID")
    status = dict(line.split(":", 1) for line in node.system.run("cat", f"/proc/{pid}/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12  # CAP_NET_ADMIN, see capabilities(7)
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert node.system.run("ps", "-o", "user=", "-p", pid).strip() == "wgsyncd"


def test_the_page_comes_through_the_port_that_systemd_holds(node: Node) -> None:
    assert "The page is off" in node.get("/")
    node.configure(text=f"{CONFIG}[metrics]\npage = true\n")
    assert "taken" in node.system.run("wgsyncd", "reload")
    until(lambda: "0001-DEV-001" in node.get("/"), 20, "the page shows the device")
    node.configure()
    node.system.run("wgsyncd", "reload")


def test_journal_has_priorities_and_no_key(node: Node) -> None:
    node.database.sql("UPDATE customer_devices SET wg_ip = 'nonsense'")
    until(lambda: node.said("bad_address"), 20, "the rejected row is in the journal")
    node.database.sql("UPDATE customer_devices SET wg_ip = '10.200.0.5'")
    until(lambda: node.said("row no longer rejected"), 20, "and its end")
    lines = [json.loads(line) for line in node.system.journal(UNIT, "--output=json").splitlines()]
    ours = [line for line in lines if line.get("SYSLOG_IDENTIFIER") == "wgsyncd"]
    for line in ours:
        assert line["MESSAGE"].startswith("event="), line["MESSAGE"]
        assert "timestamp=" not in line["MESSAGE"]
    assert {"4", "6"} <= {line["PRIORITY"] for line in ours}
    [rejected] = {line["MESSAGE"] for line in ours if 'event="row is rejected' in line["MESSAGE"]}
    for field in ("row=1", "device=0001-DEV-001", "reason=bad_address", "logger="):
        assert f" {field}" in rejected
    of_device = node.system.run("journalctl", "--no-pager", "-x", "WGSYNCD_DEVICE=0001-DEV-001")
    assert "no longer rejected" in of_device, "an entry has its device as a field"
    assert "wgsyncd plan` names the rows" in of_device, "the catalog shows the section of the runbook"
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


def peers(node: Node) -> list[list[str]]:
    """Returns the configuration of all peers. Their counters grow with each keepalive."""
    return [line.split("\t")[:4] for line in node.peers().splitlines()]


def test_reload_of_a_bad_configuration_changes_nothing(node: Node) -> None:
    pid, before, since = node.show("MainPID"), peers(node), node.cursor()
    node.configure('line_rate = "fast"\nmax_share = 7')
    with pytest.raises(AssertionError, match="Job for wgsyncd.service failed"):
        node.systemctl("reload")
    until(lambda: "wgsyncd_config_ok 0.0" in node.get("/metrics"), 10, "the gauge says so")
    assert node.said("interfaces.wg0.line_rate", since)
    assert node.said("interfaces.wg0.max_share", since)
    assert node.show("MainPID") == pid
    assert peers(node) == before
    node.configure()
    node.systemctl("reload")
    until(lambda: "wgsyncd_config_ok 1.0" in node.get("/metrics"), 10, "the gauge says so")


def test_stop_takes_a_last_account(node: Node) -> None:
    """The stop takes at most 10 s, the peers stay, and the row has all bytes that were counted until then."""
    node.connect()
    nothing = node.settled()
    node.configure(text=SELDOM)
    node.systemctl("restart")
    node.await_ready()
    node.traffic()
    assert node.owed() != nothing, "nobody has looked meanwhile"
    began = time.monotonic()
    node.systemctl("stop")
    assert time.monotonic() - began < 10
    assert node.show("Result") == "success"
    assert node.show("ExecMainStatus") == "0"
    assert node.key in node.peers()
    assert node.owed() == nothing


def test_hanging_daemon_is_restarted_and_counts_on(node: Node) -> None:
    """After SIGSTOP the watchdog starts a new process. Bytes of the time between are posted once."""
    node.connect()
    nothing, pid, since = node.settled(), node.show("MainPID"), node.cursor()
    node.system.run("kill", "-STOP", pid)
    node.traffic()
    before = node.posted()
    until(lambda: node.show("MainPID") not in (pid, "0") and node.show("ActiveState") == "active", 40, "a new process")
    assert node.said("Watchdog timeout", since)
    node.await_ready()
    until(lambda: node.owed() == nothing, 20, "all is posted")
    assert node.posted()[0] - before[0] >= 20 * 1000, "the customer's packets"
    assert node.key in node.peers()


def test_killed_daemon_is_restarted(node: Node) -> None:
    pid = node.show("MainPID")
    node.system.run("kill", "-KILL", pid)
    until(lambda: node.show("MainPID") not in (pid, "0"), 20, "a new process")
    node.await_ready()


def test_bad_configuration_at_start_is_final(installed: Node) -> None:
    since = installed.cursor()
    installed.configure(text='[interfaces.wg0]\nnetworks = ["10.0.0.1/8"]\n[guard]\nmax_share = 7\n')
    installed.system.run("systemctl", "start", UNIT, check=False)
    assert installed.show("ActiveState") == "failed"
    assert installed.show("ExecMainStatus") == "2"
    assert installed.show("NRestarts") == "0"
    assert installed.said("interfaces.wg0.networks", since)  # the journal has all faults, with key and reason
    assert installed.said("guard.max_share", since)
    installed.system.run("systemctl", "reset-failed", UNIT)


def test_database_away_at_start(installed: Node) -> None:
    installed.configure()
    before = installed.peers()
    installed.database.stop()
    try:
        installed.systemctl("start")  # the command returns at READY=1
        until(lambda: "database" in installed.show("StatusText"), 10, "STATUS names the database")
        assert installed.get("/readyz") == ""
        assert installed.get("/healthz").strip() == "ok"
        assert installed.peers() == before
    finally:
        installed.database.start()
    installed.await_ready()
    installed.systemctl("stop")


def _is_another(node: Node, former: set[str]) -> bool:
    return node.show("MainPID") not in former


def test_the_metrics_are_there_after_a_restart_and_a_kill(node: Node) -> None:
    """wgsyncd.socket comes and goes with the service, because the service itself has no IP."""
    for again in (("systemctl", "restart", UNIT), ("systemctl", "kill", "--signal=KILL", UNIT)):
        former = {"0", node.show("MainPID")}
        node.system.run(*again)
        until(partial(_is_another, node, former), 20, "another process")
        until(lambda: node.get("/healthz").strip() == "ok", 20, "it serves the metrics")


def test_second_daemon_is_refused(node: Node) -> None:
    pid = node.show("MainPID")
    again = "setpriv --reuid=wgsyncd --regid=wgsyncd --clear-groups /usr/bin/wgsyncd run 2>&1; echo exit $?"
    assert re.search(rf"pid {pid} holds /run/wgsyncd/lock\b.*\nexit 1$", node.system.run("sh", "-c", again).strip())
    assert node.show("MainPID") == pid


HOUR = """
import sys
sys.path.insert(0, "/usr/lib/wgsyncd")
from wgsyncd.cli.client import ask
for _ in range(60):
    ask("/sync", "POST", {"devices": []})
"""


def test_nothing_is_said_at_rest(node: Node) -> None:
    """wgsyncd promises at most one line an hour.

    This test makes sixty full comparisons, which is an hour's number, and a few polls.
    """
    node.connect()
    node.traffic()
    node.settled()
    since, polls, cycles = node.cursor(), node.runs("account"), node.runs("reconcile")
    node.system.run("/usr/bin/python3", "-I", "-c", HOUR)
    until(lambda: node.runs("account") - polls >= 5, 20, "polls")
    assert node.runs("reconcile") - cycles >= 60
    assert node.system.journal(UNIT, f"--after-cursor={since}", "--output=cat") == ""
