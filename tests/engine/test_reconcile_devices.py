"""A cycle for a few devices does what a full cycle would do for them, or it does nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.node import Node
from tests.samples import address, key, peer, psk, text
from wgsyncd.core.model import encode_key


@pytest.fixture
def node(no_other_plane: None) -> Node:
    return prepared()


def prepared() -> Node:
    """Returns a node with four devices in service, and with a device that never had a handshake."""
    node = Node()
    for number in (5, 6, 7, 8):
        node.device(number)
    if node.admin.has_deadlines:
        node.issued(9, node.now + 3600)
    else:
        node.device(9, seen=False)
    node.cycle()
    return node


def some(node: Node, *numbers: int) -> bool:
    return node.agent.reconcile_devices(frozenset(f"0001-DEV-{number:03}" for number in numbers))


def pause(node: Node) -> None:
    node.traffic(5, 100, 10)
    node.change(5, status="paused")


def resume(node: Node) -> None:
    pause(node)
    node.cycle()
    node.change(5, status="active")


def come(node: Node) -> None:
    node.device(5)


def rekey(node: Node) -> None:
    node.traffic(5, 100, 10)
    node.change(5, public_key=text(50), preshared_key=encode_key(psk(5)))


def move(node: Node) -> None:
    node.traffic(5, 100, 10)
    node.change(5, interface="wg1", address=address(5, "wg1"))


def shake(node: Node) -> None:
    node.shake(9)


def scan(node: Node) -> None:
    node.change(5, status="issued", public_key=text(50), qr_expires_at="2099-01-01 00:00:00")
    node.cycle()
    node.shake(50)


@pytest.mark.parametrize("change", [pause, resume, rekey, move, shake])
def test_the_plain_cases_are_done_as_a_full_cycle_does_them(node: Node, change: Callable[[Node], None]) -> None:
    is_done_as_in_a_full_cycle(node, change)


def test_a_scanned_qr_code_is_done_as_a_full_cycle_does_it(deadlines: None) -> None:
    is_done_as_in_a_full_cycle(prepared(), scan)


def is_done_as_in_a_full_cycle(node: Node, change: Callable[[Node], None]) -> None:
    other = prepared()
    change(node)
    change(other)
    assert some(node, 9 if change is shake else 5)
    other.agent.reconcile()
    assert node.kernel() == other.kernel()
    assert node.actions == other.actions
    assert [one.admin.field(5, "status") for one in (node, other)] == [node.admin.field(5, "status")] * 2
    assert node.admin.first_handshake(9) == other.admin.first_handshake(9)
    node.cycle()
    node.right()
    assert node.posted == other.posted
    assert node.actions == other.actions
    node.quiet()


def test_a_new_device_is_added_and_nothing_else_is_done(node: Node) -> None:
    node.device(11)
    node.change(6, status="paused")
    node.traffic(7, 5)
    node.wg.add_behind("wg0", peer(99))
    before = node.wg.touched.copy()
    assert some(node, 11)
    assert {k for k in node.wg.touched if node.wg.touched[k] != before[k]} == {key(11)}
    assert node.posted[7] == (0, 0)
    assert node.actions[-1] == ("peer_added", "0001-DEV-011")
    node.cycle()
    node.right()


def test_two_that_swap_their_addresses_are_done_together(node: Node) -> None:
    node.change(5, address=address(6))
    node.change(6, address=address(5))
    assert not some(node, 5), "6 has its address"
    assert some(node, 5, 6)
    assert node.kernel() == node.wanted()


def deleted(node: Node) -> None:
    node.delete(5)


def taken(node: Node) -> None:
    node.change(5, address=address(6))


def left_behind(node: Node) -> None:
    """Moves 5 to the address of a row that is gone. The peer of that row is still there."""
    node.delete(6)
    node.change(5, address=address(6))


def same_key(node: Node) -> None:
    node.change(5, public_key=text(6))


def junk_key(node: Node) -> None:
    node.change(5, public_key="junk")


def junk_address(node: Node) -> None:
    node.change(5, address="junk")


def mended(node: Node) -> None:
    junk_address(node)
    node.cycle()
    node.change(5, address=address(5))


def new_interface(node: Node) -> None:
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")


def waiting_samples(node: Node) -> None:
    node.traffic(5, 5)
    node.store.down = True
    node.account(fails=True)
    node.store.down = False


HARD = [deleted, taken, left_behind, same_key, junk_key, junk_address, mended, new_interface, waiting_samples]


@pytest.mark.parametrize("change", HARD)
def test_what_concerns_others_is_left_to_a_full_cycle(node: Node, change: Callable[[Node], None]) -> None:
    change(node)
    before = node.kernel(), sum(node.wg.writes.values()), list(node.actions)
    assert not some(node, 5)
    assert (node.kernel(), sum(node.wg.writes.values()), list(node.actions)) == before


def test_the_guard_decides_on_the_whole(node: Node) -> None:
    for number in range(20, 40):
        node.device(number)
    node.cycle()
    for number in range(20, 40):
        node.change(number, status="paused")
    before = node.kernel()
    assert not some(node, *range(20, 40))
    assert node.kernel() == before


def test_the_first_handshakes_of_others_are_kept_in_mind(deadlines: None) -> None:
    """A dump has only the latest handshake. 9 had one before its QR deadline, and its next one after the deadline."""
    node = prepared()
    node.shake(9)
    node.lock(9)
    node.account()
    assert some(node, 5)
    node.unlock()
    node.tick(7200)
    node.shake(9)
    node.cycle()
    assert node.admin.field(9, "status") == "active"


def test_the_status_has_the_numbers_at_once(node: Node) -> None:
    """The database may go away before the next complete reconcile. The peers are right all the same."""

    def shown() -> tuple[int | None, int]:
        one = node.status.interfaces["wg0"]
        return one.desired, one.actual

    assert shown() == (5, 5)
    pause(node)
    assert some(node, 5)
    assert shown() == (4, 4)
    node.change(5, status="active")
    assert some(node, 5)
    assert shown() == (5, 5)
