"""What the agent commits, in which order, and beside another writer."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest

from tests.fakes import Crash
from tests.node import Node
from tests.samples import key
from wgsyncd.core.audit import AuditAction
from wgsyncd.errors import RevisionConflict, StoreError


@pytest.mark.parametrize("shakes", [False, True])
@pytest.mark.parametrize("rx", [0, 10, 2**50])
def test_what_is_odd_is_told_once_and_no_byte_of_it_is_lost_whatever_else_moved(
    node: Node, small: None, rx: int, shakes: bool
) -> None:
    """The first device was made anew, or moved more than its link carries."""
    for number in (5, 6, 7):
        node.traffic(number, 100)
        node.shake(number)
    node.cycle()
    if rx < 2**50:
        node.wg.recreate_behind("wg0", key(5))
    node.traffic(5, rx)
    if shakes:
        node.tick(1)
        node.shake(5)
    for number in (6, 7):
        node.traffic(number, 10)
    for _ in range(2):
        node.account()
        assert node.actions.count(("usage_anomaly", "0001-DEV-005")) == 1
    held = [one.delta.rx for one in node.store.quarantine()]
    assert held == ([rx] if rx == 2**50 else [])
    assert [node.posted[number].rx + (sum(held) if number == 5 else 0) for number in (5, 6, 7)] == [100 + rx, 110, 110]


# -- what is committed when


def test_baseline_zero_is_committed_before_a_peer_is_added(node: Node) -> None:
    node.device(8)
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    assert key(8) not in node.wg.peers("wg0")
    node.wg.crash_after = 1
    with pytest.raises(Crash):
        node.cycle()
    node.traffic(8, 123)
    node.start()
    node.cycle()
    node.right()


def test_a_sample_is_kept_before_a_peer_is_removed(node: Node) -> None:
    node.traffic(5, 55)
    node.change(5, status="paused")
    node.wg.crash_after = 2  # it has lost its address, and is gone
    with pytest.raises(Crash):
        node.cycle()
    assert node.posted[5] == (0, 0)
    node.start()
    node.cycle()
    node.right()
    assert node.posted[5] == (55, 0)


@pytest.mark.parametrize("fault", [False, True])
def test_who_is_shut_out_in_the_middle_of_a_long_booking_goes_at_once(node: Node, small: None, fault: bool) -> None:
    """Its later sample does not make the dump that is being posted seem to go back, nor the other way round."""
    for number in (5, 6, 7):
        node.traffic(number, 100)

    def meanwhile() -> None:
        node.traffic(7, 23)
        node.change(7, status="paused")
        if fault:
            node.store.next_writes = ["deadlock"]

    node.account_during(meanwhile, fails=fault)
    assert key(7) not in node.wg.peers("wg0")
    node.cycle()
    node.right()
    assert not node.status.anomalies


def test_what_came_after_a_dump_that_is_being_booked_belongs_to_its_day(node: Node, small: None) -> None:
    """Not to the days since the dump before, though it is posted in the same piece of work as that one's bytes."""
    node.account()
    node.tick(86400 - 15)
    first = node.calendar.day(node.now)
    node.tick(86400)
    last = node.calendar.day(node.now)
    for number in (5, 6):
        node.traffic(number, 1)

    def meanwhile() -> None:
        node.traffic(5, 1000)
        node.change(5, status="paused")

    node.account_during(meanwhile)
    node.cycle()
    node.right()
    assert (5, first) not in node.days or node.days[5, first].rx <= 1
    assert node.days[5, last].rx >= 1000


@pytest.mark.parametrize("fate", ["before", "during", "after", "deadlock"])
def test_a_note_is_written_once_whatever_became_of_its_commit(node: Node, fate: str) -> None:
    node.agent.queue_audit(AuditAction.CONFIG_RELOADED)
    node.store.next_writes = [fate]
    for _ in range(3):
        node.survive()
    assert node.actions.count(("config_reloaded", "r640")) == 1


@pytest.mark.parametrize("first", ["before", "during", "after", "deadlock", "stale"])
@pytest.mark.parametrize("second", ["before", "during", "after", "deadlock", "stale"])
def test_a_note_is_written_once_after_two_failures_in_a_row(node: Node, first: str, second: str) -> None:
    for note, fate in ((AuditAction.CONFIG_RELOADED, first), (AuditAction.DAEMON_STOPPED, second)):
        node.agent.queue_audit(note)
        node.traffic(5, 10)
        if fate == "stale":
            node.db.seq["r640"] += 1
        else:
            node.store.next_writes = [fate]
        node.tick()
        with suppress(StoreError):
            node.agent.account()
    for _ in range(3):
        node.survive()
    for action in ("config_reloaded", "daemon_stopped"):
        assert node.actions.count((action, "r640")) == 1
    assert node.posted == node.true


# -- two writers


def test_the_books_of_another_writer_are_not_written_over(node: Node) -> None:
    other = Node(database=node.db)
    other.wg = node.wg
    other.start()
    node.traffic(5, 10)
    other.cycle()
    node.traffic(5, 5)
    node.tick()
    with pytest.raises(RevisionConflict):
        node.agent.account()
    node.account()
    assert node.posted == node.true


def test_a_note_is_not_lost_to_another_writer(node: Node) -> None:
    """The transaction is known not to have happened: StaleLedger is no lost answer."""
    node.agent.queue_audit(AuditAction.CONFIG_RELOADED)
    node.db.seq["r640"] += 1
    with pytest.raises(StoreError):
        node.agent.flush()
    node.agent.flush()
    assert node.actions.count(("config_reloaded", "r640")) == 1


def test_two_nodes_share_a_database() -> None:
    one = Node('[log]\nlevel = "error"\n')
    two = Node(database=one.db, node="r650")
    for node, name, interface in ((one, "wg0", "wg1"), (two, "wg1", "wg0")):
        mine = {name: node.settings.interfaces[name]}
        elsewhere = msgspec.structs.replace(node.settings.node, ignored_interfaces=(interface,))
        node.settings = msgspec.structs.replace(node.settings, interfaces=mine, node=elsewhere)
        node.start()
    one.device(5)
    one.device(6, interface="wg1")
    for node in (one, two):
        node.cycle()
    assert one.kernel()["wg0"] == one.wanted()["wg0"]
    assert two.kernel()["wg1"] == one.wanted()["wg1"]
    assert one.kernel()["wg1"] == two.kernel()["wg0"] == {}
    one.wg.traffic("wg0", key(5), 12)
    two.wg.traffic("wg1", key(6), 7)
    for node in (one, two, one, two):
        node.cycle()
    assert one.posted == {5: (12, 0), 6: (7, 0)}
    assert set(one.db.seq) == {"r640", "r650"}


def test_that_all_were_looked_at_is_said_when_all_are_booked(node: Node, small: None) -> None:
    """Else what the rest moved would be taken for bytes of the time after it."""
    before = node.store.load_state(node.calendar).interfaces
    for number in (5, 6, 7):
        node.traffic(number, 100)
    node.tick()
    node.store.next_writes = ["ok", "before"]
    node.account(fails=True)
    books = node.store.load_state(node.calendar)
    assert sum(record.counters.rx for record in books.records.values()) == 100
    assert books.interfaces == before
