"""What `wgsyncd doctor` proposes for a trouble of the system is run as root, exactly as printed, and mends the trouble.

The troubles of a private database are in test_doctor.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.pages import DOC, INSTALL, text
from tests.real.installed import CONFIG, FAST, UNIT, Node
from tests.wait import until
from wgsyncd.demo.testbed import kernel_has_wireguard

NO_RIGHTS = """
[Service]
AmbientCapabilities=
CapabilityBoundingSet=
"""
TROUBLES = {
    # how root makes it, the check that finds it, the beginning of the fix
    "no interface": ("systemctl stop wg-quick@wg0", "wg0", "systemctl restart wg-quick@wg0"),
    "deleted": ("ip link delete wg0", "daemon: wg0", "systemctl restart wg-quick@wg0"),
    "killed": ("systemctl kill --signal=KILL wg-quick@wg0", "daemon: wg0", "systemctl restart wg-quick@wg0"),
    "no private key": ("wg set wg0 private-key /dev/null", "wg0", "systemctl restart wg-quick@wg0"),
    "no address": ("ip address flush dev wg0", "wg0 address", "ip address add 10.200.0.1/24 dev wg0"),
    "nothing is forwarded": ("sysctl -qw net.ipv4.ip_forward=0", "wg0 forwarding", "echo 'net.ipv4.ip_forward = 1' >> "),
    "wg0 forwards nothing": ("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.wg0.forwarding=0", "wg0 forwarding",
                             "echo 'net.ipv4.conf.wg0.forwarding = 1' >> "),
    "down": ("ip link set wg0 down", "wg0 address", "ip link set wg0 up || ss -lunp"),
    "no daemon": ("systemctl stop wgsyncd", "daemon", "systemctl enable --now wgsyncd"),
    "masked": ("systemctl mask --now wgsyncd", "unit", "systemctl unmask wgsyncd && systemctl enable --now wgsyncd"),
    "no user": ("systemctl stop wgsyncd && sed -i /^wgsyncd:/d /etc/passwd /etc/shadow",
                "state", "systemd-sysusers && systemctl restart wgsyncd"),
    "not at boot": ("systemctl disable wgsyncd", "at boot", "systemctl enable wgsyncd"),
    "no control socket": ("rm /run/wgsyncd/control.sock", "daemon", "systemctl restart wgsyncd"),
    "no database": ("systemctl stop mariadb", "database", "systemctl start mariadb && "),
    "another unit file": ("touch /etc/systemd/system/wgsyncd.service.d/fast.conf", "unit", "systemctl daemon-reload"),
    "no right": ("mariadb -e \"REVOKE DELETE ON mikyun_cloud.wgsyncd_peers FROM 'wgsyncd'@'localhost'\"",
                 "rights", "wgsyncd init-db --socket /run/mysqld/mysqld.sock --grants "),
    "a secret is readable": ("mariadb -e \"GRANT SELECT ON mikyun_cloud.* TO 'wgsyncd'@'localhost'\"",
                             "secrets", "mariadb -e "),
    "another login": ("mariadb -e \"ALTER USER 'wgsyncd'@'localhost' IDENTIFIED BY 'x'; KILL USER 'wgsyncd'@'localhost'\"",
                      "database", "mariadb -e "),
}  # fmt: skip


@pytest.fixture
def node(installed: Node) -> Iterator[Node]:
    """Yields a system whose daemon runs with the good configuration, after one complete reconcile."""
    installed.configure()
    installed.system.run("systemctl", "enable", UNIT)
    installed.systemctl("restart")
    installed.await_ready()
    yield installed
    installed.system.run("rm", "-f", "/etc/sysctl.d/90-wgsyncd.conf")  # a cure of forwarding makes it
    installed.drop_in(FAST, "fast")
    installed.system.run("systemctl", "disable", "--now", UNIT, check=False)
    installed.system.run("systemctl", "reset-failed", UNIT, check=False)


def findings(node: Node, *options: str) -> dict[str, tuple[str, str]]:
    """The severity and the fix of each check of doctor. The worst one of a check is kept."""
    found: dict[str, tuple[str, str]] = {}
    for one in json.loads(node.system.run("wgsyncd", "doctor", "--json", *options, check=False))["checks"]:
        if found.get(one["check"], ("ok", ""))[0] == "ok":
            found[one["check"]] = one["severity"], one["fix"]
    return found


def mend(node: Node, check: str, begins: str, *options: str) -> None:
    """Run what doctor proposes for a check. Afterwards the check is ok."""
    until(lambda: findings(node, *options).get(check, ("ok", ""))[0] != "ok", 20, f"doctor finds {check}")
    severity, fix = findings(node, *options)[check]
    assert severity != "ok" and fix.startswith(begins), fix
    node.system.run("sh", "-ec", fix)
    until(lambda: findings(node, *options).get(check, ("ok", ""))[0] == "ok", 30, f"{check} is well")


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_command_mends_it(node: Node, trouble: str) -> None:
    how, check, begins = TROUBLES[trouble]
    node.system.run("sh", "-ec", how)
    mend(node, check, begins)


@pytest.mark.parametrize(
    ("trouble", "cure", "told"),
    [("dd if=/dev/zero of=/var/lib/wgsyncd/core status=none || :", "rm /var/lib/wgsyncd/core", "disk"),
     ("mount -o remount,ro /var/lib/wgsyncd", "mount -o remount,rw /var/lib/wgsyncd", "state")],
)  # fmt: skip
def test_a_state_directory_that_takes_nothing(node: Node, trouble: str, cure: str, told: str) -> None:
    """The database answers, so nothing has to be spooled. All the same, status is red before a night needs the spool."""

    def verdict() -> str:
        return node.system.run("wgsyncd", "status", check=False).partition(":")[0].split()[0]

    node.shell("mount -t tmpfs -o size=1M,mode=700,uid=$(id -u wgsyncd),gid=$(id -g wgsyncd) none /var/lib/wgsyncd")
    try:
        node.systemctl("restart")
        node.await_ready()
        until(lambda: verdict() == "OK", 30, "status says OK")
        node.shell(trouble)
        until(lambda: verdict() == "FAILING", 30, "status says FAILING")
        said = node.system.run("wgsyncd", "status", check=False)
        assert "spool: it cannot be written" in said, said
        assert findings(node)[told][0] == "fault"
        assert findings(node)["daemon: spool"][0] == "fault"
        node.shell(cure)
        until(lambda: verdict() == "OK", 30, "status says OK again")
    finally:
        node.shell("systemctl stop wgsyncd; umount /var/lib/wgsyncd")


def test_a_drop_in_that_takes_the_right_away(node: Node) -> None:
    node.drop_in(NO_RIGHTS)
    node.systemctl("restart")
    mend(node, "capability", "systemctl cat wgsyncd && systemctl revert wgsyncd")


def test_a_process_of_another_user(node: Node) -> None:
    """wg-quick alone starts wireguard-go as root. The page that the message names has the commands that help."""
    if kernel_has_wireguard():
        return
    node.shell("""
        systemctl stop wg-quick@wg0
        rm /etc/systemd/system/wg-quick@.service.d/userspace.conf
        systemctl daemon-reload
        systemctl start wg-quick@wg0
    """)
    until(lambda: findings(node).get("daemon: wg0") == ("fault", "man wgsyncd-install"), 30, "the daemon may not ask")
    assert "Userspace WireGuard" in node.system.run("man", "wgsyncd-install")
    node.system.run("systemctl", "stop", "wg-quick@wg0")
    node.follow(INSTALL, "userspace")
    node.system.run("systemctl", "enable", "--now", "wg-quick@wg0")
    until(lambda: "daemon: wg0" not in findings(node), 30, "the daemon serves wg0")


NEXAVPN = """
control_plane = "nexavpn"
[interfaces.wg0]
networks = ["10.200.0.0/24"]
"""


def test_a_program_that_is_not_installed(node: Node) -> None:
    """The package comes from a repository in a folder, because the system has no network."""
    run = node.system.run
    fields = ("Package", "Version", "Architecture", "Maintainer", "Depends", "Description")
    shown = "".join(f"{one}: ${{{one}}}\\n" for one in fields)
    control = run("dpkg-query", "--show", f"--showformat={shown}", "nftables")
    node.system.write("/srv/tree/DEBIAN/control", control)  # apt reads as another user, who cannot enter /root
    node.system.write("/root/policies.toml", NEXAVPN)
    node.shell("""
        cd /srv
        dpkg -L nftables | while read -r file; do test -d "$file" || cp --parents --no-dereference "$file" tree; done
        mkdir repository
        dpkg-deb --root-owner-group -Znone --build tree repository/nftables.deb
        rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo "deb [trusted=yes] file:/srv/repository ./" > /etc/apt/sources.list
    """)
    size, digest = node.shell("cd /srv/repository; stat -c %s nftables.deb; sha256sum nftables.deb").split()[:2]
    packages = f"{control.strip()}\nFilename: ./nftables.deb\nSize: {size}\nSHA256: {digest}\n"
    node.system.write("/srv/repository/Packages", packages)
    run("apt-get", "update")
    run("dpkg", "--remove", "--force-depends", "nftables")
    asked = ("--config", "/root/policies.toml")
    mend(node, "packet filter", "apt-get install ", *asked)
    assert run("nft", "--version").startswith("nftables v")


def test_a_service_that_refused_its_configuration(node: Node) -> None:
    """The last command of the line starts the service, after the admin has mended the file.

    A question at the port of the metrics starts it as well, since systemd holds the port.
    """
    node.configure(text="[interfaces.wg0]\n")
    node.system.run("systemctl", "restart", UNIT, check=False)
    until(lambda: node.show("ActiveState") == "failed", 20, "refused")
    assert findings(node)["configuration"][1] == "editor /etc/wgsyncd/wgsyncd.toml && wgsyncd check-config"

    def fix() -> str:
        found = findings(node)["unit"][1]
        return found if found.startswith("journalctl") else ""

    proposed = until(fix, 20, "doctor finds the failed unit")
    node.configure()
    node.system.run("sh", "-ec", proposed)
    until(lambda: findings(node)["unit"][0] == "ok", 30, "the unit is well")


def test_the_page_on_a_unix_socket_keeps_others_out(node: Node) -> None:
    """The drop-in of etc/doc/monitoring.md, as systemd follows it. doctor finds the socket."""
    page = DOC / "monitoring.md"
    drop_in = re.search(r"```ini\n(\[Socket\]\n.*?)```", text(page), re.DOTALL)
    assert drop_in and "`systemctl restart wgsyncd`" in text(page)
    ask = ("curl", "--silent", "--fail", "--unix-socket", "/run/wgsyncd.page", "http://localhost/")
    node.configure(text=f"{CONFIG}[metrics]\npage = true\n")
    node.system.write("/etc/systemd/system/wgsyncd.socket.d/override.conf", drop_in[1])
    try:
        node.system.run("systemctl", "daemon-reload")
        node.systemctl("restart")
        until(lambda: "0001-DEV-001" in node.system.run(*ask, check=False), 20, "the page shows the device")
        assert node.system.run("stat", "-c", "%a %U %G", "/run/wgsyncd.page").split() == ["660", "root", "wgsyncd"]
        assert "<title>" not in node.system.run("runuser", "-u", "nobody", "--", *ask, check=False)
        assert "0001-DEV-001" in node.system.run("runuser", "-u", "nobody", "-g", "wgsyncd", "--", *ask)
        assert not node.get("/readyz"), "the port is closed"
        assert findings(node)["metrics"][0] == "ok"
    finally:
        node.system.run("rm", "-r", "/etc/systemd/system/wgsyncd.socket.d", "/run/wgsyncd.page")
        node.system.run("systemctl", "daemon-reload")
    node.configure()
    node.systemctl("restart")
    node.await_ready()
