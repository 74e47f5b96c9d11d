"""Rows were put back from a dump of last month, and wgsyncd's own tables were not."""

from __future__ import annotations

import pytest

from tests.engine.test_halves import MIB, dump, node, put_back
from tests.node import Node

__all__ = ["node"]  # the fixture
pytestmark = pytest.mark.usefixtures("usage_columns")


@pytest.mark.parametrize("used", [MIB, 0], ids=["used since", "idle"])
def test_columns_of_last_month_are_told_too(node: Node, used: int) -> None:
    """The column has more than the days of this month, and less than both months together."""
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    node.tick(32 * 86400)
    node.traffic(5, used)
    for _ in range(2):
        node.tick(900)
        node.account()
    node.right()
    put_back(node, before, own=False)
    node.tick(900)
    node.account()
    assert node.status.anomalies["columns_behind"] == 1
    node.cycle()
    assert any(str(40 * MIB + used) in text and str(10 * MIB) in text for text in node.audit_texts)
    node.tick(900)
    node.account()
    assert node.status.anomalies["columns_behind"] == 1, "once"
