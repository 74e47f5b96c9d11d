"""No client of the HTTP server delays another, and none is left over, on TCP and on a unix socket."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
from typing import Any

import pytest

from tests.http_site import OK, Site, send
from tests.shell.conftest import Make
from tests.wait import until
from wgsyncd.daemon import http


def test_slow_clients_block_nobody_and_are_cut_off(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_WITHIN", 1.0)
    site = make(max_clients=3)
    slow = [site.connect() for _ in range(2)]
    for one in slow:
        one.sendall(b"GET /o")
    assert site.works()
    crowd = [site.connect() for _ in range(5)]  # more clients than the server serves at once

    def trickle() -> bool:  # this client is never idle for long and never finishes
        try:
            slow[0].sendall(b"i")
        except OSError:
            return True
        return False

    until(trickle, 10, "a client that sends a byte now and then is cut off", every=0.1)
    until(lambda: served(site), 10, "others are served again")
    for one in (*slow, *crowd):
        one.close()


def served(site: Site) -> bool:
    try:
        return site.works()
    except (OSError, IndexError):
        return False


@pytest.mark.parametrize("said", [b"", b"GET /o", b"GET /big HTTP/1.1\r\n\r\n"])
def test_one_who_holds_all_places_keeps_nobody_out(make: Make, said: bytes) -> None:
    """The oldest client that says nothing, or takes nothing of its answer, makes room."""
    site = make(max_clients=4)
    silent = []
    for _ in range(20):
        client = site.connect()
        client.sendall(said)
        silent.append(client)
        assert site.works()
    assert site.clients <= 5
    for client in silent:
        client.close()
    until(lambda: site.clients == 0, 10, "they are gone")


def test_so_many_clients_and_no_more(make: Make) -> None:
    """A client whose answer is being made is not cut."""
    site = make(max_clients=4)
    site.busy.clear()
    waiting = [site.connect() for _ in range(4)]
    for client in waiting:
        client.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
    until(lambda: len(site.asked) == 4, 10, "all are in")
    with site.connect() as one, one.makefile("rb") as answer:
        said = answer.read()
    assert said.startswith(b"HTTP/1.0 503 ")
    assert b"4 others are being answered: try again" in said
    site.busy.set()
    for client in waiting:
        assert client.recv(15) == b"HTTP/1.0 200 OK"
        client.close()
    until(lambda: site.clients == 0, 10, "they are gone")
    assert site.works()


def test_one_who_takes_nothing_of_the_answer_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TAKE_WITHIN", 0.2)
    with site.connect() as lazy:
        lazy.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        until(lambda: site.clients == 1, 10, "it is being answered")
        until(lambda: site.clients == 0, 10, "nobody waits for it any more")


def test_one_who_is_refused_and_goes_on_talking_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER", 0.3)
    with site.connect() as loud:
        loud.sendall(b"junk\r\n\r\n")

        def talk() -> bool:
            send(loud, b"more")
            return site.clients == 0

        until(talk, 10, "nobody listens to it any more", every=0.05)


def test_a_client_that_goes_away_says_nothing(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    for data in (b"", OK, b"\x16\x03\x01nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /big HTTP/1.1\r\n\r\n"):
        with site.connect() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
            one.sendall(data)
    assert site.works()
    until(lambda: site.clients == 0, 5, "all clients are gone")
    assert capfd.readouterr().err == ""


def test_nothing_wakes_up_without_a_client(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    class Watched(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            waits.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "DefaultSelector", Watched)
    site = make()
    until(lambda: waits == [None], 5, "waits for as long as it takes")
    assert site.works()
    until(lambda: waits == [None, None], 5, "and after a client it waits again")
    site.server._thread.join(0.3)
    assert waits == [None, None], "nothing wakes it"


class Exhausted(socket.socket):
    """Raises EMFILE three times, as a listener does that has no file descriptors left."""

    left = 3

    def accept(self) -> tuple[socket.socket, Any]:
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_a_client_waits_while_there_are_no_descriptors() -> None:
    with Exhausted(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        site = Site(listener)
        assert site.works()
        assert listener.left == 0
        site.server.close()


def test_a_client_is_let_go_where_there_are_no_more_threads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_more)
        assert site.say(b"") == b""
    until(lambda: site.clients == 0, 10, "the client is let go")
    assert site.works()


def _no_more(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_no_name_is_looked_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reverse lookup of the client's or the own address may take a minute at boot."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the resolver was asked")

    for name in ("getfqdn", "gethostbyaddr", "getnameinfo", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, asked)
    assert site.works()
