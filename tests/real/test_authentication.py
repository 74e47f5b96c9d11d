"""Each documented way to log in at the database works, besides the password file."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.real.installed import ACCOUNT, CONFIG, UNIT, Node
from tests.wait import until

PASSWORD = "/etc/wgsyncd/db-password"
TCP = 'host = "127.0.0.1"\npassword_file = "/etc/wgsyncd/db-password"\n'


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """Yields the installed system with a stopped daemon, and restores it afterwards."""
    run = installed.system.run
    run("systemctl", "stop", UNIT)
    yield installed
    run("systemctl", "disable", "--now", "wgsyncd.socket", UNIT)
    installed.drop_in("")
    installed.drop_in("", "unix-socket")
    installed.configure()


@pytest.mark.parametrize("named", [True, False])
def test_a_credential(node: Node, named: bool) -> None:
    """Only root and systemd can read the password, with password_file and without it."""
    run = node.system.run
    if not named:
        node.configure(text=CONFIG.replace(TCP, 'host = "127.0.0.1"\n'))
    assert run("stat", "--format=%U:%G %a", PASSWORD) == "root:root 600\n"
    assert run("runuser", "-u", "wgsyncd", "--", "cat", PASSWORD, check=False) == ""
    node.systemctl("start")
    node.await_ready()
    pid = node.show("MainPID")
    assert node.password not in run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")
    assert run("grep", "core file", f"/proc/{pid}/limits").split()[4:6] == ["1", "1"], "no core, not even by a pipe"


def test_what_the_web_application_may_do(node: Node) -> None:
    """Its group may notify. It may neither ask the daemon, nor read a secret."""
    run = node.system.run
    node.systemctl("start")
    node.await_ready()
    as_web = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=wgsyncd-notify", "--")
    notify = (
        "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'', '/run/wgsyncd-notify/notify.sock')"
    )
    before = float(re.findall(r"^wgsyncd_notifications_total (\S+)", node.get("/metrics"), re.MULTILINE)[0])
    run(*as_web, "python3", "-c", notify)
    until(lambda: f"\nwgsyncd_notifications_total {before + 1}" in node.get("/metrics"), 10, "it was heard")
    for secret in ("/run/wgsyncd/control.sock", PASSWORD, "/etc/wireguard/wg0.conf"):
        assert run(*as_web, "sh", "-c", f"cat {secret} 2>&1 || true").strip().endswith("Permission denied")
    assert run(*as_web, "/usr/bin/wgsyncd", "reload", check=False) == ""
    assert "Permission denied" in run(
        "sh", "-c", f'setpriv --reuid=nobody --regid=nogroup --clear-groups -- python3 -c "{notify}" 2>&1 || true'
    )


def test_no_ip_at_all(node: Node) -> None:
    """The test runs the commands in the head of unix-socket.conf, exactly as they are written."""
    run = node.system.run
    head = run("cat", "/usr/share/wgsyncd/systemd/unix-socket.conf").partition("[Service]")[0]
    lines = re.findall(r"^#   (.*)$", head, re.MULTILINE)
    commands = [line for line in lines if not line.startswith("/etc/wgsyncd/wgsyncd.toml: ")]
    assert len(commands) == len(lines) - 1
    node.configure(text=CONFIG.replace(TCP, 'socket = "/run/mysqld/mysqld.sock"\nuser = "wgsyncd"\n'))
    try:
        for command in commands:
            run("sh", "-ec", command)
        node.await_ready()  # the metrics come over systemd's socket
        assert node.show("RestrictAddressFamilies").split() == ["AF_NETLINK", "AF_UNIX"]
        rows = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'wgsyncd' AND host = 'localhost'"
        assert node.database.sql(rows) != [["0"]]
        node.database.sql("UPDATE customer_devices SET status = 'paused'")
        until(lambda: node.key not in node.peers(), 20, "a row is followed")
        node.database.sql("UPDATE customer_devices SET status = 'active'")
        until(lambda: node.key in node.peers(), 20, "and again")
    finally:
        node.database.sql("DROP USER IF EXISTS 'wgsyncd'@'localhost'")
    assert ACCOUNT not in "".join(commands), "its own account, not the password's"
