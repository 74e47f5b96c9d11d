"""A small bounded HTTP server, which serves the TCP port and the control socket.

The server answers one request of each connection and closes the connection. Each client has a thread of its own, and
each of its reads and writes has a time limit. So a client that is slow, silent or malicious delays nobody else.

The reading is strict. A request that could be read in two ways is refused. Such a request has a doubled or odd
Content-Length, a Transfer-Encoding, a folded header, or a line that ends with LF alone.
"""

import contextlib
import errno
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

from wgsyncd import __version__
from wgsyncd.daemon.admin_report import ErrorReport, as_json

MAX_REQUEST = 65536  # bytes, head and body together
REQUEST_WITHIN = 10.0  # seconds, for a whole request to arrive
TAKE_WITHIN = 10.0  # seconds, for the client to take the whole answer
LINGER = 1.0  # seconds, for a refused client to read the refusal
TEXT = "text/plain; charset=utf-8"
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class Request(NamedTuple):
    """One request. ``who`` names the client of a control socket. ``host``: the name by which the client came."""

    method: str
    path: str
    query: Mapping[str, str]
    accept: str
    body: bytes
    who: str = ""
    host: str = ""


class Response(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    allow: str = ""
    headers: Sequence[str] = ()


class Refusal(Exception):
    """A request that gets an error as its answer. ``key`` names the part of the request that is wrong."""

    def __init__(self, status: int, why: str, key: str | None = None, allow: str = "") -> None:
        super().__init__(why)
        self.status, self.key, self.allow = status, key, allow

    def response(self) -> Response:
        return Response(self.status, as_json(ErrorReport(error=str(self), key=self.key)), allow=self.allow)


Answer = Callable[[Request], Response]
Routes = Mapping[str, Mapping[str, Answer]]  # path, then method
Admit = Callable[[socket.socket], str]  # names the client, or raises Refusal


class HttpServer:
    """Serves ``routes`` on a socket that listens, in threads of its own, until :meth:`close`.

    ``admit`` looks at each client first. A route's answer runs in its client's thread.
    """

    def __init__(
        self, listener: socket.socket, routes: Routes, admit: Admit = lambda _: "", max_clients: int = 32
    ) -> None:
        self._listener, self._routes, self._admit, self._max_clients = listener, routes, admit, max_clients
        listener.setblocking(False)
        self._clients: dict[socket.socket, bool] = {}  # the oldest first. True: its answer is being made
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
            while self._wake_read not in [key.fileobj for key, _ in selector.select()]:
                self._accept()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                time.sleep(0.1)  # The client waits in the backlog meanwhile.
            return
        if len(self._clients) >= self._max_clients and not self._cut_oldest():
            with client, contextlib.suppress(OSError):
                client.setblocking(False)
                client.send(
                    _encode(Refusal(503, f"{self._max_clients} others are being answered: try again").response())
                )
            return
        self._clients[client] = False
        try:
            threading.Thread(target=self._handle, args=(client,), name="http client", daemon=True).start()
        except RuntimeError:  # The system has no more threads.
            self._end(client)

    def _cut_oldest(self) -> bool:
        """End the oldest client that has not asked yet or does not take its answer. False: there is none."""
        for client in [client for client, working in list(self._clients.items()) if not working]:
            with contextlib.suppress(OSError):  # It has ended meanwhile.
                client.shutdown(socket.SHUT_RDWR)
            self._clients.pop(client, None)
            return True
        return False

    # -- in a client's thread

    def _handle(self, client: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # The client went away.
                self._answer(client)
        finally:
            self._end(client)

    def _end(self, client: socket.socket) -> None:
        self._clients.pop(client, None)
        client.close()

    def _answer(self, client: socket.socket) -> None:
        method = ""
        try:
            who = self._admit(client)
            request = receive(client)
            if request is None:
                return
            method = request.method
            if client in self._clients:
                self._clients[client] = True
            response = self._find(request)(request._replace(who=who))
        except Refusal as refusal:
            response = refusal.response()
        if client in self._clients:
            self._clients[client] = False
        client.settimeout(TAKE_WITHIN)
        client.sendall(_encode(response, with_body=method != "HEAD"))
        if response.status >= HTTPStatus.BAD_REQUEST:
            _linger(client)

    def _find(self, request: Request) -> Answer:
        methods = self._routes.get(request.path)
        if request.path == "/" and methods is None:
            methods = {"GET": self._list}
        if methods is None:
            raise Refusal(404, "there is nothing here: GET / lists the paths")
        answer = methods.get("GET" if request.method == "HEAD" else request.method)
        if answer is None:
            allow = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise Refusal(405, f"{request.path} takes {allow}", allow=allow)
        return answer

    def _list(self, _: Request) -> Response:
        lines = [f"{method} {path}\n" for path, methods in self._routes.items() for method in methods]
        return Response(200, "".join(lines).encode(), TEXT)


def receive(client: socket.socket) -> Request | None:
    """Read one whole request. None if the client says nothing. Refusal if it is no request of HTTP/1."""
    deadline = time.monotonic() + REQUEST_WITHIN
    data = b""
    while (end := data.find(_END)) < 0:
        part = _receive_part(client, deadline)
        if not part and not data:
            return None
        if not part:
            raise Refusal(400, "the request ends before its head is complete")
        data += part
        if len(data) > MAX_REQUEST:
            raise Refusal(413, f"a request has at most {MAX_REQUEST} bytes")
    line, *fields = data[:end].decode("latin-1").split("\r\n")
    asked = _REQUEST_LINE.fullmatch(line)
    if not asked:
        raise Refusal(400, "the first line is no request of HTTP/1.0 or HTTP/1.1")
    headers = _headers(fields)
    start = end + len(_END)
    whole = start + _body_length(headers)
    if whole > MAX_REQUEST:
        raise Refusal(413, f"a request has at most {MAX_REQUEST} bytes")
    while len(data) < whole:
        part = _receive_part(client, deadline)
        if not part:
            raise Refusal(400, "the body is shorter than Content-Length", "Content-Length")
        data += part
    path, _, query = asked[2].partition("?")
    pairs = dict(parse_qsl(query, errors="surrogateescape"))
    return Request(asked[1], path, pairs, headers.get("accept", ""), data[start:whole], host=headers.get("host", ""))


def _receive_part(client: socket.socket, deadline: float) -> bytes:
    client.settimeout(max(0.001, deadline - time.monotonic()))
    try:
        return client.recv(MAX_REQUEST)
    except TimeoutError:
        raise Refusal(408, f"the request did not arrive within {REQUEST_WITHIN:.0f} s") from None


def _headers(fields: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for field in fields:
        pair = _FIELD.fullmatch(field)
        if not pair:
            raise Refusal(400, "a line of the head is no header")
        name = pair[1].lower()
        if name in headers and name in ("content-length", "host"):
            raise Refusal(400, f"{pair[1]} is there twice", pair[1])
        headers[name] = pair[2].rstrip()
    return headers


def _body_length(headers: Mapping[str, str]) -> int:
    """The size of the body, as Content-Length alone may tell it."""
    if "transfer-encoding" in headers:
        raise Refusal(400, "a body needs Content-Length and no Transfer-Encoding", "Transfer-Encoding")
    length = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]+", length):
        raise Refusal(400, "Content-Length is no number", "Content-Length")
    return int(length) if len(length) < 9 else MAX_REQUEST + 1  # int() refuses thousands of digits.


def _encode(response: Response, *, with_body: bool = True) -> bytes:
    head = [
        f"HTTP/1.0 {response.status} {HTTPStatus(response.status).phrase}",
        f"Server: wgsyncd/{__version__}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *([f"Allow: {response.allow}"] if response.allow else []),
        *response.headers,
        "Connection: close",
    ]
    return "\r\n".join(head).encode("latin-1") + _END + (response.body if with_body else b"")


def _linger(client: socket.socket) -> None:
    """Read what a refused client still sends: a close with unread data would make the kernel drop the answer."""
    client.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + LINGER
    while (left := deadline - time.monotonic()) > 0:
        client.settimeout(left)
        if not client.recv(65536):
            return
