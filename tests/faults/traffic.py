"""Sends datagrams in both directions through every customer's tunnel, at a fixed rate.

The datagrams are UDP, because tunnels break here all the time and no side should wait for a lost answer. Sockets that
nobody reads take the datagrams. Such a socket overflows silently, while a closed port would answer by ICMP.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass

PORT = 7001
LARGEST = 1300  # bytes of payload
OVERHEAD = 100  # the most bytes that WireGuard counts for a packet besides its payload: IP, UDP, WireGuard, padding
_TICK = 0.02


@dataclass(slots=True)
class Flow:
    """Holds the traffic of one customer."""

    socket: socket.socket  # the socket is in the customer's network namespace
    inner: str = ""  # the customer's address in the tunnel
    gateway: str = ""  # the server's address in the tunnel
    up: int = 0  # bytes per second
    down: int = 0
    sent: int = 0  # bytes of payload, in both directions
    _due: tuple[float, float] = (0.0, 0.0)


class Traffic(threading.Thread):
    """Sends until it is closed. Rates and addresses may change at any time."""

    def __init__(self, server: socket.socket, seed: int) -> None:
        super().__init__(daemon=True)
        self.flows: dict[str, Flow] = {}
        self._server, self._random, self._closed = server, random.Random(seed), False

    def run(self) -> None:
        """Sends until it is closed. It runs as a thread."""
        last = time.monotonic()
        while not self._closed:
            time.sleep(_TICK)
            now = time.monotonic()
            span, last = min(now - last, 0.2), now
            for flow in list(self.flows.values()):
                up, down = flow._due
                up = self._send(flow, flow.socket, flow.gateway, up + flow.up * span) if flow.up else 0
                down = self._send(flow, self._server, flow.inner, down + flow.down * span) if flow.down else 0
                flow._due = up, down

    def _send(self, flow: Flow, source: socket.socket, to: str, due: float) -> float:
        """Sends the due bytes. Returns the rest, which is a little less than zero."""
        while due > 0:
            size = self._random.randint(1, LARGEST)
            due -= size + OVERHEAD
            with contextlib.suppress(OSError):  # there is no route, no peer or no room, as it happens to customers
                flow.sent += source.sendto(bytes(size), (to, PORT))
        return due

    def close(self) -> None:
        """Ends the traffic and closes all sockets."""
        self._closed = True
        if self.is_alive():
            self.join()
        for one in [self._server, *(flow.socket for flow in self.flows.values())]:
            one.close()


def outlet() -> socket.socket:
    """Returns a socket that sends, and drops what it receives because nobody reads it.

    It belongs to the namespace of its caller.
    """
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    one.bind(("0.0.0.0", PORT))  # noqa: S104 - a namespace of its own
    return one
