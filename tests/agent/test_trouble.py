"""The agent in trouble: interfaces that fail, a database that is away, a second writer."""

from __future__ import annotations

import errno

import msgspec
import pytest

from tests.fakes import Crash
from tests.node import Node
from tests.samples import key
from wgsyncd.core.model import Counters
from wgsyncd.errors import StaleLedger, StoreError


@pytest.fixture
def node() -> Node:
    """Three devices, in service."""
    made = Node()
    for number in (5, 6, 7):
        made.device(number)
    made.cycle()
    return made


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOBUFS, errno.EBUSY])
def test_an_interface_that_fails_is_left_alone_and_retried(node: Node, number: int) -> None:
    node.traffic(5, 9)
    node.wg.broken["wg0"] = number
    node.db.update(6, status="paused")
    node.device(8, wg_iface="wg1")
    node.cycle()
    node.quiet()
    node.wg.broken.clear()
    node.cycle()
    node.right()


def test_a_torn_dump_removes_and_books_nothing(node: Node) -> None:
    node.traffic(5, 9)
    node.db.update(6, status="paused")
    node.wg.torn["wg0"] = 6
    before = node.written
    node.cycle()
    assert node.written == before
    node.wg.torn["wg0"] = 2
    node.cycle()
    node.right()
    assert node.health.dump_retries == 7


def test_one_peer_that_is_refused_does_not_sink_the_others(node: Node) -> None:
    node.wg.refused[key(8)] = errno.EINVAL
    for number in (8, 9):
        node.device(number)
    node.cycle()
    assert set(node.wg.peers("wg0")) == {key(n) for n in (5, 6, 7, 9)}
    assert node.health.change_failures == {("wg0", "EINVAL"): 1}
    assert node.health.interfaces["wg0"].drift == 1
    assert ("peer_added", "0001-DEV-008") not in node.actions
    commits = node.store.commits
    node.cycle()
    assert node.store.commits == commits, "a peer that is refused again and again is no news"
    node.wg.refused.clear()
    node.cycle()
    node.right()
    assert node.actions.count(("peer_added", "0001-DEV-008")) == 1


def test_a_removal_that_is_refused_is_not_audited_until_it_is_done(node: Node) -> None:
    node.wg.refused[key(5)] = errno.EPERM
    node.db.update(5, status="paused")
    node.cycle()
    node.cycle()
    assert ("peer_removed", "0001-DEV-005") not in node.actions
    node.wg.refused.clear()
    node.cycle()
    node.right()
    assert node.actions.count(("peer_removed", "0001-DEV-005")) == 1


# -- the database is away


@pytest.mark.parametrize("fault", ["down", "read_only"])
def test_while_the_database_is_away_the_kernel_stays_and_every_byte_is_booked_later(node: Node, fault: str) -> None:
    setattr(node.store, fault, True)
    node.db.update(5, status="paused")
    before = node.written
    for _ in range(5):
        node.traffic(6, 1000, 10)
        node.account(fails=True)
        node.cycle(fails=True)
    assert node.written == before
    setattr(node.store, fault, False)
    node.cycle()
    node.right()
    assert node.booked[6] == (5000, 50)


def test_a_table_that_cannot_be_read_is_no_empty_table(node: Node) -> None:
    node.store.fail_reads = True
    node.traffic(6, 1000)
    before = node.kernel()
    node.cycle(fails=True)
    node.account()
    assert node.kernel() == before
    assert node.booked == node.true, "what needs no reading goes on"


def test_before_the_first_complete_read_nothing_is_removed(node: Node) -> None:
    node.issued(8, node.now + 40)
    node.cycle()
    node.store.down = True
    node.start()
    node.tick(100)
    node.cycle(fails=True)
    node.account(fails=True)
    assert key(8) in node.wg.peers("wg0")


def test_a_known_qr_end_is_honoured_in_the_kernel_while_the_database_is_away(node: Node) -> None:
    node.issued(8, node.now + 40)
    node.issued(9, node.now + 40)
    node.cycle()
    node.shake(9)
    node.account()
    node.store.down = True
    node.wg.traffic("wg0", key(8), 0, 148)  # handshake initiations that nobody answered
    node.true[8] = Counters(0, 148)
    node.tick(100)
    node.account(fails=True)
    assert key(8) not in node.wg.peers("wg0")
    assert key(9) in node.wg.peers("wg0")
    assert node.db.devices[8]["status"] == "issued"
    node.cycle(fails=True)
    node.store.down = False
    node.cycle()
    node.right()
    assert [node.db.devices[n]["status"] for n in (8, 9)] == ["expired", "active"]
    assert [one for one in node.actions if one[1] == "0001-DEV-008"] == [
        ("peer_added", "0001-DEV-008"), ("qr_expired", "0001-DEV-008"), ("peer_removed", "0001-DEV-008")
    ]  # fmt: skip
    node.quiet()


def test_a_qr_that_was_renewed_while_the_database_was_away_is_let_in_again(node: Node) -> None:
    node.issued(8, node.now + 20)
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert key(8) not in node.wg.peers("wg0")
    node.store.down = False
    node.db.update(8, qr_expires_at="2030-01-01 00:00:00")
    node.cycle()
    node.right()
    assert node.db.devices[8]["status"] == "issued"


def test_more_qr_ends_than_the_guard_lets_go_stay_while_the_database_is_away() -> None:
    node = Node("[guard]\nmin_removals = 2\nshare = 0.0\n")
    for number in range(5, 9):
        node.issued(number, node.now + 40)
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert len(node.wg.peers("wg0")) == 4


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


def test_a_dump_is_booked_before_a_peer_is_removed(node: Node) -> None:
    node.traffic(5, 55)
    node.db.update(5, status="paused")
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    assert key(5) in node.wg.peers("wg0")
    node.wg.crash_after = 1
    with pytest.raises(Crash):
        node.cycle()
    assert node.booked[5] == (55, 0)


@pytest.mark.parametrize("fate", ["before", "during", "after", "deadlock"])
def test_a_note_is_written_once_whatever_became_of_its_commit(node: Node, fate: str) -> None:
    node.agent.note("config_reloaded")
    node.store.next_writes = [fate]
    for _ in range(3):
        node.survive()
    assert node.actions.count(("config_reloaded", "r640")) == 1


# -- two writers


def test_the_books_of_another_writer_are_not_written_over(node: Node) -> None:
    other = Node(database=node.db)
    other.wg = node.wg
    other.start()
    node.traffic(5, 10)
    other.cycle()
    node.traffic(5, 5)
    node.tick()
    with pytest.raises(StaleLedger):
        node.agent.account()
    node.account()
    assert node.booked == node.true


def test_a_note_is_not_lost_to_another_writer(node: Node) -> None:
    """The transaction is known not to have happened: StaleLedger is no lost answer."""
    node.agent.note("config_reloaded")
    node.db.seq["r640"] += 1
    with pytest.raises(StoreError):
        node.agent.settle()
    node.agent.settle()
    assert node.actions.count(("config_reloaded", "r640")) == 1


def test_two_nodes_share_a_database() -> None:
    one = Node('[log]\nlevel = "error"\n')
    two = Node(database=one.db, node="r650")
    for node, name, interface in ((one, "wg0", "wg1"), (two, "wg1", "wg0")):
        mine = {name: node.settings.interfaces[name]}
        elsewhere = msgspec.structs.replace(node.settings.node, elsewhere=(interface,))
        node.settings = msgspec.structs.replace(node.settings, interfaces=mine, node=elsewhere)
        node.start()
    one.device(5)
    one.device(6, wg_iface="wg1")
    for node in (one, two):
        node.cycle()
    assert one.kernel()["wg0"] == one.wanted()["wg0"]
    assert two.kernel()["wg1"] == one.wanted()["wg1"]
    assert one.kernel()["wg1"] == two.kernel()["wg0"] == {}
    one.wg.traffic("wg0", key(5), 12)
    two.wg.traffic("wg1", key(6), 7)
    for node in (one, two, one, two):
        node.cycle()
    assert one.booked == {5: (12, 0), 6: (7, 0)}
    assert set(one.db.seq) == {"r640", "r650"}
