"""The daemon verifies once a day, reports what it finds and counts it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from tests.node import Node
from tests.samples import TOKYO, key
from tests.verifying import busy_node, prove
from wgsyncd.engine import inspector
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.errors import StoreError


@pytest.fixture
def node() -> Node:
    return busy_node()


def test_the_daemon_counts_and_says_what_does_not_add_up(
    node: Node, said: Callable[[], list[str]], usage_columns: None
) -> None:
    prove(node)
    assert not any(node.status.findings.values())
    assert not [line for line in said() if "discrepanc" in line]
    for number in range(5, 7):
        node.change(number, rx_bytes_24h=7, tx_bytes_24h=7)
    node.wg.traffic("wg0", key(5), rx=12)
    prove(node)
    assert {check: count for check, count in node.status.findings.items() if count} == {"figure": 4}
    assert len([line for line in said() if "discrepancy found" in line or "more discrepancies" in line]) == 4


def test_the_log_gets_a_score_of_lines(node: Node, said: Callable[[], list[str]], usage_columns: None) -> None:
    for number in range(10, 40):
        node.device(number, rx_bytes_24h=7)
    prove(node)
    lines = [line for line in said() if "discrepancy found" in line or "more discrepancies" in line]
    assert len(lines) == 21
    assert "findings=10" in lines[-1]
    assert node.status.findings["figure"] == 30


@pytest.mark.parametrize(("hour", "ago", "found", "due"), [
    (4, 24, 0, True), (12, 8, 0, False), (12, 26, 0, True), (12, 1, 1, True), (5, 1, 0, False), (12, 1e5, 0, True)
])  # fmt: skip
def test_when_the_daemon_verifies(hour: int, ago: float, found: int, due: bool) -> None:
    now = datetime(2026, 9, 22, hour, 37, tzinfo=TOKYO).timestamp()
    state = AgentState(verified_at=now - ago * 3600, has_findings=bool(found))
    assert inspector.is_due(state, now, TOKYO) is due


def test_a_store_that_is_away_is_no_finding(node: Node) -> None:
    node.store.down = True
    with pytest.raises(StoreError):
        prove(node)
    node.store.down = False
