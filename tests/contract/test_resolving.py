"""Names of the database's host are resolved within a limited time, whatever the store."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.node import CONFIG
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.ports import Store
from wgsyncd.stores import CONTROL_PLANES, open_store
from wgsyncd.stores.resolving import Resolver


def settings(control_plane: str, *hosts: str) -> Settings:
    """The configuration of a store whose database has these hosts."""
    where = f'host = "{hosts[0]}"' if control_plane == "mikyun" else f"hosts = {list(hosts)}"
    plain = CONFIG.partition("[mikyun]")[0]
    return parse(
        f'control_plane = "{control_plane}"\n{plain}[{control_plane}.database]\n{where}\ntimeout = "200ms"\nport = 1\n'
    )


def store(control_plane: str, *hosts: str) -> Store:
    """A store that cannot connect."""
    return open_store(settings(control_plane, *hosts)).store(lambda: None)


class _Hanging(threading.Event):
    """Answers as getaddrinfo(3) does whose name server drops every packet, until it is set."""

    def __call__(self, host: str, *args: object, **options: object) -> object:
        if options.get("flags"):
            raise socket.gaierror("no number")
        if host == "good.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]
        self.wait()
        raise socket.gaierror("nothing")


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hanging]:
    made = _Hanging()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.set()


@pytest.mark.parametrize("control_plane", CONTROL_PLANES)
@pytest.mark.usefixtures("hanging")
def test_a_resolver_that_does_not_answer_holds_nobody_up(control_plane: str) -> None:
    threads = threading.active_count()
    with closing(store(control_plane, "db.example")) as one:
        for _ in range(3):
            with pytest.raises(StoreError, match="no name server has answered within 0.1 s") as caught:
                one.snapshot()
            assert caught.value.code is StoreErrorCode.UNRESOLVED
    assert threading.active_count() <= threads + 1


@pytest.mark.usefixtures("hanging")
def test_a_name_without_an_answer_hides_no_other_server() -> None:
    """The refused connect shows that the other server was asked."""
    with closing(store("nexavpn", "db.example", "good.example")) as one, pytest.raises(StoreError, match="refused"):
        one.snapshot()
    with closing(store("nexavpn", "db.example", "/nowhere")) as one, pytest.raises(StoreError, match="/nowhere"):
        one.snapshot()


@pytest.mark.parametrize("control_plane", CONTROL_PLANES)
@pytest.mark.parametrize("host", ["db..example", "x" * 70 + ".example"])
def test_a_name_that_is_no_name_is_trouble_that_passes(control_plane: str, host: str) -> None:
    with closing(store(control_plane, host)) as one, pytest.raises(StoreError, match="cannot be resolved"):
        one.snapshot()


def test_the_last_answer_counts_while_no_name_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, hanging = Resolver(), _Hanging()
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **options: [] if options.get("flags") else [info])
    assert resolver.addresses(["db.example", "db.example"], 1, 30) == [("db.example", info)] * 2
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    assert resolver.addresses(["db.example"], 1, 0.01) == [("db.example", info)]
    hanging.set()
    assert resolver.addresses(["db.example"], 1, 30) == [("db.example", info)], "the name has no address now"
