"""A cycle that is interrupted at any call reaches the same result as one without interruptions.

The cycle has everything to do. Each commit and each change to the kernel is interrupted in every way. The next cycles
must leave what an uninterrupted cycle leaves, in the audit trail too.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.node import Node
from tests.samples import address, key, psk, text
from tests.simulated_node import STARTS, SimulatedNode
from wgsyncd.core.model import encode_key


def story(node: Node) -> None:
    """Makes the changes since the last cycle: one of everything that a cycle has to do."""
    node.traffic(5, 100, 10)
    node.traffic(6, 20, 2)
    node.change(5, status="paused")
    node.change(6, public_key=text(60), preshared_key=encode_key(psk(6)))
    node.change(7, interface="wg1", address="10.251.0.7")
    node.change(10, address=address(100))
    node.shake(8)
    node.device(11)
    node.wg.add_behind("wg0", node.wg.peers("wg0")[key(10)]._replace(public_key=key(99), allowed_ips=()))
    node.admin.begin_condition(12, 13)
    node.change(13, preshared_key="junk")


def prepared(node: Node | None = None) -> Node:
    node = node or Node()
    for number in (5, 6, 7, 10, 12, 13):
        node.device(number)
    if node.admin.has_deadlines:
        node.issued(8, node.now + 900)
        node.issued(9, node.now + 20)
    else:
        node.device(8, seen=False)
    node.cycle()
    node.admin.forget_audit()
    story(node)
    return node


def outcome(node: Node) -> dict[str, Any]:
    """Returns the final state of kernel and database, without the way that led to it."""
    devices = {number: node.admin.lasting(number) for number in node.numbers}
    records = {slot: (r.row_id, r.config_digest, r.state, r.counters) for slot, r in node.db.records.items()}
    return {"kernel": node.kernel(), "devices": devices, "records": records, "audit": sorted(node.actions),
            "conditions": sorted(node.db.conditions)}  # fmt: skip


@pytest.fixture(scope="module")
def reference(variant: None) -> dict[str, Any]:
    node = prepared()
    node.cycle()
    node.cycle()
    assert node.posted == node.true
    assert len(node.actions) >= (9 if node.admin.has_deadlines else 8)
    return outcome(node)


FATES = ["before", "during", "after", "deadlock", "crash before", "crash after"]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("commit", range(6))
def test_each_commit_may_fail_in_every_way(reference: dict[str, Any], commit: int, fate: str) -> None:
    node = prepared()
    node.store.next_writes = ["ok"] * commit + [fate]
    went_through = [node.survive() for _ in range(2)]
    assert all(went_through) is bool(node.store.next_writes), "the fault came, or there was no such commit"
    assert went_through[1], "one failure costs one cycle"
    node.store.next_writes = []
    node.cycle()
    assert outcome(node) == reference
    node.quiet()


@pytest.mark.parametrize("apply", range(1, 12))
def test_the_process_may_die_after_each_change_of_the_kernel(reference: dict[str, Any], apply: int) -> None:
    node = prepared()
    node.wg.crash_after = apply
    node.survive()
    node.start()
    node.cycle()
    node.cycle()
    assert outcome(node) == reference
    node.quiet()


@pytest.mark.parametrize("first", FATES)
@pytest.mark.parametrize("second", FATES)
def test_two_failures_in_a_row(reference: dict[str, Any], first: str, second: str) -> None:
    node = prepared()
    node.store.next_writes = [first, "ok", second]
    for _ in range(4):
        node.survive()
    assert not node.store.next_writes
    node.cycle()
    assert outcome(node) == reference


@pytest.mark.parametrize("fate", FATES)
def test_the_first_commit_of_all_may_fail_in_every_way(fate: str) -> None:
    node = Node()
    node.device(5)
    node.store.next_writes = [fate]
    assert not node.survive()
    assert node.wg.peers("wg0") == {}
    node.cycle()
    node.right()
    assert node.actions == [("peer_added", "0001-DEV-005")]


def interrupted(calls: int, kind: str) -> SimulatedNode:
    node = SimulatedNode("", *STARTS[0])
    for number in (5, 6, 7, 8, 9, 10, 11, 12, 13):
        node.owner[key(number)] = number
    prepared(node)
    node.trap = (calls, kind)
    return node


def same(node: Node, reference: dict[str, Any], kind: str) -> bool:
    """Returns whether the node's result equals the reference.

    After an error the audit trail is not compared. While an interface is away, a peer that changes the interface is not
    recorded as moved.
    """
    leave_out = {"audit"} if kind == "error" else set()
    found = outcome(node)
    return all(found[what] == reference[what] for what in reference.keys() - leave_out)


@pytest.mark.parametrize("kind", ["crash", "error"])
def test_each_call_of_each_port_may_be_the_last_or_fail(reference: dict[str, Any], kind: str) -> None:
    """Each call of the kernel, the database and the spool fails, or is the last, before or after its effect."""
    for calls in range(1, 200):
        node = interrupted(calls, kind)
        node.work("reconcile")
        if node.trap is not None:
            break
        node.cycle()
        node.cycle()
        assert same(node, reference, kind), calls
        node.quiet()
    assert calls > 40


@pytest.mark.parametrize("kind", ["crash", "error"])
@pytest.mark.parametrize("fault", ["down", "read_only"])
def test_also_while_the_database_takes_nothing_in(reference: dict[str, Any], fault: str, kind: str) -> None:
    """A revoked peer is removed meanwhile. Every sampled byte is posted, even if the machine reboots afterwards."""
    for calls in range(1, 200):
        node = interrupted(calls, kind)
        setattr(node.store, fault, True)
        for task in ("account", "reconcile", "reconcile"):
            node.work(task)
        if node.trap is not None:
            break
        setattr(node.store, fault, False)
        if calls % 2:
            node.wg.reboot()
            node.follow()
            node.start()
        node.cycle()
        node.cycle()
        for row in node.numbers:
            assert node.posted[row] == node.at_last(row)
        if calls % 2 == 0:
            assert same(node, reference, kind), calls
        node.quiet()
    assert calls > 10
