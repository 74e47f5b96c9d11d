"""wgsyncd installed under a booted systemd: the shipped unit, a private MariaDB, a userspace WireGuard."""

from __future__ import annotations

import base64
import secrets
import shutil

import pytest

from tests import nspawn
from tests.nspawn import OPT, REPOSITORY, Booted
from tests.wait import until
from wgsyncd.demo.mariadb import PrivateServer

UNIT = "wgsyncd"
MISSING = nspawn.missing() or ", ".join(x for x in ("mariadbd", "wireguard-go", "wg") if not shutil.which(x))
needs_systemd = pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}")

CONFIG = """
[node]
name = "test"
[database]
socket = "/run/database/socket"
password_file = "/etc/wgsyncd/db-password"
[interfaces.wg0]
networks = ["10.200.0.0/24"]
addresses = ["10.200.0.1/24"]
{interface}
[schedule]
account = "1s"
reconcile = "2s"
watch = "200ms"
"""
FAST = """
[Service]
WatchdogSec=10
RestartSec=100ms
"""


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Node:
    """The system, its database, and one device that wants a peer on wg0."""

    def __init__(self, system: Booted, database: PrivateServer) -> None:
        self.system, self.database = system, database
        self.key, self.preshared_key = new_key(), new_key()

    def install(self) -> None:
        """As the comment at the top of the unit says."""
        system = self.system
        for name, where in (
            ("wgsyncd.sysusers.conf", "sysusers.d/wgsyncd.conf"),
            ("wgsyncd.service", "systemd/system/"),
        ):
            system.write(
                f"/etc/{where}{name if where.endswith('/') else ''}", (REPOSITORY / "systemd" / name).read_text()
            )
        system.run("systemd-sysusers")
        system.write("/etc/systemd/system/wgsyncd.service.d/fast.conf", FAST)
        password = self.database.password_file.read_text()
        system.write("/etc/wgsyncd/db-password", password, mode=0o640, group="wgsyncd")
        self.configure()
        system.run("systemctl", "daemon-reload")
        # as the unit's comment tells how to run a userspace interface
        system.run("systemd-run", "--unit=wg0", "--property=Type=exec", "--property=User=wgsyncd",
                   "--property=AmbientCapabilities=CAP_NET_ADMIN", "--property=RuntimeDirectory=wireguard",
                   "wireguard-go", "-f", "wg0")  # fmt: skip
        until(lambda: "wg0" in system.run("wg", "show", "interfaces"), 10, "wg0")
        system.run("wg", "set", "wg0", "private-key", "/dev/stdin", stdin=system.run("wg", "genkey"))
        system.run("ip", "link", "set", "wg0", "up")
        self.database.sql(
            "INSERT INTO contracts (contract_id) VALUES ('C-1');"
            "INSERT INTO customer_devices (contract_id, device_id, wg_iface, wg_ip, public_key, preshared_key, status)"
            f" VALUES ('C-1', 'D-1', 'wg0', '10.200.0.5', '{self.key}', '{self.preshared_key}', 'active')"
        )

    def configure(self, interface: str = "", text: str = "") -> None:
        self.system.write(
            "/etc/wgsyncd/wgsyncd.toml", text or CONFIG.format(interface=interface), mode=0o640, group="wgsyncd"
        )

    def systemctl(self, verb: str) -> None:
        """Do that with the unit; where it fails, the end of its log tells why."""
        try:
            self.system.run("systemctl", verb, UNIT)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.system.journal(UNIT, '--lines=20', '--output=cat')}") from None

    def show(self, name: str) -> str:
        return self.system.show(UNIT, name)[name]

    def peers(self) -> str:
        """`wg show wg0 dump` without the interface's own line."""
        return self.system.run("wg", "show", "wg0", "dump").partition("\n")[2]

    def get(self, path: str) -> str:
        """What the daemon answers over HTTP; "" while it does not."""
        code = (
            "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:9586' + sys.argv[1]).read().decode())"
        )
        return self.system.run(f"{OPT}/bin/python", "-c", code, path, check=False)

    def said(self, text: str, since: str = "") -> bool:
        """Whether the journal has that text (after that cursor)."""
        return text in self.system.journal(UNIT, *([f"--after-cursor={since}"] if since else []))

    def cursor(self) -> str:
        """The journal's end, for :meth:`said`."""
        return self.system.journal(UNIT, "--lines=0", "--show-cursor").strip().rpartition("-- cursor: ")[2]
