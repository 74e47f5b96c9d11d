"""Whatever a PostgreSQL, a proxy or an attacker answers, it is a value or trouble that passes."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.lying_postgres import (
    LyingServer,
    Moment,
    Talk,
    corpus,
    drip,
    drip_rows,
    endless,
    endless_rows,
    slow,
    telling,
)
from tests.node import CONFIG
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Seconds
from wgsyncd.core.inspect.finding import Severity
from wgsyncd.errors import StoreError
from wgsyncd.stores.border import Unsupported
from wgsyncd.stores.nexavpn.backend import Backend
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.settings import Database, Nexavpn

PASSWORD = "the-password-€"


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    """A connection to the lying server in tmp_path."""
    return Connection(_database(tmp_path, 0.3))


def _database(directory: Path, timeout: float) -> Database:
    secret = directory / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    secret.chmod(0o600)
    return Database(hosts=(str(directory),), password_file=secret, timeout=Seconds(timeout))


def _is_value_or_trouble(connection: Connection, server: LyingServer) -> None:
    with closing(connection):
        for ask in (connection.query, lambda sql: list(connection.stream(sql)), connection.execute):
            try:
                ask("SELECT 1")
            except StoreError:
                assert not connection.alive
    assert server.talks


@pytest.mark.parametrize(
    ("moment", "packet"), corpus(), ids=lambda one: one.hex()[:40] if isinstance(one, bytes) else one
)
def test_a_message_of_the_corpus_is_a_value_or_trouble_that_passes(
    connection: Connection, tmp_path: Path, moment: Moment, packet: bytes
) -> None:
    with LyingServer(telling(moment, packet), tmp_path) as server:
        _is_value_or_trouble(connection, server)


@pytest.mark.parametrize("seed", range(40))
def test_a_spoiled_message_is_a_value_or_trouble_that_passes(connection: Connection, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    moment, packet = chance.choice(corpus())
    spoiled = bytearray(packet or b"\0")
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(spoiled) + 1)
        spoiled[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
    with LyingServer(telling(moment, bytes(spoiled)), tmp_path) as server:
        _is_value_or_trouble(connection, server)


@pytest.mark.parametrize("lie", [drip, drip_rows, slow], ids=lambda lie: lie.__name__)
@pytest.mark.parametrize("ask", ["query", "stream", "execute"])
def test_an_answer_has_a_deadline_as_a_whole(connection: Connection, tmp_path: Path, lie: object, ask: str) -> None:
    with LyingServer(lie, tmp_path), closing(connection):  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="does not answer in time"):
            for _ in getattr(connection, ask)("SELECT 1"):
                pass
        assert not connection.alive


@pytest.mark.parametrize(("lie", "ask"), [(endless, "query"), (endless, "stream"), (endless_rows, "query")])
def test_an_answer_without_end_is_given_up(tmp_path: Path, lie: object, ask: str) -> None:
    """A server that is faster than our looks at the size comes to the end of the row, and to what is no message."""
    connection = Connection(_database(tmp_path, 30.0))
    with LyingServer(lie, tmp_path), closing(connection):  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="larger than 64 MiB|lost synchronization"):
            for _ in getattr(connection, ask)("SELECT 1"):
                pass
        assert not connection.alive


def test_rows_without_end_are_given_up(connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps the rows of a stream, so only time limits them. Rows that come fast earn some of it."""
    monkeypatch.setattr("wgsyncd.stores.nexavpn.connection._MOST_EARNED", 1.0)
    number = 0
    with LyingServer(endless_rows, tmp_path), closing(connection):
        with pytest.raises(StoreError, match="does not answer in time"):
            for number, _ in enumerate(connection.stream("SELECT 1")):  # noqa: B007
                pass
        assert not connection.alive
    assert number > 1000


@pytest.mark.parametrize(("version", "told"), [("130014", "PostgreSQL 13 is older than 14"), ("0", "is older than 14"),
                                               ("x", "cannot be read"), ("", "cannot be read")])  # fmt: skip
def test_a_server_that_is_not_supported_is_refused_in_a_line(
    connection: Connection, tmp_path: Path, version: str, told: str
) -> None:
    def lie(talk: Talk) -> None:
        talk.version = version
        talk.to_statement()

    with LyingServer(lie, tmp_path), closing(connection), pytest.raises(StoreError, match=told) as caught:
        connection.query("SELECT 1")
    assert isinstance(caught.value, Unsupported) == ("older" in told)


def _nonsense(*values: str | None) -> object:
    """Answers every statement with one row."""

    def lie(talk: Talk) -> None:
        talk.to_statement()
        while True:
            talk.rows(len(values), [values])
            talk.next_statement()

    return lie


@pytest.mark.parametrize("values", [(), (None,), ("x",), (None,) * 4, ("x",) * 4, ("9" * 40,) * 13])
def test_answers_of_another_shape_are_trouble_that_passes(tmp_path: Path, values: tuple[str | None, ...]) -> None:
    """Whatever the store asks for, it gets one row of nonsense."""
    plain = parse(CONFIG.partition("[mikyun]")[0])
    settings = msgspec.structs.replace(plain, control_plane="nexavpn", store=Nexavpn(database=_database(tmp_path, 5.0)))
    backend = Backend(settings)
    with LyingServer(_nonsense(*values), tmp_path), closing(backend.store(lambda: None)) as store:  # type: ignore[arg-type]
        with pytest.raises(StoreError):
            store.snapshot()
        store._connection._on_connect = lambda _: None
        raised = 0
        for ask in (store.snapshot, store.digest, store.holder, store.other_nodes, store.quarantine,
                    lambda: store.load_devices(frozenset({"a"})), lambda: store.load_state(None, create=False)):  # type: ignore[arg-type]  # fmt: skip
            try:
                ask()
            except StoreError:
                raised += 1
        assert raised >= 4
        (finding,) = backend.check()
        assert finding.severity is Severity.FAULT


def test_a_socket_that_another_account_serves_gets_no_word(connection: Connection, tmp_path: Path) -> None:
    with LyingServer(slow, tmp_path) as server, closing(connection):
        shutil.chown(tmp_path, "nobody")
        with pytest.raises(StoreError, match='requirepeer specifies "nobody"'):
            connection.query("SELECT 1")
        assert not any(talk.heard for talk in server.talks)
