"""The environment of the scenarios: a database, a testbed, the real daemon, and samples of all three."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd.demo.bench import Bench, Probe
from wgsyncd.demo.fixtures import CONTRACTS, DEVICES, SCANS, DeviceSpec
from wgsyncd.demo.mariadb import PrivateServer, quote
from wgsyncd.demo.node import Node
from wgsyncd.demo.observation import Row, Sample
from wgsyncd.demo.testbed import Customer, KeyPair, Testbed, WgKind, WgPeer, new_keys, new_preshared_key

ZONE = ZoneInfo("Asia/Tokyo")

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

[shaping]
mode = "enforce"
[bandwidth.standard]
down = "4Mbit"
up = "4Mbit"
[bandwidth.premium]
down = "16Mbit"
up = "16Mbit"
[bandwidth.capped]
down = "16Mbit"
up = "16Mbit"
monthly = "18MB"
beyond = "standard"
"""


class Environment(Bench[Row]):
    """Does what admins and customers do to the database, the testbed and the daemon.

    A new one has the rows of the fixtures, their customers and the configuration. The daemon does not run yet.
    """

    database: PrivateServer

    def __init__(
        self, directory: Path, database: PrivateServer, testbed: Testbed, *, pace: float,
        show: Callable[[Sample[Any]], None],
    ) -> None:  # fmt: skip
        super().__init__(pace=pace, show=show)
        self.database, self.testbed = database, testbed
        self.site = new_keys().public  # the public key of a peer made by hand that `always_keep` names
        self.customers: dict[DeviceSpec, Customer] = {}
        self.keys: dict[DeviceSpec, KeyPair] = {}  # as the device has them now
        self.preshared_keys: dict[DeviceSpec, str] = {}
        self.node = Node(directory, testbed.server, directory / "wgsyncd.log", pace)
        self.nodes.append(self.node)
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
        self.node.config.write_text(text, encoding="utf-8")

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

    def local_time(self, seconds: float) -> str:
        """The DATETIME that lies ``seconds`` from now, as the web application writes it."""
        return datetime.fromtimestamp(time.time() + seconds, ZONE).strftime("%Y-%m-%d %H:%M:%S")

    def key(self, spec: DeviceSpec) -> str:
        return self.keys[spec].public

    def update(self, spec: DeviceSpec, assignments: str) -> None:
        """UPDATE one device, as an admin's click in the web application does."""
        self.database.sql(f"UPDATE customer_devices SET {assignments} WHERE device_id = '{spec.device}'")  # noqa: S608

    def scan(self, spec: DeviceSpec) -> None:
        """A customer scans the QR code: the client gets its configuration from the row. It sends nothing yet."""
        row = self.sample().rows[spec.device]
        interface = self.testbed.interfaces[row.wg_iface]
        self.customers[spec].configure(interface, self.keys[spec], row.wg_ip, self.preshared_keys.get(spec))

    def probe(self, spec: DeviceSpec) -> Probe:
        return Probe(self.key(spec), spec.device, self.customers[spec])

    def clients(self) -> list[Customer]:
        return list(self.customers.values())

    def read(self) -> tuple[dict[str, Row], list[tuple[str, str]]]:
        columns = ", ".join(Row.__struct_fields__)
        answer = self.database.sql(f"SELECT {columns} FROM customer_devices ORDER BY id")  # noqa: S608
        rows = {row.device_id: row for row in msgspec.convert(answer, list[Row], strict=False)}
        answer = self.database.sql("SELECT action_type, target_id FROM admin_logs ORDER BY id")
        return rows, [(str(row["action_type"]), str(row["target_id"])) for row in answer]

    def peers(self) -> dict[tuple[str, str], WgPeer]:
        return {(one, key): peer for one, found in self.testbed.dump().items() for key, peer in found.items()}


@contextmanager
def opened(directory: Path, kind: WgKind, *, pace: float, show: Callable[[Sample[Any]], None]) -> Iterator[Environment]:
    """Start the database and the testbed with the rows of the fixtures, and end them afterwards."""
    testbed = Testbed(kind, log=directory / "testbed.log")
    with PrivateServer(parent=directory) as database, closing(testbed):
        database.load()
        database.create_account()
        testbed.open()
        yield Environment(directory, database, testbed, pace=pace, show=show)
