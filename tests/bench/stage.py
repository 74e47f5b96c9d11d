"""The benchmarks run on a table of devices in a private MariaDB, an interface, and files for wg(8).

Table and interface have two states, A and B. They differ in 1 % of the peers. A third of these are only in A, a third
only in B, and a third have another preshared key.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from tests import namespace
from wgsyncd.demo.mariadb import DATABASE, PrivateServer

IFACE = "wg0"
ROWS_AT_ONCE = 2000
# Both sides have the same server. Its memory holds the tables, so that no disk is measured.
# Without the second option, InnoDB reserves 8 GiB of addresses, and some machines lack these.
SERVER = (
    "--innodb-buffer-pool-size=256M",
    "--loose-innodb-buffer-pool-size-max=512M",
    "--innodb-log-file-size=256M",
    "--max-allowed-packet=64M",
)
_OWN_TABLES = "SHOW FULL TABLES WHERE Table_type = 'BASE TABLE' AND Tables_in_mikyun_cloud REGEXP '^wgsyncd_(?!schema)'"


def key(kind: str, n: int) -> str:
    """Returns a public or preshared key for each number, the same in each run. Any 32 bytes are a public key."""
    return b64encode(kind.encode().ljust(8) + n.to_bytes(8) * 3).decode()


def address(n: int) -> str:
    """Returns the address of peer `n`."""
    n += 2
    return f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"


def room() -> Path | None:
    """Returns a file system in memory with room for the database. None means that the database is on the disk."""
    kinds = dict(_mounts())
    for name in ("/dev/shm", "/dev", "/run"):
        if kinds.get(name) == "tmpfs" and shutil.disk_usage(name).free > 1 << 30:
            return Path(name)
    return None


def _mounts() -> Iterator[tuple[str, str]]:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        yield where, kind


class Stage:
    """Holds one run's database and interface, for ``peers`` peers."""

    def __init__(self, server: PrivateServer, folder: Path, peers: int) -> None:
        self.server, self.folder, self.peers, self.interface = server, folder, peers, IFACE
        self.changed = max(1, peers // 300)  # this many peers of each of the three kinds
        secret = bytes([8]) + os.urandom(30) + bytes([64])
        self.private_key = b64encode(secret).decode()  # `wg genkey` makes a key of this form
        # This is the same key, but the bits that curve25519 ignores are set, as random bytes may have them.
        # The kernel clears these bits. So it takes the key for a new one each time and computes every peer's
        # secret again.
        loose = b64encode(bytes([15]) + secret[1:31] + bytes([192])).decode()
        self.admin = pymysql.connect(**server.connect_args, database=DATABASE, autocommit=True)
        self.files = {name: folder / f"{name}.conf" for name in ("A", "B", "loose A", "loose B")}
        for state in "AB":
            text = self._file(state)
            self.files[state].write_text(text)
            self.files[f"loose {state}"].write_text(text.replace(self.private_key, loose))

    def sql(self, statement: str, values: tuple[object, ...] = ()) -> tuple[tuple[Any, ...], ...]:
        """Runs a statement as the administrator and returns its rows."""
        with self.admin.cursor() as cursor:
            cursor.execute(statement, values or None)
            return tuple(cursor.fetchall())

    def fill_table(self) -> None:
        """Inserts all rows in state A, as if wgsyncd had never run."""
        self.forget()
        for table in ("customer_devices", "contracts"):
            self.sql(f"TRUNCATE {table}")
        total = self.peers + self.changed
        contracts = [(f"c{n:06}", "active") for n in range(total // 3 + 1)]
        devices = [
            (n + 1, f"c{n // 3:06}", f"c{n // 3:06}-DEV-{n % 3:03}", IFACE, address(n), key("public", n),
             key("psk A", n), "active" if n < self.peers else "revoked")
            for n in range(total)
        ]  # fmt: skip
        with self.admin.cursor() as cursor:
            for at in range(0, len(contracts), ROWS_AT_ONCE):
                cursor.executemany(
                    "INSERT INTO contracts (contract_id, contract_status) VALUES (%s, %s)",
                    contracts[at : at + ROWS_AT_ONCE],
                )
            for at in range(0, len(devices), ROWS_AT_ONCE):
                cursor.executemany(
                    "INSERT INTO customer_devices (id, contract_id, device_id, wg_iface, wg_ip, public_key,"
                    " preshared_key, status, first_handshake_at, last_handshake_at, issued_at)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, '2026-01-02', '2026-01-02', '2026-01-01')",
                    devices[at : at + ROWS_AT_ONCE],
                )
        self.sql("ANALYZE TABLE customer_devices, contracts")

    def forget(self) -> None:
        """Removes everything that wgsyncd has written. The rows of devices stay as they are."""
        for table in ("admin_logs", *(name for name, _ in self.sql(_OWN_TABLES))):
            self.sql(f"TRUNCATE {table}")
        self.sql("ALTER TABLE wgsyncd_nodes ALTER adopted SET DEFAULT 1")  # a node in its daily work

    def set_table(self, state: str) -> None:
        """Puts the table into state A or B."""
        k, n = self.changed, self.peers
        off, on = ("revoked", "active") if state == "B" else ("active", "revoked")
        self.sql("UPDATE customer_devices SET status = %s WHERE id <= %s", (off, k))
        self.sql("UPDATE customer_devices SET status = %s WHERE id > %s", (on, n))
        secrets = [(key(f"psk {state}", i), i + 1) for i in range(k, 2 * k)]
        with self.admin.cursor() as cursor:
            for one in secrets:
                cursor.execute("UPDATE customer_devices SET preshared_key = %s WHERE id = %s", one)

    def _file(self, state: str) -> str:
        k, n = self.changed, self.peers
        numbers = range(n) if state == "A" else range(k, n + k)
        lines = [f"[Interface]\nPrivateKey={self.private_key}\nListenPort=51820\n"]
        for i in numbers:
            secret = key("psk B" if state == "B" and k <= i < 2 * k else "psk A", i)
            lines.append(f"[Peer]\nPublicKey={key('public', i)}\nPresharedKey={secret}\nAllowedIPs={address(i)}/32\n")
        return "".join(lines)

    def empty_interface(self) -> None:
        """Creates the interface again, with its private key and nothing else."""
        namespace.run("ip", "link", "del", IFACE)
        namespace.run("ip", "link", "add", IFACE, "type", "wireguard")
        secret = self.folder / "private"
        secret.write_text(self.private_key)
        namespace.run("wg", "set", IFACE, "listen-port", "51820", "private-key", str(secret))
        namespace.run("ip", "link", "set", IFACE, "up")

    def config(self, **more: str) -> str:
        """Returns the daemon's configuration. ``more`` has other lines by section."""
        sections = {
            "node": f'name = "bench{self.peers}"',
            "mikyun.database": f'socket = "{self.server.socket}"\npassword_file = "{self.server.password_file}"\ntimeout = "30s"',
            f"interfaces.{IFACE}": 'networks = ["10.0.0.0/8"]\naddresses = ["10.0.0.1/8"]',
            "metrics": 'listen = ""',
            **more,
        }
        return "".join(f"[{section}]\n{lines}\n" for section, lines in sections.items())

    def writes(self) -> tuple[tuple[Any, ...], ...]:
        """Returns the counters of the statements that write."""
        commands = "'Com_insert', 'Com_update', 'Com_update_multi', 'Com_delete', 'Com_replace'"
        return self.sql(f"SHOW GLOBAL STATUS WHERE variable_name IN ({commands})")

    def close(self) -> None:
        """Closes the connection."""
        self.admin.close()


@contextmanager
def stages() -> Iterator[Any]:
    """Yields a function that makes the stage for a number of peers, in a network and with a server of its own."""
    where = room()
    with (
        tempfile.TemporaryDirectory(prefix="wgsyncd-bench-", dir=where) as folder,
        PrivateServer(options=SERVER, parent=where) as server,
        namespace.own_network(),
        namespace.kernel_link(IFACE),
    ):
        namespace.run("ip", "link", "set", "lo", "up")  # the daemon's metrics need it
        server.load()
        server.create_account()
        yield lambda peers: Stage(server, Path(folder), peers)
