"""Sends a known number of bytes through a tunnel.

`serve PORT` runs at the server. `transfer HOST PORT UP DOWN SECONDS` runs at the customer: it sends UP bytes, receives
DOWN bytes, and ends.

This file is a program of its own (:data:`COMMAND`). It uses the standard library only, so it starts quickly on slow
machines too.
"""

import contextlib
import socket
import socketserver
import struct
import sys
import threading
import time

COMMAND = (sys.executable, "-I", "-S", "-B", __file__)

_HEADER = struct.Struct("!QQd")  # bytes up, bytes down, seconds over which each direction is spread
_PIECE = 8192


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50


class _Sink(socketserver.BaseRequestHandler):
    """Receives and sends what one customer asks for."""

    def handle(self) -> None:
        with contextlib.suppress(OSError, struct.error):  # the customer was cut off
            up, down, seconds = _HEADER.unpack(self.request.recv(_HEADER.size, socket.MSG_WAITALL))
            _exchange(self.request, send=down, receive=up, seconds=seconds)


def transfer(host: str, port: int, up: int, down: int, seconds: float) -> None:
    """Connect, then send ``up`` bytes while receiving ``down`` bytes. SystemExit if bytes are missing.

    It tries to connect again and again until the tunnel works.
    """
    with _connect(host, port) as connection:
        connection.sendall(_HEADER.pack(up, down, seconds))
        got = _exchange(connection, send=up, receive=down, seconds=seconds)
        connection.shutdown(socket.SHUT_WR)
        if got != down or connection.recv(1):  # the server closes the connection when it has all bytes
            raise SystemExit(f"got {got} of {down} bytes")


def _connect(host: str, port: int) -> socket.socket:
    while True:
        with contextlib.suppress(OSError):
            connection = socket.create_connection((host, port), timeout=2)
            connection.settimeout(None)
            return connection
        time.sleep(0.1)


def _exchange(connection: socket.socket, *, send: int, receive: int, seconds: float) -> int:
    """Send and receive at the same time. Returns the number of bytes that came."""
    sender = threading.Thread(target=_send, args=(connection, send, seconds), daemon=True)
    sender.start()
    got = len(connection.recv(receive, socket.MSG_WAITALL))
    sender.join()
    return got


def _send(connection: socket.socket, size: int, seconds: float) -> None:
    began, sent = time.monotonic(), 0
    with contextlib.suppress(OSError):
        while sent < size:
            time.sleep(max(0, began + seconds * sent / size - time.monotonic()))
            sent += connection.send(bytes(min(_PIECE, size - sent)))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _Server(("", int(sys.argv[2])), _Sink).serve_forever()
    else:
        transfer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
