"""Without the database no byte is lost, no peer wrongly removed, and no expired QR code valid."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node import Node, local
from tests.samples import key, text
from wgsyncd.core.model import Counters, InterfaceState
from wgsyncd.core.state import CommitResult
from wgsyncd.errors import StoreError

# -- the database is away


@pytest.mark.parametrize("fault", ["down", "read_only"])
def test_while_the_database_is_away_the_kernel_stays_and_every_byte_is_booked_later(node: Node, fault: str) -> None:
    setattr(node.store, fault, True)
    node.device(9)
    if fault == "down":
        node.change(5, status="paused")
    before = node.written
    for _ in range(5):
        node.traffic(6, 1000, 10)
        node.account(fails=True)
        node.cycle(fails=True)
    assert node.written == before
    setattr(node.store, fault, False)
    node.cycle()
    node.right()
    assert node.posted[6] == (5000, 50)


@pytest.mark.parametrize("fault", ["read_only", "before", "deadlock"])
def test_who_is_shut_out_goes_also_where_nothing_can_be_written(node: Node, fault: str) -> None:
    """A paused customer does not keep access because a disk is full."""
    node.traffic(5, 55, 5)
    node.change(5, status="paused")
    node.change(6, public_key=text(60))  # the new peer cannot be added, so the old one stays
    if fault == "read_only":
        node.store.read_only = True
    else:
        node.store.next_writes = [fault] * 2
    node.cycle(fails=True)
    assert set(node.kernel_of("wg0")) == {key(6), key(7)}
    node.start()
    node.store.read_only = False
    node.survive()
    node.cycle()
    node.right()
    assert node.posted[5] == (55, 5)
    assert node.actions.count(("peer_removed", "0001-DEV-005")) == 1


def test_an_outage_over_midnight_books_each_day_what_came_on_it(node: Node) -> None:
    """The backlog keeps one sample a day. The poll on a day's first second is the last one of the day before."""
    midnight = node.calendar.next_midnight(node.now)
    node.tick(midnight - node.now - 3600)
    node.cycle()
    node.store.down = True
    node.traffic(6, 1000, 10)
    node.tick(3600 - 2 * 15 + 0.05)
    node.account(fails=True)
    node.traffic(6, 200, 2)
    node.account(fails=True)
    node.start()
    node.wg.reboot()
    node.tick(86400)
    node.store.down = False
    node.cycle()
    node.right()
    first, second = (node.calendar.day(midnight + offset) for offset in (-1, 1))
    assert node.days[6, first] == (1000, 10)
    assert node.days[6, second] == (200, 2)


def test_the_guard_holds_also_where_nothing_can_be_written(node: Node) -> None:
    for number in range(20, 40):
        node.device(number)
    node.cycle()
    for number in range(20, 40):
        node.change(number, status="paused")
    node.store.read_only = True
    before = node.kernel()
    node.cycle(fails=True)
    assert node.kernel() == before
    node.store.read_only = False
    node.cycle()
    node.store.approve(node.status.plan_id)
    node.store.read_only = True
    node.cycle(fails=True)
    assert node.kernel() == before, "an approval has to be used up first"


def test_a_table_that_cannot_be_read_is_no_empty_table(node: Node) -> None:
    node.store.fail_reads = True
    node.traffic(6, 1000)
    before = node.kernel()
    node.cycle(fails=True)
    node.account()
    assert node.kernel() == before
    assert node.posted == node.true, "what needs no reading goes on"


def test_before_the_first_complete_read_nothing_is_removed(node: Node, deadlines: None) -> None:
    node.issued(8, node.now + 40)
    node.cycle()
    node.store.down = True
    node.start()
    node.tick(100)
    node.cycle(fails=True)
    node.account(fails=True)
    assert key(8) in node.wg.peers("wg0")


def test_a_known_qr_end_is_honoured_in_the_kernel_while_the_database_is_away(node: Node, deadlines: None) -> None:
    node.issued(8, node.now + 40)
    node.issued(9, node.now + 40)
    node.cycle()
    node.shake(9)
    node.account()
    node.store.down = True
    node.wg.traffic("wg0", key(8), 0, 148)  # the server sent handshake initiations that nobody answered
    node.true[8] = Counters(0, 148)
    node.tick(100)
    node.account(fails=True)
    assert key(8) not in node.wg.peers("wg0")
    assert key(9) in node.wg.peers("wg0")
    assert node.admin.field(8, "status") == "issued"
    node.cycle(fails=True)
    node.store.down = False
    node.cycle()
    node.right()
    assert [node.admin.field(n, "status") for n in (8, 9)] == ["expired", "active"]
    assert [one for one in node.actions if one[1] == "0001-DEV-008"] == [
        ("peer_added", "0001-DEV-008"), ("qr_expired", "0001-DEV-008"), ("peer_removed", "0001-DEV-008")
    ]  # fmt: skip
    node.quiet()


def test_a_qr_that_was_renewed_while_the_database_was_away_is_let_in_again(node: Node, deadlines: None) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert key(8) not in node.wg.peers("wg0")
    node.store.down = False
    node.change(8, qr_expires_at="2030-01-01 00:00:00")
    node.cycle()
    node.right()
    assert node.admin.field(8, "status") == "issued"


def test_more_qr_ends_than_the_guard_lets_go_stay_while_the_database_is_away(deadlines: None) -> None:
    node = Node("[guard]\nalways_allowed = 2\nmax_share = 0.0\n")
    for number in range(5, 9):
        node.issued(number, node.now + 40)
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert len(node.wg.peers("wg0")) == 4


@pytest.mark.parametrize("fault", ["read_only", "deadlock", "lost answer"])
def test_a_qr_end_is_honoured_when_the_database_answers_but_takes_nothing_in(
    node: Node, fault: str, deadlines: None
) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    node.traffic(8, 9, 148)
    node.tick(100)
    if fault == "read_only":
        node.store.read_only = True
    else:
        node.store.next_writes = ["deadlock" if fault == "deadlock" else "after"]
    node.cycle(fails=True)
    assert key(8) not in node.wg.peers("wg0")
    assert set(node.wg.peers("wg0")) == {key(n) for n in (5, 6, 7)}
    node.store.read_only = False
    node.cycle()
    node.right()
    assert node.admin.field(8, "status") == "expired"
    assert [one for one, device in node.actions if device == "0001-DEV-008"] == [
        "peer_added", "qr_expired", "peer_removed"
    ]  # fmt: skip
    node.quiet()


def test_a_qr_end_is_honoured_when_the_database_goes_away_right_after_it_was_written(
    node: Node, monkeypatch: pytest.MonkeyPatch, deadlines: None
) -> None:
    """The row then says `expired`, so no later cycle without a database would see that it is due."""
    node.issued(8, node.now + 20)
    node.cycle()
    node.tick(100)
    commit = node.store.commit

    def last(*args: Any) -> Any:
        done = commit(*args)
        node.store.down = True
        return done

    monkeypatch.setattr(node.store, "commit", last)
    node.cycle(fails=True)
    node.cycle(fails=True)
    assert node.admin.field(8, "status") == "expired"
    assert key(8) not in node.wg.peers("wg0")
    monkeypatch.undo()
    node.store.down = False
    node.cycle()
    node.right()
    assert node.actions.count(("peer_removed", "0001-DEV-008")) == 1


def test_a_qr_end_is_honoured_when_the_baseline_of_another_peer_cannot_be_written(
    node: Node, monkeypatch: pytest.MonkeyPatch, deadlines: None
) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    node.tick(100)
    node.device(9)
    commit = node.store.commit
    done: list[CommitResult] = []

    def only_the_first(*args: Any) -> CommitResult:
        if done:
            raise StoreError("read-only")
        done.append(commit(*args))
        return done[0]

    monkeypatch.setattr(node.store, "commit", only_the_first)
    node.cycle(fails=True)
    assert node.admin.field(8, "status") == "expired"
    assert key(8) not in node.wg.peers("wg0")
    monkeypatch.undo()
    node.cycle()
    node.right()


def test_the_guard_counts_qr_ends_over_all_interfaces_while_the_database_is_away(deadlines: None) -> None:
    """Two expired peers on wg0 and two on wg1 are four removals."""
    node = Node("[guard]\nalways_allowed = 3\nmax_share = 0.0\n")
    for number in (5, 6, 7, 8):
        node.issued(number, node.now + (40 if number < 8 else 4000), interface="wg0" if number < 7 else "wg1")
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert [len(node.wg.peers(name)) for name in ("wg0", "wg1")] == [0, 1], "three may"
    node.store.down = False
    for number in (5, 6, 7, 8):
        node.change(number, status="issued", qr_expires_at=local(node.now + 40))
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert [len(node.wg.peers(name)) for name in ("wg0", "wg1")] == [2, 2], "four may not"


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_that_is_set_in_the_middle_of_a_cycle_makes_no_span_negative(
    node: Node, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Tests with real parts found this fault: all new bytes went into quarantine."""
    node.account()
    read = node.wg.read

    def slow(interface: str) -> InterfaceState:
        if interface == "wg1":
            node.now += step
        return read(interface)

    monkeypatch.setattr(node.wg, "read", slow)
    node.traffic(6, 10**9)
    node.account()
    monkeypatch.undo()
    node.traffic(6, 10**9)
    node.store.down = True
    monkeypatch.setattr(node.wg, "read", slow)
    node.account(fails=True)
    monkeypatch.undo()
    node.store.down = False
    node.cycle()
    node.right()
    assert not node.db.quarantine
