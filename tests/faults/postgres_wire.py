"""Reads the client's side of PostgreSQL's protocol, so that the proxy knows each statement.

A message has a type, its length without the type, and its content. The first message of a connection has no type. The
client sends a statement as Query, or as Parse with more messages up to Sync, which go to the server together. A
statement with a name is parsed once, and then each Bind has the name.
https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.faults.proxy import Wire

_MANY = (b"P", b"B", b"D", b"E", b"C")  # Parse, Bind, Describe, Execute and Close come before Sync
_BEGINS = ("BEGIN", "START TRANSACTION")


class PostgresWire(Wire):
    """Passes the messages of one connection. Answers are passed as in MariaDB."""

    _is_open = False  # the first message is through
    _group = b""  # messages that wait for their Sync
    _prepared: Mapping[bytes, bytes] = MappingProxyType({})  # texts of statements by their names

    def _from_client(self) -> bool:
        data = self._client.recv(1 << 16)
        self._kept += data
        while True:
            head = 1 if self._is_open else 0
            if len(self._kept) < head + 4:
                break
            end = head + int.from_bytes(self._kept[head : head + 4])
            if len(self._kept) < end:
                break
            message, self._kept = self._kept[:end], self._kept[end:]
            if not self._is_open:
                self._is_open = True
                self._server.sendall(message)
                continue
            self._group += message
            if message[:1] not in _MANY:
                group, self._group = self._group, b""
                if not self._pass(group):
                    return False
        return bool(data)

    def _statement(self, packet: bytes) -> tuple[bool, str | None]:
        match packet[:1]:
            case b"Q":
                text = packet[5:300]
            case b"P":
                name, text = packet[5:].split(b"\0", 2)[:2]
                if name:
                    self._prepared = {**self._prepared, name: text}
                    return True, None
            case b"B":
                text = self._prepared[packet[5:].split(b"\0", 2)[1]]
            case _:
                return False, None
        return True, self._named(text[:300].partition(b"\0")[0].decode("utf-8", "replace").strip())

    def _named(self, text: str) -> str:
        if text.startswith("WITH raised AS ("):
            self._writes = True
        elif text == "COMMIT":
            text, self._writes = "COMMIT of writes" if self._writes else "COMMIT of reads", False
        elif text.startswith(_BEGINS):
            self._writes = False
        return text
