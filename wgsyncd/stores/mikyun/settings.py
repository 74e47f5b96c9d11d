"""The settings of the control plane "mikyun", in the configuration's table [mikyun]."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from wgsyncd.config import secret_file
from wgsyncd.config.schema import Check, Seconds, Settings, StoreSettings


class Database(msgspec.Struct, frozen=True):
    """The MariaDB server of mikyun_cloud. The password is read when the store connects, and kept nowhere."""

    host: str = "127.0.0.1"
    port: int = 3306
    socket: str | None = None
    name: str = "mikyun_cloud"
    user: str = "mikyun"
    password_file: Path | None = None
    tls_ca: Path | None = None  # None: the system's authorities, and no TLS to this machine
    timeout: Seconds = Seconds(4)

    @property
    def is_local(self) -> bool:
        return self.socket is not None or self.host in ("127.0.0.1", "::1", "localhost")

    def for_admin(self, user: str, socket: str | None, password_file: Path | None) -> "AdminDatabase":
        """The same database with an administrator's account."""
        own = {**msgspec.structs.asdict(self), "user": user, "password_file": password_file}
        return AdminDatabase(**{**own, "socket": socket or self.socket})

    def password(self) -> str:
        """See :func:`wgsyncd.config.secret_file.password`."""
        return secret_file.password("mikyun.database.password_file", self.password_file)


class AdminDatabase(Database, frozen=True):
    """A database with the account of an administrator. No restart of the daemon helps against its trouble."""


class Qr(msgspec.Struct, frozen=True):
    """QR codes that have no deadline of their own."""

    lifetime: Seconds = Seconds(86400)


class Mikyun(StoreSettings, frozen=True):
    """The control plane "mikyun": a MariaDB database with the tables of mikyun_cloud."""

    zone_effect: ClassVar[str] = "wgsyncd reads all DATETIME columns in the new zone, so handshakes and QR codes move"
    bounds_devices: ClassVar[bool] = True  # contracts.max_devices
    counts_months: ClassVar[bool] = True

    perspective: Literal["server", "device"] = "server"
    language: Literal["ja", "en"] = "en"
    database: Database = Database()
    qr: Qr = Qr()

    def check(self, check: Check) -> None:
        database = self.database
        check(0 < database.port < 65536, "database.port", "is not a port")
        check(0.1 <= database.timeout <= 30, "database.timeout", "is not between 100ms and 30s")
        check(bool(re.fullmatch(r"\S{1,64}", database.name)), "database.name", "is not a database's name")
        no_effect = database.socket is not None and database.tls_ca is not None
        check(not no_effect, "database.tls_ca", "has no effect together with database.socket")
        check(self.qr.lifetime > 0, "qr.lifetime", "is not above 0")

    def secret_files(self) -> Mapping[str, Path | None]:
        return {"database.password_file": self.database.password_file}


SETTINGS = Mikyun


def mikyun(settings: Settings) -> Mikyun:
    """The settings of this control plane, which a configuration with another control plane does not have."""
    assert isinstance(settings.store, Mikyun)
    return settings.store
