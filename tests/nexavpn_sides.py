"""The side of NexaVPN's application: it writes what an admin writes, and reads what an admin sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID, uuid5

import msgspec
import pytest
from psycopg.rows import dict_row

from tests.postgres import NODE_ROLE, PrivatePostgres
from tests.samples import address, device_name, text
from tests.store_sides import node_config
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Counters, encode_key
from wgsyncd.errors import StoreError
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.psk import seal
from wgsyncd.stores.nexavpn.settings import Database, Nexavpn
from wgsyncd.stores.nexavpn.store import NexaStore


class _LosingCursor:
    """A cursor on a connection that breaks at COMMIT: after the server has committed if it ``happened``, else before."""

    def __init__(self, cursor: Any, connection: Connection, happened: bool) -> None:
        self._cursor, self._connection, self._happened = cursor, connection, happened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, *values: Any, **options: Any) -> Any:
        if sql != "COMMIT":
            return self._cursor.execute(sql, *values, **options)
        if self._happened:
            self._cursor.execute(sql)
        self._connection.close()
        raise StoreError("08006: the connection was lost")


def lose_answers(connection: Connection, monkeypatch: pytest.MonkeyPatch, *, happened: bool) -> None:
    """Break the connection right after COMMIT was done, if it ``happened``, or right before."""
    cursor = connection._cursor

    @contextmanager
    def broken(**options: Any) -> Iterator[Any]:
        with cursor(**options) as found:
            yield _LosingCursor(found, connection, happened)

    monkeypatch.setattr(connection, "_cursor", broken)


SECRET = bytes(range(32))  # the key that seals preshared keys
_NAMES = UUID(int=0)  # the namespace of the ids that tests make of names


def named(name: str) -> UUID:
    """The id of a gateway, a user or another row that a test names."""
    return uuid5(_NAMES, name)


class NexavpnTables:
    """Implements AnyTables on a private PostgreSQL. The stores log in with the role of a node.

    This role serves all gateways, as if one machine were several nodes.
    """

    def __init__(self, server: PrivatePostgres, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self.connect()
        found = self.sql(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname IN ('public', 'wgsyncd') AND tablename <> 'schema_version'"
        )
        self.sql(f"TRUNCATE {', '.join(one['name'] for one in found)}")
        self.sql("ALTER TABLE wgsyncd.node_states ALTER adopted SET DEFAULT true")  # most tests are of adopted nodes
        self.sql("INSERT INTO roles (id, name) VALUES (%s, 'user')", named("role"))
        self.user("alice")

    def connect(self) -> None:
        """Connect as the administrator, again after the server has stopped."""
        self._admin = self._stack.enter_context(self.server.admin(autocommit=True))
        self._admin.row_factory = dict_row  # type: ignore[assignment]

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with self._admin.cursor() as cursor:
            cursor.execute(statement.encode(), values or None)
            return list(cursor.fetchall()) if cursor.description else []  # type: ignore[arg-type]

    def seal(self, number: int, preshared_key: bytes) -> str:
        """The envelope of a preshared key for the peer of this number, with the key of :meth:`settings`."""
        return seal(SECRET, "test", self.peer_id(number), preshared_key)

    def settings(self, extra: str = "", **node: Any) -> Settings:
        keys = self.server.directory / "keys"
        if not keys.exists():
            keys.write_text(encode_key(SECRET), encoding="utf-8")
            keys.chmod(0o600)
        plain = parse(node_config(**node).partition("[mikyun]")[0] + extra)
        database = Database(hosts=(str(self.server.directory),), name="postgres", user=NODE_ROLE)
        own = Nexavpn(database=database, preshared_keys={"test": keys})
        return msgspec.structs.replace(plain, control_plane="nexavpn", store=own)

    def store(self, extra: str = "", **node: Any) -> NexaStore:
        settings = self.settings(extra, **node)
        for one in (*settings.interfaces.values(),):
            self.gateway(one.store_name)
        self.sql(
            "INSERT INTO wgsyncd.nodes VALUES (%s, %s, '{}') ON CONFLICT DO NOTHING", settings.node.name, NODE_ROLE
        )
        self.sql("UPDATE wgsyncd.nodes SET gateways = ARRAY(SELECT id FROM gateways)")
        store = NexaStore(settings)
        store._digest._clock = lambda: 0.0  # a clock that stands still: no digest is costly
        self._stack.callback(store.close)
        return store

    def gateway(self, name: str, **columns: Any) -> UUID:
        plain = {"id": named(name), "name": name, "endpoint": "vpn.example:51820", "public_key": text(900),
                 "listen_port": 51820, "vpn_cidr": "10.0.0.0/8"}  # fmt: skip
        self._insert("gateways", plain | columns)
        self.sql("UPDATE wgsyncd.nodes SET gateways = ARRAY(SELECT id FROM gateways)")
        return named(name)

    def user(self, name: str, **columns: Any) -> UUID:
        plain = {
            "id": named(name),
            "role_id": named("role"),
            "username": name,
            "display_name": name,
            "password_hash": "x",
        }
        self._insert("users", plain | columns)
        return named(name)

    def policy(
        self, name: str, effect: str, *destinations: str, to: Sequence[tuple[str, UUID]] = (), **columns: Any
    ) -> UUID:
        """A policy for some targets: the type and the id of each."""
        policy = named(name)
        self._insert("policies", {"id": policy, "name": name, "effect": effect} | columns)
        for kind, target in to:
            self._insert("policy_targets", {"policy_id": policy, "target_type": kind, "target_id": target})
        for one in destinations:
            self._insert("policy_destinations", {"policy_id": policy, "destination": one})
        return policy

    def id(self, number: int) -> UUID:
        return UUID(int=number << 96 | 0x4000_8000_0000_0000_0000)

    def peer_id(self, number: int) -> UUID:
        return UUID(int=number << 96 | 0x4000_9000_0000_0000_0000)

    def insert(self, number: int, interface: str = "wg0", **columns: Any) -> None:
        """A device with its peer and the allocation of its address. ``columns``: of wireguard_peers."""
        gateway, device = self.gateway(interface), self.id(number)
        host = address(number % 250) if number > 250 else address(number, interface if interface == "wg1" else "wg0")
        self._insert("devices", {
            "id": device, "user_id": named("alice"), "gateway_id": gateway, "name": f"laptop {number}",
            "platform": "linux", "device_fingerprint": str(number), "public_key": text(number),
        })  # fmt: skip
        peer = {"id": self.peer_id(number), "device_id": device, "gateway_id": gateway, "public_key": text(number),
                "assigned_ip": host, "created_at": "2026-01-01"}  # fmt: skip
        self._insert("wireguard_peers", peer | columns)
        host = columns.get("assigned_ip", host)
        self._insert("ip_allocations", {"gateway_id": gateway, "device_id": device, "address": host})

    def _insert(self, table: str, columns: dict[str, Any]) -> None:
        places = ", ".join(["%s"] * len(columns))
        self.sql(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING", *columns.values()
        )

    def update(self, table: str, which: UUID, **columns: Any) -> None:
        sets = ", ".join(f"{column} = %s" for column in columns)
        self.sql(f"UPDATE {table} SET {sets} WHERE id = %s", *columns.values(), which)

    def delete(self, number: int) -> None:
        device = self.id(number)
        for table, column in (("ip_allocations", "device_id"), ("wireguard_peers", "device_id"), ("devices", "id")):
            self.sql(f"DELETE FROM {table} WHERE {column} = %s", device)

    def move(self, number: int, interface: str) -> None:
        gateway, device = self.gateway(interface), self.id(number)
        for table, column in (("ip_allocations", "device_id"), ("wireguard_peers", "device_id"), ("devices", "id")):
            self.sql(f"UPDATE {table} SET gateway_id = %s WHERE {column} = %s", gateway, device)

    @contextmanager
    def locked(self, number: int) -> Iterator[None]:
        with self.server.admin() as other:
            other.execute("SELECT id FROM devices WHERE id = %s FOR UPDATE", (self.id(number),))
            yield
            other.rollback()

    def device(self, number: int) -> dict[str, Any]:
        (found,) = self.sql("SELECT * FROM devices WHERE id = %s", self.id(number))
        return found

    def posted(self, number: int) -> Counters:
        found = self.sql("SELECT rx_bytes, tx_bytes FROM wgsyncd.usage WHERE device = %s", self.id(number))
        return Counters(*found[0].values()) if found else Counters(0, 0)

    def logs(self) -> Sequence[dict[str, Any]]:
        return self.sql("SELECT * FROM audit_logs ORDER BY created_at, event_type")

    def days(self) -> dict[tuple[str, str], Counters]:
        rows = self.sql(
            "SELECT device, at::text, sum(rx) AS rx, sum(tx) AS tx FROM ("
            "SELECT device, day AS at, rx, tx FROM wgsyncd.days UNION ALL "
            "SELECT device, open_day, open_rx, open_tx FROM wgsyncd.totals WHERE open_bucket > 0) pieces GROUP BY 1, 2"
        )
        return {(device_name(row["device"]), row["at"]): Counters(int(row["rx"]), int(row["tx"])) for row in rows}

    def buckets(self) -> dict[tuple[str, int], Counters]:
        rows = self.sql(
            "SELECT device, at, sum(rx) AS rx, sum(tx) AS tx FROM ("
            "SELECT device, start AS at, rx, tx FROM wgsyncd.buckets UNION ALL "
            "SELECT device, open_bucket, open_rx, open_tx FROM wgsyncd.totals WHERE open_bucket > 0) pieces GROUP BY 1, 2"
        )
        return {(device_name(row["device"]), row["at"]): Counters(int(row["rx"]), int(row["tx"])) for row in rows}
