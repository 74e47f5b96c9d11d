"""The shipped unit works with the kernel's WireGuard, on a booted systemd in the virtual machine."""

from __future__ import annotations

import pytest

from tests.real.installed import SELDOM, UNIT, Node
from tests.wait import until

pytestmark = pytest.mark.vm


def test_a_life(installed: Node) -> None:
    """The test leads from the package to a customer's bytes in the table: start, traffic, a changed row, reload and
    stop.

    Every step uses the kernel's netlink, as the daemon's user and in its sandbox.
    """
    node, run = installed, installed.system.run
    run("systemctl", "enable", "--now", UNIT)
    node.await_ready()
    assert "wireguard" in run("ip", "-details", "link", "show", "wg0")
    assert node.key in node.peers()
    pid = node.show("MainPID")
    node.database.sql("UPDATE customer_devices SET status = 'paused'")
    until(lambda: node.peers() == "", 60, "the peer goes with its row")
    node.database.sql("UPDATE customer_devices SET status = 'active'")
    until(lambda: node.key in node.peers(), 60, "and comes back")

    node.configure('persistent_keepalive = "25s"', text=SELDOM)
    node.systemctl("reload")
    until(lambda: node.peers().strip().endswith("\t25"), 60, "the keepalive of the new configuration is in force")
    assert node.show("MainPID") == pid
    node.connect()
    node.traffic()
    assert node.posted() != node.counted(), "nobody has looked meanwhile"
    node.systemctl("stop")
    assert node.show("Result") == "success"
    assert node.posted() == node.counted()
    assert min(node.posted()) >= 20 * 1000
