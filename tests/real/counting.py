"""Writes are counted from outside: statements by MariaDB's counters, changes to WireGuard on the wire."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.real.bench import Bench, in_network

_WRITES = re.compile(r"^(Com_(insert|update|delete|replace|truncate|create|drop|alter|load)"
                     r"|Innodb_rows_(inserted|updated|deleted)|Handler_(write|update|delete)$)")  # fmt: skip
# these come from the kernel headers netlink.h and wireguard.h
_GENERIC, _NLM_F_REQUEST, _NLM_F_DUMP, _WG_CMD_SET_DEVICE = 0x10, 0x1, 0x300, 1
_ETH_P_ALL = 3


class Counted(Protocol):
    """Counts requests that change or read WireGuard."""

    sets: int
    gets: int


def writes(bench: Bench) -> dict[str, int]:
    """Returns MariaDB's counters of everything that writes, since the server's start."""
    found = bench.sql("SHOW GLOBAL STATUS")
    counters = {str(row["Variable_name"]): str(row["Value"]) for row in found}
    return {name: int(value) for name, value in counters.items() if _WRITES.match(name)}


class Proxy:
    """Sits between an interface's socket and its clients, and counts `get=1` and `set=1` of a userspace WireGuard."""

    def __init__(self, bench: Bench, interface: str) -> None:
        self.sets = self.gets = 0
        server, real, mine = bench.world.server, bench.directory / f"{interface}.real", bench.directory / interface
        real.mkdir()
        # From outside, the real socket is below our directory. Our socket lies over it in the place where
        # clients look.
        server.run("mount", "--bind", "/run/wireguard", str(real))
        self._real = Path(f"/proc/{server.holder.pid}/root{real}/{interface}.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(mine))
        self._listener.listen(20)
        server.run("mount", "--bind", str(mine), f"/run/wireguard/{interface}.sock")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as real:
            request = b""
            while not request.endswith(b"\n\n"):
                part = client.recv(65536)
                if not part:
                    return  # the client only asked whether a process is there
                request += part
            self.sets += request.startswith(b"set=1")
            self.gets += request.startswith(b"get=1")
            real.connect(str(self._real))
            real.sendall(request)
            answer = b""
            while not answer.endswith(b"\n\n"):
                part = real.recv(65536)
                answer += part
                if not part:
                    break
            client.sendall(answer)

    def close(self) -> None:
        """Closes the listener, which ends the thread."""
        self._listener.close()


class NetlinkMonitor:
    """Counts the kernel's WireGuard messages in the server's network namespace, with an nlmon interface."""

    def __init__(self, bench: Bench) -> None:
        self.sets = self.gets = 0
        server = bench.world.server
        server.run("ip", "link", "add", "nlmon0", "type", "nlmon")
        server.run("ip", "link", "set", "nlmon0", "up")
        self._socket = in_network(server.holder.pid, self._open)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @staticmethod
    def _open() -> socket.socket:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        one.bind(("nlmon0", 0))
        return one

    def _read(self) -> None:
        while True:
            data = self._socket.recv(1 << 17)
            if len(data) < 20:
                continue
            _, kind, flags, _, _ = struct.unpack_from("=IHHII", data)
            # the message goes to a family, not to generic netlink's controller
            if kind > _GENERIC and flags & _NLM_F_REQUEST:
                self.sets += data[16] == _WG_CMD_SET_DEVICE
                self.gets += data[16] == 0 and flags & _NLM_F_DUMP == _NLM_F_DUMP

    def close(self) -> None:
        """Does nothing. The thread ends with the process, because a closed packet socket does not wake it."""


@contextlib.contextmanager
def wireguard(bench: Bench) -> Iterator[list[Counted]]:
    """Yields the counters of requests to the server's WireGuard interfaces."""
    counters: list[Proxy | NetlinkMonitor]
    if bench.world.kind == "kernel":
        counters = [NetlinkMonitor(bench)]
    else:
        counters = [Proxy(bench, name) for name in bench.world.interfaces]
    try:
        yield list(counters)
    finally:
        for one in counters:
            one.close()


def general_log(bench: Bench) -> Path:
    """Starts a log of every statement, and returns its file."""
    path = bench.database.directory / f"general-{os.urandom(4).hex()}.log"
    bench.sql(f"SET GLOBAL general_log_file = '{path}'; SET GLOBAL general_log = 1")
    return path
