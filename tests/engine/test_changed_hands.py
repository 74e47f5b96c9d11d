"""A peer that belongs to another device now: the bytes until then are the former device's."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.samples import address, device_name, text


@pytest.fixture
def node() -> Node:
    """Returns a node with the devices 5 and 6. Device 5 has moved 1000 bytes since the last poll."""
    made = Node()
    for number in (5, 6):
        made.device(number)
    made.cycle()
    made.account()
    made.traffic(5, 1000)
    return made


def by_device(node: Node) -> dict[str, int]:
    return {name: sums.rx for (name, _), sums in node.db.days.items()}


def replace_row(node: Node) -> None:
    """Delete row 5 and insert row 8, which has the key and the address of row 5."""
    node.delete(5)
    node.device(8, public_key=text(5), address=address(5))


@pytest.mark.parametrize("with_accounting", [True, False])
def test_bytes_from_before_a_key_changed_hands_are_the_former_devices(node: Node, with_accounting: bool) -> None:
    replace_row(node)
    node.tick()
    node.agent.reconcile(with_accounting=with_accounting)
    node.account()
    assert by_device(node) == {device_name(5): 1000}
    node.traffic(8, 30, peer=5)
    node.account()
    assert by_device(node) == {device_name(5): 1000, device_name(8): 30}
    node.right()
    node.quiet()


def test_a_posting_that_is_left_off_leaves_the_record_to_the_former_device(node: Node, small: None) -> None:
    node.traffic(6, 70)
    replace_row(node)
    node.tick()
    node.agent.reconcile(lambda: True, preemptible=True)
    node.account()
    node.cycle()
    node.traffic(8, 30, peer=5)
    node.account()
    assert by_device(node) == {device_name(5): 1000, device_name(6): 70, device_name(8): 30}
    node.right()
    node.quiet()


def test_a_device_with_a_new_name_begins_a_history_of_its_own(
    node: Node, mikyun_columns: None, no_other_plane: None
) -> None:
    node.change(5, device_id="0002-DEV-001")
    node.tick()
    assert not node.agent.reconcile_devices(frozenset({"0002-DEV-001"})), "the former bytes have to be posted first"
    node.agent.reconcile(with_accounting=False)
    node.traffic(5, 30)
    node.account()
    assert by_device(node) == {device_name(5): 1000, "0002-DEV-001": 30}


def test_a_row_id_that_was_used_again_gives_the_new_device_no_byte_of_the_old_one(
    node: Node, mikyun_columns: None
) -> None:
    node.delete(5)
    node.device(5, device_id="0002-DEV-001", public_key=text(105), address=address(105))
    node.tick()
    node.agent.reconcile(with_accounting=False)
    node.traffic(5, 30, peer=105)
    node.account()
    assert by_device(node) == {device_name(5): 1000, "0002-DEV-001": 30}
    node.right()
    node.quiet()


@pytest.mark.parametrize("new", [6, 105], ids=["exchanged", "handed over"])
def test_a_key_that_changes_hands_is_left_to_a_full_cycle(node: Node, no_other_plane: None, new: int) -> None:
    """A cycle for both devices alone posts nothing, so the later bytes would go to the former device, too."""
    node.change(5, public_key=text(new))
    node.change(6, public_key=text(5))
    node.tick()
    assert not node.agent.reconcile_devices(frozenset({device_name(5), device_name(6)}))
    node.agent.reconcile(with_accounting=False)
    node.traffic(6, 30, peer=5)
    node.account()
    assert by_device(node) == {device_name(5): 1000, device_name(6): 30}
    node.right()
