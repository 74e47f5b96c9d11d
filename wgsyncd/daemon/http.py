"""A small bounded HTTP server, which serves the TCP port and the control socket.

The server answers one request of each connection and closes the connection. Each client has a thread of its own, and
each of its reads and writes has a time limit. So a client that is slow, silent or malicious delays nobody else.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from wgsyncd.daemon.http_message import TEXT, Refusal, Request, Response, encode, receive

TAKE_WITHIN = 10.0  # seconds, for the client to take the whole answer
LINGER = 1.0  # seconds, for a refused client to read the refusal
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

Answer = Callable[[Request], Response]
Routes = Mapping[str, Mapping[str, Answer]]  # path, then method
Admit = Callable[[socket.socket], str]  # names the client, or raises Refusal


def _everybody(_: socket.socket) -> str:
    return ""


class HttpServer:
    """Serves ``routes`` on a socket that listens, in threads of its own, until :meth:`close`.

    ``admit`` looks at each client first. A route's answer runs in its client's thread.
    """

    def __init__(self, listener: socket.socket, routes: Routes, admit: Admit = _everybody, clients: int = 32) -> None:
        self._listener, self._routes, self._admit, self._most = listener, routes, admit, clients
        listener.setblocking(False)
        self._clients: set[socket.socket] = set()
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. The address is free afterwards."""
        self._wake_write.send(b"!")
        self._thread.join()
        for one in (self._listener, self._wake_read, self._wake_write):
            one.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                if self._wake_read in [key.fileobj for key, _ in selector.select()]:
                    return
                self._accept()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                time.sleep(0.1)  # The client waits in the backlog meanwhile.
            return
        if len(self._clients) >= self._most:
            with client, contextlib.suppress(OSError):
                client.setblocking(False)
                client.send(encode(Refusal(503, f"{self._most} others are being answered: try again").response()))
            return
        self._clients.add(client)
        try:
            threading.Thread(target=self._handle, args=(client,), name="http client", daemon=True).start()
        except RuntimeError:  # The system has no more threads.
            self._end(client)

    # -- in a client's thread

    def _handle(self, client: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # The client went away.
                self._answer(client)
        finally:
            self._end(client)

    def _end(self, client: socket.socket) -> None:
        client.close()
        self._clients.discard(client)

    def _answer(self, client: socket.socket) -> None:
        method = ""
        try:
            who = self._admit(client)
            request = receive(client)
            if request is None:
                return
            method = request.method
            response = self._find(request)(request._replace(who=who))
        except Refusal as refusal:
            response = refusal.response()
        client.settimeout(TAKE_WITHIN)
        client.sendall(encode(response, with_body=method != "HEAD"))
        if response.status >= HTTPStatus.BAD_REQUEST:
            _linger(client)

    def _find(self, request: Request) -> Answer:
        if request.path == "/" and "/" not in self._routes:
            methods: Mapping[str, Answer] = {"GET": self._list}
        elif request.path in self._routes:
            methods = self._routes[request.path]
        else:
            raise Refusal(404, "there is nothing here: GET / lists the paths")
        answer = methods.get("GET" if request.method == "HEAD" else request.method)
        if answer is None:
            allow = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise Refusal(405, f"{request.path} takes {allow}", allow=allow)
        return answer

    def _list(self, _: Request) -> Response:
        lines = [f"{method} {path}\n" for path, methods in self._routes.items() for method in methods]
        return Response(200, "".join(lines).encode(), TEXT)


def _linger(client: socket.socket) -> None:
    """Read what a refused client still sends: a close with unread data would make the kernel drop the answer."""
    client.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + LINGER
    while (left := deadline - time.monotonic()) > 0:
        client.settimeout(left)
        if not client.recv(65536):
            return
