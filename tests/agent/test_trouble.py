"""The agent in trouble: interfaces that fail, a database that is away, answers that are lost, a process that dies."""

from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest

from tests.fakes import Crash
from tests.node import Node
from tests.samples import address, key, psk, text
from wgsyncd.core.model import Counters, encode_key
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


# -- one commit, one apply, in every way


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


@pytest.mark.parametrize("fate", FATES)
def test_a_note_is_written_once_whatever_became_of_its_commit(node: Node, fate: str) -> None:
    node.agent.note("config_reloaded")
    node.store.next_writes = [fate] if "crash" not in fate else []
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
