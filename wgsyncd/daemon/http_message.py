"""A request and an answer of HTTP/1, as bytes on a connection and as values.

The reading is strict. A request that could be read in two ways is refused. Such a request has a doubled or odd
Content-Length, a Transfer-Encoding, a folded header, or a line that ends with LF alone.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

from wgsyncd import __version__

LONGEST_REQUEST = 65536  # bytes, head and body together
REQUEST_WITHIN = 10.0  # seconds, for a whole request to arrive
TEXT = "text/plain; charset=utf-8"
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")


class Request(NamedTuple):
    """One request. ``who`` names the client of a control socket."""

    method: str
    path: str
    query: Mapping[str, str]
    accept: str
    body: bytes
    who: str = ""


class Response(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    allow: str = ""


class Refusal(Exception):
    """A request that gets an error as its answer. ``key`` names the part of the request that is wrong."""

    def __init__(self, status: int, why: str, key: str = "", allow: str = "") -> None:
        super().__init__(why)
        self.status, self.why, self.key, self.allow = status, why, key, allow

    def response(self) -> Response:
        """The refusal as JSON."""
        document = {"error": self.why} | ({"key": self.key} if self.key else {})
        text = json.dumps(document, ensure_ascii=False) + "\n"
        return Response(self.status, text.encode("utf-8", "backslashreplace"), allow=self.allow)


def receive(client: socket.socket) -> Request | None:
    """Read one whole request. None if the client says nothing. Refusal if it is no request of HTTP/1."""
    parts = _parts(client, time.monotonic() + REQUEST_WITHIN)
    data = b""
    while (end := data.find(_END)) < 0:
        part = next(parts)
        if not part:
            if not data:
                return None
            raise Refusal(400, "the request ends before its head is complete")
        data += part
        if len(data) > LONGEST_REQUEST:
            raise Refusal(413, f"a request has at most {LONGEST_REQUEST} bytes")
    line, *fields = data[:end].decode("latin-1").split("\r\n")
    asked = _REQUEST_LINE.fullmatch(line)
    if not asked:
        raise Refusal(400, "the first line is no request of HTTP/1.0 or HTTP/1.1")
    headers = _headers(fields)
    whole = end + len(_END) + _length(headers)
    if whole > LONGEST_REQUEST:
        raise Refusal(413, f"a request has at most {LONGEST_REQUEST} bytes")
    while len(data) < whole:
        part = next(parts)
        if not part:
            raise Refusal(400, "the body is shorter than Content-Length", "Content-Length")
        data += part
    path, _, query = asked[2].partition("?")
    pairs = dict(parse_qsl(query, errors="surrogateescape"))
    return Request(asked[1], path, pairs, headers.get("accept", ""), data[end + len(_END) : whole])


def _parts(client: socket.socket, deadline: float) -> Iterator[bytes]:
    """What arrives, piece by piece, up to the deadline. An empty piece says that nothing follows."""
    while True:
        client.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            yield client.recv(65536)
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


def _length(headers: Mapping[str, str]) -> int:
    """The size of the body, as Content-Length alone may tell it."""
    if "transfer-encoding" in headers:
        raise Refusal(400, "a body needs Content-Length and no Transfer-Encoding", "Transfer-Encoding")
    length = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]+", length):
        raise Refusal(400, "Content-Length is no number", "Content-Length")
    return int(length) if len(length) < len(str(LONGEST_REQUEST)) + 1 else LONGEST_REQUEST + 1


def encode(response: Response, *, with_body: bool = True) -> bytes:
    """An answer's bytes."""
    head = [
        f"HTTP/1.0 {response.status} {HTTPStatus(response.status).phrase}",
        f"Server: wgsyncd/{__version__}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *([f"Allow: {response.allow}"] if response.allow else []),
        "Connection: close",
    ]
    return "\r\n".join(head).encode("latin-1") + _END + (response.body if with_body else b"")
