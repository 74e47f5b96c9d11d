"""A server that lies to its clients, in the protocol of a subclass."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self


class AnyTalk:
    """One connection, seen from the server."""

    def __init__(self, client: socket.socket, stopped: threading.Event) -> None:
        self._client, self.stopped = client, stopped
        self.heard: list[bytes] = []  # every packet of the client

    def raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._client.sendall(data)

    def _read(self, size: int) -> bytes:
        """Returns so many bytes. EOFError: the client has gone."""
        data = b""
        while len(data) < size:
            more = self._client.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


class AnyLyingServer:
    """Serves ``path``, or a TCP port of this machine (``port``). Each connection plays ``lie``. Close it."""

    talk: ClassVar[type[AnyTalk]]

    def __init__(self, lie: Callable[[Any], None], path: Path | None = None) -> None:
        self._lie, self._stopped = lie, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0)) if path is None else socket.socket(socket.AF_UNIX)
        if path is not None:
            self._listener.bind(str(path))
            self._listener.listen(20)
        self.port = self._listener.getsockname()[1] if path is None else 0
        self.talks: list[AnyTalk] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, EOFError):
            self.talks.append(self.talk(client, self._stopped))
            self._lie(self.talks[-1])


def packets(corpus: Path) -> list[tuple[Any, bytes]]:
    """The packets that are kept, each with its moment. A line begins with the moment, and the packet is in hex."""
    lines = [line.partition("#")[0].split() for line in corpus.read_text(encoding="ascii").splitlines()]
    return [(line[0], bytes.fromhex(" ".join(line[1:]))) for line in lines if line]
