"""Faults of the kernel's side: an interface that fails, a peer that the kernel refuses, an interface made anew."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from tests.node import Node
from tests.samples import key
from wgsyncd.core.model import Change
from wgsyncd.core.peers.plan import FailedChange


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOBUFS, errno.EBUSY])
def test_an_interface_that_fails_is_left_alone_and_retried(node: Node, number: int) -> None:
    node.traffic(5, 9)
    node.wg.broken["wg0"] = number
    node.change(6, status="paused")
    node.device(8, interface="wg1")
    node.cycle()
    node.quiet()
    node.wg.broken.clear()
    node.cycle()
    node.right()


def test_another_port_or_key_of_an_interface_is_told(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    """Customers have the old port and key in their configurations. wgsyncd is content, and nobody can connect."""
    for number, port in ((90, 51820), (90, 51820), (90, 51900), (91, 51900)):
        node.wg.delete("wg0")
        node.wg.add_interface("wg0", listen_port=port)
        node.cycle()  # it has no key yet
        node.wg.delete("wg0")
        node.wg.add_interface("wg0", public_key=key(number), listen_port=port)
        node.cycle()
    told = [line for line in "".join(capfd.readouterr()).splitlines() if "interface has changed: clients" in line]
    assert ["port 51900, before 51820" in line for line in told] == [True, False]
    assert ["another private key" in line for line in told] == [False, True]
    assert "another private key" in [one.text for one in node.status.recent]


def test_a_torn_dump_removes_and_books_nothing(node: Node) -> None:
    node.traffic(5, 9)
    node.change(6, status="paused")
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
    node.change(5, status="paused")
    node.cycle()
    node.cycle()
    assert ("peer_removed", "0001-DEV-005") not in node.actions
    node.wg.refused.clear()
    node.cycle()
    node.right()
    assert node.actions.count(("peer_removed", "0001-DEV-005")) == 1


def test_an_interface_made_anew_while_changes_are_applied_is_left_to_the_next_cycle(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back is another life: that it lacks 6 and 7 says nothing about what was asked of it."""
    node.traffic(6, 100)
    node.change(5, status="paused")
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
    assert node.posted[6] == (100, 0)
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
