"""Whatever a server, a proxy or an attacker answers, it is a value or trouble that passes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.lying_mariadb import LyingServer, Moment, Talk, corpus, drip, drip_rows, endless, slow, telling
from tests.node import CONFIG
from tests.samples import TOKYO
from wgsyncd import stores
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.finding import Severity
from wgsyncd.errors import StoreError
from wgsyncd.stores.border import Unsupported
from wgsyncd.stores.mikyun import login
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.settings import Database, mikyun
from wgsyncd.stores.mikyun.store import MariaDBStore

PASSWORD = "the-password-€"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    return path


def _database(password_file: Path, port: int, timeout: str = "5s") -> Database:
    where = f'host = "127.0.0.1"\nport = {port}\npassword_file = "{password_file}"\ntimeout = "{timeout}"\n'
    return mikyun(parse(f"{CONFIG}[mikyun.database]\n{where}")).database


def _connection(password_file: Path, server: LyingServer, timeout: str = "5s") -> Connection:
    return Connection(_database(password_file, server.port, timeout), TOKYO, on_connect=lambda _: None)


@pytest.mark.parametrize(
    ("moment", "packet"), corpus(), ids=lambda one: one.hex()[:40] if isinstance(one, bytes) else one
)
def test_a_packet_of_the_corpus_is_a_value_or_trouble_that_passes(
    password_file: Path, moment: Moment, packet: bytes
) -> None:
    with LyingServer(telling(moment, packet)) as server:
        connection = _connection(password_file, server, "300ms")
        try:
            connection.query("SELECT 1")
        except StoreError:
            assert not connection.alive
        said = b"".join(b"".join(talk.heard) for talk in server.talks)
        assert PASSWORD.encode() not in said
        connection.close()


@pytest.mark.parametrize("seed", range(40))
def test_a_spoiled_packet_is_a_value_or_trouble_that_passes(password_file: Path, seed: int) -> None:
    chance = random.Random(seed)
    moment, packet = chance.choice(corpus())
    spoiled = bytearray(packet or b"\0")
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(spoiled) + 1)
        spoiled[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
    with LyingServer(telling(moment, bytes(spoiled))) as server:
        connection = _connection(password_file, server, "300ms")
        try:
            connection.query("SELECT 1")
        except StoreError:
            assert not connection.alive
        assert PASSWORD.encode() not in b"".join(b"".join(talk.heard) for talk in server.talks)
        connection.close()


@pytest.mark.parametrize("lie", [drip, drip_rows, slow], ids=lambda lie: lie.__name__)
def test_an_answer_has_a_deadline_as_a_whole(password_file: Path, lie: object) -> None:
    with LyingServer(lie) as server:  # type: ignore[arg-type]
        connection = _connection(password_file, server, "500ms")
        with pytest.raises(StoreError, match="timed out"):
            connection.query("SELECT 1")
        with pytest.raises(StoreError, match="timed out"):
            list(connection.stream("SELECT 1"))


def test_a_greeting_has_a_deadline_as_a_whole(password_file: Path) -> None:
    def greet_slowly(talk: Talk) -> None:
        talk.raw(b"\x50\0\0\0")
        while not talk.stopped.wait(0.02):
            talk.raw(b"1")

    with LyingServer(greet_slowly) as server, pytest.raises(StoreError, match="timed out"):
        _connection(password_file, server, "500ms").query("SELECT 1")


def test_an_answer_that_moves_may_take_longer_than_the_timeout(
    password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is large for its line. 50 bytes earn another second here."""
    monkeypatch.setattr("wgsyncd.stores.mikyun.wire._RATE", 50)

    def lie(talk: Talk) -> None:
        talk.to_statement()
        talk.raw(b"\xf0\0\0\1")  # an OK of 240 bytes
        for part in (b"\0\0\0\2", b"\0\0\0\0", *[b"text"] * 58):
            talk.raw(part)
            talk.stopped.wait(0.02)
        talk.hear()

    with LyingServer(lie) as server:
        assert _connection(password_file, server, "500ms").query("SELECT 1") == ()


@pytest.mark.parametrize("ask", ["query", "stream"])
def test_a_packet_without_end_is_given_up(password_file: Path, ask: str) -> None:
    with LyingServer(endless) as server:
        connection = _connection(password_file, server, "30s")
        with pytest.raises(StoreError, match="larger than 64 MiB"):
            list(getattr(connection, ask)("SELECT 1"))


@pytest.mark.parametrize("plugin", [*login._REVEALING, "client_ed25519"])
def test_a_plug_in_that_reveals_the_password_is_refused_by_name(password_file: Path, plugin: str) -> None:
    with LyingServer(telling("login", b"\xfe" + plugin.encode() + b"\0" + b"Password: ")) as server:
        with pytest.raises(StoreError, match=f"2059: The server asks for the plug-in {plugin}"):
            _connection(password_file, server).query("SELECT 1")
        assert all(PASSWORD.encode() not in packet for talk in server.talks for packet in talk.heard)


@pytest.mark.parametrize(
    ("version", "told"), [("8.4.2", "is not MariaDB"), ("10.5.29-MariaDB", "older than 10.6"), ("", "is not MariaDB"),
                          ("x.y-MariaDB", "is not MariaDB")],
)  # fmt: skip
def test_a_server_that_is_not_supported_is_refused_in_a_line(password_file: Path, version: str, told: str) -> None:
    def lie(talk: Talk) -> None:
        talk.greet()
        talk.hear()
        talk.send(b"\0\0\0\2\0\0\0")
        while not (text := talk.hear()[1:]).startswith(b"SELECT VERSION()"):
            assert text.startswith(b"SET ")
            talk.send(b"\0\0\0\2\0\0\0")
        talk.rows(("version", "statement"), [(version, "0")])

    with LyingServer(lie) as server, pytest.raises(Unsupported, match=told):
        _connection(password_file, server).query("SELECT 1")


def _garbage(talk: Talk) -> None:
    """Answers every statement with one row of one NULL."""
    talk.to_statement()
    while True:
        talk.rows(("a",), [(None,)])
        talk.next_statement()


def test_answers_of_another_shape_are_trouble_that_passes(password_file: Path) -> None:
    """Whatever the store asks for, it gets one NULL."""
    with LyingServer(_garbage) as server:
        where = f'host = "127.0.0.1"\nport = {server.port}\npassword_file = "{password_file}"\n'
        store = MariaDBStore(parse(f"{CONFIG}[mikyun.database]\n{where}"))
        store._connection._on_connect = lambda _: None
        raised = 0
        for ask in (store.snapshot, store.digest, store.holder, store.other_nodes, store.quarantine,
                    lambda: store.load_devices(frozenset({"a"}))):  # fmt: skip
            try:
                ask()
            except StoreError:
                raised += 1
        assert raised >= 4


@pytest.mark.parametrize("text", [None, "x"])
def test_the_doctor_takes_answers_of_another_shape_for_trouble(password_file: Path, text: str | None) -> None:
    def lie(talk: Talk) -> None:
        talk.to_statement()
        while True:
            talk.rows(("a", "b", "c", "d"), [(text,) * 4])
            talk.next_statement()

    with LyingServer(lie) as server:
        where = f'host = "127.0.0.1"\nport = {server.port}\npassword_file = "{password_file}"\n'
        backend = stores.open_store(parse(f"{CONFIG}[mikyun.database]\n{where}"))
        (finding,) = backend.check()
        assert finding.severity is Severity.FAULT
        assert "makes no sense" in finding.message
