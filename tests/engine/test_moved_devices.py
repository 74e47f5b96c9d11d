"""A device that moves to another node is told as moved, and the guard counts neither moves nor unused devices."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from tests.node import Node
from tests.samples import device_name, key, text

NEIGHBOUR = "wg9"  # an interface of another node
NOBODY = "wg77"  # an interface of no node


@pytest.fixture
def full() -> Node:
    """Returns a node with sixty devices, where more than 12 removals need an approval. Another node serves wg9."""
    made = Node()
    here = msgspec.structs.replace(made.settings.node, ignored_interfaces=(NEIGHBOUR,))
    made.settings = msgspec.structs.replace(made.settings, node=here)
    made.store = made._store()
    made.start()
    for number in range(2, 62):
        made.device(number)
    made.cycle()
    return made


def move(node: Node, numbers: Iterable[int], interface: str = NEIGHBOUR) -> None:
    for number in numbers:
        node.change(number, interface=interface)


def peers(node: Node) -> set[int]:
    return {number for number in range(2, 62) if key(number) in node.kernel_of("wg0")}


def removals(node: Node) -> list[str]:
    return [one.text for one in node.admin.audit() if one.action == "peer_removed"]


def guard_events(node: Node) -> list[str]:
    return [action for action, _ in node.actions if action.startswith("guard")]


def test_fifty_devices_that_move_at_once_are_told_as_moved_and_trip_no_guard(full: Node) -> None:
    for number in range(2, 52):
        full.traffic(number, 100 + number)
    move(full, range(2, 52))
    full.cycle()
    assert peers(full) == set(range(52, 62))
    assert guard_events(full) == []
    assert len(removals(full)) == 50
    assert all(NEIGHBOUR in one and "row is gone" not in one and "row_gone" not in one for one in removals(full))
    full.right()
    full.quiet()


def test_a_notified_device_that_moved_is_told_as_moved(full: Node, no_other_plane: None) -> None:
    move(full, [5])
    full.tick()
    assert full.agent.reconcile_devices(frozenset({device_name(5)}))
    assert peers(full) == set(range(2, 62)) - {5}
    (told,) = removals(full)
    assert NEIGHBOUR in told
    full.quiet()


def test_a_deleted_row_is_still_told_as_gone(full: Node) -> None:
    full.delete(5)
    move(full, [6])
    full.cycle()
    gone, moved = removals(full)
    assert "row is gone" in gone or "row_gone" in gone
    assert NEIGHBOUR in moved


def test_all_devices_that_move_at_once_look_like_a_missing_where(full: Node) -> None:
    move(full, range(2, 62))
    full.cycle()
    assert peers(full) == set(range(2, 62))
    assert guard_events(full) == ["guard_tripped"]
    full.quiet()
    full.agent.approve(full.status.plan_id)
    full.cycle()
    assert peers(full) == set()
    assert all(NEIGHBOUR in one for one in removals(full))


@pytest.mark.parametrize("numbers", [range(2, 52), range(2, 62)], ids=["fifty", "all"])
def test_an_interface_that_no_node_serves_moves_nobody(full: Node, numbers: range) -> None:
    """The rows are rejected, and the peers stay as they are."""
    move(full, numbers, NOBODY)
    full.cycle()
    assert peers(full) == set(range(2, 62))
    assert guard_events(full) == []
    assert len(full.status.rejections) == len(numbers)
    full.quiet()


def test_moves_go_on_beside_a_tripped_guard_and_change_no_plan_id(full: Node) -> None:
    for number in range(2, 22):
        full.change(number, status="revoked")
    full.cycle()
    asked = full.status.plan_id
    move(full, range(30, 40))
    full.cycle()
    assert peers(full) == set(range(2, 62)) - set(range(30, 40))
    assert full.status.plan_id == asked
    move(full, [40])
    full.agent.approve(asked)
    full.cycle()
    assert peers(full) == set(range(22, 30)) | set(range(41, 62))
    full.quiet()


def test_a_row_id_that_another_device_has_now_is_no_move(full: Node, mikyun_columns: None) -> None:
    """Row 5 was deleted, and its id was used again for a device of another node."""
    full.change(5, device_id="0002-DEV-001", public_key=text(105), interface=NEIGHBOUR)
    full.cycle()
    (told,) = removals(full)
    assert "row is gone" in told
    assert full.audit_texts[-1] == told


def test_unused_devices_whose_time_ends_trip_no_guard(full: Node, deadlines: None) -> None:
    end = full.now + 100
    for number in range(70, 110):
        full.issued(number, end)
    full.cycle()
    assert len(full.kernel_of("wg0")) == 100
    full.tick(200)
    full.cycle()
    assert peers(full) == set(range(2, 62))
    assert len(full.kernel_of("wg0")) == 60
    assert guard_events(full) == []
    assert [one.removed for one in full.db.removals["r640"]] == [0], "the guard does not remember them either"
    full.quiet()


def test_used_devices_that_an_update_makes_issued_again_are_guarded(full: Node, deadlines: None) -> None:
    """An UPDATE without its WHERE sets a QR end before the first handshakes."""
    for number in range(2, 52):
        full.change(number, status="issued", qr_expires_at="2026-01-01 00:00:00")
    full.cycle()
    assert peers(full) == set(range(2, 62))
    assert guard_events(full) == ["guard_tripped"]
