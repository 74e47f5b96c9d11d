"""The machine goes down: the last account is taken while interfaces and database are still there."""

from __future__ import annotations

import pytest

from tests.real.installed import UNIT, Node, needs_systemd
from tests.wait import until

pytestmark = needs_systemd

PART = "[Unit]\nPartOf=machine.target\n"
NEIGHBOUR = f"""{PART}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'systemctl show --property=ActiveState wgsyncd > /run/seen-by-NAME'
"""
NEIGHBOURS = ("mariadb", "wg-quick@wg0", "wg-quick@wg1")


def test_the_neighbours_stop_after_wgsyncd(installed: Node) -> None:
    """All of them in one transaction, as a shutdown stops them."""
    system = installed.system
    system.write("/etc/systemd/system/machine.target", "[Unit]\n")
    system.write(f"/etc/systemd/system/{UNIT}.service.d/part.conf", PART)
    for name in NEIGHBOURS:
        system.write(f"/etc/systemd/system/{name}.service", NEIGHBOUR.replace("NAME", name))
    system.run("systemctl", "daemon-reload")
    system.run("systemctl", "start", "machine.target", *NEIGHBOURS)
    installed.configure()
    installed.systemctl("restart")
    until(lambda: installed.get("/readyz").strip() == "ok", 20, "readyz says ok")
    system.run("systemctl", "stop", "machine.target")
    until(lambda: system.run("systemctl", "list-jobs", "--no-legend").strip() == "", 20, "all is stopped")
    assert installed.show("ActiveState") == "inactive"
    for name in NEIGHBOURS:
        assert system.run("cat", f"/run/seen-by-{name}").strip() == "ActiveState=inactive", name
        (system.root / f"etc/systemd/system/{name}.service").unlink()
    (system.root / f"etc/systemd/system/{UNIT}.service.d/part.conf").unlink()
    system.run("systemctl", "daemon-reload")


def test_the_spool_has_a_place_of_its_own(installed: Node) -> None:
    """The hardened unit may write there, as its own user; and nothing it holds is lost to a restart."""
    system = installed.system
    installed.configure()
    installed.database.stop()
    try:
        system.run("systemctl", "restart", UNIT)
        until(lambda: installed.get("/healthz").strip() == "ok", 20, "healthz says ok")
        # Nobody has a record of this peer yet, so what it has counted is worth a place in the spool.
        until(lambda: "wgsyncd_spool_ok 1.0" in installed.get("/metrics"), 20, "the spool is well")
        system.run("systemctl", "stop", UNIT)
        mode = system.run("stat", "--format=%U %a", "/var/lib/wgsyncd").strip()
        assert mode == "wgsyncd 700"
    finally:
        installed.database.start()


@pytest.fixture(autouse=True)
def stopped(installed: Node) -> None:
    """As the other tests want to find it."""
    installed.system.run("systemctl", "stop", UNIT, check=False)
    installed.system.run("systemctl", "reset-failed", UNIT, check=False)
