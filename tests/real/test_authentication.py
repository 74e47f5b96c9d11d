"""Each documented way to log in at the database works, besides the password file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.pages import INSTALL
from tests.real.installed import CONFIG, UNIT, Node
from tests.wait import until

PASSWORD = "/etc/wgsyncd/db-password"
SOCKET = 'socket = "/run/mysqld/mysqld.sock"\nuser = "wgsyncd"\n'
TCP = 'host = "127.0.0.1"\nuser = "mikyun"\n'


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """Yields the installed system with a stopped daemon, and restores it afterwards."""
    run = installed.system.run
    run("systemctl", "stop", UNIT)
    yield installed
    run("systemctl", "stop", UNIT)
    installed.drop_in("", "tcp")
    run("rm", "-f", PASSWORD)
    installed.database.sql("DROP USER IF EXISTS 'mikyun'@'127.0.0.1'")
    installed.configure()


def test_no_ip_and_no_password_as_shipped(node: Node) -> None:
    run = node.system.run
    node.systemctl("start")
    node.await_ready()  # the metrics come over systemd's socket
    assert node.show("RestrictAddressFamilies").split() == ["AF_NETLINK", "AF_UNIX"]
    rows = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'wgsyncd' AND host = 'localhost'"
    assert node.database.sql(rows) != [["0"]]
    node.database.sql("UPDATE customer_devices SET status = 'paused'")
    until(lambda: node.key not in node.peers(), 20, "a row is followed")
    node.database.sql("UPDATE customer_devices SET status = 'active'")
    until(lambda: node.key in node.peers(), 20, "and again")
    assert "devices with traffic" in run("/usr/bin/wgsyncd", "usage", "--top", "5"), "root's commands log in, too"
    node.systemctl("stop")
    assert node.get("/healthz") == ""
    assert node.show("ActiveState") == "inactive", "a scrape does not start a stopped daemon"


@pytest.mark.parametrize("named", [True, False])
def test_a_password(node: Node, named: bool) -> None:
    """The page's own commands make the account. Only root and systemd can read the password, named or as a credential."""
    run = node.system.run
    node.configure(text=CONFIG.replace(SOCKET, SOCKET + f'# password_file = "{PASSWORD}"\n'))
    node.follow(INSTALL, "password")
    made = run("cat", "/etc/wgsyncd/wgsyncd.toml")
    assert f'{TCP}password_file = "{PASSWORD}"\n' in made
    if not named:
        node.configure(text=made.replace(f'password_file = "{PASSWORD}"\n', ""))
    password = run("cat", PASSWORD).strip()
    assert run("stat", "--format=%U:%G %a", PASSWORD) == "root:root 600\n"
    assert run("runuser", "-u", "wgsyncd", "--", "cat", PASSWORD, check=False) == ""
    node.systemctl("start")
    node.await_ready()
    rows = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'mikyun'"
    assert node.database.sql(rows) != [["0"]]
    pid = node.show("MainPID")
    assert password not in run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")
    assert run("grep", "core file", f"/proc/{pid}/limits").split()[4:6] == ["1", "1"], "no core, not even by a pipe"
    run("sh", "-c", f"chgrp wgsyncd {PASSWORD} && chmod 640 {PASSWORD}")
    if named:
        look = json.loads(run("/usr/bin/wgsyncd", "doctor", "--json", check=False))["checks"]
        [found] = [one for one in look if one["check"] == "password"]
        assert "can be read by its group" in found["message"]
        run("sh", "-c", found["fix"])
        assert run("stat", "--format=%U:%G %a", PASSWORD) == "root:root 600\n", "the command mends it"


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
    for secret in ("/run/wgsyncd/control.sock", "/etc/wireguard/wg0.conf"):
        assert run(*as_web, "sh", "-c", f"cat {secret} 2>&1 || true").strip().endswith("Permission denied")
    assert run(*as_web, "/usr/bin/wgsyncd", "reload", check=False) == ""
    assert "Permission denied" in run(
        "sh", "-c", f'setpriv --reuid=nobody --regid=nogroup --clear-groups -- python3 -c "{notify}" 2>&1 || true'
    )
