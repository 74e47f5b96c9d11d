"""Samples that are posted late count each byte once and on its day, even after a crash."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.fakes import Crash
from tests.node import Node
from tests.samples import key
from wgsyncd.core.model import Change
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.engine import state_cache


def days(node: Node, number: int) -> dict[str, int]:
    return {day: sums.rx for (row, day), sums in node.days.items() if row == number}


def test_what_was_sampled_in_an_outage_survives_a_reboot(node: Node) -> None:
    node.away((5, 100), (6, 7), (5, 20))
    node.reboot()
    node.back()
    node.right()
    assert node.posted[5] == (120, 0)


def test_several_lives_of_a_counter_in_one_outage(node: Node) -> None:
    node.traffic(5, 1000)
    node.cycle()
    node.away((5, 100))
    for _ in range(3):
        peers = node.kernel_of("wg0")
        node.reboot()
        for peer in peers.values():  # for example by `wg setconf`
            node.wg.add_behind("wg0", peer)
        node.away((5, 30), (5, 4))
    node.back()
    node.right()
    assert node.posted[5] == (1202, 0)


@pytest.mark.parametrize("fate", ["before", "after", "crash before", "crash after"])
@pytest.mark.parametrize("commit", range(4))
def test_no_sample_is_booked_twice_whatever_becomes_of_its_commit(node: Node, commit: int, fate: str) -> None:
    """The commit is in doubt. New samples follow, then another process starts while the database is away again."""
    node.away((5, 100), (6, 7))
    peers = node.kernel_of("wg0")
    node.reboot()
    for peer in peers.values():
        node.wg.add_behind("wg0", peer)
    node.away((5, 30), (6, 8))
    node.store.down = False
    node.store.next_writes = ["ok"] * commit + [fate]
    node.survive()
    node.store.next_writes = []
    node.away((5, 1), (6, 1))
    node.start()
    node.away((5, 1), (7, 1))
    node.back()
    node.right()


def test_what_is_booked_waits_no_longer(node: Node) -> None:
    node.away((5, 100))
    assert node.status.spool_pending_counters == 1
    node.back()
    assert node.spool.kept is not None
    assert not node.spool.kept.samples
    assert (node.status.spool_pending_counters, node.status.spooled_since) == (0, 0.0)


@pytest.mark.parametrize("locked", [5, 6, 7])
@pytest.mark.parametrize("batch", [1, 2, 500])
def test_samples_of_a_locked_row_are_set_aside_before_they_leave_the_spool(
    node: Node, monkeypatch: pytest.MonkeyPatch, batch: int, locked: int
) -> None:
    """The locked row may be in any transaction. After a reboot no other sample has its bytes."""
    monkeypatch.setattr(state_cache, "BATCH", batch)
    for number in (6, 7):
        node.traffic(number, 100)
    node.away((5, 100))
    node.reboot()
    node.store.down = False
    node.lock(locked)
    node.cycle()
    assert node.spool.kept is None or not node.spool.kept.samples
    node.start()
    node.unlock()
    node.cycle()
    node.right()
    assert node.posted[locked] == (100, 0)


def test_samples_of_others_are_booked_while_a_row_is_locked(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_cache, "BATCH", 1)
    for number in (6, 7):
        node.traffic(number, 100)
    node.away((5, 100))
    node.store.down = False
    node.lock(5)
    for _ in range(3):
        node.cycle()
    assert [node.posted[number][0] for number in (5, 6, 7)] == [0, 100, 100]
    node.unlock()
    node.cycle()
    node.right()


# -- removals


def late_traffic(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets 5 move bytes after the dump that the plan is made from. 5 cannot move bytes without allowed IPs."""
    apply = node.wg.apply

    def applied(interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        if interface == "wg0" and key(5) in node.wg.peers("wg0") and node.wg.peers("wg0")[key(5)].allowed_ips:
            node.traffic(5, 7, 7)
        return apply(interface, changes)

    monkeypatch.setattr(node.wg, "apply", applied)


def test_what_moves_between_the_plan_and_the_removal_is_booked(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    late_traffic(node, monkeypatch)
    node.traffic(5, 100)
    node.change(5, status="paused")
    node.cycle()
    node.right()
    assert node.posted[5] == (107, 7)


@pytest.mark.parametrize("changes", [1, 2])
def test_also_where_the_process_dies_at_the_removal(node: Node, monkeypatch: pytest.MonkeyPatch, changes: int) -> None:
    late_traffic(node, monkeypatch)
    node.change(5, status="paused")
    node.wg.crash_after = changes
    with pytest.raises(Crash):
        node.cycle()
    node.start()
    node.cycle()
    node.right()
    assert node.posted[5] == (7, 7)


@pytest.mark.parametrize("fate", ["crash before", "crash after"])
def test_a_peer_does_not_go_before_its_last_sample_is_safe(
    node: Node, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    late_traffic(node, monkeypatch)
    node.change(5, status="paused")
    node.spool.next_saves = [fate]
    with pytest.raises(Crash):
        node.cycle()
    assert key(5) in node.wg.peers("wg0")
    node.start()
    node.cycle()
    node.right()


# -- a sample that replaces another one


def test_a_reset_that_was_seen_in_an_outage_only_is_not_forgotten(node: Node) -> None:
    """The counters passed the old baseline before the database was back. Only the sample in between shows the reset."""
    node.traffic(5, 100)
    node.shake(5)
    node.cycle()
    node.away((6, 1))
    node.wg.recreate_behind("wg0", key(5))
    node.account(fails=True)
    node.shake(5)
    node.away((5, 150), (5, 1))
    node.back()
    node.right()
    assert node.posted[5] == (251, 0)
    assert [action for action, _ in node.actions].count("usage_anomaly") == 1


def test_a_reset_that_the_next_process_sees_is_not_forgotten_either(node: Node) -> None:
    """Without a database the process has no node state. It cannot tell whether its first sample begins an epoch."""
    node.traffic(5, 100)
    node.shake(5)
    node.cycle()
    node.store.down = True
    node.start()
    node.wg.recreate_behind("wg0", key(5))
    node.account(fails=True)
    node.shake(5)
    node.away((5, 150))
    node.back()
    node.right()
    assert node.posted[5] == (250, 0)


def test_a_last_sample_of_one_says_nothing_of_when_another_was_sampled(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.lock(6)
    for _ in range(8):
        node.tick(885)
        node.traffic(6, 10**12)
        node.account()
    late_traffic(node, monkeypatch)
    node.change(5, status="paused")
    node.cycle()
    assert node.posted[5] == (7, 7)
    node.unlock()
    node.start()
    node.cycle()
    assert not node.db.quarantine
    node.right()


# -- days


def test_a_device_that_was_idle_over_midnight_has_nothing_on_the_old_day(node: Node) -> None:
    node.away((5, 100))
    for _ in range(3):
        node.tick(3585)
        node.account(fails=True)
    node.away((5, 50))
    node.back()
    assert days(node, 5) == {"2026-09-21": 100, "2026-09-22": 50}
    node.right()


def test_what_moved_over_midnight_is_shared_and_what_came_after_is_not(node: Node) -> None:
    """The poll on a day's first second is the last one of the day before."""
    node.away((5, 100))
    midnight = node.calendar.next_midnight(node.now)
    node.tick(midnight - node.now - 30)
    node.account(fails=True)
    node.away((5, 10))
    assert node.now == midnight
    for _ in range(3):
        node.tick(3600)
        node.away((5, 1000))
    node.back()
    assert days(node, 5) == {"2026-09-21": 110, "2026-09-22": 3000}
    node.right()


def test_a_locked_row_does_not_bring_the_others_bytes_to_another_day(node: Node) -> None:
    """6 is sampled all the time. Only for 5 nobody knows when its bytes came."""
    midnight = node.calendar.next_midnight(node.now)
    node.tick(midnight - node.now - 30)
    node.lock(5)
    for _ in range(4):
        node.traffic(5, 1000)
        node.traffic(6, 1000)
        node.account()
    node.unlock()
    node.cycle()
    node.right()
    assert days(node, 6) == {"2026-09-21": 2000, "2026-09-22": 2000}


@pytest.mark.parametrize("preemptible", [False, True])
def test_a_backlog_whose_posting_was_interrupted_leaves_the_file(node: Node, preemptible: bool) -> None:
    node.away((5, 100))
    node.store.down = False
    node.traffic(6, 10)
    node.tick()
    node.agent.account(lambda: True, preemptible=preemptible)
    assert node.spool.kept is not None and not node.spool.kept.samples
    node.cycle()
    node.right()


def test_a_backlog_that_was_posted_before_a_crash_leaves_the_file(node: Node) -> None:
    node.away((5, 100))
    node.store.down = False
    node.spool.next_saves = ["crash before"]
    assert not node.survive()
    node.cycle()
    assert node.spool.kept is not None and not node.spool.kept.samples
    node.right()
