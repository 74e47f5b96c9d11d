"""Datagrams in both directions through every customer's tunnel, at a rate that is kept to.

UDP, since tunnels break here all the time and nobody should wait for a lost answer. What arrives is taken by sockets
that nobody reads: they overflow silently, where a closed port would answer by ICMP.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass

PORT = 7001
LARGEST = 1300  # payload, bytes
OVERHEAD = 100  # bytes of a packet that WireGuard counts, at most, besides the payload: IP, UDP, WireGuard, padding
_TICK = 0.02


@dataclass(slots=True)
class Flow:
    """One customer's."""

    socket: socket.socket  # in the customer's network namespace
    inner: str = ""  # the customer's address in the tunnel
    gateway: str = ""  # the server's
    up: int = 0  # bytes per second
    down: int = 0
    sent: int = 0  # payload, both ways
    _due: tuple[float, float] = (0.0, 0.0)


class Traffic(threading.Thread):
    """Sends until it is closed. Rates and addresses may be changed at any time."""

    def __init__(self, server: socket.socket, seed: int) -> None:
        super().__init__(daemon=True)
        self.flows: dict[str, Flow] = {}
        self._server, self._random, self._closed = server, random.Random(seed), False

    def run(self) -> None:
        """As a thread."""
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
        """Send what is due; what is left of it (a little less than nothing)."""
        while due > 0:
            size = self._random.randint(1, LARGEST)
            due -= size + OVERHEAD
            with contextlib.suppress(OSError):  # no route, no peer, no room: as it happens to customers
                flow.sent += source.sendto(bytes(size), (to, PORT))
        return due

    def close(self) -> None:
        """End it."""
        self._closed = True
        self.join()
        for one in [self._server, *(flow.socket for flow in self.flows.values())]:
            one.close()


def outlet() -> socket.socket:
    """A socket that sends, and takes what comes without anybody reading it; made in the namespace of its caller."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    one.bind(("0.0.0.0", PORT))  # noqa: S104 - a namespace of its own
    return one
