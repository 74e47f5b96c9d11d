"""Every block of etc/doc/install.md works on a new system with wireguard-go.

The blocks lead from nothing to a customer's bytes, through an upgrade, and to the removal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nspawn import Booted
from tests.pages import INSTALL, blocks
from tests.real.installed import UNIT, Node
from tests.real.test_readme import assert_bytes_arrived
from tests.samples import text

# This script plays the admin at the editor. The server has only wg0, and the application writes its times in UTC.
EDITOR = """\
#!/bin/sh
sed -i '/^.interfaces.wg1/,/^$/d; s|^# zone = .*|zone = "UTC"|' "$1"
"""

BY_HAND = text(90)  # the key of a peer that an admin added at night


@pytest.fixture
def fresh(bootable: None, package: Path) -> Iterator[Node]:
    """Yields Debian with MariaDB and a checkout."""
    with Booted() as system:
        node = Node(system)
        node.database.install()
        node.checkout(package)
        system.write("/usr/bin/editor", EDITOR, mode=0o755)
        yield node


def test_the_page_from_top_to_bottom(fresh: Node, later_package: Path) -> None:
    run, follow = fresh.system.run, fresh.follow
    for name in ("prerequisites", "package", "userspace", "interface"):
        follow(INSTALL, name)
    fresh.shell(f"wg set wg0 peer {BY_HAND} allowed-ips 10.200.0.99/32; ip address add fd00:77::1/64 dev wg0")
    follow(INSTALL, "running interface")
    assert BY_HAND in run("wg", "show", "wg0"), "a peer that is in no file is not lost"
    assert "fd00:77::1/64" in run("ip", "address", "show", "dev", "wg0"), "wg-quick goes on doing all else"
    fresh.shell("mv /etc/wireguard/wg0.conf.old /etc/wireguard/wg0.conf; systemctl restart wg-quick@wg0")

    for name in ("tables", "configuration", "account", "preview"):
        said = follow(INSTALL, name)
    assert "Nothing was changed" in said
    assert fresh.show("ActiveState") == "inactive", "nothing starts before somebody has looked"

    assert " 0 faults" in follow(INSTALL, "start").replace("\n", " ")
    fresh.await_ready()
    assert 'zone = "UTC"' in run("cat", "/etc/wgsyncd/wgsyncd.toml")
    assert "10.200.0.5/32" in follow(INSTALL, "device"), "wg shows the peer"
    fresh.connect(INSTALL)
    assert_bytes_arrived(follow(INSTALL, "result"))

    pid = fresh.show("MainPID")
    fresh.checkout(later_package)
    assert "active (running)" in follow(INSTALL, "upgrade")
    assert fresh.show("MainPID") not in ("0", pid)

    follow(INSTALL, "uninstall")
    assert run("systemctl", "is-active", UNIT, check=False).strip() == "inactive"
    assert "10.200.0.5/32" in run("wg", "show", "wg0"), "peers stay"
    assert not any(name.startswith("wgsyncd") for [name] in fresh.database.sql("SHOW TABLES"))
    assert fresh.database.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'mikyun'") == [["0"]]
    alternative = {"password"}  # test_authentication.py runs it
    assert fresh.followed[INSTALL] == set(blocks(INSTALL)) - alternative, "every block was run"
