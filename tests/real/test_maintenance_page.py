"""The blocks of etc/doc/maintenance.md work on an installed system. They lose no byte and post none twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pages import DOC, INSTALL, blocks
from tests.real.installed import Node
from tests.samples import text
from tests.wait import until

PAGE = DOC / "maintenance.md"
ACCOUNTS = "'mikyun'@'127.0.0.1', 'wgsyncd'@'localhost'"  # the variants of install.md
NEWER = text(99)
ANOTHER_NODE = """sed -i '1i [node]\\nname = "wg-east"' "$1" """
# A userspace WireGuard has a socket with the old name.
WG2 = """
sed -i 's/^.interfaces.wg0.*/[interfaces.wg2]\\nstore_name = "wg0"/' "$1"
[ ! -e /run/wireguard/wg0.sock ] || mv /run/wireguard/wg0.sock /run/wireguard/wg2.sock
"""
WG0_AGAIN = """
systemctl stop wgsyncd
if ip link show wg2; then
    ip link set wg2 down; ip link set wg2 name wg0; ip link set wg0 up
    [ ! -e /run/wireguard/wg2.sock ] || mv /run/wireguard/wg2.sock /run/wireguard/wg0.sock
    mv /etc/wireguard/wg2.conf /etc/wireguard/wg0.conf
    systemctl disable wg-quick@wg2; systemctl enable wg-quick@wg0
fi
"""


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """Yields the installed system with a customer, and restores it afterwards."""
    installed.configure()
    installed.systemctl("stop")
    installed.database.sql("DELETE FROM wgsyncd_removals")  # the guard remembers the removals of other tests
    installed.systemctl("restart")
    installed.await_ready()
    installed.connect()
    yield installed
    installed.shell(WG0_AGAIN)
    installed.configure()


def edit(node: Node, script: str) -> None:
    """The next editor runs this script, which gets the file's name as $1."""
    node.system.write("/usr/bin/editor", f"#!/bin/sh -e\n{script}\n", mode=0o755)


def test_the_page_from_top_to_bottom(node: Node) -> None:
    sql, follow = node.database.sql, node.follow
    nothing = node.settled()

    def all_is_posted() -> None:
        until(lambda: node.owed() == nothing, 60, "each byte is posted, and once")

    follow(PAGE, "backup")
    assert node.system.run("stat", "-c", "%a", "/var/backups/mikyun_cloud.sql").strip() == "600"
    sql("INSERT INTO customer_devices (contract_id, device_id, wg_iface, wg_ip, public_key, status)"
        f" VALUES ('0001', '0001-newer', 'wg0', '10.200.0.6', '{NEWER}', 'active')")  # fmt: skip
    until(lambda: NEWER in node.peers(), 20, "the backup has no row of this peer")
    node.traffic()
    follow(PAGE, "restore")
    until(lambda: NEWER not in node.peers(), 20, "its peer goes")
    all_is_posted()

    follow(PAGE, "old database")
    sql(f"DROP DATABASE mikyun_cloud; DROP USER IF EXISTS {ACCOUNTS}")
    node.traffic()
    follow(PAGE, "new database")
    follow(INSTALL, "account")
    assert "good" in follow(PAGE, "go on")
    all_is_posted()

    edit(node, ANOTHER_NODE)
    follow(PAGE, "node")
    node.traffic()
    all_is_posted()
    assert sql("SELECT DISTINCT node FROM wgsyncd_peers") == [["wg-east"]]

    edit(node, WG2)
    follow(PAGE, "interface")
    node.await_ready()
    node.traffic()
    assert sql("SELECT DISTINCT node, interface FROM wgsyncd_peers") == [["wg-east", "wg2"]]
    node.shell(WG0_AGAIN)
    node.configure()
    node.systemctl("start")
    all_is_posted()
    assert node.settled() == nothing
    assert not sql("SELECT * FROM admin_logs WHERE action_type = 'usage_anomaly'")
    assert node.followed[PAGE] == set(blocks(PAGE)), "every block was run"
