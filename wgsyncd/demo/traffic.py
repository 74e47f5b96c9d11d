"""Sends a known number of bytes through a tunnel.

`serve PORT` runs at the server. `transfer HOST PORT UP DOWN SECONDS` runs at the customer: it sends UP bytes, receives
DOWN bytes, and ends.

This file is a program of its own (:data:`COMMAND`). It uses the standard library only, so it starts quickly on slow
machines too.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time

COMMAND = (sys.executable, "-I", "-S", "-B", __file__)

_HEADER = struct.Struct("!QQd")  # bytes up, bytes down, seconds over which each direction is spread
_PIECE = 8192


def serve(port: int) -> None:
    """Receive and send what customers ask for, for ever, in one thread for each connection."""
    with socket.create_server(("0.0.0.0", port), backlog=50) as listener:  # noqa: S104 - a namespace of its own
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve_one, args=(connection,), daemon=True).start()


def transfer(host: str, port: int, up: int, down: int, seconds: float) -> None:
    """Connect, then send ``up`` bytes while receiving ``down`` bytes. SystemExit if bytes are missing.

    It tries to connect again and again until the tunnel works.
    """
    with _connect(host, port) as connection:
        connection.sendall(_HEADER.pack(up, down, seconds))
        sender = threading.Thread(target=_send, args=(connection, up, seconds))
        sender.start()
        got = _receive(connection, down)
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        if got != down or connection.recv(1):  # the server closes the connection when it has all bytes
            raise SystemExit(f"got {got} of {down} bytes")


def _serve_one(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):  # OSError: the customer was cut off
        header = b""
        while len(header) < _HEADER.size:
            piece = connection.recv(_HEADER.size - len(header))
            if not piece:
                return
            header += piece
        up, down, seconds = _HEADER.unpack(header)
        sender = threading.Thread(target=_send, args=(connection, down, seconds), daemon=True)
        sender.start()
        _receive(connection, up)
        sender.join()


def _connect(host: str, port: int) -> socket.socket:
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=2)
        except OSError:
            time.sleep(0.1)
        else:
            connection.settimeout(None)
            return connection


def _send(connection: socket.socket, size: int, seconds: float) -> None:
    began, sent = time.monotonic(), 0
    with contextlib.suppress(OSError):
        while sent < size:
            early = began + seconds * sent / size - time.monotonic()
            if early > 0:
                time.sleep(early)
            sent += connection.send(bytes(min(_PIECE, size - sent)))


def _receive(connection: socket.socket, size: int) -> int:
    got = 0
    while got < size:
        piece = connection.recv(min(65536, size - got))
        if not piece:
            break
        got += len(piece)
    return got


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        transfer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
