"""The environment of the scenarios on NexaVPN: PostgreSQL, two gateways and their clients."""

import base64
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from wgsyncd.demo import processes
from wgsyncd.demo.bench import Bench, Probe
from wgsyncd.demo.nexavpn_fixtures import DEVICES, KEY_IDS, NETWORKS, DeviceSpec, role, rows_of_all, rows_of_device
from wgsyncd.demo.node import Node
from wgsyncd.demo.observation import Bytes, Sample
from wgsyncd.demo.postgres import DATABASE, PrivatePostgres
from wgsyncd.demo.testbed import Customer, KeyPair, Testbed, WgKind, WgPeer, new_keys, new_preshared_key

_PORT = 51820  # at which each gateway listens
_CONFIGURATION = """\
control_plane = "nexavpn"
[node]
name = "{name}"
zone = "Europe/Berlin"
[nexavpn.database]
hosts = ["{server}"]
name = "{database}"
user = "{role}"
password_file = "{directory}/password"

[nexavpn.devices]
require_approval = true
[nexavpn.preshared_keys]
{keys}

[interfaces.wg0]
store_name = "{name}"
addresses = ["{net}.1/24"]

[guard]
always_allowed = 3
[metrics]
page = true
[schedule]
poll_interval = "{pace:.0f}s"
resync_interval = "{resync:.0f}s"
watch_interval = "{watch:.0f}ms"
"""


class Device(msgspec.Struct, frozen=True):
    """A row of devices with its sums in wgsyncd.usage. Times are UNIX seconds."""

    id: str
    status: str
    seen: int | None
    connected: int | None
    rx: int
    tx: int

    @property
    def total(self) -> Bytes:
        """All bytes that were accounted for the device, on all nodes."""
        return Bytes(self.rx, self.tx)


_READ = """
SELECT d.id, d.status, floor(extract(epoch FROM d.last_seen_at))::bigint AS seen,
       floor(extract(epoch FROM d.last_connected_at))::bigint AS connected,
       coalesce(u.rx_bytes, 0)::bigint AS rx, coalesce(u.tx_bytes, 0)::bigint AS tx
FROM devices d LEFT JOIN wgsyncd.usage u ON u.device = d.id"""


class Environment(Bench[Device]):
    """Does what admins and users do to the database, the gateways and the clients.

    A new one has the rows of the fixtures, their clients and the configurations. The daemons do not run yet.
    """

    database: PrivatePostgres

    def __init__(
        self, directory: Path, database: PrivatePostgres, testbeds: dict[str, Testbed], *, pace: float,
        show: Callable[[Sample[Any]], None],
    ) -> None:  # fmt: skip
        super().__init__(pace=pace, show=show)
        self.database, self._testbeds, self._directory = database, testbeds, directory
        self.keys: dict[str, KeyPair] = {}  # by the device's name
        self.preshared_keys: dict[str, str] = {}
        self._customers: dict[str, dict[str, Customer]] = {}  # by the device's name: by gateway
        self._used: dict[str, Customer] = {}  # by the device's name: as its client is configured
        for name, testbed in testbeds.items():
            (directory / name).mkdir(mode=0o700)
            self.nodes.append(Node(directory / name, testbed.server, directory / f"{name}.log", pace))
        for key_id in KEY_IDS:
            self._key_file(key_id).touch(0o600)
            self._key_file(key_id).write_bytes(base64.b64encode(secrets.token_bytes(32)))
        self._insert()
        for node, name in zip(self.nodes, testbeds, strict=True):
            self._configure(node, name)
            node.finish("init-db")
            database.set_password(role(name), node.directory / "password")

    def _key_file(self, key_id: str) -> Path:
        return self._directory / f"psk-{key_id}"

    def _configure(self, node: Node, name: str) -> None:
        slow = min(self.pace, 4)  # on an emulated machine a cycle takes seconds
        ids = [one for one in KEY_IDS if one.startswith(name)]
        keys = "\n".join(f'{one} = "{self._key_file(one)}"' for one in ids)
        node.config.write_text(_CONFIGURATION.format(
            name=name, server=self.database.directory, database=DATABASE, role=role(name), directory=node.directory,
            keys=keys, net=NETWORKS[name], pace=slow, resync=5 * slow, watch=200 * slow,
        ), encoding="utf-8")  # fmt: skip

    def _insert(self) -> None:
        """INSERT all rows with new keys, as the application does, and make the clients."""
        ours = {name: testbed.interfaces["wg0"].keys.public for name, testbed in self._testbeds.items()}
        lines = list(rows_of_all(ours, _PORT))
        for spec in DEVICES:
            self.keys[spec.name] = keys = new_keys()
            lines += rows_of_device(spec, keys.public, self.new_preshared_key(spec, spec.gateway))
            if spec.has_client:
                self._add_client(spec)
        self.database.transact(*lines)

    def _add_client(self, spec: DeviceSpec) -> None:
        """A client with a wire to each gateway."""
        first, *others = self._testbeds
        customer = self._testbeds[first].add_customer()
        number = len(self._customers) + 1
        self._customers[spec.name] = {first: customer} | {
            one: self._testbeds[one].connect(customer.namespace, number) for one in others
        }

    def new_preshared_key(self, spec: DeviceSpec, key_id: str) -> str:
        """Make a new preshared key for a device, as the application does. Returns the envelope for its row."""
        self.preshared_keys[spec.name] = new_preshared_key()
        return self.seal(spec, key_id)

    def seal(self, spec: DeviceSpec, key_id: str) -> str:
        """The envelope of the preshared key that a device has now."""
        argv = [sys.executable, "-m", "wgsyncd", "psk", "seal", "--row", spec.peer_id, "--key",
                f"{key_id}={self._key_file(key_id)}"]  # fmt: skip
        return processes.run(argv, stdin=self.preshared_keys[spec.name]).strip()

    def key(self, spec: DeviceSpec) -> str:
        return self.keys[spec.name].public

    def customer(self, spec: DeviceSpec, gateway: str = "fra1") -> Customer:
        """The client of a device, with its wire to a gateway."""
        return self._customers[spec.name][gateway]

    def configure(self, spec: DeviceSpec, gateway: str, address: str) -> Customer:
        """Let a client use a gateway with the keys that its device has now. It sends nothing yet."""
        self._used[spec.name] = customer = self.customer(spec, gateway)
        interface = self._testbeds[gateway].interfaces["wg0"]
        customer.configure(interface, self.keys[spec.name], address, self.preshared_keys[spec.name])
        return customer

    def set_wire(self, spec: DeviceSpec, gateway: str, state: str) -> None:
        """Cut a client's wire to a gateway ("down"), or mend it ("up")."""
        self._testbeds[gateway].server.ip(f"link set {self.customer(spec, gateway).wire} {state}")

    def probe(self, spec: DeviceSpec) -> Probe:
        return Probe(self.key(spec), spec.id, self.customer(spec))

    def profile(self, spec: DeviceSpec) -> str:
        """The chain of the packet filter that judges a device at its first gateway. Empty: none does."""
        text = self._testbeds[spec.gateway].server.run("nft", "list", "map", "inet", "wgsyncd", "devices4")
        found = re.search(rf"\b{re.escape(spec.address)} [^,}}]*goto (\w+)", text)
        return found[1] if found else ""

    def clients(self) -> list[Customer]:
        return list(self._used.values())

    def read(self) -> tuple[dict[str, Device], list[tuple[str, str]]]:
        found = msgspec.convert(self.database.rows(_READ), list[Device], strict=False)
        audit = self.database.rows("SELECT event_type, entity_id FROM audit_logs ORDER BY created_at")
        return {one.id: one for one in found}, [(str(one["event_type"]), str(one["entity_id"])) for one in audit]

    def peers(self) -> dict[tuple[str, str], WgPeer]:
        dumps = {name: testbed.dump()["wg0"] for name, testbed in self._testbeds.items()}
        return {(name, key): peer for name, found in dumps.items() for key, peer in found.items()}


@contextmanager
def opened(directory: Path, kind: WgKind, *, pace: float, show: Callable[[Sample[Any]], None]) -> Iterator[Environment]:
    """Start the database and the gateways with the rows of the fixtures, and end them afterwards."""
    with ExitStack() as stack:  # the user postgres cannot enter ``directory``
        database = stack.enter_context(PrivatePostgres(parent=directory.parent))
        database.load()
        testbeds = {}
        for number, (name, net) in enumerate(NETWORKS.items(), 31):
            interfaces = (("wg0", _PORT, f"{net}.1"),)
            testbeds[name] = Testbed(kind, log=directory / "testbed.log", interfaces=interfaces, wires=number)
            stack.enter_context(closing(testbeds[name])).open()
        yield Environment(directory, database, testbeds, pace=pace, show=show)
