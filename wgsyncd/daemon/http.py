"""The HTTP side: /metrics, /healthz, /readyz, on the one address that is configured, in a thread of its own."""

from __future__ import annotations

import os
import selectors
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from wgsyncd import __version__
from wgsyncd.daemon.metrics import exposition, registry
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import UserError
from wgsyncd.log import escape_control, redact

_CLIENT_SECONDS = 10.0  # how long a client may take for its request and for taking the answer
_CLIENTS = 32  # at once
_LISTEN_FDS_START = 3  # sd_listen_fds(3)


def why_not_ready(status: DaemonStatus) -> str:
    """One line for a person who asks /readyz."""
    if not status.reconciled:
        reason = "no complete reconcile since start"
    elif not status.database_up:
        reason = f"the database does not answer: {status.database_error}"
    else:
        reason = "the last answer of the database is too old"
    return escape_control(redact(reason))


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of three paths."""

    server: _Listener
    server_version = f"wgsyncd/{__version__}"
    sys_version = ""
    timeout = _CLIENT_SECONDS  # of one read or write; _Listener bounds them all together

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        status, kind, body = self.server.answer(path, self.headers.get("Accept") or "")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """No access log."""


class _Listener(socketserver.ThreadingTCPServer):
    """A thread per client, so many clients, each for so long.

    Not http.server's own server: that one looks its name up in the DNS, which at boot may take a minute.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    timeout = 0  # of handle_request(): it is called where somebody waits

    def __init__(self, server: Server, sock: socket.socket) -> None:
        # TCPServer's own would make a socket, if only to close it: the unit may be without AF_INET, and the socket
        # systemd's.
        socketserver.BaseServer.__init__(self, sock.getsockname(), _Handler)
        self.socket = sock
        self.answer = server.answer
        self._since: dict[socket.socket, float] = {}
        self._bell, self._button = socket.socketpair()

    def serve(self) -> None:
        """Until :meth:`stop`. Wakes up for a client, and once a second while there are any; not otherwise, which
        serve_forever would."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.socket, selectors.EVENT_READ)
            waiting.register(self._bell, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in waiting.select(1.0 if self._since else None)]
                if self._bell in ready:
                    return
                if ready:
                    self.handle_request()
                self._cut_off_the_slow()

    def stop(self) -> None:
        """End :meth:`serve`."""
        self._button.send(b"!")

    def server_close(self) -> None:
        """Give the sockets back."""
        super().server_close()
        self._bell.close()
        self._button.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a client, or turn it away where there are too many."""
        if len(self._since) >= _CLIENTS:
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A client is done with."""
        super().shutdown_request(request)
        self._since.pop(request, None)

    def _cut_off_the_slow(self) -> None:
        """The thread concerned then closes."""
        late = time.monotonic() - _CLIENT_SECONDS
        for request, since in list(self._since.items()):
            if since < late:
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:
                    self._since.pop(request, None)  # gone in the meantime

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Server:
    """HTTP on ``listen`` (host, port; port 0 for a free one) and nowhere else, in a daemon thread.

    ``alive`` and ``ready`` are asked in that thread's children, so they may only read. A listening socket that systemd
    hands over (LISTEN_FDS, sd_listen_fds(3)) is used instead of ``listen``. Refused where it cannot listen.
    """

    def __init__(
        self, status: DaemonStatus, listen: tuple[str, int], alive: Callable[[], bool], ready: Callable[[], bool]
    ) -> None:
        self.status, self.alive, self.ready = status, alive, ready
        self._registry = registry(status)
        sock = _inherited() or _listen(*listen)
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self._listener = _Listener(self, sock)
        self._thread = threading.Thread(target=self._listener.serve, name="metrics", daemon=True)
        self._thread.start()

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        plain = "text/plain; charset=utf-8"
        if path == "/metrics":
            return 200, *exposition(self._registry, accept)
        if path == "/healthz":
            return (200, plain, b"ok\n") if self.alive() else (503, plain, b"the main loop has not reported lately\n")
        if path == "/readyz":
            return (200, plain, b"ok\n") if self.ready() else (503, plain, f"{why_not_ready(self.status)}\n".encode())
        return 404, plain, b"there are /metrics, /healthz and /readyz\n"

    def close(self) -> None:
        """Stop listening; on return the port is free."""
        self._listener.stop()
        self._thread.join()
        self._listener.server_close()


class HttpServer:
    """The server at the address that is configured, which a reload may change."""

    def __init__(self, status: DaemonStatus, alive: Callable[[], bool], ready: Callable[[], bool]) -> None:
        self._status, self._alive, self._ready = status, alive, ready
        self._server: Server | None = None

    def listen(self, address: tuple[str, int] | None) -> None:
        """Serve there, or (None) nowhere; Refused, and as before, where that cannot be had."""
        before = self._server.address if self._server is not None else None
        self.close()  # first: the new address may be the old port on another host
        try:
            self._server = self._serve(address)
        except UserError:
            self._server = self._serve(before)
            raise

    def _serve(self, address: tuple[str, int] | None) -> Server | None:
        return Server(self._status, address, self._alive, self._ready) if address is not None else None

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _inherited() -> socket.socket | None:
    """systemd's socket, as a copy: it stays open for the next :class:`Server` when this one closes."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    os.set_inheritable(_LISTEN_FDS_START, False)
    return socket.socket(fileno=os.dup(_LISTEN_FDS_START))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(_Listener.request_queue_size)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        why = (error.strerror or str(error)).lower()
        raise UserError(
            f"metrics.listen = {shown}: cannot listen there: {why}. Free the port, name an address of this machine, "
            'or turn the HTTP side off with listen = ""'
        ) from error
    return sock
