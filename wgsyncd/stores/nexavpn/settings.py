"""The settings of the control plane "nexavpn", in the configuration's table [nexavpn]."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from wgsyncd.config import secret_file
from wgsyncd.config.schema import Check, Seconds, Settings, StoreSettings
from wgsyncd.core.network import Network, as_networks
from wgsyncd.core.policies.model import PolicySettings

INACTIVE = ("pending", "disabled", "blocked", "revoked", "expired", "deleted")
KEY_ID = "[a-z0-9-]{1,32}"


class Database(msgspec.Struct, frozen=True):
    """The PostgreSQL server of NexaVPN. The password is read when the store connects, and kept nowhere."""

    hosts: tuple[str, ...] = ("/run/postgresql",)  # a directory has a unix socket. Others need TLS
    port: int = 5432
    name: str = "nexavpn"
    user: str = "wgsyncd"
    password_file: Path | None = None
    tls_ca: Path | None = None  # None: the system's authorities
    tls_certificate: Path | None = None  # of this client, with its private key in tls_key
    tls_key: Path | None = None
    timeout: Seconds = Seconds(4)

    @property
    def where(self) -> str:
        """The servers, for messages."""
        return ", ".join(one if is_socket(one) else f"{one}:{self.port}" for one in self.hosts)

    def for_admin(self, user: str, socket: str | None, password_file: Path | None) -> "Database":
        """The same database with an administrator's account."""
        hosts = (socket,) if socket else self.hosts
        return msgspec.structs.replace(
            self, user=user, hosts=hosts, password_file=password_file, tls_certificate=None, tls_key=None
        )

    def password(self) -> str:
        """See :func:`wgsyncd.config.secret_file.password`."""
        return secret_file.password("nexavpn.database.password_file", self.password_file)


class Devices(msgspec.Struct, frozen=True):
    """Which devices want a peer."""

    inactive: tuple[str, ...] = INACTIVE  # words of devices.status that want none. Any other than "active" is unknown
    require_approval: bool = False  # whether approved_at has to be set


class Addresses(msgspec.Struct, frozen=True):
    """How far ip_allocations decides on addresses."""

    allocations: Literal["require", "warn"] = "require"


class Policies(msgspec.Struct, frozen=True):
    """Whether and how the policies of the tables decide what devices may reach."""

    enforce: bool = True
    order: Literal["lowest-first", "highest-first"] = "lowest-first"  # which priority decides
    dns: bool = True  # every device reaches gateways.dns_servers at port 53
    always: tuple[Network, ...] = ()  # every device reaches these
    refuse: Literal["drop", "reject"] = "drop"
    local: Literal["judge", "leave"] = "judge"  # traffic to the gateway itself
    free_sources: tuple[Network, ...] = ()  # these may begin flows to devices


class Nexavpn(StoreSettings, frozen=True):
    """The control plane "nexavpn": a PostgreSQL database with the tables of NexaVPN."""

    owner_word: ClassVar[str] = "user"
    gives_networks: ClassVar[bool] = True  # gateways.vpn_cidr
    has_groups: ClassVar[bool] = True

    database: Database = Database()
    devices: Devices = Devices()
    addresses: Addresses = Addresses()
    # By key id: files with the keys that open preshared keys.
    preshared_keys: dict[str, Path] = msgspec.field(default_factory=dict)
    policies: Policies = Policies()

    def policy_settings(self) -> PolicySettings:
        own = self.policies
        return PolicySettings(
            lowest_first=own.order == "lowest-first",
            dns=own.dns,
            always=as_networks(own.always),
            free_sources=as_networks(own.free_sources),
            judges_local=own.local == "judge",
            rejects=own.refuse == "reject",
            enforce=own.enforce,
        )

    def check(self, check: Check) -> None:
        database = self.database
        check(0 < database.port < 65536, "database.port", "is not a port")
        check(0.1 <= database.timeout <= 30, "database.timeout", "is not between 100ms and 30s")
        check(bool(re.fullmatch(r"\S{1,63}", database.name)), "database.name", "is not a database's name")
        check(bool(re.fullmatch(r"\S{1,63}", database.user)), "database.user", "is not a role's name")
        check(bool(database.hosts), "database.hosts", "is empty")
        good = all(re.fullmatch(r"[^\s,]{1,255}", one) for one in database.hosts)
        check(good, "database.hosts", "has an entry that is no host and no directory of a socket")
        local = all(map(is_socket, database.hosts))
        for key in ("tls_ca", "tls_certificate", "tls_key"):
            no_effect = local and getattr(database, key) is not None
            check(not no_effect, f"database.{key}", "has no effect together with a unix socket")
        both = (database.tls_certificate is None) == (database.tls_key is None)
        check(both, "database.tls_key", "stands together with tls_certificate only")
        good = "active" not in self.devices.inactive and all(self.devices.inactive)
        check(good, "devices.inactive", 'holds "active" or an empty text')
        for net in self.policies.free_sources:
            check(
                net.prefixlen > 0, "policies.free_sources", "has a network of all addresses: nothing would be refused"
            )
        for name in self.preshared_keys:
            good = bool(re.fullmatch(KEY_ID, name))
            check(good, f"preshared_keys.{name}", "is no key id: it has 1 to 32 of a-z, 0-9 and -")

    def secret_files(self) -> Mapping[str, Path | None]:
        keys = {f"preshared_keys.{name}": path for name, path in self.preshared_keys.items()}
        return {
            "database.password_file": self.database.password_file,
            "database.tls_key": self.database.tls_key,
            **keys,
        }


SETTINGS = Nexavpn


def is_socket(host: str) -> bool:
    """Whether a host is the directory of a unix socket, as libpq takes it."""
    return host.startswith("/")


def nexavpn(settings: Settings) -> Nexavpn:
    """The settings of this control plane, which a configuration with another control plane does not have."""
    assert isinstance(settings.store, Nexavpn)
    return settings.store
