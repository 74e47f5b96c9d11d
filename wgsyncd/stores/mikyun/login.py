"""Logs in at MariaDB, and gives the password only to a server that may have it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import pymysql
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor

from wgsyncd.errors import ConfigError, StoreError
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.wire import Wire
from wgsyncd.stores.resolving import UnresolvedError

# With these plug-ins the server learns the password, or could compute it. They need a server that has proved its name.
_REVEALING = ("mysql_clear_password", "dialog", "sha256_password", "caching_sha2_password", "mysql_old_password")
_ED25519 = "client_ed25519"


class _Refusal:
    """A plug-in that refuses to authenticate."""

    def __init__(self, name: str, why: str, _: object) -> None:
        self._told = f"The server asks for the plug-in {name}. {why}"

    def authenticate(self, _: object) -> object:
        raise pymysql.OperationalError(2059, self._told)


def log_in(settings: Database, wire: Wire) -> pymysql.Connection[Cursor]:
    """A connection whose account is known to the server. Every exception is trouble that passes."""
    # To a server on this machine TLS only costs time. Any other server has to prove its name.
    secure = settings.socket is None and (settings.tls_ca is not None or not settings.is_local)
    options: dict[str, Any] = {"ssl_disabled": True}
    if secure:
        import ssl

        from wgsyncd.stores.mikyun import tls

        pymysql.connections.ssl = ssl  # type: ignore[attr-defined]  # the driver was imported without, see open_store
        options = {"ssl": tls.context(wire.limit, settings.tls_ca)}
    # The limits are the wire's. The driver's own would be for each read alone.
    actual: pymysql.Connection[Cursor] = pymysql.connect(
        **options, host=settings.host, port=settings.port, user=settings.user, password=_password(settings),
        database=settings.name, charset="utf8mb4", autocommit=True, client_flag=CLIENT.FOUND_ROWS,
        program_name="wgsyncd", auth_plugin_map=_refused(secure=secure), defer_connect=True,
    )  # fmt: skip
    try:
        socket = wire.connect(settings)
    except UnresolvedError as error:
        raise pymysql.OperationalError(2005, f"Unknown server {settings.host}: {error}") from None
    except OSError as error:
        where = settings.socket or f"{settings.host}:{settings.port}"
        raise pymysql.OperationalError(2003, f"Can't connect to MariaDB at '{where}' ({error})") from None
    try:
        actual.connect(socket)
    finally:
        actual.password = b""  # wgsyncd reads it again for the next connection
        if not actual.open:
            socket.close()
    return actual


def _refused(*, secure: bool) -> dict[str, Callable[[Any], Any]]:
    """The plug-ins that are refused, by their names."""
    why = {} if secure else dict.fromkeys(_REVEALING, "It would learn the password, so it needs TLS with tls_ca")
    if importlib.util.find_spec("nacl") is None:
        why[_ED25519] = "It needs the package PyNaCl: choose unix_socket or mysql_native_password for the account"
    return {name: partial(_Refusal, name, why[name]) for name in why}


def _password(settings: Database) -> bytes:
    try:
        return settings.password().encode()  # the driver would encode a text as latin-1
    except ConfigError as error:  # perhaps readable later: retried, like every failed connect
        raise StoreError("; ".join(map(str, error.faults))) from None
