"""What monitoring reads at the configured address: /metrics, /healthz and /readyz. The page is at /."""

import errno
import os
import socket
from collections.abc import Callable
from functools import partial

from wgsyncd.core.network import is_loopback
from wgsyncd.daemon.http import TEXT, HttpServer, Request, Response, Routes
from wgsyncd.daemon.metrics import exposition, registry
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import UserError
from wgsyncd.redact import escape_control, redact

_LISTEN_FDS_START = 3  # sd_listen_fds(3)


def pages(status: Callable[[], DaemonStatus], alive: Callable[[], bool]) -> Routes:
    """The paths. The clients' threads ask for the ``status`` of now, and whether the main loop is ``alive``."""
    metrics = registry(status)

    def scrape(request: Request) -> Response:
        content_type, body = exposition(metrics, request.accept)
        return Response(200, body, content_type)

    def liveness(_: Request) -> Response:
        return _text("" if alive() else "the main loop has not reported lately")

    def readiness(_: Request) -> Response:
        now = status()
        if not now.reconciled:
            return _text("no complete reconcile since start")
        if not now.compares:
            return _text(
                f"no interface can be compared: {'; '.join(one.text for one in now.interface_errors.values())}"
            )
        return _text("" if now.database_up else f"the database does not serve wgsyncd: {now.database_error}")

    return {"/metrics": {"GET": scrape}, "/healthz": {"GET": liveness}, "/readyz": {"GET": readiness}}


def _text(fault: str) -> Response:
    return Response(503 if fault else 200, f"{escape_control(redact(fault)) or 'ok'}\n".encode(), TEXT)


Front = Callable[["MonitoringServer", Request], Response]
"""Answers GET / of a server."""


class MonitoringServer:
    """Serves ``routes`` at the configured address, which a reload may change."""

    def __init__(self, routes: Routes, front: Front | None = None) -> None:
        self.routes = routes  # without "/", which ``front`` answers
        self._front = front
        self.address: tuple[str, int] | None = None  # path and 0, if systemd's socket is a unix socket
        self.is_private = False  # only programs of this machine can ask: over loopback, or over a unix socket
        self._server: HttpServer | None = None

    def listen(self, address: tuple[str, int] | None) -> None:
        """Serve at an address (port 0: a free one), or with None nowhere.

        systemd's socket (LISTEN_FDS) takes the place of the address. If the address cannot be had, UserError says why
        and the server stays where it was.
        """
        before = self.address
        self.close()  # The new address may be the old port on another host.
        try:
            self._serve(address)
        except UserError:
            self._serve(before)
            raise

    def _serve(self, address: tuple[str, int] | None) -> None:
        if address is not None:
            listener = _inherited() or _listen(*address)
            name = listener.getsockname()
            is_unix = listener.family == socket.AF_UNIX
            self.address = (name, 0) if is_unix else name[:2]
            self.is_private = is_unix or is_loopback(name[0])
            front: Routes = {"/": {"GET": partial(self._front, self)}} if self._front is not None else {}
            self._server = HttpServer(listener, {**self.routes, **front})

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = self.address = None


def _inherited() -> socket.socket | None:
    """A copy of systemd's socket. The original stays open for the next server."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    os.set_inheritable(_LISTEN_FDS_START, False)
    return socket.socket(fileno=os.dup(_LISTEN_FDS_START))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. The host's name is looked up, but no client's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(64)
        except OSError:
            sock.close()
            raise
    except (OSError, ValueError, OverflowError) as error:  # ValueError: the idna codec refuses the host's name.
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        why = (getattr(error, "strerror", None) or str(error)).lower()
        todo = 'Free the port, name an address of this machine, or turn the HTTP side off with listen = ""'
        if getattr(error, "errno", None) == errno.EAFNOSUPPORT:  # the unit's RestrictAddressFamilies=
            todo = "The unit has no IP: `systemctl restart wgsyncd` lets wgsyncd.socket open the port"
        raise UserError(f"metrics.listen = {shown}: cannot listen there: {why}. {todo}") from error
    return sock
