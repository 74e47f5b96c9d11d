"""TLS to MariaDB, for a server on another machine. Only there is OpenSSL loaded, which takes 4 MiB."""

import ssl
from pathlib import Path
from typing import Any

from wgsyncd.stores.border import require_plain
from wgsyncd.stores.mikyun.wire import Limit


class _Tls(ssl.SSLSocket):
    limit: Limit

    def recv_into(self, *args: Any) -> int:
        return self.limit.received(self.limit.call(self, super().recv_into, *args))

    def send(self, *args: Any) -> int:
        return self.limit.call(self, super().send, *args)

    def do_handshake(self, block: bool = False) -> None:
        self.limit.call(self, super().do_handshake, block)


def context(limit: Limit, authority: Path | None) -> ssl.SSLContext:
    """The TLS context. The server has to prove its name by this authority, None: by the system's."""
    require_plain("tls_ca", authority)
    try:
        found = ssl.create_default_context(cafile=str(authority) if authority else None)
    except ssl.SSLError as error:
        raise OSError(f"database.tls_ca = {authority} has no certificate that can be read: {error.reason}") from None
    found.sslsocket_class = type("_LimitedTls", (_Tls,), {"limit": limit})
    return found
