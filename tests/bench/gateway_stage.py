"""The benchmarks of NexaVPN run on the tables of one gateway in a private PostgreSQL.

Half as many users as devices are in fifty groups. Each group has a policy with twenty destinations, so there are fifty
profiles of twenty ranges.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from tests.bench.stage import address, key
from tests.postgres import NODE_ROLE, PrivatePostgres
from wgsyncd.core.model import decode_key
from wgsyncd.demo.testbed import KeyPair, new_keys
from wgsyncd.stores.nexavpn.psk import seal

PROFILES, RANGES = 50, 20
SERVER = "-c shared_buffers=256MB -c max_wal_size=2GB"  # all tables are in the server's memory, so no disk is measured
_SECRET = bytes(range(32))  # the key that seals preshared keys


def named(what: str, number: int = 0) -> UUID:
    """Returns the id of a row. Ids of neighbours are far apart, as random ones are."""
    return uuid5(UUID(int=0), f"{what} {number}")


class GatewayStage:
    """Holds one run's database and the configuration of the node, for ``peers`` devices."""

    def __init__(self, server: PrivatePostgres, folder: Path, peers: int, interface: str = "wg0") -> None:
        self.server, self.folder, self.peers, self.interface = server, folder, peers, interface
        self.folder.mkdir(exist_ok=True)
        self.admin = server.admin(autocommit=True)
        self.keys: KeyPair = new_keys()
        self.enforces = True
        secret = folder / "psk"
        secret.write_text(b64encode(_SECRET).decode(), encoding="utf-8")
        secret.chmod(0o600)
        self._fill()

    def sql(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Runs a statement as the administrator and returns its rows."""
        cursor = self.admin.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else ()

    def device(self, number: int) -> UUID:
        """Returns the id of the device with this number, from 0."""
        return named("device", number)

    def key(self, number: int) -> str:
        """Returns its public key."""
        return key("public", number)

    def _fill(self) -> None:
        numbers = range(self.peers)
        users = range(max(PROFILES, self.peers // 2))
        gateway, role = named("gateway"), named("role")
        self.sql("ALTER TABLE wgsyncd.node_states ALTER adopted SET DEFAULT true")  # a node in its daily work
        self._copy("roles (id, name)", [(role, "user")])
        row = (gateway, self.interface, "vpn.example:51820", self.keys.public, 51820, "10.0.0.0/8")
        self._copy("gateways (id, name, endpoint, public_key, listen_port, vpn_cidr)", [row])
        self.sql("INSERT INTO wgsyncd.nodes VALUES ('bench', %s, ARRAY[%s::uuid])", NODE_ROLE, gateway)
        self._copy("users (id, role_id, username, display_name, password_hash)",
                   ((named("user", n), role, f"user{n}", "A", "x") for n in users))  # fmt: skip
        self._copy("devices (id, user_id, gateway_id, name, platform, device_fingerprint, public_key)",
                   ((self.device(n), named("user", n % len(users)), gateway, f"laptop {n}", "linux", str(n), self.key(n))
                    for n in numbers))  # fmt: skip
        self._copy("wireguard_peers (id, device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext)",
                   ((peer := named("peer", n), self.device(n), gateway, self.key(n), address(n),
                     seal(_SECRET, "bench", peer, decode_key(key("psk", n)))) for n in numbers))  # fmt: skip
        self._copy("ip_allocations (gateway_id, device_id, address)",
                   ((gateway, self.device(n), address(n)) for n in numbers))  # fmt: skip
        groups = range(PROFILES)
        self._copy("groups (id, name)", ((named("group", n), f"group {n}") for n in groups))
        self._copy("group_memberships (group_id, user_id)",
                   ((named("group", n % PROFILES), named("user", n)) for n in users))  # fmt: skip
        self._copy("policies (id, name)", ((named("policy", n), f"policy {n}") for n in groups))
        self._copy("policy_targets (policy_id, target_type, target_id)",
                   ((named("policy", n), "group", named("group", n)) for n in groups))  # fmt: skip
        self._copy("policy_destinations (policy_id, destination)",
                   ((named("policy", n // RANGES), f"172.{16 + n // 64}.{n % 64 * 4}.0/24")
                    for n in range(PROFILES * RANGES)))  # fmt: skip
        self.sql("VACUUM ANALYZE")

    def _copy(self, into: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self.admin.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def move(self, number: int, profile: int) -> None:
        """Puts the owner of a device into another group, with no other. That changes the access of his devices."""
        user = named("user", number % max(PROFILES, self.peers // 2))
        self.sql("UPDATE group_memberships SET group_id = %s WHERE user_id = %s", named("group", profile), user)

    def config(self, **more: str) -> str:
        """Returns the daemon's configuration. ``more`` has other lines by section."""
        sections = {
            "node": 'name = "bench"',
            "nexavpn.database": f'hosts = ["{self.server.directory}"]\nname = "postgres"\nuser = "{NODE_ROLE}"\n'
                                'timeout = "30s"',
            "nexavpn.preshared_keys": f'bench = "{self.folder / "psk"}"',
            "nexavpn.policies": f"enforce = {str(self.enforces).lower()}",
            f"interfaces.{self.interface}": 'networks = ["10.0.0.0/8"]\naddresses = ["10.0.0.1/8"]',
            "metrics": 'listen = ""',
            "guard": "max_share = 1.0",  # many removals within the hour are the measurement's own
            **more,
        }  # fmt: skip
        return 'control_plane = "nexavpn"\n' + "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items())

    def writes(self) -> object:
        """Returns the revision of the node state. Each transaction of the node state raises it."""
        return self.sql("SELECT revision FROM wgsyncd.node_states")

    def close(self) -> None:
        """Closes the connection."""
        self.admin.close()
