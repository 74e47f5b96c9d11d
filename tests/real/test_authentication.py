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
    run("chgrp", "wgsyncd", PASSWORD)
    run("chmod", "640", PASSWORD)
    installed.configure()


def test_a_credential(node: Node) -> None:
    """The test uses the line of the unit's comment. Afterwards only root and systemd can read the password."""
    shipped = node.system.run("cat", "/usr/lib/systemd/system/wgsyncd.service")
    [line] = re.findall(r"^#(LoadCredential=db-password:.*)$", shipped, re.MULTILINE)
    node.drop_in(f"[Service]\n{line}\n")
    node.system.run("chown", "root:root", PASSWORD)
    node.system.run("chmod", "600", PASSWORD)
    node.configure(text=CONFIG.replace(TCP, 'host = "127.0.0.1"\n'))
    assert node.system.run("runuser", "-u", "wgsyncd", "--", "cat", PASSWORD, check=False) == ""
    node.systemctl("start")
    node.await_ready()
    pid = node.show("MainPID")
    assert node.password not in node.system.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")


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
