"""A server that speaks PostgreSQL's protocol and lies, as a broken server or an attacker may.

It tells the truth up to a moment of the dialogue, and there it plays a lie. tests/corpus/postgres.txt holds single
messages for the same moments. PostgreSQL's manual, "Frontend/Backend Protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from tests.lying_server import AnyLyingServer, AnyTalk, packets

INT, TEXT = 23, 25  # the oids of types
CORPUS = Path(__file__).parent / "corpus" / "postgres.txt"
READY, COMPLETE = b"Z\0\0\0\5I", b"C\0\0\0\x0dSELECT 1\0"
_BEGIN = "SELECT pg_backend_pid(), current_setting"

Moment = Literal["greeting", "login", "statement"]
Lie = Callable[["Talk"], None]


def message(kind: bytes, payload: bytes) -> bytes:
    """A message of the server."""
    return kind + struct.pack(">i", len(payload) + 4) + payload


def described(columns: int, oid: int = TEXT) -> bytes:
    """A RowDescription."""
    fields = b"".join(b"c%d\0" % n + struct.pack(">ihihih", 0, 0, oid, -1, -1, 0) for n in range(columns))
    return message(b"T", struct.pack(">h", columns) + fields)


def row(values: Sequence[str | None]) -> bytes:
    """A DataRow."""
    data = b"".join(
        struct.pack(">i", -1) if one is None else struct.pack(">i", len(one.encode())) + one.encode() for one in values
    )
    return message(b"D", struct.pack(">h", len(values)) + data)


class Talk(AnyTalk):
    """One connection, seen from the server."""

    version = "150006"

    def startup(self) -> None:
        """Hears who wants to enter."""
        self.heard.append(self._read(int.from_bytes(self._read(4), "big") - 4))

    def hear(self) -> tuple[bytes, bytes]:
        """Returns the client's next message: its type and its payload. EOFError: the client has gone."""
        kind = self._read(1)
        self.heard.append(self._read(int.from_bytes(self._read(4), "big") - 4))
        if kind == b"X":
            raise EOFError
        return kind, self.heard[-1]

    def let_in(self) -> None:
        """Answers as a primary whose client needs no password."""
        told = {"server_version": "15.6", "client_encoding": "UTF8", "standard_conforming_strings": "on",
                "in_hot_standby": "off", "default_transaction_read_only": "off", "integer_datetimes": "on"}  # fmt: skip
        self.raw(message(b"R", bytes(4)))
        for name, value in told.items():
            self.raw(message(b"S", name.encode() + b"\0" + value.encode() + b"\0"))
        self.raw(message(b"K", struct.pack(">ii", 77, 1)) + READY)

    def any_statement(self) -> str:
        """Returns the client's next statement, which is then due to be answered."""
        text = b""
        while True:
            kind, payload = self.hear()
            if kind == b"P":
                text = payload.partition(b"\0")[2]
            if kind == b"Q":
                text, self._begin = payload, b""
                break
            if kind == b"S":
                self._begin = b"1\0\0\0\0042\0\0\0\4"
                break
        return text.partition(b"\0")[0].decode()

    def answer(self, data: bytes) -> None:
        """Sends what follows a statement."""
        self.raw(self._begin + data)

    def rows(self, columns: int, rows: Iterable[Sequence[str | None]], oid: int = TEXT) -> None:
        """Sends a result of columns of one type."""
        self.answer(described(columns, oid) + b"".join(map(row, rows)) + COMPLETE + READY)

    def next_statement(self) -> str:
        """Answers what a session begins with. Returns the first other statement."""
        while (text := self.any_statement()).startswith(_BEGIN):
            self.rows(14, [("77", self.version, *["1"] * 12)], INT)
        return text

    def to_statement(self) -> str:
        """Tells the truth until the client's first statement about tables. Returns that statement."""
        self.startup()
        self.let_in()
        return self.next_statement()


class LyingServer(AnyLyingServer):
    """A server that speaks PostgreSQL's protocol, at the socket with port 5432 in a directory."""

    talk = Talk

    def __init__(self, lie: Lie, directory: Path) -> None:
        super().__init__(lie, directory / ".s.PGSQL.5432")


def telling(moment: Moment, data: bytes) -> Lie:
    """A lie that sends bytes at a moment. Then it says no more, or at the greeting it goes away."""

    def lie(talk: Talk) -> None:
        if moment == "statement":
            talk.to_statement()
            talk.answer(data)
            talk.hear()
        talk.startup()
        if moment == "login":
            talk.let_in()
            talk.any_statement()
            talk.answer(data)
            talk.hear()
        talk.raw(data)

    return lie


def slow(talk: Talk) -> None:
    """Answers nothing after the login."""
    talk.to_statement()
    talk.stopped.wait()


def drip(talk: Talk) -> None:
    """Sends a row that never ends, a byte now and then."""
    talk.to_statement()
    talk.answer(described(1) + b"D" + struct.pack(">i", 1000))
    while not talk.stopped.wait(0.02):
        talk.raw(b"\0")


def drip_rows(talk: Talk) -> None:
    """Sends a whole row now and then, without end."""
    talk.to_statement()
    talk.answer(described(1))
    while not talk.stopped.wait(0.02):
        talk.raw(row(["x"]))


def endless(talk: Talk) -> None:
    """Sends one row without end."""
    talk.to_statement()
    talk.answer(described(1) + b"D" + struct.pack(">ihi", 2**29, 1, 2**29 - 10))
    while True:
        talk.raw(bytes(1 << 20))


def endless_rows(talk: Talk) -> None:
    """Sends rows without end."""
    talk.to_statement()
    talk.answer(described(1))
    rows = row(["x" * 1000]) * 1000
    while True:
        talk.raw(rows)


def corpus() -> list[tuple[Any, bytes]]:
    """The messages that are kept, each with its moment."""
    return packets(CORPUS)
