"""Tables are put back while no device moves a byte. So no commit meets another revision."""

from __future__ import annotations

import pytest

from tests.engine.test_halves import MIB, dump, node, put_back
from tests.node import Node
from wgsyncd.core.usage.calendar import ROLLING

__all__ = ["node"]  # the fixture
pytestmark = pytest.mark.usefixtures("usage_columns")


@pytest.mark.parametrize("seconds", [900, ROLLING + 900, 40 * 86400], ids=["bucket", "day", "month"])
@pytest.mark.parametrize("task", [Node.account, Node.cycle])
def test_a_boundary_sets_no_column_to_figures_of_older_tables(node: Node, task: object, seconds: float) -> None:
    """The columns alone tell which bytes are posted already. If a boundary set them, all would be posted again."""
    before = dump(node)
    node.traffic(5, 30 * MIB, 4)
    node.account()
    node.cycle()
    put_back(node, before, columns=False)
    node.tick(seconds)
    task(node)  # type: ignore[operator]
    node.traffic(5, MIB)
    node.account()
    assert node.posted == node.true
    assert node.status.anomalies == {"tables_behind": 1}
    node.right()
    node.start()
    node.cycle()
    node.right()
