"""A condition is reported once when it starts and once when it ends, in the log and the audit trail."""

from __future__ import annotations

from collections.abc import Callable

from tests.node import Node

# -- the lines in the log


def test_a_condition_is_said_once_it_is_written_and_only_once(node: Node, said: Callable[[], list[str]]) -> None:
    node.db.update(5, preshared_key="junk")
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    assert not [line for line in said() if "cannot be followed" in line], "it will be said again"
    for _ in range(3):
        node.cycle()
    (line,) = [line for line in said() if "cannot be followed" in line]
    assert "row=5 device=0001-DEV-005 reason=bad_preshared_key" in line
    assert "junk" not in line
    node.db.update(5, preshared_key=None)
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    node.cycle()
    assert len([line for line in said() if "row no longer rejected" in line]) == 1


def test_each_condition_is_said_when_it_begins_and_when_it_ends(said: Callable[[], list[str]]) -> None:
    node = Node()
    for number in (5, 6, 7):
        node.device(number, is_parent=int(number < 7))
    node.cycle()
    node.wg.delete("wg1")
    devices = dict(node.db.devices)
    node.db.devices.clear()
    node.cycle()
    node.quiet()
    plan = node.status.plan_id
    node.wg.add_interface("wg1")
    node.db.devices |= devices
    node.db.update(6, is_parent=0)
    node.cycle()
    events = [line for line in said() if "logger=conditions" in line]
    for text, count in {
        "condition begins": 1,
        "interface missing: its peers are without service": 1,
        f'removals=3 todo="look with `wgsyncd plan`, let through with `wgsyncd approve {plan}`': 1,
        "condition ends": 1,
        "interface is back": 1,
        "no removals withheld any more": 1,
    }.items():
        assert len([line for line in events if text in line]) == count, text
    assert len(events) == 6
    node.db.devices.clear()
    node.cycle()
    node.store.approve(node.status.plan_id)
    node.cycle()
    assert any("withheld removals approved by an admin" in line for line in said())


def test_parent_conflicts_that_cannot_be_seen_stay_as_they_were(node: Node, said: Callable[[], list[str]]) -> None:
    for number in (5, 6):
        node.db.update(number, is_parent=1)
    node.cycle()
    node.store.no_conditions = True
    node.db.update(6, is_parent=0)
    node.cycle()
    node.quiet()
    assert ("parent_conflict_cleared", "0001") not in node.actions
    assert node.status.store_conditions == {"parent_conflict": 1}
    node.store.no_conditions = False
    node.cycle()
    assert node.actions[-1] == ("parent_conflict_cleared", "0001")
