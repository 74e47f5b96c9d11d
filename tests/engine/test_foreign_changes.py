"""A cycle repairs what somebody else did to the kernel, and counts on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.node import Node
from tests.samples import address, key, peer, text


def test_a_foreign_peer_is_removed_and_audited_without_its_key(node: Node) -> None:
    node.wg.add_behind("wg0", peer(99))
    node.cycle()
    node.right()
    assert node.actions[-1] == ("foreign_peer_removed", "wg0")
    assert text(99) not in node.audit_texts[-1]


def test_a_foreign_peer_that_took_an_address_gives_it_back(node: Node) -> None:
    node.wg.add_behind("wg0", peer(99, address(5)))
    node.cycle()
    node.right()


@pytest.mark.parametrize("policy", ["keep", "report"])
def test_a_foreign_peer_that_may_stay(policy: str) -> None:
    node = Node(f'[peers]\nforeign = "{policy}"\n')
    node.device(5)
    node.wg.add_behind("wg0", peer(99))
    node.cycle()
    assert node.wg.touched[key(99)] == 0
    assert node.status.interfaces["wg0"].foreign == 1
    node.quiet()


def test_a_peer_that_a_foreign_hand_removed_is_back_and_counts_on(node: Node) -> None:
    node.traffic(5, 10)
    node.cycle()
    node.wg.remove_behind("wg0", key(5))
    node.cycle()
    node.traffic(5, 5)
    node.cycle()
    node.right()


def test_a_peer_that_a_foreign_hand_made_anew_counts_from_zero_and_is_told(node: Node) -> None:
    node.traffic(5, 1000)
    node.cycle()
    node.wg.recreate_behind("wg0", key(5))
    node.traffic(5, 30)
    node.cycle()
    node.right()
    assert node.actions[-1] == ("usage_anomaly", "0001-DEV-005")
    assert node.status.anomalies == {"reset": 1}


@pytest.mark.parametrize("how", ["reboot", "link"])
def test_interfaces_that_come_back_empty_are_filled_in_one_cycle_and_one_audit_row_each(node: Node, how: str) -> None:
    node.traffic(5, 100)
    node.cycle()
    node.admin.forget_audit()
    if how == "reboot":
        node.wg.reboot()
    else:
        node.wg.delete("wg0")
        node.wg.add_interface("wg0")
    node.cycle()
    node.traffic(5, 7)
    node.cycle()
    node.right()
    assert sorted(set(node.actions)) == [("interface_restored", "wg0")] + [("interface_restored", "wg1")] * (
        how == "reboot"
    )
    node.quiet()


def test_a_missing_interface_does_not_stop_the_other(node: Node) -> None:
    node.wg.delete("wg0")
    node.device(8, interface="wg1")
    node.cycle()
    assert node.kernel_of("wg1") == node.wanted()["wg1"]
    assert ("interface_missing", "wg0") in node.actions
    node.quiet()
    node.wg.add_interface("wg0")
    node.cycle()
    node.right()
    assert node.actions[-1] == ("interface_restored", "wg0")
    node.quiet()


def test_a_peer_made_anew_is_noticed_while_it_is_idle(node: Node) -> None:
    """A poll sees the counter at zero. So its new bytes count, although they only reach the old value."""
    node.traffic(5, 1000)
    node.cycle()
    node.wg.recreate_behind("wg0", key(5))
    node.cycle()
    assert node.status.anomalies == {"reset": 1}
    node.quiet()
    node.traffic(5, 1000)
    node.cycle()
    node.right()


def test_peers_that_somebody_removes_again_and_again_are_told_and_do_not_fill_the_audit_trail(
    node: Node, said: Callable[[], list[str]]
) -> None:
    node.cycle()
    node.admin.forget_audit()
    for _ in range(20):
        for number in (5, 6):
            node.wg.remove_behind("wg0", key(number))
        node.cycle()
        node.right()
    assert node.actions == [("peer_added", "0001-DEV-005"), ("peer_added", "0001-DEV-006")]
    assert node.status.peers_taken_out == {("wg0",): 40}
    assert sum("another program removed peers" in line for line in said()) == 1
    node.tick(3600)
    node.wg.remove_behind("wg0", key(5))
    node.cycle()
    assert node.actions[2:] == [("peer_added", "0001-DEV-005")]
    assert node.db.removals == {}, "nobody's removal of ours"
