"""The settings: typed, frozen, with their defaults. What they mean stands in etc/wgsyncd.toml; config.py reads them."""

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


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which server this is."""

    name: str = ""
    zone: ZoneInfo = ZoneInfo("Asia/Tokyo")
    ignored_interfaces: tuple[str, ...] = ()


class Database(msgspec.Struct, frozen=True):
    """Where the rows are. The password is read when it is needed and kept nowhere."""

    host: str = "127.0.0.1"
    port: int = 3306
    socket: str | None = None
    name: str = "mikyun_cloud"
    user: str = "mikyun"
    password_file: Path | None = None
    tls_ca: Path | None = None  # of a server on another machine; default: the system's authorities
    timeout: Seconds = Seconds(4)

    def for_admin(self, user: str, socket: str | None, password_file: Path | None) -> Database:
        """The same database, entered with another account."""
        where = socket or self.socket
        return msgspec.structs.replace(self, user=user, socket=where, password_file=password_file)

    def password(self) -> str:
        """The password: of ``password_file``, else of systemd's credential, else none. ConfigError if unreadable."""
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
            fault = ConfigIssue("database.password_file", str(path), f"cannot be read: {why}")
            raise ConfigError("configuration", [fault]) from None


class Interface(msgspec.Struct, frozen=True):
    """One WireGuard interface of this node."""

    networks: tuple[Network, ...] = ()  # config.py asks for at least one
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
    """Peers that no row names."""

    foreign: Literal["remove", "keep", "report"] = "remove"
    always_keep: tuple[PublicKey, ...] = ()


class Guard(msgspec.Struct, frozen=True):
    """When removals wait for an admin."""

    always_allowed: int = 10
    max_share: float = 0.2


class Schedule(msgspec.Struct, frozen=True):
    """How often."""

    poll_interval: Seconds = Seconds(15)
    resync_interval: Seconds = Seconds(60)
    watch_interval: Seconds = Seconds(0.25)


class Qr(msgspec.Struct, frozen=True):
    """QR codes."""

    lifetime: Seconds = Seconds(86400)


class Usage(msgspec.Struct, frozen=True):
    """How traffic is booked."""

    perspective: Literal["server", "device"] = "server"
    bucket_width: Seconds = Seconds(900)
    retention: Seconds = Seconds(400 * 86400)


class Audit(msgspec.Struct, frozen=True):
    """admin_logs."""

    language: Literal["ja", "en"] = "ja"


class Metrics(msgspec.Struct, frozen=True):
    """The HTTP side."""

    listen: str = "127.0.0.1:9586"
    per_peer: bool = False
    per_peer_limit: int = 1000  # peers

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None when it is off."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None


class Log(msgspec.Struct, frozen=True):
    """The log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "logfmt"] = "auto"


class Settings(msgspec.Struct, frozen=True):
    """The whole configuration. ``interfaces`` is by the kernel's name."""

    interfaces: dict[str, Interface]
    node: Node = Node()
    database: Database = Database()
    peers: Peers = Peers()
    guard: Guard = Guard()
    schedule: Schedule = Schedule()
    qr: Qr = Qr()
    usage: Usage = Usage()
    audit: Audit = Audit()
    metrics: Metrics = Metrics()
    log: Log = Log()
