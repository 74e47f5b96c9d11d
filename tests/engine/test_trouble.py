"""The agent handles interfaces that fail, rows that are locked, and a second writer."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import msgspec
import pytest

from tests.fakes import Crash
from tests.node import Node
from tests.samples import key
from wgsyncd.core.audit import AuditAction
from wgsyncd.core.model import Change
from wgsyncd.errors import RevisionConflict, StoreError
from wgsyncd.ports import FailedChange


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
    assert node.status.dump_retries == 7


def test_one_peer_that_is_refused_does_not_sink_the_others(node: Node) -> None:
    node.wg.refused[key(8)] = errno.EINVAL
    for number in (8, 9):
        node.device(number)
    node.cycle()
    assert set(node.wg.peers("wg0")) == {key(n) for n in (5, 6, 7, 9)}
    assert node.status.change_failures == {("wg0", "EINVAL"): 1}
    assert node.status.interfaces["wg0"].drift == 1
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


# -- windows are refreshed last


def rolling_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the refresh of the windows fail, as if somebody had locked a row."""

    def locked(_: object) -> tuple[int, int]:
        raise StoreError("1205: Lock wait timeout exceeded", 1205)

    monkeypatch.setattr(node.store, "refresh_windows", locked)


def test_a_locked_row_is_booked_once_it_is_free_and_holds_nobody_up(node: Node) -> None:
    node.store.locked = {6}
    for _ in range(3):
        node.traffic(6, 100, 10)
        node.traffic(7, 100, 10)
        node.account()
        assert node.status.locked_rows == 1
    assert node.booked[7] == (300, 30)
    assert node.booked[6] == (0, 0)
    node.tick(3600)
    node.traffic(6, 10**13)  # an hour is enough for these bytes, 15 seconds would not be
    node.store.locked.clear()
    node.cycle()
    node.right()
    assert node.status.locked_rows == 0
    assert not node.db.quarantine


def test_a_locked_row_of_which_there_is_more_to_tell_holds_up_only_those_of_its_own_transaction(
    node: Node, small: None
) -> None:
    """A counter reset is posted together with its audit row, or not at all."""
    node.cycle()
    node.traffic(5, 100)
    node.cycle()
    node.wg.recreate_behind("wg0", key(5))
    node.store.locked = {5}
    for number in (5, 6, 7):
        node.traffic(number, 10)
    node.account(fails=True)
    assert [node.booked[number].rx for number in (5, 6)] == [100, 10]
    assert not node.status.anomalies
    node.store.locked.clear()
    node.account()
    node.right()
    assert node.actions.count(("usage_anomaly", "0001-DEV-005")) == node.status.anomalies["reset"] == 1


@pytest.mark.parametrize("shakes", [False, True])
@pytest.mark.parametrize("rx", [0, 10, 2**50])
def test_what_is_odd_is_told_once_and_no_byte_of_it_is_lost_whatever_else_moved(
    node: Node, small: None, rx: int, shakes: bool
) -> None:
    """The first peer was created again, or it moved more than its link carries."""
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
    assert [node.booked[number].rx + (sum(held) if number == 5 else 0) for number in (5, 6, 7)] == [100 + rx, 110, 110]


def test_a_locked_row_that_is_shut_out_goes_and_its_bytes_wait(node: Node) -> None:
    node.traffic(6, 100)
    node.db.update(6, status="paused")
    node.store.locked = {6}
    node.cycle(fails=True)
    assert key(6) not in node.wg.peers("wg0")
    node.start()
    node.store.locked.clear()
    node.cycle()
    node.right()


def test_windows_of_locked_rows_are_rolled_once_they_are_free(node: Node) -> None:
    node.traffic(6, 100)
    node.cycle()
    node.store.locked = {6}
    node.tick(86400 + 900)
    node.cycle()
    assert node.db.devices[6]["rx_bytes_24h"] == 100
    node.store.locked.clear()
    node.cycle()
    assert node.db.devices[6]["rx_bytes_24h"] == 0


def test_a_row_that_somebody_has_locked_keeps_no_revoked_peer_in(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.db.update(5, status="paused")
    node.tick(900)
    rolling_fails(node, monkeypatch)
    node.cycle(fails=True)
    assert key(5) not in node.wg.peers("wg0")
    assert node.actions[-1] == ("peer_removed", "0001-DEV-005")
    assert node.status.interfaces["wg0"].actual == 2
    monkeypatch.undo()
    node.cycle()
    node.right()


def test_a_row_that_somebody_has_locked_hides_no_new_interface(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.tick(900)
    rolling_fails(node, monkeypatch)
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")
    node.account(fails=True)
    assert node.agent.needs_reconcile


# -- an interface that is created again


def test_an_interface_made_anew_while_changes_are_applied_is_left_to_the_next_cycle(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dump after the changes is of another epoch. That it lacks 6 and 7 says nothing about the changes."""
    node.traffic(6, 100)
    node.db.update(5, status="paused")
    apply = node.wg.apply

    def applied(interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        failed = apply(interface, changes)
        node.wg.delete("wg0")
        node.wg.add_interface("wg0")
        return failed

    monkeypatch.setattr(node.wg, "apply", applied)
    node.cycle()
    monkeypatch.undo()
    assert ("interface_restored", "wg0") not in node.actions, "nothing was restored yet"
    assert not node.status.interfaces["wg0"].present
    node.account()
    assert node.agent.needs_reconcile
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
    assert not node.status.interfaces["wg7"].present
    assert key(5) in node.wg.peers("wg0"), "the others go on"
    decision = node.agent.inspector.preview()
    assert list(decision.interface_errors) == ["wg7"]
    node.quiet()
    node.wg.create_fails = 0
    node.cycle()
    assert node.status.interfaces["wg7"].present
    assert "interface_missing" not in {one.type for one in node.db.conditions.values()}
    assert node.actions.count(("interface_missing", "wg7")) == 1


# -- the order of commits


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
    node.db.update(5, status="paused")
    node.wg.crash_after = 2  # the peer has lost its address, and is removed
    with pytest.raises(Crash):
        node.cycle()
    assert node.booked[5] == (0, 0)
    node.start()
    node.cycle()
    node.right()
    assert node.booked[5] == (55, 0)


@pytest.mark.parametrize("fault", [False, True])
def test_who_is_shut_out_in_the_middle_of_a_long_booking_goes_at_once(node: Node, small: None, fault: bool) -> None:
    """The removed peer's later sample does not make the dump look like a counter reset, and the dump not the sample."""
    for number in (5, 6, 7):
        node.traffic(number, 100)

    def meanwhile() -> None:
        node.traffic(7, 23)
        node.db.update(7, status="paused")
        if fault:
            node.store.next_writes = ["deadlock"]

    node.account_during(meanwhile, fails=fault)
    assert key(7) not in node.wg.peers("wg0")
    node.cycle()
    node.right()
    assert not node.status.anomalies


def test_what_came_after_a_dump_that_is_being_booked_belongs_to_its_day(node: Node, small: None) -> None:
    """The bytes do not count for the days before the dump, although the same task posts the bytes of that dump."""
    node.account()
    node.tick(86400 - 15)
    first = node.calendar.day(node.now)
    node.tick(86400)
    last = node.calendar.day(node.now)
    for number in (5, 6):
        node.traffic(number, 1)

    def meanwhile() -> None:
        node.traffic(5, 1000)
        node.db.update(5, status="paused")

    node.account_during(meanwhile)
    node.cycle()
    node.right()
    assert (5, first) not in node.db.days or node.db.days[5, first].rx <= 1
    assert node.db.days[5, last].rx >= 1000


@pytest.mark.parametrize("fate", ["before", "during", "after", "deadlock"])
def test_a_note_is_written_once_whatever_became_of_its_commit(node: Node, fate: str) -> None:
    node.agent.queue_audit(AuditAction.CONFIG_RELOADED)
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
    with pytest.raises(RevisionConflict):
        node.agent.account()
    node.account()
    assert node.booked == node.true


def test_a_note_is_not_lost_to_another_writer(node: Node) -> None:
    """The error RevisionConflict proves that the transaction did not happen. Its commit is not in doubt."""
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


def test_that_all_were_looked_at_is_said_when_all_are_booked(node: Node, small: None) -> None:
    """Otherwise bytes that the others moved would count for the time after this sample."""
    before = node.store.load_state(node.calendar).interfaces
    for number in (5, 6, 7):
        node.traffic(number, 100)
    node.tick()
    node.store.next_writes = ["ok", "before"]
    node.account(fails=True)
    books = node.store.load_state(node.calendar)
    assert sum(record.counters.rx for record in books.records.values()) == 100
    assert books.interfaces == before
