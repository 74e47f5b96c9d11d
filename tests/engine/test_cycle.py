"""A cycle of the agent on a kernel and a database in memory changes what it should and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node import Node
from tests.samples import address, key, psk, text
from wgsyncd.core.audit import AuditAction, AuditFacts
from wgsyncd.core.model import ChangeKind, Counters, encode_key


def test_without_a_change_ten_cycles_write_nothing_to_either_side(node: Node) -> None:
    node.right()
    node.quiet(10)
    assert node.wg.touched == {key(n): 1 for n in (5, 6, 7)}, "an unchanged peer is never touched again"


def test_a_restart_writes_nothing(node: Node) -> None:
    node.start()
    node.quiet()


def test_a_restart_with_another_version_of_the_table_in_between(node: Node) -> None:
    node.traffic(5, 10)
    node.change(5, status="paused")
    node.start()
    node.cycle()
    node.right()
    assert node.actions[-1] == ("peer_removed", "0001-DEV-005")


CHANGES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "paused": ({"status": "paused"}, [("peer_removed", "0001-DEV-005")]),
    "address": ({"address": address(50)}, [("peer_updated", "0001-DEV-005")]),
    "PSK": ({"preshared_key": encode_key(psk(5))}, [("peer_updated", "0001-DEV-005")]),
    "key": ({"public_key": text(50)}, [("peer_updated", "0001-DEV-005")]),
    "interface": ({"interface": "wg1", "address": "10.251.0.5"}, [("peer_moved", "0001-DEV-005")]),
    "all of them": (
        {"interface": "wg1", "address": "10.251.0.50", "public_key": text(50), "preshared_key": encode_key(psk(5))},
        [("peer_moved", "0001-DEV-005")],
    ),
}


@pytest.mark.parametrize(("columns", "audit"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_in_the_kernel_after_one_cycle_with_all_bytes(
    node: Node, columns: dict[str, Any], audit: list[tuple[str, str]]
) -> None:
    node.traffic(5, 100, 10)
    node.traffic(6, 7)
    node.admin.forget_audit()
    node.change(5, **columns)
    node.cycle()
    node.right()
    assert node.actions == audit
    assert [node.wg.touched[key(n)] for n in (6, 7)] == [1, 1]
    node.quiet()


def test_a_row_with_a_deletion_date_takes_its_peer_with_it(node: Node, mikyun_columns: None) -> None:
    test_a_change_is_in_the_kernel_after_one_cycle_with_all_bytes(
        node, {"deleted_at": "2026-09-21 00:00:00"}, [("peer_removed", "0001-DEV-005")]
    )


def test_a_cleared_psk_is_cleared_in_the_kernel(node: Node) -> None:
    for written in (encode_key(psk(5)), "", encode_key(psk(6)), None):
        node.change(5, preshared_key=written)
        node.cycle()
        node.right()


def test_two_devices_swap_addresses_in_one_cycle(node: Node) -> None:
    node.change(5, address=address(6))
    node.change(6, address=address(5))
    node.cycle()
    node.right()
    assert node.wg.touched[key(7)] == 1


def test_an_address_handed_from_a_paused_device_to_another(node: Node) -> None:
    node.traffic(5, 10)
    node.change(5, status="paused", address=None)
    node.device(8, address=address(5))
    node.cycle()
    node.right()


def test_paused_and_resumed_counts_on(node: Node) -> None:
    for status in ("paused", "active", "revoked", "active"):
        if status != "active":
            node.traffic(5, 100, 3)
        node.change(5, status=status)
        node.cycle()
        node.right()
    assert node.posted[5] == (200, 6)


def test_a_row_that_is_deleted_takes_its_peer_with_it(node: Node) -> None:
    node.traffic(5, 10)
    node.delete(5)
    node.cycle()
    node.right()
    assert node.actions[-1] == ("peer_removed", "0001-DEV-005")


def test_an_admin_who_sets_a_total_to_zero_is_not_overruled(node: Node, usage_columns: None) -> None:
    node.traffic(5, 100, 10)
    node.cycle()
    node.change(5, rx_bytes_total=0)
    node.traffic(5, 7)
    node.cycle()
    assert node.posted[5] == (7, 10)


def test_more_than_the_link_carries_is_kept_aside(node: Node) -> None:
    node.wg.traffic("wg0", key(5), rx=2**50)
    node.cycle()
    assert node.posted[5] == (0, 0)
    assert [one.rx for _, one in node.db.quarantine.values()] == [2**50]
    node.traffic(5, 9)
    node.cycle()
    node.right()
    assert node.status.quarantined == 1


def test_rejected_rows_freeze_their_peers_and_are_audited_once_each_way(node: Node) -> None:
    node.change(5, preshared_key="junk")
    node.cycle()
    node.quiet()
    assert node.wg.peers("wg0")[key(5)] == node.peer(5)
    node.traffic(5, 10)
    node.cycle()
    assert node.posted == node.true, "a frozen peer's bytes are counted"
    node.change(5, preshared_key=None)
    node.cycle()
    node.right()
    said = [one for one in node.actions if one[0].startswith("row_")]
    assert said == [("row_rejected", "0001-DEV-005"), ("row_accepted", "0001-DEV-005")]


def test_a_condition_of_the_stores_own_is_audited_once_each_way(node: Node) -> None:
    node.admin.begin_condition(5, 6)
    node.cycle()
    node.quiet()
    node.admin.end_condition(6)
    node.cycle()
    admin = node.admin
    said = [one for one in node.actions if one[0] in admin.condition_audit]
    assert said == [(action, admin.condition_target) for action in admin.condition_audit]


def test_a_dry_run_shows_the_plan_and_writes_nothing(node: Node) -> None:
    node.change(5, status="paused")
    node.device(8)
    before = node.written
    decision = node.agent.inspector.preview()
    assert [c.kind for c in decision.plan.changes] == [ChangeKind.REMOVE, ChangeKind.ADD]
    assert node.written == before
    fresh = Node()
    assert fresh.agent.inspector.preview().plan.changes == ()
    assert fresh.db.seq == {}, "not even books are begun"


def test_notes_go_with_the_next_transaction_and_only_once(node: Node) -> None:
    node.agent.queue_audit(AuditAction.DAEMON_STARTED, AuditFacts(version="9"))
    node.cycle()
    node.agent.queue_audit(AuditAction.DAEMON_STOPPED)
    node.agent.flush()
    node.agent.flush()
    assert node.actions[-2:] == [("daemon_started", "r640"), ("daemon_stopped", "r640")]
    node.quiet()


def test_first_start_beside_running_peers() -> None:
    """A device that was never counted gets all bytes of its peer. The other device gets only the bytes from now on."""
    other = Node()
    other.device(5, seen=False)
    other.device(6)
    other.admin.set_posted(6, Counters(1000, 0))
    other.true[6] = Counters(1000, 0)
    for number in (5, 6):
        other.wg.add_behind("wg0", other.peer(number))
    other.traffic(5, 70, 7)
    other.wg.traffic("wg0", key(6), 9999)
    other.cycle()
    other.traffic(6, 1)
    other.cycle()
    other.right()
    assert not other.wg.touched, "running peers are adopted, not touched"


def test_the_first_start_takes_over_the_figures_of_the_columns(usage_columns: None) -> None:
    node = Node()
    node.device(6, rx_bytes_total=1000, rx_bytes_month=400, rx_bytes_24h=40)
    node.true[6] = Counters(1000, 0)
    node.wg.add_behind("wg0", node.peer(6))
    node.cycle()
    node.traffic(6, 1)
    node.cycle()
    node.right()
    assert node.windows(6) == ((41, 0), (401, 0))


def test_what_came_while_nothing_ran_is_booked_to_that_time(node: Node) -> None:
    """No byte is posted to the earlier days on which nothing moved."""
    node.traffic(5, 10)
    node.cycle()
    node.tick(3 * 86400)
    node.account()
    node.agent.queue_audit(AuditAction.DAEMON_STOPPED)
    node.agent.flush()
    node.traffic(5, 3000)
    node.tick(30)
    node.start()
    node.cycle()
    node.right()
    assert node.days[5, node.calendar.day(node.now)] == (3000, 0)


def test_of_two_rows_with_a_live_key_that_was_never_counted_the_one_whose_peer_it_is_pays() -> None:
    for address_of in (5, 9):
        node = Node()
        for number in (5, 9):
            node.device(number, public_key=text(5), seen=False)
        node.wg.add_behind("wg0", node.peer(5, address(address_of)))
        node.wg.traffic("wg0", key(5), 1000, 100)
        node.cycle()
        assert node.posted[address_of] == (1000, 100)
        assert node.posted[14 - address_of] == (0, 0)


def test_a_change_that_was_found_does_not_write_everybodys_counters(node: Node) -> None:
    node.device(8)
    node.cycle()
    node.account()
    node.traffic(5, 100)
    node.traffic(8, 7)
    node.change(8, status="paused")
    node.agent.reconcile(with_accounting=False)
    assert key(8) not in node.wg.peers("wg0")
    assert [node.posted[n].rx for n in (5, 8)] == [0, 7], "whoever goes is counted, the rest is left"
    node.account()
    assert node.posted[5].rx == 100
    node.quiet()


def test_on_an_interface_that_is_new_everything_is_counted_all_the_same(node: Node) -> None:
    node.account()
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")
    node.tick()
    node.agent.reconcile(with_accounting=False)
    node.traffic(5, 100)
    node.account()
    assert node.posted[5].rx == 100
    node.quiet()
