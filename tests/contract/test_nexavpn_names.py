"""Log lines about devices of NexaVPN also have the names that people use. An id alone helps nobody at night."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import text
from wgsyncd import log


@pytest.fixture
def said() -> Iterator[Callable[..., list[str]]]:
    """Yields a function that returns the lines about an event since its last call, by default one."""
    stream = io.StringIO()
    log.configure("info", "logfmt", stream)

    def lines(event: str, count: int = 1) -> list[str]:
        found = [one for one in stream.getvalue().splitlines() if f'event="{event}' in one]
        assert len(found) == count
        stream.truncate(stream.seek(0))
        return found

    yield lines
    log.configure()


@pytest.fixture
def node(postgres: PrivatePostgres, tmp_path: Path) -> Iterator[NexavpnNode]:
    with ExitStack() as stack:
        yield NexavpnNode(NexavpnTables(postgres, stack), tmp_path)


def test_lines_about_devices_and_policies_have_their_names(node: NexavpnNode, said: Callable[..., list[str]]) -> None:
    node.device(5)
    node.cycle()
    assert 'called="laptop 5 of alice"' in said("peers changed")[0]
    node.change(5, public_key="junk")
    node.tables.policy("printers", "maybe", "10.9.0.0/16")
    node.cycle()
    assert 'called="laptop 5 of alice"' in said("row is rejected")[0]
    node.tables.policy("scanners", "maybe", "10.8.0.0/16")
    node.cycle()
    assert "called=scanners" in said("condition begins")[0]
    node.device(6)
    node.cycle()
    assert 'called="laptop 6 of alice"' in said("peers changed")[0]
    node.change(6, public_key=text(60))
    node.agent.reconcile()
    removed, added = said("peers changed", 2)
    assert "action=remove" in removed
    assert 'called="laptop 6 of alice"' in removed
    assert 'called="laptop 6 of alice"' in added
    node.change(6, status="blocked")
    node.cycle()
    assert 'called="laptop 6 of alice"' in said("peers changed")[0]
