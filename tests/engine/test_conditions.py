"""A condition is reported once when it starts and once when it ends, in the log and the audit trail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.node import Node
from tests.samples import key

# -- the lines in the log


def test_a_condition_is_said_once_it_is_written_and_only_once(node: Node, said: Callable[[], list[str]]) -> None:
    node.change(5, preshared_key="junk")
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    assert not [line for line in said() if "row is rejected" in line], "it will be said again"
    for _ in range(3):
        node.cycle()
    (line,) = [line for line in said() if "row is rejected" in line]
    assert f"row={node.admin.id(5)} device=0001-DEV-005 reason=bad_preshared_key" in line
    assert "junk" not in line
    node.change(5, preshared_key=None)
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    node.cycle()
    assert len([line for line in said() if "row no longer rejected" in line]) == 1


def test_each_condition_is_said_when_it_begins_and_when_it_ends(said: Callable[[], list[str]]) -> None:
    node = Node()
    for number in (5, 6, 7):
        node.device(number)
    node.admin.begin_condition(5, 6)
    node.cycle()
    node.wg.delete("wg1")
    devices = node.truncate()
    node.cycle()
    node.quiet()
    plan = node.status.plan_id
    node.wg.add_interface("wg1")
    node.restore(devices)
    node.admin.end_condition(6)
    node.cycle()
    events = [line for line in said() if "logger=conditions" in line]
    for text, count in {
        "condition begins": 1,
        "interface missing: its peers are without service": 1,
        '"NOTHING WAS REMOVED: the guard keeps peers that would go"': 1,
        f'removals=3 todo="A mistake? Restore the rows, and do nothing else. Look: wgsyncd plan. Meant? wgsyncd approve {plan}': 1,
        "condition ends": 1,
        "interface is back": 1,
        "no removals withheld any more": 1,
    }.items():
        assert len([line for line in events if text in line]) == count, text
    assert len(events) == 6
    node.truncate()
    node.cycle()
    node.store.approve(node.status.plan_id)
    node.cycle()
    assert any("withheld removals approved by an admin" in line for line in said())


def test_conditions_of_the_stores_own_that_cannot_be_seen_stay_as_they_were(
    node: Node, said: Callable[[], list[str]]
) -> None:
    node.admin.begin_condition(5, 6)
    node.cycle()
    node.store.no_conditions = True
    node.admin.end_condition(6)
    node.cycle()
    node.quiet()
    end = node.admin.condition_audit[1], node.admin.condition_target
    assert end not in node.actions
    assert node.status.store_conditions == {node.admin.condition: 1}
    node.store.no_conditions = False
    node.cycle()
    assert node.actions[-1] == end


# -- a word that nobody knows


@pytest.mark.parametrize("word", ["activ", "active\r", "suspended", ""])
@pytest.mark.parametrize("whose", ["device", "contract"])
def test_a_typo_in_a_status_disconnects_nobody(whose: str, word: str, mikyun_columns: None) -> None:
    """The row is rejected and its live peer is frozen. Its bytes and its neighbour's go on, and no poll writes in vain."""
    node = Node()
    for number, contract in ((5, "0005"), (6, "0006")):
        node.db.contracts[contract] = "active"
        node.device(number, seen=False, contract_id=contract)
    node.cycle()
    if whose == "device":
        node.change(5, status=word)
    else:
        node.db.contracts["0005"] = word
    node.device(7, contract_id="0005", status=word if whose == "device" else "active")
    node.shake(6)
    node.traffic(5, 10)
    node.cycle()
    assert node.wg.peers("wg0").keys() == {key(5), key(6)}, "the live peer stays, and nobody new comes in"
    assert node.status.rejected == {"unknown_status": 2}
    assert ("row_rejected", "0001-DEV-005") in node.actions
    assert node.posted == node.true
    node.quiet()
    node.change(5, status="paused")
    node.cycle()
    assert node.wg.peers("wg0").keys() == {key(6)}, "a word that is known puts the device out"
