"""A reconcile where nothing has changed does not plan, and whatever changes ends that at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.node import Node, local
from tests.samples import NOW, address, key, peer, psk, text
from wgsyncd.core.audit import AuditAction
from wgsyncd.core.model import NO_PRESHARED_KEY
from wgsyncd.engine.rest import EVERY

pytestmark = pytest.mark.usefixtures("no_other_plane")  # With another data plane, every cycle plans.


@pytest.fixture
def snapshots(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the rows were read, which a cycle does only if it plans. The node is at rest."""
    times: list[float] = []
    real = node.store.snapshot

    def snapshot() -> Any:
        if times[-1:] != [node.now]:
            times.append(node.now)
        return real()

    monkeypatch.setattr(node.store, "snapshot", snapshot)
    for _ in range(2):
        node.cycle()
    times.clear()
    return times


def test_at_rest_bytes_and_handshakes_are_posted_without_a_plan(node: Node, snapshots: list[float]) -> None:
    for _ in range(3):
        node.traffic(5, 100, 10)
        node.shake(6)
        node.cycle()
        assert not snapshots
        node.right()
        snapshots.clear()  # of the comparison
    assert node.status.interfaces["wg0"].online == 1
    assert node.status.database_read_at == node.now


def test_every_tenth_reconcile_plans_all_the_same(node: Node, snapshots: list[float]) -> None:
    for _ in range(4 * EVERY):
        node.cycle()
    assert len(snapshots) == 4
    assert len({after - before for before, after in pairwise(snapshots)}) == 1


def _one_for_another(node: Node) -> None:
    node.wg.remove_behind("wg0", key(5))
    node.wg.add_behind("wg0", peer(88))


def _exchanged(node: Node) -> None:
    node.wg.add_behind("wg0", peer(5, address(6)))
    node.wg.add_behind("wg0", peer(6, address(5)))


def _new_interface(node: Node) -> None:
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")


HANDS: dict[str, Callable[[Node], object]] = {
    "preshared key": lambda node: node.wg.add_behind("wg0", peer(5)._replace(preshared_key=psk(77))),
    "no preshared key": lambda node: node.wg.add_behind("wg0", peer(5)._replace(preshared_key=NO_PRESHARED_KEY)),
    "keepalive": lambda node: node.wg.add_behind("wg0", peer(5)._replace(persistent_keepalive=25)),
    "another address": lambda node: node.wg.add_behind("wg0", peer(5, "10.200.0.99")),
    "one more address": lambda node: node.wg.add_behind("wg0", peer(5, address(5), "10.200.0.99")),
    "IPv6 as well": lambda node: node.wg.add_behind("wg0", peer(5, address(5), "fd99::5")),
    "no address": lambda node: node.wg.add_behind("wg0", peer(5)._replace(allowed_ips=())),
    "another prefix": lambda node: node.wg.add_behind("wg0", peer(5, "10.200.0.4/30")),
    "the whole internet": lambda node: node.wg.add_behind("wg0", peer(5, "0.0.0.0/0")),
    "a stranger with its address": lambda node: node.wg.add_behind("wg0", peer(88, address(5))),
    "another peer has its address": lambda node: node.wg.add_behind("wg0", peer(6, address(6), address(5))),
    "peers exchanged their addresses": _exchanged,
    "it is on another interface as well": lambda node: node.wg.add_behind("wg1", peer(5)),
    "a stranger": lambda node: node.wg.add_behind("wg0", peer(88)),
    "a peer is gone": lambda node: node.wg.remove_behind("wg0", key(5)),
    "one for another": _one_for_another,
    "the interface is new": _new_interface,
    "the machine booted": lambda node: node.wg.reboot(),
}


@pytest.mark.parametrize("hand", HANDS.values(), ids=HANDS.keys())
def test_what_a_foreign_hand_changes_is_put_right_in_the_next_cycle(
    node: Node, snapshots: list[float], hand: Callable[[Node], object]
) -> None:
    node.cycle()
    assert not snapshots
    hand(node)
    node.cycle()
    assert node.kernel() == node.wanted()
    node.quiet()


def test_a_hand_between_the_plan_and_the_next_dump_is_seen(node: Node, snapshots: list[float]) -> None:
    """The peers that the plan saw are the reference, so nothing that came after it becomes the reference."""
    node.change(5, status="paused")
    node.cycle()
    node.wg.add_behind("wg0", peer(6)._replace(persistent_keepalive=25))
    node.cycle()
    assert node.kernel() == node.wanted()


def test_peers_are_put_right_with_the_rows_that_have_the_same_digest(node: Node, snapshots: list[float]) -> None:
    """Only once: the next reconcile reads the rows again, because a digest may miss a change."""
    for times in (0, 1, 2):
        node.wg.remove_behind("wg0", key(5))
        node.cycle()
        assert key(5) in node.kernel()["wg0"]
        assert len(snapshots) == times


def test_work_in_every_cycle_does_not_put_off_the_rows(node: Node, snapshots: list[float]) -> None:
    for _ in range(4):
        node.agent.queue_audit(AuditAction.CONFIG_RELOADED)
        node.cycle()
    assert len(snapshots) == 2


def test_changed_rows_end_the_rest(node: Node, snapshots: list[float]) -> None:
    node.change(5, status="paused")
    node.cycle()
    node.right()
    node.device(8)
    node.cycle()
    node.right()
    node.change(6, public_key=text(60))
    node.cycle()
    node.right()
    assert len(snapshots) == 3


def test_after_trouble_the_next_reconcile_plans(node: Node, snapshots: list[float]) -> None:
    node.traffic(5, 100)
    node.store.read_only = True
    node.cycle(fails=True)
    node.store.read_only = False
    node.cycle()
    assert len(snapshots) == 1
    node.right()
    node.traffic(5, 100)
    node.store.read_only = True
    node.account(fails=True)
    node.store.read_only = False
    node.cycle()
    assert len(snapshots) == 2
    node.right()


def test_a_reload_and_a_reconcile_without_a_digest_plan(node: Node, snapshots: list[float]) -> None:
    node.agent.reconcile()
    assert len(snapshots) == 1
    node.cycle()
    node.reload()
    node.cycle()
    assert len(snapshots) == 3


def test_a_first_handshake_that_another_program_wrote_activates_the_device(
    node: Node, snapshots: list[float], deadlines: None
) -> None:
    node.issued(8, NOW + 86400)
    for _ in range(3):
        node.cycle()
    node.change(8, first_handshake_at=local(node.now - 5))
    node.cycle()
    assert node.db.devices[8]["status"] == "active"


def test_a_first_handshake_that_another_program_emptied_is_written_again(
    node: Node, snapshots: list[float], mikyun_columns: None
) -> None:
    node.shake(5)
    for _ in range(3):
        node.cycle()
    node.change(5, first_handshake_at=None, last_handshake_at=None)
    node.cycle()
    assert node.db.devices[5]["first_handshake_at"] is not None


def test_an_issued_device_is_activated_at_rest(node: Node, snapshots: list[float], deadlines: None) -> None:
    node.issued(8, NOW + 86400)
    node.cycle()
    node.cycle()
    snapshots.clear()
    node.shake(8)
    node.cycle()
    assert node.db.devices[8]["status"] == "active"


def test_an_issued_device_ends_at_rest(node: Node, snapshots: list[float], deadlines: None) -> None:
    node.issued(8, node.now + 40)
    node.cycle()
    node.cycle()
    node.tick(60)
    node.cycle()
    assert node.db.devices[8]["status"] == "expired"
    node.right()


def test_audit_rows_and_samples_that_wait_are_written(node: Node, snapshots: list[float]) -> None:
    node.agent.queue_audit(AuditAction.CONFIG_RELOADED)
    node.cycle()
    assert node.actions[-1][0] == "config_reloaded"
    node.traffic(5, 50)
    node.store.read_only = True
    node.account(fails=True)
    node.store.read_only = False
    assert node.state.backlog is not None and node.state.backlog.samples
    node.cycle()
    node.right()


@pytest.mark.parametrize(("seen", "after"), [("active", "paused"), ("paused", "active")])
def test_rows_that_change_and_change_back_while_they_are_read_end_the_rest(
    node: Node, snapshots: list[float], monkeypatch: pytest.MonkeyPatch, seen: str, after: str
) -> None:
    """The digest is read before the rows, so it may be of other rows than the plan."""
    real = node.store.snapshot

    def snapshot() -> Any:
        node.change(5, status=seen)
        found = real()
        node.change(5, status=after)
        return found

    node.change(5, status=after)
    with monkeypatch.context() as patch:
        patch.setattr(node.store, "snapshot", snapshot)
        node.cycle()
    node.cycle()
    assert node.kernel() == node.wanted()


def test_a_node_state_that_is_read_again_ends_the_rest(node: Node, snapshots: list[float]) -> None:
    node.agent._cache._node_state = None
    node.agent._cache.current(node.calendar)
    node.cycle()
    assert snapshots == [node.now]
