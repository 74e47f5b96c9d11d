"""The control socket: a unix socket on which the running daemon answers admins over HTTP.

Root, the daemon's own user and the members of the socket's group may ask. The kernel says who a client is
(SO_PEERCRED in unix(7), SO_PEERGROUPS in socket(7)).
"""

import contextlib
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from wgsyncd import log
from wgsyncd.daemon import lock
from wgsyncd.daemon.http import HttpServer, Refusal, Routes

CLIENTS = 16  # at once
_PEERGROUPS = 59  # SO_PEERGROUPS of asm-generic/socket.h, which Python's socket module does not name


def path() -> Path:
    """The socket's file, beside the lock."""
    return lock.path().with_name("control.sock")


class Caller(NamedTuple):
    """The client, as the kernel describes it."""

    uid: int
    gids: frozenset[int]
    pid: int

    def __str__(self) -> str:
        try:
            name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            name = "unknown"
        return f"{name} (uid {self.uid}, pid {self.pid})"


class ControlSocket:
    """Serves ``routes`` on the socket ``file``. UserError if the socket cannot be made."""

    def __init__(self, file: Path, routes: Routes) -> None:
        self._file = file
        self._log = log.get("control")
        listener = lock.bind(file, socket.SOCK_STREAM, "no commands can be taken")
        self._group = file.stat().st_gid
        listener.listen(CLIENTS)
        self.server = HttpServer(listener, routes, self._admit, CLIENTS)

    @property
    def is_there(self) -> bool:
        """Whether commands can find the socket: somebody may have removed its file."""
        return self._file.exists()

    def close(self) -> None:
        """Take no more requests, and remove the file."""
        self.server.close()
        with contextlib.suppress(OSError):
            self._file.unlink()

    def _admit(self, client: socket.socket) -> str:
        caller = caller_of(client)
        if caller.uid in (0, os.geteuid()) or self._group in caller.gids:
            return str(caller)
        self._log.warning("command refused: not in the group", who=str(caller))
        raise Refusal(403, "not permitted: run this as root or in the group wgsyncd")


def caller_of(client: socket.socket) -> Caller:
    """Ask the kernel who has connected."""
    pid, uid, gid = lock.peer_credentials(client)
    groups: tuple[int, ...] = ()
    with contextlib.suppress(OSError):  # Python reads at most 1024 bytes. With more groups, only the first one counts.
        raw = client.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, 1024)
        groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Caller(uid, frozenset((gid, *groups)), pid)
