"""A renamed device keeps its bytes: the recorded key leads to its row."""

from __future__ import annotations

import pytest

from tests.node import Node

pytestmark = pytest.mark.usefixtures("usage_columns")


@pytest.mark.parametrize("polls", [1, 3])
def test_renamed_before_the_poll(node: Node, polls: int) -> None:
    """The rows are read again only after it."""
    node.traffic(5, 10)
    node.account()
    node.change(5, device_id="renamed")
    node._numbers["renamed"] = 5
    for _ in range(polls):
        node.traffic(5, 10, 3)
        node.account()
    node.cycle()
    node.traffic(5, 10)
    node.account()
    assert node.posted == node.true
