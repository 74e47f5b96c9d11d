"""Log lines and audit rows about devices of NexaVPN also have the names that people use.

An id alone helps nobody at night.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.nexavpn_sides import NexavpnTables, named
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import key, text
from wgsyncd import log
from wgsyncd.core.inspect.verify import Check, Discrepancy
from wgsyncd.engine.inspector import publish

FAULTY = "Policy is faulty (effect, no target): each doubt is decided against access"


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


def test_a_line_about_bytes_or_figures_has_the_name_of_the_device(
    node: NexavpnNode, said: Callable[..., list[str]]
) -> None:
    node.device(5)
    node.cycle()
    node.traffic(5, 1000)
    node.account()
    node.wg.recreate_behind("wg0", key(5))
    node.wg.traffic("wg0", key(5), 3)
    node.account()
    assert 'called="laptop 5 of alice"' in said("usage anomaly")[0]
    publish([Discrepancy(Check.ABSENT, str(node.admin.id(5)), interface="wg0")], node.status)
    assert 'called="laptop 5 of alice"' in said("discrepancy found")[0]


def test_an_audit_row_begins_with_the_name_and_has_the_id(node: NexavpnNode) -> None:
    """A device is named although a notification, and no read of all rows, has brought it. A gone device is, too."""
    node.tables.policy("printers", "maybe", "10.9.0.0/16")
    for number in (5, *range(10, 16)):
        node.device(number)
    node.cycle()
    node.device(6)
    assert node.agent.reconcile_devices(frozenset((str(node.admin.id(6)),)))
    node.tables.update("devices", node.tables.id(6), name="tablet\n")
    node.change(6, status="blocked")
    node.cycle()
    node.tables.delete(5)
    node.cycle()
    found = {(str(one["entity_id"]), one["message"], one["metadata"].get("name")) for one in node.tables.logs()}
    five, six = (str(node.tables.id(number)) for number in (5, 6))
    assert found >= {
        (five, "laptop 5 of alice: Peer added on wg0 with 10.200.0.5/32", "laptop 5 of alice"),
        (six, "laptop 6 of alice: Peer added on wg0 with 10.200.0.6/32", "laptop 6 of alice"),
        (six, "tablet\\n of alice: Peer removed from wg0 (10.200.0.6/32): device blocked", "tablet\\n of alice"),
        (five, "laptop 5 of alice: Peer removed from wg0 (10.200.0.5/32): row is gone, user alice", "laptop 5 of alice"),
        (str(named("printers")), f"printers: {FAULTY}", "printers"),
    }  # fmt: skip
