"""A cycle on a real PostgreSQL is interrupted at any statement and loses nothing.

The cycle has everything to do. Each statement is interrupted in every way: the process dies before it, and the
connection breaks before it or after it. The next cycles must leave what an uninterrupted cycle leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_crash_sweep import KINDS, settled
from tests.fakes import Crash
from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import address, key, psk, text
from wgsyncd.errors import StoreError
from wgsyncd.stores.nexavpn.connection import Connection

WRITES = ("INSERT", "UPDATE", "DELETE")


class Line:
    """Makes the n-th statement between store and server fail. ``left`` counts the statements until then.

    Only statements count whose failure no other one stands for. A process that dies within a transaction leaves what one
    leaves that dies before BEGIN. A connection that breaks after an answer undoes the open transaction, as one does that
    breaks before the statement. Only a commit, or a write without a transaction, has happened then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.kind = 0, ""
        real = Connection._cursor
        line = self

        @contextmanager
        def cursor(connection: Connection, **options: bool) -> Iterator[Any]:
            counts = line.kind == "cut before" or (line.kind == "dies before" and not connection._in_transaction)
            line.left -= counts
            if counts and not line.left:
                if line.kind == "dies before":
                    raise Crash
                connection.close()
                raise StoreError("08006: the connection was lost")
            with real(connection, **options) as found:
                yield found
                told = str(found.statusmessage).partition(" ")[0]  # a closed cursor has forgotten it
            if line.kind == "cut after" and (told == "COMMIT" or (not connection._in_transaction and told in WRITES)):
                line.left -= 1
                if not line.left:
                    connection.close()
                    raise StoreError("08006: the connection was lost after the answer")

        monkeypatch.setattr(Connection, "_cursor", cursor)


class Stage:
    """Builds the same prepared node for every interruption."""

    def __init__(self, server: PrivatePostgres, stack: ExitStack, folder: Path) -> None:
        self.server, self.stack, self.folder, self.made = server, stack, folder, 0

    def plain(self) -> NexavpnNode:
        self.stack.close()
        self.made += 1
        return NexavpnNode(NexavpnTables(self.server, self.stack), self.folder / str(self.made))

    def node(self) -> NexavpnNode:
        """A node that has one of everything to do."""
        node = self.plain()
        for number in (5, 6, 7, 10, 12, 13):
            node.device(number)
        node.device(8, seen=False)
        node.cycle()
        node.admin.forget_audit()
        node.traffic(5, 100, 10)
        node.traffic(6, 20, 2)
        node.change(5, status="blocked")
        node.change(6, public_key=text(60), preshared_key=node.tables.seal(6, psk(6)))
        node.change(7, interface="wg1", address="10.251.0.7")
        node.change(10, address=address(100))
        node.shake(8)
        node.device(11)
        node.wg.add_behind("wg0", node.wg.peers("wg0")[key(10)]._replace(public_key=key(99), allowed_ips=()))
        node.change(13, preshared_key=node.tables.seal(12, psk(12)))
        return node


@pytest.fixture
def stage(postgres: PrivatePostgres, tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(postgres, stack, tmp_path)


def undisturbed(stage: Stage) -> dict[str, Any]:
    node = stage.node()
    node.cycle()
    node.cycle()
    found = node.outcome()
    assert node.posted == node.true
    assert found["conditions"][0].reason == "psk_sealed"
    assert len(found["audit"]) >= 7
    assert found["devices"][8]["last_seen_at"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_statement_may_be_the_last(stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    reference = undisturbed(stage)
    line = Line(monkeypatch)
    for number in range(1, 300):
        node = stage.node()
        line.left, line.kind = number, kind
        node.tick()
        with suppress(StoreError, Crash):
            node.agent.reconcile()
        is_over, line.left = line.left > 0, 0
        settled(node, reference, (kind, number))
        if is_over:
            break
    assert number > (25 if kind == "cut before" else 5), "that many it has"


@pytest.mark.parametrize("kind", KINDS)
def test_each_statement_of_a_poll_may_be_the_last(stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    line = Line(monkeypatch)
    for number in range(1, 100):
        node = stage.plain()
        for device in (5, 6, 7):
            node.device(device)
        node.cycle()
        for device in (5, 6, 7):
            node.traffic(device, 1000, 2000)
            node.shake(device)
        node.tick()
        line.left, line.kind = number, kind
        with suppress(StoreError, Crash):
            node.agent.account()
        is_over, line.left = line.left > 0, 0
        node.start()
        node.account()
        node.account()
        assert node.posted == node.true, (kind, number)
        if is_over:
            break
    assert number > (8 if kind == "cut before" else 2)
