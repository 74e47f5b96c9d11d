"""Commands that show an admin where the way to a server of another machine ends."""

import ipaddress
import shlex
from pathlib import Path

from wgsyncd.errors import StoreError, StoreErrorCode


def show_way(error: StoreError, host: str, port: int, protocol: str, authority: Path | None) -> str:
    """A command that asks for the server's addresses, or else for its certificate, which needs a connection.

    ``protocol``: what ``-starttls`` of openssl-s_client(1ssl) calls the server. ``authority``: None is the system's.
    """
    if error.code is StoreErrorCode.UNRESOLVED:
        return f"cat /etc/resolv.conf && getent ahosts {shlex.quote(host)}"
    try:
        is_v6, kind = ipaddress.ip_address(host).version == 6, "ip"
    except ValueError:
        is_v6, kind = False, "hostname"
    where = shlex.quote(f"[{host}]:{port}" if is_v6 else f"{host}:{port}")
    trusts = f" -CAfile {shlex.quote(str(authority))}" if authority is not None else ""
    return (
        f"timeout 9 openssl s_client -starttls {protocol} -connect {where}{trusts} -verify_{kind} {shlex.quote(host)}"
        " </dev/null | openssl x509 -noout -subject -ext subjectAltName -issuer -dates"
    )
