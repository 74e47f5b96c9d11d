"""The environment of the scenarios: a database, a testbed, the real daemon, and samples of all three."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from wgsyncd.demo import observation, processes
from wgsyncd.demo.fixtures import DEVICES, Device, DeviceSpec, make_devices, opening
from wgsyncd.demo.mariadb import ACCOUNT, DATABASE, PrivateServer
from wgsyncd.demo.observation import Bytes, Log, Sample, Seen
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import Customer, KeyPair, Testbed, kernel_has_wireguard, new_keys

ZONE = ZoneInfo("Asia/Tokyo")
SILENT_AFTER = 11.0
"""Seconds without change after which a peer sends nothing more.

WireGuard answers the last data with a keepalive after KEEPALIVE_TIMEOUT, which is 10 s.
"""

_CONFIGURATION = """\
[node]
name = "demo"
zone = "{zone}"

[mikyun.database]
socket = "{socket}"
name = "{database}"
user = "{account}"
password_file = "{password_file}"

[interfaces.wg0]
networks = ["10.200.0.0/24"]
addresses = ["10.200.0.1/24"]

[interfaces.wg1]
networks = ["10.251.0.0/24"]
addresses = ["10.251.0.1/24"]

[peers]
foreign = "remove"
always_keep = ["{site}"]

[guard]
always_allowed = 3

[schedule]
poll_interval = "{every:.0f}s"
resync_interval = "{reconcile:.0f}s"
watch_interval = "{watch:.0f}ms"

[mikyun]
language = "{language}"

[metrics]
listen = "127.0.0.1:9586"

[log]
format = "logfmt"
"""


class Stage:
    """Owns the database, the testbed and the daemon, and does what admins and customers do to them.

    ``pace``: 1 on an ordinary machine. All waiting times are multiplied by it. ``show`` is called with every sample.
    """

    def __init__(self, directory: Path, *, pace: float, show: Callable[[Sample], None]) -> None:
        self.pace = pace
        self.log = directory / "wgsyncd.log"
        self.database = PrivateServer(parent=directory)
        self.world = Testbed("kernel" if kernel_has_wireguard() else "userspace", log=directory / "testbed.log")
        self.devices: dict[str, Device] = {}
        self.site: KeyPair
        self._directory, self._show = directory, show
        self._daemon: subprocess.Popen[bytes] | None = None
        self._last = Sample(0, {}, {}, ())
        self._still: dict[str, tuple[Bytes, float]] = {}  # public key: counters, and when they last changed

    def open(self) -> None:
        """Start database and testbed, with the rows of the fixtures. Call :meth:`close` even if this fails."""
        self.database.install()
        self.database.start()
        self.database.load()
        self.database.create_account()
        self.devices = make_devices()
        self.database.sql(opening(self.devices, self.local_time(0)))
        self.world.open()
        self.customers = {spec.device: self.world.add_customer() for spec in DEVICES if spec.has_client}
        self.site = new_keys()
        self.world.server.run("wg", "set", "wg0", "peer", self.site.public, "allowed-ips", "10.200.0.250/32")
        slow = min(self.pace, 4)  # on an emulated machine a cycle takes seconds
        text = _CONFIGURATION.format(
            every=slow, reconcile=5 * slow, watch=200 * slow,
            language="ja" if os.environ.get("LANG", "").startswith("ja") else "en",
            zone=ZONE.key, socket=self.database.socket, database=DATABASE, account=ACCOUNT, site=self.site.public,
            password_file=self.database.password_file,
        )  # fmt: skip
        (self._directory / "wgsyncd.toml").write_text(text, encoding="utf-8")

    def close(self) -> None:
        """End the daemon, the testbed and the database."""
        if self._daemon is not None:
            processes.end(self._daemon, signal.SIGKILL)
        self.world.close()
        self.database.close()

    @property
    def daemon(self) -> subprocess.Popen[bytes]:
        """The daemon's process."""
        assert self._daemon is not None
        return self._daemon

    def start_daemon(self) -> None:
        """Start `wgsyncd run` with a real configuration file, in the server's namespace."""
        configuration = str(self._directory / "wgsyncd.toml")
        self._daemon = self.world.server.start(
            sys.executable,
            "-m",
            "wgsyncd",
            "run",
            "--config",
            configuration,
            log=self.log,
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
            PYTHONDONTWRITEBYTECODE="1",
            RUNTIME_DIRECTORY=str(self._directory),
            STATE_DIRECTORY=str(self._directory),
        )

    def local_time(self, seconds: float) -> str:
        """The DATETIME that lies ``seconds`` from now, as the web application writes it."""
        return datetime.fromtimestamp(time.time() + seconds, ZONE).strftime("%Y-%m-%d %H:%M:%S")

    def key(self, spec: DeviceSpec) -> str:
        """The public key that a device has now."""
        return self.devices[spec.device].keys.public

    def admin(self, assignments: str, spec: DeviceSpec) -> None:
        """UPDATE one device, as an admin's click in the web application does."""
        self.database.sql(f"UPDATE customer_devices SET {assignments} WHERE device_id = '{spec.device}'")  # noqa: S608

    def scan(self, spec: DeviceSpec) -> None:
        """A customer scans the QR code: the client gets its configuration from the row. It sends nothing yet."""
        row, device = self.sample().rows[spec.device], self.devices[spec.device]
        server = self.world.interfaces[row.interface]
        self.customer(spec).configure(server, device.keys, row.address, device.preshared_key)

    def customer(self, spec: DeviceSpec) -> Customer:
        """The customer who holds a device."""
        return self.customers[spec.device]

    def finish(self, *transfers: subprocess.Popen[bytes]) -> bool:
        """Wait for transfers. Returns whether all of them succeeded."""
        return self.wait(lambda _: all(one.poll() is not None for one in transfers)) and not any(
            one.returncode for one in transfers
        )

    def silence(self, key: str) -> None:
        """Wait until a peer sends nothing more. Bytes between its last dump and its removal would not be accounted."""
        since = self._still.get
        self.wait(lambda sample: sample.at - since(key, (None, sample.at))[1] > SILENT_AFTER, seconds=SILENT_AFTER)

    def sample(self) -> Sample:
        """Read the rows, the peers and the new audit rows. While the database is away, the last rows are returned."""
        rows, logs = self._last.rows, self._last.logs
        news = f"SELECT action_type, target_id, message FROM admin_logs ORDER BY id LIMIT {len(logs)}, 999"  # noqa: S608
        try:
            rows = {one.device: one for one in map(observation.row, self.database.sql(observation.ROWS))}
            logs += tuple(Log(*map(str, one.values())) for one in self.database.sql(news))
        except CommandFailed:
            pass  # a scenario killed the database: no scenario can succeed with old rows
        self._last = sample = Sample(time.monotonic(), rows, self.world.dump(), logs)
        for key in (key for peers in sample.peers.values() for key in peers):
            if self._still.get(key, (None,))[0] != sample.counted(key):
                self._still[key] = (sample.counted(key), sample.at)
        self._show(sample)
        return sample

    def until(self, look: Callable[[Sample], Seen], *, seconds: float = 0) -> Seen:
        """Sample until the outcome is as expected, the daemon has ended, or time is up. Returns what was seen last.

        A scenario that fails must leave time for the others. ``seconds``: time that the scenario takes in any case.
        """
        deadline = time.monotonic() + seconds + 10 * self.pace
        while True:
            now = look(self.sample())
            if now.ok or time.monotonic() > deadline:
                return now
            # Only scenarios kill the daemon.
            if self._daemon is not None and self._daemon.poll() not in (None, -signal.SIGKILL):
                return replace(now, kernel=f"the daemon ended with {self._daemon.returncode}; {now.kernel}")
            time.sleep(0.05)

    def wait(self, condition: Callable[[Sample], bool], *, seconds: float = 0) -> bool:
        """Wait for a condition in the middle of a scenario. Returns whether it came true."""
        return self.until(lambda sample: Seen("", "", condition(sample)), seconds=seconds).ok
