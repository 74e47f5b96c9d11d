"""The agent in trouble: interfaces that fail, a database that is away, a second writer."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest

from tests.fakes import Crash
from tests.node import Node, local
from tests.samples import key
from wgsyncd import log
from wgsyncd.core.model import Change, Counters
from wgsyncd.errors import StaleLedger, StoreError
from wgsyncd.ports import Failed


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


@pytest.mark.parametrize("fault", ["read_only", "deadlock", "lost answer"])
def test_a_qr_end_is_honoured_when_the_database_answers_but_takes_nothing_in(node: Node, fault: str) -> None:
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
    assert node.db.devices[8]["status"] == "expired"
    assert [one for one, device in node.actions if device == "0001-DEV-008"] == [
        "peer_added", "qr_expired", "peer_removed"
    ]  # fmt: skip
    node.quiet()


def test_the_guard_counts_qr_ends_over_all_interfaces_while_the_database_is_away() -> None:
    """Two here and two there are four."""
    node = Node("[guard]\nmin_removals = 3\nshare = 0.0\n")
    for number in (5, 6, 7, 8):
        node.issued(number, node.now + (40 if number < 8 else 4000), wg_iface="wg0" if number < 7 else "wg1")
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert [len(node.wg.peers(name)) for name in ("wg0", "wg1")] == [0, 1], "three may"
    node.store.down = False
    for number in (5, 6, 7, 8):
        node.db.update(number, status="issued", qr_expires_at=local(node.now + 40))
    node.cycle()
    node.store.down = True
    node.tick(100)
    node.cycle(fails=True)
    assert [len(node.wg.peers(name)) for name in ("wg0", "wg1")] == [2, 2], "four may not"


# -- windows are rolled last


def rolling_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has a row locked."""

    def locked(_: object) -> int:
        raise StoreError("1205: Lock wait timeout exceeded", 1205)

    monkeypatch.setattr(node.store, "roll", locked)


def test_a_row_that_somebody_has_locked_keeps_no_revoked_peer_in(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.db.update(5, status="paused")
    node.tick(900)
    rolling_fails(node, monkeypatch)
    node.cycle(fails=True)
    assert key(5) not in node.wg.peers("wg0")
    assert node.actions[-1] == ("peer_removed", "0001-DEV-005")
    assert node.health.interfaces["wg0"].actual == 2
    monkeypatch.undo()
    node.cycle()
    node.right()


def test_a_row_that_somebody_has_locked_hides_no_new_interface(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.tick(900)
    rolling_fails(node, monkeypatch)
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")
    node.account(fails=True)
    assert node.agent.found_new


# -- an interface of which the ground moves


def test_an_interface_made_anew_while_changes_are_applied_is_left_to_the_next_cycle(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back is another life: that it lacks 6 and 7 says nothing about what was asked of it."""
    node.traffic(6, 100)
    node.db.update(5, status="paused")
    apply = node.wg.apply

    def applied(interface: str, changes: Sequence[Change]) -> list[Failed]:
        failed = apply(interface, changes)
        node.wg.delete("wg0")
        node.wg.add_interface("wg0")
        return failed

    monkeypatch.setattr(node.wg, "apply", applied)
    node.cycle()
    monkeypatch.undo()
    assert ("interface_restored", "wg0") not in node.actions, "nothing was restored yet"
    assert not node.health.interfaces["wg0"].present
    node.account()
    assert node.agent.found_new
    node.cycle()
    node.right()
    assert node.booked[6] == (100, 0)
    assert [one for one in node.actions if one[0] in ("interface_restored", "peer_removed")] == [
        ("peer_removed", "0001-DEV-005"), ("interface_restored", "wg0")
    ]  # fmt: skip
    node.quiet()


MAKE = """[interfaces.wg7]
networks = ["10.7.0.0/24"]
addresses = ["10.7.0.1/24"]
create = true
listen_port = 7
private_key_file = "/k"
"""


def test_an_interface_that_cannot_be_made_is_missing() -> None:
    node = Node(MAKE)
    node.device(5)
    node.wg.create_fails = errno.EOPNOTSUPP
    node.cycle()
    assert ("interface_missing", "wg7") in node.actions
    assert not node.health.interfaces["wg7"].present
    assert key(5) in node.wg.peers("wg0"), "the others go on"
    outlook = node.agent.preview()
    assert list(outlook.troubles) == ["wg7"]
    node.quiet()
    node.wg.create_fails = 0
    node.cycle()
    assert node.health.interfaces["wg7"].present
    assert "interface_missing" not in {one.kind for one in node.db.conditions.values()}
    assert node.actions.count(("interface_missing", "wg7")) == 1


# -- what is said in the log


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """The log's lines so far."""
    stream = io.StringIO()
    log.configure("info", "logfmt", stream)
    yield lambda: [line.partition("event=")[2] for line in stream.getvalue().splitlines()]
    log.configure()


def test_a_condition_is_said_once_it_is_written_and_only_once(node: Node, said: Callable[[], list[str]]) -> None:
    node.db.update(5, preshared_key="junk")
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    assert not [line for line in said() if "cannot be followed" in line], "it will be said again"
    for _ in range(3):
        node.cycle()
    (line,) = [line for line in said() if "cannot be followed" in line]
    assert "row=5 device=0001-DEV-005 reason=bad_preshared_key" in line
    assert "junk" not in line
    node.db.update(5, preshared_key=None)
    node.store.next_writes = ["before"]
    node.cycle(fails=True)
    node.cycle()
    assert len([line for line in said() if "row no longer rejected" in line]) == 1


def test_each_condition_is_said_when_it_begins_and_when_it_ends(said: Callable[[], list[str]]) -> None:
    node = Node()
    for number in (5, 6, 7):
        node.device(number, is_parent=int(number < 7))
    node.cycle()
    node.wg.delete("wg1")
    devices = dict(node.db.devices)
    node.db.devices.clear()
    node.cycle()
    node.quiet()
    plan = node.health.plan_id
    node.wg.add_interface("wg1")
    node.db.devices |= devices
    node.db.update(6, is_parent=0)
    node.cycle()
    events = [line for line in said() if "logger=conditions" in line]
    for text, count in {
        "several parent devices in one contract": 1,
        "interface missing: its peers are without service": 1,
        f'removals=3 todo="look with `wgsyncd plan`, let through with `wgsyncd approve {plan}`': 1,
        "no longer several parent devices": 1,
        "interface is back": 1,
        "no removals withheld any more": 1,
    }.items():
        assert len([line for line in events if text in line]) == count, text
    assert len(events) == 6
    node.db.devices.clear()
    node.cycle()
    node.store.approve(node.health.plan_id)
    node.cycle()
    assert any("withheld removals approved by an admin" in line for line in said())


def test_parent_conflicts_that_cannot_be_seen_stay_as_they_were(node: Node, said: Callable[[], list[str]]) -> None:
    for number in (5, 6):
        node.db.update(number, is_parent=1)
    node.cycle()
    node.store.no_conflicts = True
    node.db.update(6, is_parent=0)
    node.cycle()
    node.quiet()
    assert ("parent_conflict_cleared", "0001") not in node.actions
    assert len([line for line in said() if "v_parent_conflicts cannot be read" in line]) == 1
    node.store.no_conflicts = False
    node.cycle()
    assert node.actions[-1] == ("parent_conflict_cleared", "0001")


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
