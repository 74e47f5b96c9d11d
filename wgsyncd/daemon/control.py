"""The control socket: an admin's commands ask the running daemon over it, and wait for its answer.

A client sends one line, a JSON object with ``command``, and gets one back: ``ok`` and ``data``, or ``error`` and
``kind``. Who may ask is root, the daemon's own user, and whoever is in the socket's group; the kernel says who it is
(SO_PEERCRED and SO_PEERGROUPS, unix(7), socket(7)), and the log says who changed something.

What only reads the daemon's picture of itself is answered here, in the client's thread. The rest waits for the main
thread, which is the only one that touches kernel and database.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wgsyncd import log
from wgsyncd.daemon import lock
from wgsyncd.errors import UserError

Data = Mapping[str, Any]

CLIENTS = 16  # at once
WAITING = 8  # of them for the main thread
LONGEST_REQUEST = 65536  # bytes
REQUEST_WITHIN = 5.0  # seconds, for the request to arrive
TAKE_WITHIN = 10.0  # seconds, for a client that takes nothing of the answer
ANSWER_WITHIN = 120.0  # seconds, for the main thread
_PEERGROUPS = 59  # SO_PEERGROUPS, asm-generic/socket.h; Python's socket module does not name it


class NobodyListensError(UserError):
    """No daemon has the socket open."""


class OtherConfigurationError(UserError):
    """The daemon runs with another configuration file than the one that is asked about."""


class Caller(NamedTuple):
    """Who asks, as the kernel says."""

    uid: int
    gids: frozenset[int]
    pid: int

    def __str__(self) -> str:
        try:
            name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            name = "unknown"
        return f"{name} (uid {self.uid}, pid {self.pid})"


@dataclass(frozen=True, slots=True)
class Request:
    """One question; whoever takes it answers it, once."""

    command: str
    data: Data
    who: str
    _answer: queue.SimpleQueue[Data] = field(default_factory=queue.SimpleQueue, repr=False)

    def devices(self) -> tuple[str, ...]:
        """The device ids that it names. Refused where they are none."""
        named = self.data.get("devices", [])
        if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
            raise UserError("devices is not a list of texts")
        return tuple(named)

    def text(self, key: str) -> str:
        """A text of it. Refused where it is none."""
        value = self.data.get(key)
        if not isinstance(value, str):
            raise UserError(f"{key} is not a text")
        return value

    def answer(self, data: Data) -> None:
        """What was asked for."""
        self._answer.put({"ok": True, "data": data})

    def fail(self, why: str) -> None:
        """Why it was not done."""
        self._answer.put(_error(why))

    def wait(self) -> Data:
        """The answer, when it is there."""
        try:
            return self._answer.get(timeout=ANSWER_WITHIN)
        except queue.Empty:
            return _error(f"the daemon has not come to it within {ANSWER_WITHIN:.0f} s; see `wgsyncd status`")


class Control:
    """The socket. ``now`` are the commands that only read; those of ``later`` are for :meth:`take`, after ``wake``.
    ``config``: the file that the daemon runs with."""

    def __init__(
        self,
        path: Path,
        config: Path,
        wake: Callable[[], None],
        now: Mapping[str, Callable[[], Data]],
        later: frozenset[str],
    ) -> None:
        self._path, self._wake, self._now, self._later = path, wake, now, later
        self._config = str(config.resolve())
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._clients: list[threading.Thread] = []
        self._log = log.get("control")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # of a process that was killed; the lock says that it is gone
            self._socket.bind(str(path))
            os.chmod(path, 0o660)
            self._group = path.stat().st_gid
            self._socket.listen(CLIENTS)
        except OSError as error:
            self._socket.close()
            raise UserError(f"{path}: no commands can be taken: {error.strerror}") from error
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def take(self) -> Request | None:
        """The next one that waits, or None."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """No more of them; who waits is told so."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # which ends accept()
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
        while (request := self.take()) is not None:
            request.fail("the daemon stops")

    # -- in threads of their own

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED):
                    time.sleep(0.1)  # passes; the client waits in the backlog
                    continue
                return  # closed
            self._clients = [one for one in self._clients if one.is_alive()]
            if len(self._clients) >= CLIENTS:
                _send(client, _error(f"{CLIENTS} others are being answered: try again"), 0.1)
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(client,), name="control client", daemon=True)
            self._clients.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):  # who has gone away is no news
            caller = _caller(client)
            allowed = caller.uid in (0, os.geteuid()) or self._group in caller.gids
            if not allowed:
                self._log.warning("command refused: not in the group", who=str(caller))
                answer = _error("not permitted: run this as root or in the group wgsyncd")
            else:
                answer = self._answer(client, str(caller))
            _send(client, answer, TAKE_WITHIN)

    def _answer(self, client: socket.socket, who: str) -> Data:
        try:
            data = json.loads(_line(client, LONGEST_REQUEST, time.monotonic() + REQUEST_WITHIN))
            command = str(data["command"])
        except (TimeoutError, ValueError, TypeError, KeyError, RecursionError):
            return _error("is no request: one line, a JSON object with a command")
        if data.get("config") not in (None, self._config):
            return {"ok": False, "kind": "other_config", "error": f"the daemon runs with {self._config}"}
        if command in self._now:
            return {"ok": True, "data": self._now[command]()}
        if command not in self._later:
            return _error("is no command of this daemon, which may be of another version than `wgsyncd`")
        if self._queue.qsize() >= WAITING:
            return _error(f"{WAITING} others wait for the daemon already: try again")
        request = Request(command, data, who)
        self._queue.put(request)
        self._wake()
        return request.wait()


def path() -> Path:
    """The socket: beside the lock."""
    return lock.path().with_name("control.sock")


def ask(file: Path, command: str, facts: Data, seconds: float = ANSWER_WITHIN + 10) -> Any:
    """Ask the daemon; its answer's data. NobodyListensError, OtherConfigurationError, or Refused with what it says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as actual:
        actual.settimeout(seconds)
        try:
            actual.connect(str(file))
            with contextlib.suppress(BrokenPipeError):  # who is turned away has his answer already
                actual.sendall(json.dumps({"command": command, **facts}).encode() + b"\n")
            answer = json.loads(_line(actual, None, time.monotonic() + seconds))
        except TimeoutError:
            raise UserError(f"no answer within {seconds:.0f} s; `wgsyncd status` shows how the daemon is") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NobodyListensError(f"no wgsyncd runs here: nobody listens on {file}") from None
        except PermissionError:
            raise UserError(f"{file}: not permitted: run this as root or in the group wgsyncd") from None
        except OSError as error:
            raise UserError(f"{file}: the daemon went away: {error.strerror}") from None
        except ValueError:
            raise UserError(f"{file}: the daemon went away in the middle of its answer") from None
    if answer.get("ok"):
        return answer["data"]
    if answer.get("kind") == "other_config":
        raise OtherConfigurationError(str(answer["error"]))
    raise UserError(str(answer.get("error")))


def _error(why: str) -> Data:
    return {"ok": False, "kind": "refused", "error": why}


def _caller(client: socket.socket) -> Caller:
    pid, uid, gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups: tuple[int, ...] = ()
    with contextlib.suppress(OSError):  # more than fit in 1024 bytes, which is Python's most: only the first group then
        raw = client.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, 1024)
        groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Caller(uid, frozenset((gid, *groups)), pid)


def _line(peer: socket.socket, most: int | None, deadline: float) -> bytes:
    """What comes up to a line's end. ValueError where it does not come whole, or is too long."""
    said = bytearray()
    while not said.endswith(b"\n"):
        peer.settimeout(max(0.001, deadline - time.monotonic()))
        part = peer.recv(65536)
        if not part or (most is not None and len(said) + len(part) > most):
            raise ValueError("cut off")
        said += part
    return bytes(said)


def _send(client: socket.socket, answer: Data, seconds: float) -> None:
    with contextlib.suppress(OSError):
        client.settimeout(seconds)
        client.sendall(json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
