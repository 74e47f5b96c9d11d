"""A proxy between the daemon and its database sees each statement and can act at exactly that moment.

It listens on a unix socket. It reads only the parts of MariaDB's protocol that it needs: packets with length and
number, and the text of COM_QUERY. The daemon sends its statements with this command alone.
https://mariadb.com/kb/en/clientserver-protocol/
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.lying_mariadb import corpus

Moment = Literal["before", "during", "answered", "after"]
"""Of a statement: not passed on · passed on, its answer not awaited · the answer is here and not passed on · it is."""
Deed = Literal["cut", "kill", "stop", "hold", "kill server"]

_HEADER, _COM_QUERY, _TICK = 4, b"\x03", 0.02
_UCRED = struct.Struct("3i")  # the source is unix(7), SO_PEERCRED


@dataclass(slots=True)
class Trap:
    """Waits for a statement with ``words`` in its first characters, "" for any. ``nth`` counts such statements."""

    words: str
    nth: int
    moment: Moment
    deed: Deed
    hold: float = 0.0  # seconds for which the answer is held
    sprung: float | None = field(default=None, init=False)  # this is in monotonic seconds
    pid: int = field(default=0, init=False)  # the process id of the client that sent the statement
    is_off: bool = field(default=False, init=False)  # nobody waits for it any more

    @property
    def name(self) -> str:
        """Returns the trap's name in the report."""
        return f"{self.deed} {self.moment} {self.words or 'any statement'}"


class Proxy:
    """Serves ``path`` and asks ``target``.

    ``victims`` returns whether the client with this process id may be killed. ``server`` returns the process id of
    MariaDB.
    """

    def __init__(
        self,
        path: Path,
        target: Path,
        victims: Callable[[int], bool],
        server: Callable[[], int],
        wire: type[Wire] | None = None,
    ) -> None:
        self.path, self._target, self._victims, self._server = path, target, victims, server
        # new connections are refused, or bytes in both directions are swallowed
        self.refusing = self.swallowing = False
        self.dripping = 0.0  # seconds between two bytes of an answer
        self.lying: random.Random | None = None  # it spoils one answer in three
        self.statements: deque[tuple[float, int, str]] = deque(maxlen=400)  # the time, the process id and the beginning
        self._lock = threading.Lock()
        self._traps: list[Trap] = []
        self._open: set[Wire] = set()
        self.wire = wire or Wire
        self._listener = self._listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(20)
        return listener

    def arm(self, trap: Trap) -> None:
        """Sets a trap."""
        with self._lock:
            self._traps.append(trap)

    def disarm(self, trap: Trap) -> None:
        """Removes a trap, sprung or not. One that still waits for an answer does nothing when the answer comes."""
        with self._lock, contextlib.suppress(ValueError):
            trap.is_off = True
            self._traps.remove(trap)

    def cut(self) -> None:
        """Ends all present connections."""
        for wire in list(self._open):
            wire.cut()

    def close(self) -> None:
        """Accepts no more connections and ends the present ones."""
        self.refusing = True
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # the listener was closed
            if self.refusing:
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self._target))
            wire = self.wire(self, client, server)
            self._open.add(wire)
            try:
                wire.run()
            finally:
                self._open.discard(wire)

    def meet(self, text: str, pid: int) -> Trap | None:
        """Returns the trap that this statement springs, or None."""
        self.statements.append((time.time(), pid, text[:60]))
        with self._lock:
            for trap in self._traps:
                if trap.words in text[:200] and (trap.deed not in ("kill", "stop") or self._victims(pid)):
                    trap.nth -= 1
                    if trap.nth <= 0:
                        self._traps.remove(trap)
                        trap.pid = pid
                        return trap
        return None

    def act(self, trap: Trap) -> bool:
        """Does what the trap does to a process, unless it is disarmed. The connection itself is not touched.

        A process that is stopped for a trap that nobody waits for would stay stopped.
        """
        with self._lock:
            if trap.is_off:
                return False
            with contextlib.suppress(ProcessLookupError):
                if trap.deed in ("kill", "stop"):
                    os.kill(trap.pid, signal.SIGKILL if trap.deed == "kill" else signal.SIGSTOP)
                elif trap.deed == "kill server":
                    os.kill(self._server(), signal.SIGKILL)
            trap.sprung = time.monotonic()
        return True


class Wire:
    """Passes the packets of one connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._pid, _, _ = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        self._kept = b""  # the beginning of a packet whose end is still to come
        self._writes = False  # the present transaction changes the node state
        self._asked = False  # the client is logged in, and waits for the answer to a statement
        self._await: Trap | None = None  # this trap acts when the answer is here
        self._cut = False

    def cut(self) -> None:
        """Ends the connection. Another thread calls it."""
        self._cut = True

    def run(self) -> None:
        """Passes on packets until one side closes."""
        while not self._cut:
            ready, _, _ = select.select([self._client, self._server], [], [], _TICK)
            if self._proxy.swallowing:
                time.sleep(_TICK)
                continue
            if self._client in ready and not self._from_client():
                return
            if self._server in ready and not self._from_server():
                return

    def _from_client(self) -> bool:
        data = self._client.recv(1 << 16)
        self._kept += data
        while len(self._kept) >= _HEADER:
            end = _HEADER + int.from_bytes(self._kept[:3], "little")
            if len(self._kept) < end:
                break
            packet, self._kept = self._kept[:end], self._kept[end:]
            if not self._pass(packet):
                return False
        return bool(data)

    def _pass(self, packet: bytes) -> bool:
        """Passes one packet of the client. Returns whether the connection lives on."""
        asked, text = self._statement(packet)
        trap = None if text is None else self._proxy.meet(text, self._pid)
        if trap is not None and trap.moment == "before":
            if self._proxy.act(trap) and trap.deed != "stop":
                return False
            trap = None
        self._asked = asked
        self._server.sendall(packet)
        if trap is not None and trap.moment == "during":
            # The server learns in its usual way that a client was killed.
            return not self._proxy.act(trap) or trap.deed in ("stop", "kill")
        self._await = trap
        return True

    def _statement(self, packet: bytes) -> tuple[bool, str | None]:
        """Returns whether the packet asks something, and its statement. The packets of a command begin with number 0."""
        asked = packet[3] == 0
        is_query = asked and packet[_HEADER : _HEADER + 1] == _COM_QUERY
        return asked, self._text(packet) if is_query else None

    def _text(self, packet: bytes) -> str:
        text = packet[_HEADER + 1 : _HEADER + 300].decode("utf-8", "replace").strip()
        if text.startswith("UPDATE wgsyncd_nodes SET revision"):
            self._writes = True
        elif text == "COMMIT":
            text, self._writes = "COMMIT of writes" if self._writes else "COMMIT of reads", False
        elif text == "START TRANSACTION":
            self._writes = False
        return text

    def _from_server(self) -> bool:
        data = self._server.recv(1 << 16)
        trap, self._await = self._await, None
        asked, self._asked = self._asked, False
        chance = self._proxy.lying
        if data and asked and chance is not None and chance.random() < 0.3:
            data = lie(data, chance)
        if trap is None or not data:
            return self._answer(data)
        if trap.moment == "after":
            self._client.sendall(data)
            self._proxy.act(trap)
            return True
        if not self._proxy.act(trap):
            return self._answer(data)
        if trap.deed == "hold":
            end = time.monotonic() + trap.hold
            while time.monotonic() < end and not self._cut:
                time.sleep(_TICK)
        if trap.deed in ("hold", "stop", "kill server"):
            self._client.sendall(data)
            return True
        return False

    def _answer(self, data: bytes) -> bool:
        """Passes an answer on, byte by byte while answers drip. Returns whether the connection lives on."""
        alive = bool(data)
        while data and self._proxy.dripping and not self._cut:
            self._client.sendall(data[:1])
            data = data[1:]
            time.sleep(self._proxy.dripping)
        self._client.sendall(data)
        return alive


def lie(answer: bytes, chance: random.Random) -> bytes:
    """Returns no good answer: a part of it, another number, or a packet of its own that may be spoiled."""
    how = chance.choice(("cut", "number", "packet", "packet"))
    if how == "cut":
        return answer[: chance.randrange(1, max(2, len(answer)))]
    if how == "number":
        return answer[:3] + bytes([answer[3] ^ chance.randint(1, 255)]) + answer[_HEADER:] if answer[3:] else answer
    packet = bytearray(chance.choice(LIES))
    for _ in range(chance.choice((0, 0, 1, 3))):
        at = chance.randrange(1, len(packet) + 1)
        packet[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
    return len(packet).to_bytes(3, "little") + b"\1" + bytes(packet)


LIES = [packet for moment, packet in corpus() if moment == "statement" and packet[:1] not in (b"", b"\0", b"\xfe")]
"""An OK and an end of rows are left out: they would be a good answer to a statement that changes no row."""
