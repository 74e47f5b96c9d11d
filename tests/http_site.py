"""An HTTP server for tests, and a client that can send any bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from wgsyncd.daemon.http import TEXT, HttpServer, Request, Response

OK = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"


class Site:
    """A running HttpServer on a socket of any family. ``asked``: the requests that it got."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        self.family, self.address = listener.family, listener.getsockname()
        self.asked: list[Request] = []
        self.busy = threading.Event()
        self.server = HttpServer(
            listener,
            {
                "/slow": {"GET": self._slow},
                "/ok": {"GET": self._answer},
                "/do": {"POST": self._answer},
                "/big": {"GET": self._big},
            },
            **options,
        )

    def _answer(self, request: Request) -> Response:
        self.asked.append(request)
        return Response(200, b"fine\n", TEXT)

    def _slow(self, request: Request) -> Response:
        response = self._answer(request)
        self.busy.wait(60)
        return response

    def _big(self, _: Request) -> Response:
        return Response(200, bytes(50_000_000))

    def connect(self) -> socket.socket:
        client = socket.socket(self.family, socket.SOCK_STREAM)
        client.settimeout(30)
        client.connect(self.address)
        return client

    def say(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes and return the whole answer, up to the end of the connection. ``end``: send nothing after them."""
        with self.connect() as client, client.makefile("rb") as answer:
            send(client, data)
            if end:
                client.shutdown(socket.SHUT_WR)
            return answer.read()

    def status(self, data: bytes, *, end: bool = False) -> int:
        return int(self.say(data, end=end).split(b" ", 2)[1])

    def works(self) -> bool:
        return self.status(OK) == 200

    @property
    def clients(self) -> int:
        return len(self.server._clients)


def send(client: socket.socket, data: bytes) -> None:
    """Send bytes. It is no error if the server closes the connection before it has read all of them."""
    with contextlib.suppress(OSError):
        client.sendall(data)
