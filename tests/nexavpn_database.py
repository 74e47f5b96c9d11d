"""A database of NexaVPN with two gateways, made by `wgsyncd init-db`, for tests of roles and rights."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import UUID, uuid5

import msgspec
import psycopg

from tests.configuring import LEAST
from tests.postgres import PrivatePostgres
from tests.wait import until
from wgsyncd.config import resources
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.errors import StoreError
from wgsyncd.stores.nexavpn.backend import Backend
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.settings import Database, Nexavpn

BERLIN, TOKYO = "berlin", "tokyo"
ROLES = {BERLIN: "node_berlin", TOKYO: "node_tokyo"}
_CONTENT = """
INSERT INTO roles (id, name) VALUES ('{role}', 'user');
INSERT INTO groups (id, name) VALUES ('{group}', 'everybody');
INSERT INTO policies (id, name) VALUES ('{nobody}', 'for nobody');
INSERT INTO settings (category, key, value) VALUES ('mail', 'password', '"hidden"');
"""
_OF_GATEWAY = """
INSERT INTO gateways (id, name, endpoint, public_key, listen_port, vpn_cidr)
    VALUES ('{gateway}', '{name}', '{name}.example:51820', 'key of {name}', 51820, '10.0.0.0/8');
INSERT INTO users (id, role_id, username, display_name, email, password_hash)
    VALUES ('{user}', '{role}', 'user of {name}', 'A', '{name}@example.org', 'hash of {name}');
INSERT INTO devices (id, user_id, gateway_id, name, platform, device_fingerprint, public_key)
    VALUES ('{device}', '{user}', '{gateway}', 'device of {name}', 'linux', 'f', 'key of the device of {name}');
INSERT INTO wireguard_peers (id, device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext)
    VALUES ('{peer}', '{device}', '{gateway}', 'key of the device of {name}', '10.0.0.1', 'sealed for {name}');
INSERT INTO ip_allocations (gateway_id, device_id, address) VALUES ('{gateway}', '{device}', '10.0.0.1');
INSERT INTO group_memberships (group_id, user_id) VALUES ('{group}', '{user}');
INSERT INTO policies (id, name) VALUES ('{policy}', 'policy of {name}');
INSERT INTO policy_targets (policy_id, target_type, target_id) VALUES ('{policy}', 'user', '{user}');
INSERT INTO policy_destinations (policy_id, destination) VALUES ('{policy}', '192.0.2.0/24');
INSERT INTO audit_logs (event_type, entity_type, status, message, metadata)
    VALUES ('gateway.peer_added', 'device', 'success', 'of {name}', '{{"gateway_id": "{gateway}", "node": "{name}"}}'),
           ('user.login', 'user', 'success', 'A logs in', '{{"gateway_id": "{gateway}", "node": "{name}"}}');
"""
_COMMON = ("role", "group", "nobody")
_OWN = ("gateway", "user", "device", "peer", "policy")


def row_id(what: str, gateway: str = "") -> UUID:
    """The id of a row: what it is, and the gateway that it belongs to."""
    return uuid5(UUID(int=0), f"{what} {gateway}".strip())


class NexavpnDatabase:
    """One database on a private server, with the application's tables and rows for two gateways."""

    def __init__(self, server: PrivatePostgres, name: str) -> None:
        self.server, self.name = server, name
        with server.admin(autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            admin.execute(f"CREATE DATABASE {name}".encode())
        common = {what: row_id(what) for what in _COMMON}
        content = _CONTENT.format(**common) + "".join(
            _OF_GATEWAY.format(name=one, **common, **{what: row_id(what, one) for what in _OWN}) for one in ROLES
        )
        with self.admin() as admin:
            admin.execute(resources.text("sql/nexavpn/nexavpn.sql").encode())
            admin.execute(content.encode())

    def admin(self, *, autocommit: bool = False) -> psycopg.Connection:
        """A new connection of the administrator to this database."""
        return psycopg.connect(
            host=str(self.server.directory), user="postgres", dbname=self.name, autocommit=autocommit
        )

    def end(self, connection: Connection) -> None:
        """End the server's process of a connection, and wait until it is gone."""
        pid = process(connection)
        with self.admin(autocommit=True) as admin:  # in a transaction, the statistics would stay the same
            assert admin.execute("SELECT pg_terminate_backend(%s)", (pid,)).fetchall() == [(True,)]
            gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            until(lambda: admin.execute(gone, (pid,)).fetchall() == [(0,)], 30, "the process is gone")

    def database(self, role: str = ROLES[BERLIN], **more: object) -> Database:
        """The settings by which a role enters."""
        plain = Database(hosts=(str(self.server.directory),), name=self.name, user=role)
        return msgspec.structs.replace(plain, **more)

    def settings(self, gateway: str = BERLIN) -> Settings:
        """The configuration of the node with the name of its gateway."""
        found = parse(LEAST.replace("wg0", gateway))
        node = msgspec.structs.replace(found.node, name=gateway)
        own = Nexavpn(database=self.database(ROLES[gateway]))
        return msgspec.structs.replace(found, control_plane="nexavpn", store=own, node=node)

    def init(self, at: str = BERLIN, /, **options: object) -> list[str]:
        """What `wgsyncd init-db` says on the node of a gateway."""
        plain = {"user": None, "socket": None, "password_file": None, "node": None, "gateway": None, "role": None,
                 "triggers": False, "drop_views": False}  # fmt: skip
        return list(Backend(self.settings(at)).install(argparse.Namespace(**{**plain, **options})))

    def dump(self, *options: str, schema: str = "public") -> str:
        """See :func:`dump_of`."""
        return dump_of(self.server, self.name, *options, schema=schema)

    @contextmanager
    def connected(self, role: str = ROLES[BERLIN], **more: object) -> Iterator[Connection]:
        """A connection with a role, as the store has it."""
        with closing(Connection(self.database(role, **more))) as connection:
            yield connection


def dump_of(server: PrivatePostgres, name: str, *options: str, schema: str = "public") -> str:
    """A schema of a database with its rows, as pg_dump writes it without rights."""
    argv = ["pg_dump", "-h", str(server.directory), "-U", "postgres", "-n", schema, "-x", *options, name]
    found = subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    return re.sub(r"(?m)^\\(un)?restrict .*", "", found)  # newer ones have a random word for psql there


def process(connection: Connection) -> int:
    """The id of the server's process for a connection."""
    found = connection.query("SELECT pg_backend_pid()")[0][0]
    assert isinstance(found, int)
    return found


def refusal(connection: Connection, sql: str, *values: object) -> str:
    """The error with which the server refuses a statement."""
    try:
        found = connection.query(sql, values)
    except StoreError as error:
        return str(error)
    raise AssertionError(f"{sql} was done: {found}")
