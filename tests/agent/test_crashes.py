"""One cycle that has everything to do, disturbed at each of its commits and each of its changes to the kernel, in every
way; whatever became of it, the next cycles lead to what an undisturbed one leaves: also in the audit trail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node import Node
from tests.samples import address, key, psk, text
from wgsyncd.core.model import encode_key


def story(node: Node) -> None:
    """What happened since the last cycle: one of everything that a cycle has to do."""
    node.traffic(5, 100, 10)
    node.traffic(6, 20, 2)
    node.db.update(5, status="paused")
    node.db.update(6, public_key=text(60), preshared_key=encode_key(psk(6)))
    node.db.update(7, wg_iface="wg1", wg_ip="10.251.0.7")
    node.db.update(10, wg_ip=address(100))
    node.shake(8)
    node.device(11)
    node.wg.add_behind("wg0", node.wg.peers("wg0")[key(10)]._replace(public_key=key(99), allowed_ips=frozenset()))
    node.db.update(12, is_parent=1)
    node.db.update(13, is_parent=1, preshared_key="junk")


def prepared() -> Node:
    node = Node()
    for number in (5, 6, 7, 10, 12, 13):
        node.device(number)
    node.issued(8, node.now + 900)
    node.issued(9, node.now + 20)
    node.cycle()
    del node.db.logs[:]
    story(node)
    return node


def outcome(node: Node) -> dict[str, Any]:
    """All that stands at the end, but not how it came to stand."""
    devices = {n: {**d, "last_handshake_at": None, "first_handshake_at": bool(d["first_handshake_at"])}
               for n, d in node.db.devices.items()}  # fmt: skip
    records = {slot: (r.row_id, r.config, r.state, r.counters) for slot, r in node.db.records.items()}
    return {"kernel": node.kernel(), "devices": devices, "records": records, "audit": sorted(node.actions),
            "conditions": sorted(node.db.conditions)}  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    node = prepared()
    node.cycle()
    node.cycle()
    assert node.booked == node.true
    assert len(node.actions) >= 9
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
