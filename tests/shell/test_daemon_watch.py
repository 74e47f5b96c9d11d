"""The daemon notices changes of rows, even rows that are again as they were."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.node import Node, local
from tests.samples import key
from wgsyncd.core.state import CommitResult, NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.daemon import change_watch, metrics
from wgsyncd.daemon.daemon import Daemon
from wgsyncd.daemon.events import Event
from wgsyncd.daemon.pacing import MAX_DELAY, PollInterval, TokenBucket


def has(node: Node, number: int) -> bool:
    return key(number) in node.wg.peers("wg0")


def test_each_type_of_condition_is_counted_before_the_first_one(node: Node, daemon: Daemon) -> None:
    daemon._begin_with(node.settings)
    daemon._schedule.disarm()
    assert node.status.store_conditions == {"parent_conflict": 0, "devices_over_limit": 0}
    shown = generate_latest(metrics.registry(lambda: node.status)).decode()
    assert 'wgsyncd_conditions{type="parent_conflict"} 0.0' in shown


def test_a_change_is_found(node: Node, daemon: Daemon) -> None:
    node.db.update(5, status="paused")
    daemon.watcher.check_digest()
    assert not has(node, 5)
    node.db.update(5, status="active")
    daemon.watcher.check_digest()
    assert has(node, 5)


@pytest.mark.parametrize("task", [Event.ACCOUNT, Event.RECONCILE])
def test_who_was_shut_out_during_a_booking_and_may_come_back_at_once_does(
    node: Node, daemon: Daemon, small: None, monkeypatch: pytest.MonkeyPatch, task: Event
) -> None:
    commit = node.store.commit
    shut: list[bool] = []

    def committed(*values: object) -> object:
        done = commit(*values)  # type: ignore[arg-type]
        if not shut:
            node.db.update(7, status="paused")
        shut.append(has(node, 7))
        return done

    monkeypatch.setattr(node.store, "commit", committed)
    for number in (5, 6, 7):
        node.traffic(number, 100)
    node.tick()
    daemon._handle(task)
    assert len(shut) >= 3 and shut[0] and not shut[-1], "it went between the transactions"
    node.db.update(7, status="active")
    daemon.watcher.check_digest()
    assert has(node, 7)


def test_who_was_shut_out_by_a_hint_and_comes_back_without_one(node: Node, daemon: Daemon) -> None:
    node.db.update(5, status="paused")
    assert daemon.reconcile_now(frozenset(("0001-DEV-005",)))
    assert not has(node, 5)
    node.db.update(5, status="active")
    daemon.watcher.check_digest()
    assert has(node, 5)


def test_a_hint_of_nothing_new_costs_no_reconcile(node: Node, daemon: Daemon) -> None:
    runs = node.status.runs["reconcile"]
    assert daemon.reconcile_now(frozenset(("0001-DEV-005",)))
    assert daemon.reconcile_now(frozenset(("no-such-device",)))
    daemon.watcher.check_digest()
    assert node.status.runs["reconcile"] == runs


class Passing:
    """Makes events between the transactions of postings.

    It records after each transaction whether the peer of device ``number`` is in the kernel.
    """

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.node, self.number = node, number
        # each pair holds the number of posted devices and whether ``number`` is in
        self.after: list[tuple[int, bool]] = []
        self.happen: dict[int, Callable[[], object]] = {}  # the key is the number of transactions that posted something
        self._commit = node.store.commit
        monkeypatch.setattr(node.store, "commit", self.commit)

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        done = self._commit(node_state, writes, calendar)
        if writes.postings:
            self.after.append((len(writes.postings), has(self.node, self.number)))
            self.happen.get(len(self.after), lambda: None)()
        return done


@pytest.fixture
def passing(node: Node, small: None, monkeypatch: pytest.MonkeyPatch) -> Passing:
    return Passing(node, monkeypatch, 8)


@pytest.mark.parametrize("task", [Event.ACCOUNT, Event.RECONCILE])
def test_who_may_come_in_does_not_wait_for_the_end_of_a_booking(
    node: Node, daemon: Daemon, passing: Passing, task: Event
) -> None:
    for number in (5, 6, 7):
        node.traffic(number, 100)
    passing.happen[1] = lambda: node.device(8)
    node.tick()
    daemon._handle(task)
    assert passing.after == [(1, False), (1, True), (1, True)], "each is posted once, and in between somebody came in"
    node.right()


def test_a_booking_is_left_off_a_few_times_and_then_who_is_shut_out_still_goes(
    node: Node, daemon: Daemon, passing: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "MAX_PREEMPTIONS", 1)
    monkeypatch.setattr(PollInterval, "due", lambda *_: True)
    for number in (5, 6, 7):
        node.traffic(number, 100)

    def one_comes_one_goes() -> None:
        node.device(9)
        node.db.update(8, status="paused")

    passing.happen[1] = lambda: node.device(8)
    passing.happen[2] = one_comes_one_goes
    node.tick()
    daemon._handle(Event.ACCOUNT)
    assert passing.after == [(1, False), (1, True), (1, False)]
    assert not has(node, 9), "he waits for the next look, else the last ones would never be posted"
    daemon.watcher.check_digest()
    assert has(node, 9)
    node.right()


def test_changes_all_the_time_do_not_keep_a_booking_from_its_end(
    node: Node, daemon: Daemon, passing: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PollInterval, "due", lambda *_: True)
    for number in range(20, 20 + 2 * change_watch.MAX_PREEMPTIONS):
        node.device(number)
    daemon.watcher.check_digest()
    for number in range(20, 20 + 2 * change_watch.MAX_PREEMPTIONS):
        node.traffic(number, 100)
    changes = iter(range(100, 200))
    passing.happen = {count: lambda: node.device(next(changes)) for count in range(1, 100)}
    passing.number = 100 + change_watch.MAX_PREEMPTIONS - 1
    node.tick()
    daemon._handle(Event.ACCOUNT)
    assert [is_in for _, is_in in passing.after] == [False] * change_watch.MAX_PREEMPTIONS + [
        True
    ] * change_watch.MAX_PREEMPTIONS
    assert not has(node, 100 + change_watch.MAX_PREEMPTIONS)
    daemon.watcher.check_digest()
    node.right()


def test_a_hint_does_not_wait_for_the_end_of_a_booking(
    node: Node, daemon: Daemon, passing: Passing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(PollInterval, "due", lambda *_: False)
    daemon.watcher.listen(tmp_path / "notify.sock", lambda: daemon.events.put(Event.NOTIFY))
    for number in (5, 6, 7):
        node.traffic(number, 100)

    def hinted() -> None:
        node.device(8)
        assert daemon.watcher._socket is not None
        daemon.watcher._socket.put(b"0001-DEV-008")

    passing.happen[1] = hinted
    node.tick()
    daemon._handle(Event.ACCOUNT)
    daemon.watcher.close()
    assert passing.after == [(1, False), (1, True), (1, True)]
    assert node.status.runs["reconcile"] == 1, "he alone was read"
    node.right()


def test_a_flood_of_hints_keeps_nobody_in_who_is_shut_out(
    node: Node, daemon: Daemon, passing: Passing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The notifications have used up their time when rows change in the middle of a poll."""
    monkeypatch.setattr(PollInterval, "due", lambda *_: True)
    daemon.watcher.listen(tmp_path / "notify.sock", lambda: daemon.events.put(Event.NOTIFY))
    assert daemon.watcher._socket is not None
    daemon.watcher._socket.put(b"0001-DEV-005")
    daemon.watcher._bucket.spend(time.monotonic() - 100, time.monotonic())
    for number in (5, 6, 7):
        node.traffic(number, 100)
    passing.number = 7
    passing.happen[1] = lambda: node.db.update(7, status="paused")
    node.tick()
    daemon._handle(Event.ACCOUNT)
    daemon.watcher.close()
    assert [is_in for _, is_in in passing.after] == [True, False, False]
    node.right()


def test_a_handshake_is_noted_though_its_booking_was_left_off(
    node: Node, daemon: Daemon, passing: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PollInterval, "due", lambda *_: True)
    node.device(4, first_handshake_at=None, last_handshake_at=None)
    daemon.watcher.check_digest()
    node.tick()
    node.shake(4)
    for number in (4, 5, 6, 7):
        node.traffic(number, 100)
    passing.happen[1] = lambda: node.device(8)
    node.tick()
    daemon._handle(Event.ACCOUNT)
    assert has(node, 8)
    assert node.db.devices[4]["first_handshake_at"] == node.db.devices[4]["last_handshake_at"] == local(node.now - 15)


def test_the_booking_of_midnight_is_not_left_off(
    node: Node, daemon: Daemon, passing: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second poll would belong to the next day."""
    monkeypatch.setattr(PollInterval, "due", lambda *_: True)
    day = node.calendar.day(node.now)
    node.tick(node.calendar.next_midnight(node.now) - node.now - 55)
    daemon._handle(Event.ACCOUNT)
    for number in (5, 6, 7):
        node.traffic(number, 55_000)
    node.tick(55.2)

    def past_midnight() -> None:
        node.device(8)
        node.tick(5)

    passing.happen[1] = past_midnight
    daemon._handle(Event.ACCOUNT)
    assert {(number, on): sums.rx for (number, on), sums in node.days.items()} == {
        (5, day): 55_000, (6, day): 55_000, (7, day): 55_000
    }  # fmt: skip


def test_bursts_of_hints_are_followed_at_once_and_floods_leave_time() -> None:
    budget, now = TokenBucket(0.5, 1.0), 100.0
    for _ in range(3):
        assert budget.delay(now) <= 0
        budget.spend(now, now + 0.5)
        now += 0.5
    assert budget.delay(now) == pytest.approx(0, abs=1e-9), "what was saved is used up"
    budget.spend(now, now + 0.5)
    assert budget.delay(now + 0.5) == pytest.approx(0.5)
    budget.spend(now, now + 100)
    assert budget.delay(now + 100) == MAX_DELAY
    assert budget.delay(now + 1000) == -1.0 / 0.5, "no more is saved than that"


def test_ready_comes_before_the_first_cycle_and_statements_feed_the_watchdog(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is slow or away must not keep systemd waiting, or let the watchdog end a good daemon."""
    told: list[str] = []
    monkeypatch.setattr(daemon.notifier, "ready", lambda *_: told.append("ready"))
    monkeypatch.setattr(daemon.notifier, "watchdog", lambda: told.append("fed"))
    monkeypatch.setattr(daemon._sockets, "open", lambda _: None)

    def cycle(event: Event) -> None:
        told.append(event.name)
        daemon._fed = float("-inf")
        daemon._state.on_answer()
        daemon.events.put(Event.STOP)

    monkeypatch.setattr(daemon, "_handle", cycle)
    daemon.run()
    assert told[:3] == ["ready", "RECONCILE", "fed"]
