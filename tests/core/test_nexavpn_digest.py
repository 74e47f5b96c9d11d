"""The digest of NexaVPN's tables is read only where something changed, and takes a small share of the time."""

from __future__ import annotations

from typing import Any, cast

from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.digest import Digest


class Server:
    """Answers as the server does. A digest takes ``cost`` seconds of its clock."""

    def __init__(self) -> None:
        self.now, self.cost, self.snapshot, self.data, self.read = 0.0, 0.0, 1, "a", 0

    def query(self, sql: str, _: Any = (), *, often: bool = False) -> list[tuple[str]]:
        if "pg_current_snapshot" in sql:
            return [(str(self.snapshot),)]
        self.read += 1
        self.now += self.cost
        return [(self.data,)]

    def digest(self, digest: Digest, wait: float = 0.25) -> object:
        self.now += wait
        return digest.read(cast("Connection", self))

    def change(self, data: str) -> None:
        self.snapshot, self.data = self.snapshot + 1, data


def test_the_same_snapshot_is_the_same_data() -> None:
    server = Server()
    digest = Digest("r640", lambda: server.now)
    assert [server.digest(digest) for _ in range(3)] == ["a"] * 3
    assert server.read == 1
    server.change("b")
    assert (server.digest(digest), server.read) == ("b", 2)


def test_a_cheap_digest_is_read_at_each_look_and_a_costly_one_later() -> None:
    server = Server()
    digest = Digest("r640", lambda: server.now)
    for cost, seconds in ((0.002, 0.25), (0.004, 0.25), (0.008, 0.75)):
        server.cost = cost
        server.change(f"{cost}")
        assert server.digest(digest, 10.0) == f"{cost}"
        server.change("new")
        if seconds > 0.25:
            assert server.digest(digest) == f"{cost}", "it is too soon"
        assert server.digest(digest, seconds) == "new"


def test_one_slow_digest_holds_up_little() -> None:
    server = Server()
    digest = Digest("r640", lambda: server.now)
    server.cost = 0.002
    server.digest(digest)
    server.cost = 3.0
    server.change("b")
    server.digest(digest)
    server.change("c")
    assert server.digest(digest, 0.5) == "c"


def test_another_server_is_asked_at_once() -> None:
    server = Server()
    digest = Digest("r640", lambda: server.now)
    server.cost = 1.0
    server.digest(digest)
    server.change("b")
    assert server.digest(digest) == "a"
    digest.forget()
    assert server.digest(digest) == "b"


def test_who_is_told_of_a_change_reads_a_costly_digest_at_once() -> None:
    server = Server()
    digest = Digest("r640", lambda: server.now)
    server.cost = 1.0
    server.digest(digest)
    server.change("b")
    assert server.digest(digest) == "a"
    connection = cast("Connection", server)
    assert digest.read(connection, at_once=True) == "b"
    assert (digest.read(connection, at_once=True), server.read) == ("b", 2), "nothing has changed since"
