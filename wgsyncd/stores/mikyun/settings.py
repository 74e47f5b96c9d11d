"""The settings of the control plane "mikyun", in the configuration's table [mikyun]."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from wgsyncd.config import secret_file
from wgsyncd.config.schema import Check, Seconds, Settings, StoreSettings

SOCKET = "/run/mysqld/mysqld.sock"


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

    def there(self, command: str) -> str:
        """A command for a server with its usual socket, as the command for this one. This server may be a copy."""
        if self.socket:
            return command.replace(SOCKET, shlex.quote(self.socket))
        if self.is_local:
            return command if self.port == 3306 else command.replace(f"--socket {SOCKET}", "--password-file FILE")
        far = f"mariadb --host {shlex.quote(self.host)} --port {self.port} --password "
        return re.sub("^mariadb (?!--host)", far, re.sub(r"--socket \S+", "--password-file FILE", command))

    def for_admin(self, user: str, socket: str | None, password_file: Path | None) -> "Database":
        """The same database with an administrator's account."""
        where = socket or self.socket
        return msgspec.structs.replace(self, user=user, socket=where, password_file=password_file)

    def password(self) -> str:
        """See :func:`wgsyncd.config.secret_file.password`."""
        return secret_file.password("mikyun.database.password_file", self.password_file)


class Qr(msgspec.Struct, frozen=True):
    """QR codes that have no deadline of their own."""

    lifetime: Seconds = Seconds(86400)


class Mikyun(StoreSettings, frozen=True):
    """The control plane "mikyun": a MariaDB database with the tables of mikyun_cloud."""

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
