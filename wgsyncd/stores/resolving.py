"""Resolves the names of servers within a limited time."""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

Address = tuple[str, Any]  # a host as it is configured, and an entry of getaddrinfo(3)


class UnresolvedError(OSError):
    """No name server has an address for a server's name."""


class Resolver:
    """Resolves the names of one connection's servers, and keeps the last answer for each name."""

    def __init__(self) -> None:
        self._lookups: dict[str, _Lookup] = {}  # they have no answer yet
        self._known: dict[str, Sequence[Any]] = {}

    def addresses(self, hosts: Sequence[str], port: int, seconds: float) -> list[Address]:
        """The addresses of hosts, in their order. A name without an answer in this time has its last addresses.

        UnresolvedError: no host has an address.
        """
        until = time.monotonic() + seconds
        numbers = {host: _numeric(host, port) for host in hosts}
        names = [host for host in numbers if not numbers[host]]
        for host in names:
            if host not in self._lookups:
                self._lookups[host] = _Lookup(host, port)
                self._lookups[host].start()
        failure = f"no name server has answered within {seconds:g} s"
        for host in names:
            self._lookups[host].join(max(0.0, until - time.monotonic()))
            if not self._lookups[host].is_alive():
                done = self._lookups.pop(host)
                self._known[host] = done.found or self._known.get(host, ())
                failure = f"the name cannot be resolved: {done.failure}"
        found = [(host, one) for host in hosts for one in numbers[host] or self._known.get(host, ())]
        if not found:
            raise UnresolvedError(failure)
        return found


def _numeric(host: str, port: int) -> Sequence[Any]:
    """The addresses of a host that is a number. Empty for a name."""
    with contextlib.suppress(OSError, UnicodeError):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return ()


class _Lookup(threading.Thread):
    """Resolves a name. getaddrinfo(3) knows no time limit, so it must not run in the main thread."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="resolver", daemon=True)
        self._host, self._port = host, port
        self.found: Sequence[Any] = ()
        self.failure = "it has no address"

    def run(self) -> None:
        try:
            self.found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except Exception as error:  # the name may also be no name at all (UnicodeError)
            self.failure = str(error)
