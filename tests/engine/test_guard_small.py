"""What a node of few devices may lose without an approval, in one plan and step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.test_guard_memory import FIRST, delete, filled, hinted, killed, live, looked, pause, rekey
from tests.node import Node
from tests.samples import key, text


def replace_row(node: Node, number: int) -> None:
    node.delete(number)
    node.device(number + 50)


def move(node: Node, number: int) -> None:
    node.change(number, interface="wg1", address=f"10.251.0.{number}")


def readdress(node: Node, number: int) -> None:
    node.change(number, address=f"10.200.0.{number + 100}")


HOW = {
    "pause": pause,
    "delete": delete,
    "new key": rekey,
    "new row": replace_row,
    "move": move,
    "new address": readdress,
}


@pytest.mark.parametrize(
    ("how", "at_once", "by_steps"),
    [  # by the number of peers, from 1 to 4: how many of them go
        ("pause", (1, 2, 3, 0), (1, 2, 3, 3)),
        ("delete", (1, 0, 0, 0), (1, 1, 1, 2)),
        ("new key", (1, 0, 0, 0), (1, 2, 3, 3)),
        ("new row", (1, 0, 0, 0), (1, 1, 1, 2)),
        ("move", (1, 2, 3, 4), (1, 2, 3, 4)),
        ("new address", (0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_what_goes_unasked(how: str, at_once: tuple[int, ...], by_steps: tuple[int, ...]) -> None:
    def gone(node: Node, count: int) -> int:
        return count - len({key(number) for number in range(FIRST, FIRST + count)} & set(node.kernel_of("wg0")))

    found: dict[bool, list[int]] = {False: [], True: []}
    for count in (1, 2, 3, 4):
        for steps in (False, True):
            node = filled(count)
            for number in range(FIRST, FIRST + count):
                HOW[how](node, number)
                if steps:
                    node.cycle()
            for _ in range(4):
                node.cycle()
            found[steps].append(gone(node, count))
            assert node.status.guard_tripped == (how != "move" and how != "new address" and found[steps][-1] < count)
    assert (tuple(found[False]), tuple(found[True])) == (at_once, by_steps)


@pytest.mark.parametrize("count", [10, 60])
def test_new_rows_never_make_room_for_the_removal_of_the_old_ones(count: int) -> None:
    """The peers of the new rows are added while the guard withholds. They raise no limit, not even after an hour."""
    node = filled(count)
    before = set(node.kernel_of("wg0"))
    for number in range(FIRST, FIRST + count):
        node.delete(number)
        node.device(number + 100)
    for _ in range(20):
        node.tick(600)
        node.cycle()
    assert live(node) == 2 * count
    assert before <= set(node.kernel_of("wg0"))
    pause(node, FIRST + 100)
    node.cycle()
    assert live(node) == 2 * count - 1, "a revocation goes"
    for _ in range(20):
        node.tick(600)
        node.cycle()
    assert before <= set(node.kernel_of("wg0"))
    node.agent.approve(node.status.plan_id)
    node.cycle()
    assert not before & set(node.kernel_of("wg0"))


@pytest.mark.parametrize("step", [looked, hinted, killed])
def test_peers_that_were_just_added_make_no_room(step: Callable[[Node, int], None]) -> None:
    """First 120 rows come, in parts. Then the old ones go row by row: 12 of 60, as if nothing had come."""
    node = filled(60)
    old = set(node.kernel_of("wg0"))
    for number in range(100, 220):
        node.device(number)
        if number % 40 == 19:
            node.tick(300)
            node.cycle()
    assert live(node) == 180
    for number in range(FIRST, FIRST + 40):
        node.delete(number)
        step(node, number)
    assert len(old & set(node.kernel_of("wg0"))) == 60 - 12
    assert sum(not one.removed for one in node.db.removals["r640"]) == 2, "before the additions, and before the wait"


def test_a_node_that_grows_steadily_gets_its_room() -> None:
    node = filled(60)
    for number in range(100, 160):
        node.device(number)
        node.tick(900)
        node.cycle()
    for number in range(FIRST, FIRST + 40):
        node.delete(number)
        node.cycle()
    assert live(node) == 120 - 23, "a fifth of the peers of an hour ago"


def test_a_reboot_and_a_new_row_leave_the_room_as_it_was() -> None:
    node = filled(60)
    node.reboot()
    node.device(100)
    node.cycle()
    for number in range(FIRST, FIRST + 20):
        node.delete(number)
        node.cycle()
    assert live(node) == 61 - 12


def test_the_only_device_gets_a_new_key() -> None:
    node = filled(1)
    for number in (1002, 1003, 1004):
        node.change(FIRST, public_key=text(number))
        node.cycle()
        assert set(node.kernel_of("wg0")) == {key(number)}, "three in ten minutes"


@pytest.mark.parametrize("count", [2, 5, 10])
@pytest.mark.parametrize("how", ["new keys", "new rows"])
def test_no_plan_replaces_everybody_unasked(count: int, how: str) -> None:
    node = filled(count)
    before = node.kernel_of("wg0")
    for number in range(FIRST, FIRST + count):
        if how == "new keys":
            rekey(node, number)
        else:
            node.delete(number)
            node.device(number + 50)
    node.cycle()
    assert before.keys() <= node.kernel_of("wg0").keys()
    assert node.status.guard_tripped


@pytest.mark.parametrize("by_steps", [False, True])
def test_moves_to_an_interface_that_is_missing_are_losses(by_steps: bool) -> None:
    """Nobody can add the peers there, so an UPDATE of all rows but one would cut off everybody else."""
    node = filled(60)
    node.wg.delete("wg1")
    for number in range(FIRST + 1, FIRST + 60):
        move(node, number)
        if by_steps:
            node.cycle()
    node.cycle()
    assert live(node) == (48 if by_steps else 60)
    node.wg.add_interface("wg1")
    node.cycle()
    assert live(node) == 1
    assert len(node.wg.peers("wg1")) == 59
