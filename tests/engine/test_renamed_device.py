"""A renamed device keeps its bytes: the recorded key leads to its row."""

from __future__ import annotations

from collections.abc import Callable

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


@pytest.mark.parametrize("hinder", [Node.lock, Node.refuse])
@pytest.mark.parametrize("more", [0, 5], ids=["", "and moves more under the new name"])
def test_a_device_that_is_renamed_while_its_bytes_are_set_aside_gets_them(
    node: Node, hinder: Callable[..., None], more: int
) -> None:
    hinder(node, 6)
    node.traffic(6, 100)
    node.account()
    node.change(6, device_id="renamed")
    node._numbers["renamed"] = 6
    node.cycle()
    node.traffic(6, more)
    node.account()
    assert [one.device for one in node.status.set_aside] == ["renamed"]
    hinder(node)
    node.start()
    node.cycle()
    node.account()
    assert not node.db.set_aside
    assert node.posted == node.true
