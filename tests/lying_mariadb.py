"""A server that speaks MariaDB's protocol and lies, as a middlebox, a broken server or an attacker may.

It tells the truth up to a moment of the dialogue, and there it plays a lie. tests/corpus/mariadb.txt holds single packets
for the same moments. https://mariadb.com/kb/en/clientserver-protocol/
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from tests.lying_server import AnyLyingServer, AnyTalk, packets

VERSION = b"5.5.5-10.11.6-MariaDB"
_SSL, _CAPABILITIES = 1 << 11, 0x81FFF7DF  # the second value is what MariaDB 10.11 offers without TLS
_OK = b"\0\0\0\2\0\0\0"
_EOF = b"\xfe\0\0\2\0"
_TEXT = 0xFD  # MYSQL_TYPE_VAR_STRING
CORPUS = Path(__file__).parent / "corpus" / "mariadb.txt"

Moment = Literal["greeting", "login", "statement"]
Lie = Callable[["Talk"], None]


class Talk(AnyTalk):
    """One connection, seen from the server."""

    _number = 0

    def send(self, payload: bytes) -> None:
        """Sends one packet."""
        self._client.sendall(len(payload).to_bytes(3, "little") + bytes([self._number % 256]) + payload)
        self._number += 1

    def hear(self) -> bytes:
        """Returns the client's next packet. EOFError: the client has gone."""
        header = self._read(4)
        self._number = header[3] + 1
        self.heard.append(self._read(int.from_bytes(header[:3], "little")))
        return self.heard[-1]

    def greet(self, plugin: bytes = b"mysql_native_password", version: bytes = VERSION) -> None:
        """Sends a greeting as MariaDB does."""
        low, high = _CAPABILITIES & 0xFFFF, _CAPABILITIES >> 16
        self.send(
            b"\x0a" + version + b"\0" + struct.pack("<I", 7) + b"12345678\0" + struct.pack("<HBHHB", low, 45, 2, high, 21)
            + bytes(10) + b"123456789012\0" + plugin + b"\0"
        )  # fmt: skip

    def rows(self, names: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
        """Sends a result of text columns."""
        self.send(bytes([len(names)]))
        for name in names:
            texts = b"".join(map(_counted, (b"def", b"", b"", b"", name.encode(), b"")))
            self.send(texts + struct.pack("<BHIBHBH", 12, 45, 255, _TEXT, 0, 0, 0))
        self.send(_EOF)
        for row in rows:
            self.send(b"".join(b"\xfb" if one is None else _counted(one.encode()) for one in row))
        self.send(_EOF)

    def to_statement(self) -> str:
        """Tells the truth until the client's first statement about tables. Returns that statement."""
        self.greet()
        self.hear()
        self.send(_OK)
        return self.next_statement()

    def next_statement(self) -> str:
        """Answers what a session begins with. Returns the first other statement."""
        while True:
            text = self.hear()[1:].decode("utf-8", "replace")
            if text.startswith("SET "):
                self.send(_OK)
            elif text.startswith("SELECT VERSION()"):
                self.rows(("version", "statement"), [("10.11.6-MariaDB", "0")])
            else:
                return text


class LyingServer(AnyLyingServer):
    """A server that speaks MariaDB's protocol."""

    talk = Talk


def telling(moment: Moment, data: bytes) -> Lie:
    """A lie that sends one packet at a moment, and says no more."""

    def lie(talk: Talk) -> None:
        if moment == "login":
            talk.greet()
            talk.hear()
        elif moment == "statement":
            talk.to_statement()
        talk.send(data)
        talk.hear()

    return lie


def drip(talk: Talk) -> None:
    """Sends an answer that never ends, a byte now and then."""
    talk.to_statement()
    talk.raw((1000).to_bytes(3, "little") + b"\1")
    while not talk.stopped.wait(0.02):
        talk.raw(b"x")


def drip_rows(talk: Talk) -> None:
    """Sends a whole row now and then, without end."""
    talk.to_statement()
    talk.raw(b"\1\0\0\1\1")
    talk._number = 2
    texts = b"".join(map(_counted, (b"def", b"", b"", b"", b"text", b"")))
    talk.send(texts + struct.pack("<BHIBHBH", 12, 45, 255, _TEXT, 0, 0, 0))
    talk.send(_EOF)
    while not talk.stopped.wait(0.02):
        talk.send(b"\1x")


def slow(talk: Talk) -> None:
    """Answers nothing after the login."""
    talk.to_statement()
    talk.stopped.wait()


def endless(talk: Talk) -> None:
    """Sends a packet without end, in parts of the largest size."""
    talk.to_statement()
    part = bytes(0xFFFFFF)
    while True:
        talk.send(part)


def corpus() -> list[tuple[Moment, bytes]]:
    """The packets that are kept, each with its moment. A line begins with the moment, and the packet is in hex."""
    return packets(CORPUS)


def _counted(text: bytes) -> bytes:
    assert len(text) < 251
    return bytes([len(text)]) + text
