"""A renamed node goes on with its records. A node whose state is lost begins again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fakemachine import FakeMachine
from tests.node import Node
from wgsyncd.stores.spool import FileSpool


@pytest.fixture
def alpha() -> Node:
    made = Node()
    made.machine = FakeMachine()
    made.store.clock = lambda: made.now
    made.start()
    made.device(5)
    made.device(6)
    made.cycle()
    return made


def renamed(alpha: Node, name: str = "r650") -> None:
    """Another node.name in the configuration, and a restart."""
    alpha.settings = replace(alpha.settings, node=replace(alpha.settings.node, name=name))
    alpha.store = alpha._store()
    alpha.store.clock = lambda: alpha.now
    alpha.start()


def test_a_renamed_node_goes_on(alpha: Node) -> None:
    alpha.traffic(5, 1000)
    alpha.account()
    alpha.away((5, 20))
    renamed(alpha)
    alpha.traffic(6, 7)
    alpha.account()
    assert alpha.posted == alpha.true
    assert ("node_renamed", "r650") in alpha.actions
    assert set(alpha.db.seq) == {"r650"}
    alpha.cycle()
    alpha.quiet()


@pytest.mark.parametrize("how", ["namespace", "machine", "other interfaces", "known name"])
def test_another_nodes_state_is_left_alone(alpha: Node, how: str, said: Callable[[], list[str]]) -> None:
    assert alpha.machine is not None
    if how == "known name":
        alpha.db.seq["r650"], alpha.db.begun["r650"] = 0, 1.0
    elif how == "other interfaces":
        alpha.db.serves["r640"] = frozenset({"wg7"})
    elif how == "namespace":
        alpha.machine.namespace = "99"
    else:
        alpha.machine.machine, alpha.machine.boot = "another", "fake-boot-2"
    renamed(alpha)
    alpha.survive()
    assert {"r640", "r650"} == set(alpha.db.seq)
    told = any("another node of this machine served these interfaces" in line for line in said())
    assert told is (how in ("namespace", "known name"))


def test_a_lost_node_state_is_begun_again(alpha: Node) -> None:
    """Somebody emptied wgsyncd's tables. The node has no holder then, so the daemon goes on."""
    alpha.traffic(5, 1000)
    alpha.account()
    db = alpha.db
    for table in (db.seq, db.records, db.interfaces, db.holders, db.boots):
        table.clear()
    alpha.traffic(5, 7)
    alpha.survive()
    alpha.cycle()
    alpha.traffic(5, 30)
    alpha.account()
    assert alpha.posted[5].rx in (1030, 1037)
    assert alpha.state.holds_node


def test_samples_that_nothing_is_known_about_are_told_as_dropped(alpha: Node, said: Callable[[], list[str]]) -> None:
    alpha.away((5, 1000))
    for table in (alpha.db.seq, alpha.db.records, alpha.db.interfaces, alpha.db.holders, alpha.db.boots):
        table.clear()
    alpha.start()
    alpha.back()
    lines = said()
    assert any("spooled sample dropped" in line for line in lines)
    assert not any("spooled samples posted" in line for line in lines)


def file_spool(node: Node, folder: Path) -> None:
    """The node has a spool in a file, and a process that uses it."""
    node.spool = FileSpool(folder, node.settings.node.name)  # type: ignore[assignment]
    node.start()


def test_the_spool_file_of_a_renamed_node_gets_its_name(alpha: Node, tmp_path: Path) -> None:
    """The file has no samples, so no later posting writes it again."""
    file_spool(alpha, tmp_path)
    alpha.away((5, 1000))
    alpha.back()
    renamed(alpha)
    for _ in range(2):  # the second process finds the name in the file
        file_spool(alpha, tmp_path)
        alpha.cycle()
    assert alpha.status.spool_corruptions == 0
    assert alpha.posted == alpha.true


@pytest.mark.parametrize("fate", ["before", "during", "deadlock", "after", "crash before", "crash after"])
@pytest.mark.parametrize("again", ["new process", "same process"])
@pytest.mark.parametrize("kind", ["fake", "file"])
def test_the_spool_goes_on_however_the_rename_ends(
    alpha: Node, tmp_path: Path, kind: str, again: str, fate: str
) -> None:
    """Only the spool has the bytes: somebody made the peer again, so its counters restarted at zero."""
    folder = tmp_path / "spool"
    if kind == "file":
        file_spool(alpha, folder)
    alpha.away((5, 1000))
    alpha.wg.recreate_behind("wg0", alpha.peer(5).public_key)
    renamed(alpha)
    if kind == "file":
        file_spool(alpha, folder)
    alpha.store.next_writes = [fate]
    assert not alpha.survive()
    assert not alpha.store.next_writes
    if kind == "file" and (again == "new process" or fate.startswith("crash")):
        file_spool(alpha, folder)
    elif again == "new process":
        alpha.start()
    alpha.traffic(5, 7)
    alpha.survive()
    alpha.cycle()
    assert alpha.status.spool_corruptions == 0
    assert alpha.actions.count(("node_renamed", "r650")) == 1
    assert set(alpha.db.seq) == {"r650"}
    assert alpha.posted == alpha.true


@pytest.mark.parametrize("fate", ["crash before", "crash after"])
def test_a_process_dies_while_the_spool_gets_the_new_name(alpha: Node, fate: str) -> None:
    alpha.away((5, 1000))
    alpha.wg.recreate_behind("wg0", alpha.peer(5).public_key)
    renamed(alpha)
    alpha.spool.next_saves = [fate]
    assert not alpha.survive()
    assert not alpha.spool.next_saves, "the spool is saved before any posting"
    assert set(alpha.db.seq) == {"r640"}, "the store comes after the spool"
    alpha.cycle()
    assert alpha.status.spool_corruptions == 0
    assert alpha.posted == alpha.true


def test_a_full_disk_does_not_stop_the_rename(alpha: Node) -> None:
    """The samples are posted at once, so the old name in the file is of no importance."""
    alpha.away((5, 1000))
    alpha.wg.recreate_behind("wg0", alpha.peer(5).public_key)
    renamed(alpha)
    alpha.spool.full = True
    alpha.cycle()
    assert alpha.posted == alpha.true


def test_a_damaged_spool_of_a_renamed_node_is_told(alpha: Node) -> None:
    alpha.away((5, 1000))
    renamed(alpha)
    alpha.spool.damaged = True
    alpha.cycle()
    assert alpha.status.spool_corruptions == 1
    assert ("spool_corrupt", "r650") in alpha.actions
    alpha.cycle()
    assert alpha.posted == alpha.true, "the kernel still had the bytes"


def test_an_interface_goes_to_a_second_node_of_the_same_machine(alpha: Node) -> None:
    """The old daemon goes on with wg0. The new one serves wg1, which the old one served before."""
    other = Node(database=alpha.db, node="second")
    other.settings = replace(other.settings, interfaces={"wg1": other.settings.interfaces["wg1"]})
    other.machine, other.wg, other.now = alpha.machine, alpha.wg, alpha.now
    other.store = other._store()
    other.store.clock = lambda: alpha.now
    other.start()
    alpha.settings = replace(alpha.settings, interfaces={"wg0": alpha.settings.interfaces["wg0"]})
    alpha.store = alpha._store()
    alpha.store.clock = lambda: alpha.now
    alpha.start()
    alpha.traffic(5, 1000)
    alpha.account()
    alpha.traffic(5, 500)
    other.survive()
    assert set(alpha.db.seq) == {"r640", "second"}, "the old daemon lives"
    alpha.survive()
    alpha.survive()
    assert alpha.posted[5].rx == 1500


def test_a_node_is_renamed_while_the_store_is_down(alpha: Node, tmp_path: Path) -> None:
    file_spool(alpha, tmp_path)
    alpha.away((5, 1000))
    renamed(alpha)
    alpha.store.down = True
    file_spool(alpha, tmp_path)
    alpha.cycle(fails=True)
    alpha.wg.reboot()  # only the file has the bytes now
    alpha.machine = FakeMachine(boot="fake-boot-2")
    alpha.back()
    alpha.cycle()
    assert alpha.status.spool_corruptions == 0
    assert alpha.posted == alpha.true


def test_the_spool_of_another_node_is_put_aside_when_the_store_answers(alpha: Node, tmp_path: Path) -> None:
    """Until then nobody knows whose it is, and this node's own samples are kept beside the other ones."""
    other = Node(node="r630")
    other.device(5)
    other.cycle()
    file_spool(other, tmp_path)
    other.away((5, 77))
    file_spool(alpha, tmp_path)
    alpha.away((5, 1000))
    assert alpha.status.spool_corruptions == 0
    alpha.wg.recreate_behind("wg0", alpha.peer(5).public_key)  # only the spool has the bytes now
    alpha.back()
    assert alpha.status.spool_corruptions == 1
    assert ("spool_corrupt", "r640") in alpha.actions
    assert (tmp_path / "spool.bad1").exists()
    assert alpha.posted == alpha.true
    alpha.quiet()
