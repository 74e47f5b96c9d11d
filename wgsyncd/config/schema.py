"""The typed, frozen settings with their defaults.

etc/wgsyncd.toml explains each setting. wgsyncd.config.load reads the file. The settings of one control plane are in a
table with its name. A second control plane adds one optional table to :class:`Settings`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd.core.model import PublicKey
from wgsyncd.core.network import Network, parse_host
from wgsyncd.errors import ConfigError, ConfigIssue

CREDENTIAL = "db-password"


class Seconds(float):
    """A duration in seconds, written like ``15s``, ``500ms``, ``5min``, ``24h``, ``400d``."""


class BitRate(float):
    """Bits per second, written like ``25Gbit``."""


class Node(msgspec.Struct, frozen=True):
    """The server on which this daemon runs."""

    name: str = ""
    zone: ZoneInfo = ZoneInfo("Asia/Tokyo")
    ignored_interfaces: tuple[str, ...] = ()


class Database(msgspec.Struct, frozen=True):
    """The MariaDB server of mikyun_cloud. The password is read when the store connects, and kept nowhere."""

    host: str = "127.0.0.1"
    port: int = 3306
    socket: str | None = None
    name: str = "mikyun_cloud"
    user: str = "mikyun"
    password_file: Path | None = None
    tls_ca: Path | None = None  # None: the system's certificate authorities
    timeout: Seconds = Seconds(4)

    def for_admin(self, user: str, socket: str | None, password_file: Path | None) -> Database:
        """The same database with an administrator's account."""
        where = socket or self.socket
        return msgspec.structs.replace(self, user=user, socket=where, password_file=password_file)

    def password(self) -> str:
        """The password from ``password_file``, else from systemd's credential, else "".

        ConfigError if the file cannot be read.
        """
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        path = self.password_file
        if path is None and directory and (Path(directory) / CREDENTIAL).exists():
            path = Path(directory) / CREDENTIAL
        if path is None:
            return ""
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            fault = ConfigIssue("mikyun.database.password_file", str(path), f"cannot be read: {why}")
            raise ConfigError("configuration", [fault]) from None


class Qr(msgspec.Struct, frozen=True):
    """QR codes that have no deadline of their own."""

    lifetime: Seconds = Seconds(86400)


class Mikyun(msgspec.Struct, frozen=True):
    """The control plane "mikyun": a MariaDB database with the tables of mikyun_cloud."""

    perspective: Literal["server", "device"] = "server"
    language: Literal["ja", "en"] = "ja"
    database: Database = Database()
    qr: Qr = Qr()


class Interface(msgspec.Struct, frozen=True):
    """One WireGuard interface of this node."""

    networks: tuple[Network, ...] = ()  # the loader demands at least one
    store_name: str = ""
    addresses: tuple[str, ...] = ()  # "10.200.0.1/24"
    persistent_keepalive: Seconds = Seconds(0)
    line_rate: BitRate = BitRate(25e9)
    create: bool = False
    private_key_file: Path | None = None
    listen_port: int = 0
    mtu: int = 0  # 0: the kernel's choice

    @property
    def own_hosts(self) -> frozenset[Network]:
        """The interface's own addresses as hosts."""
        return frozenset(parse_host(address.partition("/")[0]) for address in self.addresses)


class Peers(msgspec.Struct, frozen=True):
    """Peers in the kernel that no row names."""

    foreign: Literal["remove", "keep", "report"] = "remove"
    always_keep: tuple[PublicKey, ...] = ()


class Guard(msgspec.Struct, frozen=True):
    """How many removals are applied without an administrator's approval."""

    always_allowed: int = 10
    max_share: float = 0.2
    small_node: int = 3


class Schedule(msgspec.Struct, frozen=True):
    """The intervals of the daemon's periodic work."""

    poll_interval: Seconds = Seconds(15)
    resync_interval: Seconds = Seconds(60)
    watch_interval: Seconds = Seconds(0.25)


class Usage(msgspec.Struct, frozen=True):
    """The accounting of traffic."""

    bucket_width: Seconds = Seconds(900)
    retention: Seconds = Seconds(400 * 86400)


class Metrics(msgspec.Struct, frozen=True):
    """The HTTP server for Prometheus."""

    listen: str = "127.0.0.1:9586"
    per_peer: bool = False
    per_peer_limit: int = 1000  # peers

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port. None: the server is off."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None


class Log(msgspec.Struct, frozen=True):
    """Which lines are logged, and in which format."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "logfmt"] = "auto"


class Settings(msgspec.Struct, frozen=True):
    """The whole configuration. The kernel's interface names are the keys of ``interfaces``."""

    interfaces: dict[str, Interface]
    control_plane: Literal["mikyun"] = "mikyun"
    node: Node = Node()
    peers: Peers = Peers()
    guard: Guard = Guard()
    schedule: Schedule = Schedule()
    usage: Usage = Usage()
    metrics: Metrics = Metrics()
    log: Log = Log()
    mikyun: Mikyun = Mikyun()
