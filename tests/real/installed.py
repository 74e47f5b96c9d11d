"""wgsyncd is installed under a booted systemd by the commands of README.md.

The parts are the project's Debian package, Debian's MariaDB as its own service, wg0 as wg-quick@wg0, and one customer.
If the kernel has no WireGuard, wg-quick@wg0 runs wireguard-go under the daemon's user, as etc/doc/install.md says.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import nspawn
from tests.nspawn import REPOSITORY, Booted
from tests.pages import INSTALL, README, commands
from tests.wait import until
from wgsyncd.demo.testbed import kernel_has_wireguard

UNIT = "wgsyncd"
NEEDED = {
    **nspawn.NEEDED, "mariadbd": "mariadb-server", "wireguard-go": "wireguard-go", "wg": "wireguard-tools",
    "dpkg-deb": "dpkg", "apt-get": "apt",
}  # fmt: skip
"""Maps the programs that the tests need to the Debian packages that have them."""

LATER = "9.9.9"  # a version above every real one
DEVICE, GATEWAY = "10.200.0.5", "10.200.0.1"  # README.md and install.md use these addresses
CONFIG = """
[mikyun.database]
socket = "/run/mysqld/mysqld.sock"
user = "wgsyncd"
[interfaces.wg0]
networks = ["10.200.0.0/24"]
addresses = ["10.200.0.1/24"]
{interface}
[schedule]
poll_interval = "1s"
resync_interval = "2s"
watch_interval = "250ms"
"""
SELDOM = CONFIG.replace('poll_interval = "1s"', 'poll_interval = "1h"').replace(
    'resync_interval = "2s"', 'resync_interval = "1h"'
)
FAST = """
[Service]
WatchdogSec=10
RestartSec=100ms
"""
MARIADB = """
[mariadbd]
innodb_buffer_pool_size = 32M
loose_innodb_buffer_pool_size_max = 128M
innodb_use_native_aio = 0
skip_log_bin
"""
CUSTOMER = """
ip netns add customer
ip link add outer type veth peer name inner netns customer
ip address add 192.0.2.1/24 dev outer
ip link set outer up
ip -n customer link set lo up
ip -n customer address add 192.0.2.2/24 dev inner
ip -n customer link set inner up
"""
INSIDE = ("ip", "netns", "exec", "customer")


def build(directory: Path) -> Path:
    """Returns the path of the project's Debian package. $WGSYNCD_PACKAGE names a package that is already built."""
    made = os.environ.get("WGSYNCD_PACKAGE")
    if made:
        return Path(made)
    assert "WGSYNCD_VM" not in os.environ, "no way out of the VM: first export WGSYNCD_PACKAGE=$(etc/debian/build)"
    argv = [str(REPOSITORY / "etc" / "debian" / "build"), str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def as_later(package: Path, directory: Path) -> Path:
    """Returns the path of the same package with a later version."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {LATER}+deb1", control.read_text()))
    module = tree / "usr/lib/wgsyncd/wgsyncd/_version.py"
    module.write_text(re.sub(r"__version__ = '.*'", f"__version__ = '{LATER}'", module.read_text()))
    made = directory / f"wgsyncd_{LATER}.deb"
    subprocess.run(["dpkg-deb", "--build", "-Znone", str(tree), str(made)], check=True, capture_output=True)
    return made


class Database:
    """Controls Debian's MariaDB in the system as its administrator."""

    def __init__(self, system: Booted) -> None:
        self._system = system

    def install(self) -> None:
        """Sets up the server, as the package does where it may start a service."""
        self._system.write("/etc/mysql/mariadb.conf.d/99-small.cnf", MARIADB)
        self._system.run("install", "-d", "-o", "mysql", "-g", "mysql", "/var/lib/mysql")
        self._system.run(
            "mariadb-install-db", "--user=mysql", "--skip-test-db", "--auth-root-authentication-method=socket"
        )
        self._system.run("systemctl", "enable", "--now", "mariadb")

    def sql(self, text: str, *, database: str = "mikyun_cloud") -> list[list[str]]:
        """Runs statements as root. Returns their answer by line and column."""
        said = self._system.run("mariadb", "--batch", "--skip-column-names", database, stdin=text)
        return [line.split("\t") for line in said.splitlines()]

    def stop(self) -> None:
        """Stops the service in an orderly way."""
        self._system.run("systemctl", "stop", "mariadb")

    def start(self) -> None:
        """Starts the service and waits until it answers."""
        self._system.run("systemctl", "start", "mariadb")


class Node:
    """Holds the system, its database and one device that wants a peer on wg0."""

    def __init__(self, system: Booted) -> None:
        self.system, self.database = system, Database(system)
        self.key = self.preshared_key = ""
        self.followed: defaultdict[Path, set[str]] = defaultdict(set)
        self.quick_start = ""  # the configuration that README.md's quick start leaves

    def install(self, package: Path) -> None:
        """Installs everything, up to one device, with README.md's own commands."""
        self.database.install()
        self.checkout(package)
        if "WGSYNCD_VM" in os.environ:
            self.apt_install(package)
        else:
            self.follow(README, "package")
        if not kernel_has_wireguard():
            self.follow(INSTALL, "userspace")
        self.follow(README, "server")
        self.await_ready()
        self.quick_start = self.system.run("cat", "/etc/wgsyncd/wgsyncd.toml")
        self.follow(README, "device")
        [[self.key, self.preshared_key]] = self.database.sql("SELECT public_key, preshared_key FROM customer_devices")
        until(lambda: self.key in self.peers(), 10, "the peer is there")
        self.system.run("systemctl", "disable", "--now", UNIT)
        self.set_up()

    def shell(self, script: str, *prefix: str) -> str:
        """Runs commands as root in root's home until one fails. Returns what they printed."""
        with self.explained():
            return self.system.run(*prefix, "sh", "-ec", f"cd /root\n{script}", timeout=300)

    def follow(self, page: Path, name: str, *prefix: str) -> str:
        """Runs a named block of a page. Returns what the block printed."""
        self.followed[page].add(name)
        return self.shell(commands(page, name), *prefix)

    def checkout(self, package: Path) -> None:
        """Provides a built package, as the pages' commands expect it in a checkout.

        The build was made outside, where PyPI is reachable.
        """
        shutil.copy(package, self.system.root / "root")
        self.system.write("/root/etc/debian/build", f"#!/bin/sh\necho /root/{package.name}\n", mode=0o755)

    def apt_install(self, package: Path) -> str:
        """Installs the package itself. Returns what apt printed."""
        shutil.copy(package, self.system.root / "root")
        if "WGSYNCD_VM" in os.environ:
            # On an emulated machine it takes minutes to compile every module, to index all manual pages, or to run apt.
            for name in ("py3compile", "mandb"):
                self.system.write(f"/usr/bin/{name}", "#!/bin/sh\n", mode=0o755)
        how = "dpkg --install --force-unsafe-io" if "WGSYNCD_VM" in os.environ else "apt-get install -y"
        return self.system.run("sh", "-ec", f"cd /root && {how} ./{package.name}", timeout=300)

    def set_up(self) -> None:
        """Prepares the newly installed package on a server that has all the rest.

        It sets faster schedules and a shorter watchdog.
        """
        self.drop_in(FAST, "fast")
        self.configure()
        self.system.run("systemctl", "start", "wg-quick@wg0")

    def configure(self, interface: str = "", text: str = CONFIG) -> None:
        self.system.write("/etc/wgsyncd/wgsyncd.toml", text.replace("{interface}", interface))

    def drop_in(self, text: str, name: str = "test") -> None:
        """Writes a drop-in of the unit, as `systemctl edit` does. An empty text removes the drop-in."""
        path = f"/etc/systemd/system/wgsyncd.service.d/{name}.conf"
        if text:
            self.system.write(path, text)
        else:
            (self.system.root / path[1:]).unlink(missing_ok=True)
        self.system.run("systemctl", "daemon-reload")

    def systemctl(self, verb: str) -> None:
        """Runs a verb on the unit."""
        with self.explained():
            self.system.run("systemctl", verb, UNIT)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """If the body fails, the error also contains the state of the unit and the end of its log."""
        try:
            yield
        except AssertionError as error:
            shown = self.system.run("systemctl", "status", "--full", "--lines=40", UNIT, check=False)
            load = Path("/proc/loadavg").read_text()
            raise AssertionError(f"{error}\n{shown}\nload of the machine: {load}") from None

    def await_ready(self) -> None:
        """Waits for a complete reconcile and an answer of the database."""
        with self.explained():
            until(lambda: self.get("/readyz").strip() == "ok", 60, "readyz says ok")

    def show(self, name: str) -> str:
        return self.system.show(UNIT, name)[name]

    def peers(self) -> str:
        """Returns `wg show wg0 dump` without the interface's own line."""
        return self.system.run("wg", "show", "wg0", "dump").partition("\n")[2]

    def counted(self) -> tuple[int, int]:
        """Returns the bytes that the interface has counted for the device: received, sent."""
        fields = next(line.split("\t") for line in self.peers().splitlines() if line.startswith(self.key))
        return int(fields[5]), int(fields[6])

    def posted(self) -> tuple[int, int]:
        """Returns the bytes in the device's row: received and sent by the server."""
        [[rx, tx]] = self.database.sql("SELECT rx_bytes_total, tx_bytes_total FROM customer_devices")
        return int(rx), int(tx)

    def owed(self) -> tuple[int, int]:
        """Returns the interface's bytes minus the row's bytes.

        The difference is constant whenever all bytes are posted and the interface stays the same. The row also has the
        bytes of earlier interfaces.
        """
        (rx, tx), (row_rx, row_tx) = self.counted(), self.posted()
        return rx - row_rx, tx - row_tx

    def settled(self) -> tuple[int, int]:
        """Returns :meth:`owed` after polls have posted everything. Two more polls must not change it."""

        def again() -> tuple[int, int] | None:
            before, polls = self.owed(), self.runs("account")
            until(lambda: self.runs("account") >= polls + 2, 20, "two polls")
            return before if self.owed() == before else None

        return until(again, 60, "nothing comes in") or self.owed()

    def connect(self, page: Path = README) -> None:
        """Connects the customer with a page's phone configuration, in a network of its own, if it is not connected yet."""
        if "customer" in self.system.run("ip", "netns", "list"):
            return
        self.shell(CUSTOMER)
        self.follow(page, "phone", "env", "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go", *INSIDE)

    def take_down(self) -> None:
        """Removes wg0 and the customer. The customer's session and its socket belong to the old wg0."""
        self.shell("wg-quick down ./phone.conf", *INSIDE)
        self.system.run("ip", "netns", "delete", "customer")
        self.system.run("systemctl", "stop", "wg-quick@wg0")

    def traffic(self, packets: int = 20) -> None:
        """Sends packets of one kilobyte from the customer through the tunnel. Each packet comes back."""
        self.system.run(*INSIDE, "ping", "-q", "-c", str(packets), "-i", "0.01", "-s", "1000",
                        "-W", "10", GATEWAY)  # fmt: skip

    def hush(self) -> None:
        """Takes the customer off the network, so that not even a keepalive is counted."""
        self.system.run(*INSIDE, "ip", "link", "set", "phone", "down")

    def get(self, path: str) -> str:
        """Returns the daemon's answer over HTTP, or "" while it does not answer."""
        code = (
            "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:9586' + sys.argv[1]).read().decode())"
        )
        return self.system.run("/usr/bin/python3", "-c", code, path, check=False)

    def runs(self, task: str) -> float:
        """Returns how often the daemon has run the task since its start."""
        found = re.search(rf'^wgsyncd_task_runs_total{{task="{task}"}} (.*)$', self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def said(self, text: str, since: str = "") -> bool:
        """Returns whether the journal contains the text after the cursor `since`."""
        return text in self.system.journal(UNIT, *([f"--after-cursor={since}"] if since else []))

    def cursor(self) -> str:
        """Returns the journal's end, for :meth:`said`."""
        return self.system.journal(UNIT, "--lines=0", "--show-cursor").strip().rpartition("-- cursor: ")[2]
