"""A device that gets another class loses nothing that waits in the former one."""

from __future__ import annotations

import pytest

from tests.engine.test_shaping import DOWN, UP, ShapedNode
from tests.tcmodel import TcModel
from wgsyncd.core.shaping.steps import Action, Step
from wgsyncd.core.shaping.tree import HtbClass

pytestmark = pytest.mark.usefixtures("mikyun_columns")


def test_the_class_that_a_device_has_left_goes_in_the_next_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    node, deleted = ShapedNode(), list[int]()
    make = TcModel.make

    def note(self: TcModel, step: Step) -> None:
        if step.action is Action.DELETE and isinstance(step.thing, HtbClass):
            deleted.append(step.thing.minor)
        make(self, step)

    monkeypatch.setattr(TcModel, "make", note)
    for number in (6, 7):
        node.delete(number)
    node.cycle()
    assert set(node.rates()) == {5} and [len(node.tc.trees[way].classes) for way in (DOWN, UP)] == [1, 1]
    node.device(8)
    node.cycle()
    assert node.shaping.ok and set(node.rates()) == {5, 8} and deleted == [], "its packets are sent meanwhile"
    node.cycle()
    assert deleted == [1, 1] and [len(node.tc.trees[way].classes) for way in (DOWN, UP)] == [3, 3]
    node.right()
