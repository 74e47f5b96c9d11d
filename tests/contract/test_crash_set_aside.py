"""A poll that sets bytes aside, or that posts them later, may end at any statement: each byte is posted once."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from tests.contract.test_crash_sweep import Line, Stage, stage
from tests.fakes import Crash
from tests.realnode import RealNode
from wgsyncd.errors import StoreError

assert stage  # a fixture
BAD = 6


def _hindered(on: Stage, how: str, moment: str) -> tuple[RealNode, ExitStack]:
    """A node with a row that cannot be changed. Its next poll sets bytes aside, or posts what was set aside.

    The stack that is returned ends the hindrance.
    """
    node, hindrance = on.plain(), ExitStack()
    for number in (5, BAD, 7):
        node.device(number)
    node.cycle()
    move(node)
    node.account()
    if how == "locked":
        hindrance.enter_context(node.tables.locked(BAD))
    else:
        node.tables.refuse(BAD)
        hindrance.callback(node.tables.refuse)
    move(node)
    if moment == "posts":
        node.agent.account()
        hindrance.close()
        move(node)
    return node, hindrance


def move(node: RealNode) -> None:
    for number in (5, BAD, 7):
        node.traffic(number, 10, 20)
    node.tick(15)


@pytest.mark.parametrize(
    ("how", "moment", "kind"),
    [
        ("locked", "sets aside", "dies before"),
        ("refused", "sets aside", "dies before"),
        ("refused", "sets aside", "cut after"),
        ("refused", "posts", "dies before"),
        ("refused", "posts", "cut after"),
    ],
)
def test_each_statement_around_what_is_set_aside_may_be_the_last(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str, moment: str, kind: str
) -> None:
    line, named = Line(monkeypatch), False
    for number in range(1, 100):
        node, hindrance = _hindered(stage, how, moment)
        line.left, line.kind, line.sent = number, kind, []
        with suppress(StoreError, Crash):
            node.agent.account()
        is_over, what, line.left = line.left > 0, (kind, number, line.sent[-1][:60]), 0
        named = named or any("wgsyncd_set_aside" in sql for sql in line.sent)
        node.start()
        with suppress(StoreError):
            node.agent.reconcile()
        hindrance.close()
        for _ in range(2):
            node.cycle()
        assert node.posted == node.true, what
        days = node.outcome()["days"]
        assert {one.rx for one in days.values()} == {one.rx for one in node.true.values()}, what
        assert not node.tables.sql("SELECT * FROM wgsyncd_set_aside"), what
        if is_over:
            break
    assert number > 12
    assert named
