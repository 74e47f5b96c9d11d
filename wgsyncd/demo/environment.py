"""The environment of the scenarios: a database, a testbed, the real daemon, and samples of all three."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd.demo import processes
from wgsyncd.demo.fixtures import CONTRACTS, DEVICES, SCANS, DeviceSpec
from wgsyncd.demo.mariadb import PrivateServer, quote
from wgsyncd.demo.observation import Check, Outcome, Row, Sample
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import Customer, KeyPair, Testbed, WgKind, new_keys, new_preshared_key

ZONE = ZoneInfo("Asia/Tokyo")
GIB = 1 << 30

_CONFIGURATION = """\
[node]
name = "demo"
zone = "{zone}"
[mikyun]
language = "{language}"
[mikyun.database]
socket = "{database.socket}"
password_file = "{database.password_file}"

[interfaces.wg0]
networks = ["10.200.0.0/24"]
addresses = ["10.200.0.1/24"]
[interfaces.wg1]
networks = ["10.251.0.0/24"]
addresses = ["10.251.0.1/24"]

[peers]
always_keep = ["{site}"]
[guard]
always_allowed = 3
[metrics]
page = true
[schedule]
poll_interval = "{pace:.0f}s"
resync_interval = "{resync:.0f}s"
watch_interval = "{watch:.0f}ms"
"""


class Environment:
    """Does what admins and customers do to the database, the testbed and the daemon.

    A new one has the rows of the fixtures, their customers and the configuration. The daemon does not run yet.
    ``pace``: 1 on an ordinary machine. All waiting times are multiplied by it. ``show`` is called with every sample.
    """

    def __init__(
        self, directory: Path, database: PrivateServer, testbed: Testbed, *, pace: float, show: Callable[[Sample], None]
    ) -> None:
        self.pace, self.database, self.testbed = pace, database, testbed
        self.site = new_keys().public  # the public key of a peer made by hand that `always_keep` names
        self.customers: dict[DeviceSpec, Customer] = {}
        self.keys: dict[DeviceSpec, KeyPair] = {}  # as the device has them now
        self.preshared_keys: dict[DeviceSpec, str] = {}
        self._directory, self._show = directory, show
        self.daemon: subprocess.Popen[bytes]  # once start_daemon() was called
        self._last = Sample(0, {}, {}, [])
        contracts = ", ".join(f"({n}, '{one}', '{CONTRACTS[one]}')" for n, one in enumerate(CONTRACTS, 1))
        self.database.sql(f"INSERT INTO contracts (contract_number, contract_id, contract_status) VALUES {contracts}")  # noqa: S608
        for spec in DEVICES:
            self.insert(spec)
            if spec.has_client:
                self.customers[spec] = testbed.add_customer()
        testbed.server.run("wg", "set", "wg0", "peer", self.site, "allowed-ips", "10.200.0.250/32")
        slow = min(pace, 4)  # on an emulated machine a cycle takes seconds
        language = "ja" if os.environ.get("LANG", "").startswith("ja") else "en"
        text = _CONFIGURATION.format(zone=ZONE.key, language=language, database=database, site=self.site,
                                     pace=slow, resync=5 * slow, watch=200 * slow)  # fmt: skip
        (directory / "wgsyncd.toml").write_text(text, encoding="utf-8")

    def insert(self, spec: DeviceSpec) -> None:
        """INSERT a device with new keys, as the web application does."""
        self.keys[spec] = keys = new_keys()
        if spec is SCANS:
            self.preshared_keys[spec] = new_preshared_key()
        contract, now = spec.device.partition("-")[0], self.local_time(0)
        texts = (contract, spec.device, spec.interface, spec.address, spec.status, keys.public, keys.private,
                 self.preshared_keys.get(spec), now, self.local_time(86400))  # fmt: skip
        self.database.sql(
            "INSERT INTO customer_devices (contract_id, device_id, wg_iface, wg_ip, status, public_key, private_key,"  # noqa: S608
            f" preshared_key, issued_at, qr_expires_at, is_parent) VALUES ({', '.join(map(quote, texts))},"
            f" {int(spec.device.endswith('-001'))})"
        )

    def adopt(self) -> None:
        """Let wgsyncd remove foreign peers, as an admin does after the first start."""
        if self._command("adopt", "--accept").wait(10 * self.pace):
            raise CommandFailed(f"wgsyncd adopt: see {self._directory}/wgsyncd.log")

    def start_daemon(self) -> None:
        """Start `wgsyncd run` with a real configuration file, in the server's namespace."""
        self.daemon = self._command("run")

    def keep_running(self) -> str:
        """Start the daemon once more, with traffic. Returns the address of its page.

        The page is on the machine's own loopback, and the daemon gets its socket as from systemd.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            get = f'exec 3<&{listener.fileno()} && LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
            self.daemon = self._command("run", before=("sh", "-c", get, "sh"), inherited=(listener.fileno(),))
        processes.await_socket(self._directory / "control.sock", self.daemon, "wgsyncd", seconds=30 * self.pace)
        for number, customer in enumerate(self.customers.values(), 1):
            customer.transfer(up=number * GIB, down=4 * number * GIB, seconds=10 * 3600)
        return f"http://{host}:{port}/"

    def _command(
        self, *words: str, before: Sequence[str] = (), inherited: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        directory = str(self._directory)
        argv = [*before, sys.executable, "-m", "wgsyncd", *words, "--config", f"{directory}/wgsyncd.toml"]
        settings = {
            "RUNTIME_DIRECTORY": directory, "STATE_DIRECTORY": f"{directory}/state", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip
        return self.testbed.server.start_with(inherited, argv, self._directory / "wgsyncd.log", settings)

    def local_time(self, seconds: float) -> str:
        """The DATETIME that lies ``seconds`` from now, as the web application writes it."""
        return datetime.fromtimestamp(time.time() + seconds, ZONE).strftime("%Y-%m-%d %H:%M:%S")

    def key(self, spec: DeviceSpec) -> str:
        """The public key that a device has now."""
        return self.keys[spec].public

    def update(self, spec: DeviceSpec, assignments: str) -> None:
        """UPDATE one device, as an admin's click in the web application does."""
        self.database.sql(f"UPDATE customer_devices SET {assignments} WHERE device_id = '{spec.device}'")  # noqa: S608

    def scan(self, spec: DeviceSpec) -> None:
        """A customer scans the QR code: the client gets its configuration from the row. It sends nothing yet."""
        row = self.sample().rows[spec.device]
        interface = self.testbed.interfaces[row.wg_iface]
        self.customers[spec].configure(interface, self.keys[spec], row.wg_ip, self.preshared_keys.get(spec))

    def finish(self, *transfers: subprocess.Popen[bytes]) -> bool:
        """Wait for transfers. Returns whether all of them succeeded."""
        ended = self.wait(lambda _: all(one.poll() is not None for one in transfers))
        return ended and not any(one.returncode for one in transfers)

    def sample(self) -> Sample:
        """Read the rows, the peers and the audit rows. While the database is away, its last rows are returned."""
        rows, audit = self._last.rows, self._last.audit
        columns = ", ".join(Row.__struct_fields__)
        try:
            answer = self.database.sql(f"SELECT {columns} FROM customer_devices ORDER BY id")  # noqa: S608
            rows = {row.device_id: row for row in msgspec.convert(answer, list[Row], strict=False)}
            answer = self.database.sql("SELECT action_type, target_id FROM admin_logs ORDER BY id")
            audit = [(str(row["action_type"]), str(row["target_id"])) for row in answer]
        except CommandFailed:
            pass  # a scenario killed the database: no scenario can succeed with old rows
        peers = {(one, key): peer for one, found in self.testbed.dump().items() for key, peer in found.items()}
        self._last = sample = Sample(time.monotonic(), rows, peers, audit)
        self._show(sample)
        return sample

    def until(self, check: Check) -> Outcome:
        """Sample until the outcome is as expected, the daemon has ended, or time is up. Returns the last outcome.

        A scenario that fails must leave time for the others.
        """
        deadline = time.monotonic() + 10 * self.pace
        while True:
            outcome = check(self.sample())
            if outcome.ok or time.monotonic() > deadline:
                return outcome
            if self.daemon.poll() not in (None, -signal.SIGKILL):  # only scenarios kill the daemon
                return outcome._replace(kernel=f"the daemon ended with {self.daemon.returncode}, {outcome.kernel}")
            time.sleep(0.05)

    def wait(self, condition: Callable[[Sample], bool]) -> bool:
        """Wait for a condition in the middle of a scenario. Returns whether it came true."""
        return self.until(lambda sample: Outcome("", "", condition(sample))).ok


@contextmanager
def opened(directory: Path, kind: WgKind, *, pace: float, show: Callable[[Sample], None]) -> Iterator[Environment]:
    """Start the database and the testbed with the rows of the fixtures, and end them afterwards."""
    testbed = Testbed(kind, log=directory / "testbed.log")
    with PrivateServer(parent=directory) as database, closing(testbed):
        database.load()
        database.create_account()
        testbed.open()
        yield Environment(directory, database, testbed, pace=pace, show=show)
