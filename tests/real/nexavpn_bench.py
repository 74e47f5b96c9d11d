"""A daemon on NexaVPN's tables: real PostgreSQL, real WireGuard in userspace, real clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.nexavpn_sides import NexavpnTables, named
from tests.postgres import NODE_ROLE, PrivatePostgres
from tests.real.running import Daemon, Ear
from wgsyncd.core.model import Counters, decode_key
from wgsyncd.demo import testbed
from wgsyncd.demo.testbed import Customer, KeyPair, WgPeer, new_keys, new_preshared_key

_CONFIGURATION = """\
control_plane = "nexavpn"
[node]
name = "fra1"
zone = "Europe/Berlin"
[nexavpn.database]
hosts = ["{directory}"]
name = "postgres"
user = "{role}"
[nexavpn.preshared_keys]
test = "{directory}/keys"
[nexavpn.policies]
enforce = false
[interfaces.wg0]
networks = ["10.200.0.0/24"]
addresses = ["10.200.0.1/24"]
[interfaces.wg1]
networks = ["10.251.0.0/24"]
addresses = ["10.251.0.1/24"]
[schedule]
poll_interval = "1s"
watch_interval = "100ms"
[log]
format = "json"
"""


class Bench:
    """Holds the tables, the world and the daemon of one test."""

    def __init__(self, tables: NexavpnTables, world: testbed.Testbed, daemon: Daemon) -> None:
        self.tables, self.world, self.daemon = tables, world, daemon
        self.keys: dict[int, KeyPair] = {}

    def customer(self, number: int) -> Customer:
        """A device with a real client, whose preshared key is sealed in its row."""
        client, keys, secret = self.world.add_customer(), new_keys(), new_preshared_key()
        self.tables.insert(number)
        sealed = self.tables.seal(number, decode_key(secret))
        peer = self.tables.peer_id(number)
        self.tables.update("devices", self.tables.id(number), public_key=keys.public)
        self.tables.update("wireguard_peers", peer, public_key=keys.public, preshared_key_ciphertext=sealed)
        client.configure(self.world.interfaces["wg0"], keys, f"10.200.0.{number}", secret)
        self.keys[number] = keys
        return client

    def peer(self, number: int) -> WgPeer | None:
        return self.world.dump()["wg0"].get(self.keys[number].public)

    def is_posted(self, number: int) -> bool:
        """Whether the view has each byte that the kernel has counted."""
        found = self.peer(number)
        return found is not None and self.tables.posted(number) == Counters(found.rx, found.tx)

    def events(self) -> list[tuple[str, Any]]:
        return [(one["event_type"], one["entity_id"]) for one in self.tables.logs()]


@contextmanager
def opened(postgres: PrivatePostgres, ear: Ear, folder: Path) -> Iterator[Bench]:
    """The tables, the world and a daemon that does not run yet."""
    with ExitStack() as stack:
        tables = NexavpnTables(postgres, stack)
        tables.settings()  # writes the key file
        tables.sql("INSERT INTO wgsyncd.nodes VALUES ('fra1', %s, '{}')", NODE_ROLE)
        for name in ("wg0", "wg1"):
            tables.gateway(name)
        world = testbed.Testbed("userspace", log=folder / "world.log")
        stack.callback(world.close)
        world.open()
        for name, one in world.interfaces.items():
            tables.update("gateways", named(name), public_key=one.keys.public, listen_port=one.listen_port)
        daemon = Daemon(world, ear, folder / "daemon")
        stack.callback(daemon.close)
        daemon.config.write_text(_CONFIGURATION.format(directory=postgres.directory, role=NODE_ROLE), encoding="utf-8")
        yield Bench(tables, world, daemon)
