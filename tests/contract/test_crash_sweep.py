"""A cycle on a real MariaDB is interrupted at any statement or spool write and loses nothing.

The cycle has everything to do. Each SQL statement and each write of the spool's file is interrupted in every way. The
next cycles must leave what an uninterrupted cycle leaves.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_crashes import prepared
from tests.fakes import Crash
from tests.nexavpnnode import NexavpnNode
from tests.realnode import RealNode
from tests.store_sides import RealMikyunTables
from tests.tables import COUNTS
from wgsyncd.demo.mariadb import PrivateServer
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection

# To die after one statement is to die before the next one. The last round ends after all statements.
KINDS = ["dies before", "cut before", "cut after"]


class Line:
    """Makes the n-th statement between store and server fail. `left` counts the statements until then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.kind, self.sent = 0, "", list[str]()
        for name in ("query", "execute", "try_change"):
            monkeypatch.setattr(Connection, name, self.wrap(getattr(Connection, name)))

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(connection: Connection, sql: str, *values: Any) -> Any:
            self.sent.append(sql)
            self.left -= 1
            if self.left:
                return call(connection, sql, *values)
            if self.kind == "dies before":
                raise Crash
            if self.kind == "cut before":
                if connection._live is None:
                    raise StoreError("2002: Can't connect")
                connection._live._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
            answer = call(connection, sql, *values)
            connection.close()
            raise StoreError(f"2013: Lost connection during query, not seen: {answer!r:.20}")

        return run


class Stage:
    """Builds the same prepared node for every interruption."""

    def __init__(self, server: PrivateServer, stack: ExitStack, folder: Path) -> None:
        self.server, self.stack, self.folder, self.made = server, stack, folder, 0

    def plain(self) -> RealNode:
        """A node without a device."""
        self.stack.close()
        self.made += 1
        return RealNode(RealMikyunTables(self.server, self.stack), self.folder / str(self.made))

    def node(self) -> RealNode:
        node = self.plain()
        prepared(node)
        return node


@pytest.fixture
def stage(mariadbd: PrivateServer, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(mariadbd, stack, tmp_path)


def settled(node: RealNode | NexavpnNode, reference: dict[str, Any], what: object) -> None:
    node.start()
    node.cycle()
    node.cycle()
    assert node.outcome() == reference, what
    assert node.posted == node.true, what
    before = node.written
    node.cycle()
    node.account()
    assert node.written == before, what


def undisturbed(stage: Stage) -> dict[str, Any]:
    node = stage.node()
    node.cycle()
    node.cycle()
    found = node.outcome()
    assert node.posted == node.true
    assert any(any(one[column] for column in COUNTS) for one in found["devices"].values())
    assert len(found["audit"]) >= 9
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_statement_may_be_the_last(stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    reference = undisturbed(stage)
    line = Line(monkeypatch)
    for number in range(1, 200):
        node = stage.node()
        line.left, line.kind, line.sent = number, kind, []
        node.tick()
        with suppress(StoreError, Crash):
            node.agent.reconcile()
        is_over, line.left = line.left > 0, 0
        settled(node, reference, (kind, number, line.sent[-1][:60]))
        if is_over:
            break
    assert number > 25, "that many it has"


def _polled(stage: Stage, *spans: float) -> RealNode:
    """A node after two polls in one bucket, so it has open pieces. Traffic came in each of the next ``spans``.

    The traffic of the last span is not polled yet.
    """
    node = stage.plain()
    for number in (5, 6, 7):
        node.device(number)
    node.cycle()
    for _ in range(2):
        for number in (5, 6, 7):
            node.traffic(number, 1000, 2000)
        node.account()
    assert node.tables.sql("SELECT COUNT(*) n FROM wgsyncd_peers WHERE open_rx > 0") == [{"n": 3}]
    for left, seconds in enumerate(reversed(spans)):
        for number in (5, 6, 7):
            node.traffic(number, 10, 20)
        node.tick(seconds)
        if left < len(spans) - 1:
            node.agent.account()
    return node


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("spans", "statements"), [((15,), 3), ((900,), 11), ((15, 900), 9), ((15, 86_400), 9)])
def test_each_statement_of_a_poll_may_be_the_last(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: str, spans: tuple[float, ...], statements: int
) -> None:
    """A usual poll is one UPDATE in its transaction. After the end of a bucket, the open pieces move as well."""
    node = _polled(stage, *spans)
    node.account()
    node.account()
    reference = node.outcome()
    line = Line(monkeypatch)
    for number in range(1, 100):
        node = _polled(stage, *spans)
        line.left, line.kind, line.sent = number, kind, []
        with suppress(StoreError, Crash):
            node.agent.account()
        is_over, what, line.left = line.left > 0, (kind, number, line.sent[-1][:60]), 0
        node.start()
        node.account()
        node.account()
        assert node.outcome() == reference, what
        assert node.posted == node.true
        if is_over:
            break
    assert number > statements


@pytest.mark.parametrize("how", ["before", "after", "fails"])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_each_write_of_the_spool_may_be_the_last(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, call: str, how: str
) -> None:
    """The peers are removed in this cycle and move bytes until the end. The spool saves their last samples."""
    reference: dict[str, Any] = {}
    for number in range(10):
        node = stage.node()
        left, real, read = number, getattr(os, call), node.wg.read
        moved: list[int] = []

        def late(interface: str, node: RealNode = node, read: Any = read, moved: list[int] = moved) -> Any:
            state = read(interface)
            if interface == "wg0" and not moved:
                moved.append(1)
                node.traffic(5, 7, 7)
            return state

        def strike(*values: Any, real: Any = real, number: int = number) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and number:
                if how == "after":
                    real(*values)
                if how == "fails":
                    raise OSError(28, "No space left on device")
                raise Crash
            return real(*values)

        node.wg.read = late  # type: ignore[method-assign]
        monkeypatch.setattr(os, call, strike)
        node.tick()
        with suppress(StoreError, Crash):
            node.agent.reconcile()
        monkeypatch.undo()
        if not number:
            node.cycle()
            reference = node.outcome()
            continue
        if left > 0:
            break
        settled(node, reference, (call, how, number))
    assert number > 1
