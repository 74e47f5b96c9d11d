"""A node that has moved bytes for days, and verifications of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.node import Node
from tests.samples import NOW
from wgsyncd.core.inspect.verify import Discrepancy


@pytest.fixture
def node() -> Node:
    return busy_node()


SOON = NOW + 3 * 86400  # the days on which accounting started are out of range


def rounds(node: Node, *works: Callable[[], object]) -> Iterator[None]:
    """Does the daemon's work between two checks of another process."""
    for work in works or (node.account, node.cycle, node.account):
        work()
        yield


def found(node: Node, *works: Callable[[], object]) -> list[Discrepancy]:
    before = node.written
    findings = list(node.agent.inspector.verify(rounds(node, *works) if works else iter(())))
    assert works or node.written == before, "looking writes nothing"
    return findings


def checks(node: Node, *works: Callable[[], object]) -> list[tuple[str, str]]:
    return [(one.check.value, one.device) for one in found(node, *works)]


def prove(node: Node) -> None:
    def work() -> None:
        node.agent.reconcile()
        node.tick(1)

    node.agent.inspector.run_verification(work, node.status)


def busy_node() -> Node:
    """Returns a node with two devices that have moved bytes for days."""
    made = Node()
    for number in (5, 6):
        made.device(number)
    made.cycle()
    for number in (5, 6):
        made.traffic(number, 1000, 100)
    made.account()
    made.tick(SOON - made.now)
    made.account()
    for number in (5, 6):
        made.traffic(number, 2000, 200)
    made.account()
    made.account()
    assert found(made) == []
    return made
