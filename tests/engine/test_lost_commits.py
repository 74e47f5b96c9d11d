"""A database fails over to a standby that lacks the last commits: bytes are posted again, and none of them twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.fakemachine import FakeMachine
from tests.node import CONFIG, Node
from wgsyncd.config.load import parse
from wgsyncd.core.model import Counters
from wgsyncd.core.usage import backlog
from wgsyncd.engine.reports.status import of_daemon
from wgsyncd.engine.reports.status_document import Verdict
from wgsyncd.engine.reports.verdict import REMEMBERED
from wgsyncd.errors import StoreError


@pytest.fixture
def node() -> Node:
    """Returns a node with two devices that have moved bytes."""
    made = Node()
    made.machine = FakeMachine()
    made.start()
    for number in (5, 6, 7, 8):
        made.device(number)
    made.cycle()
    remove(made, 8)  # the spool has posted a sample before
    for number in (5, 6):
        made.traffic(number, 1000, 10)
    made.tick()
    made.account()
    return made


@contextmanager
def lost(node: Node) -> Iterator[None]:
    """The standby gets no commit of the body, and is the database afterwards."""
    before: dict[str, Any] = deepcopy(vars(node.db))
    yield
    vars(node.db).update(before)


def remove(node: Node, number: int) -> None:
    node.change(number, status="paused")
    node.cycle()


def go_on(node: Node) -> None:
    """The next commit finds out that the node state went back."""
    node.traffic(6, 1)
    for _ in range(2):
        node.tick()
        node.survive()
        with suppress(StoreError):
            node.account()
    node.cycle()
    node.account()


@pytest.mark.parametrize("restarted", [False, True])
def test_the_bytes_of_a_removed_peer_are_posted_again(node: Node, restarted: bool) -> None:
    node.traffic(5, 500, 5)
    node.traffic(6, 70)
    node.change(5, status="paused")
    with lost(node):
        node.tick()
        node.cycle()
        assert node.posted == node.true
    if restarted:
        node.start()
    go_on(node)
    assert node.posted == node.true
    assert node.status.anomalies == {"went_back": 1}
    assert node.actions.count(("node_went_back", "r640")) == 1
    assert node.status.went_back_at > 0


@pytest.mark.parametrize(("seconds", "told"), [(120, ["it lost commits of this node 2 min ago"]), (REMEMBERED, [])])
def test_the_status_tells_it_for_an_hour(node: Node, seconds: int, told: list[str]) -> None:
    """An older copy that answers under the database's name takes peers away, and all else looks well."""
    node.status.went_back_at = time.time() - seconds
    report = of_daemon(node.status, parse(CONFIG), Path(__file__))
    found = [one.message.partition(":")[0] for one in report.troubles if "lost commits" in one.message]
    assert found == told
    assert report.verdict is not Verdict.OK or not told


@pytest.mark.parametrize("restarted", [False, True])
def test_commits_that_were_not_lost_post_nothing_twice(node: Node, restarted: bool) -> None:
    """Only a later commit is lost. The posting of the last sample is there."""
    node.traffic(5, 500, 5)
    node.change(5, status="paused")
    node.tick()
    node.cycle()
    node.traffic(6, 70)
    with lost(node):
        node.tick()
        node.account()
    if restarted:
        node.start()
    go_on(node)
    assert node.posted == node.true


def test_a_peer_that_came_back_within_the_loss(node: Node) -> None:
    """Its counters began at zero again. Its last sample belongs to the baseline of before."""
    node.traffic(5, 500)
    node.change(5, status="paused")
    with lost(node):
        node.tick()
        node.cycle()
        node.change(5, status="active")
        node.tick()
        node.cycle()
        node.traffic(5, 30)
        node.tick()
        node.account()
        assert node.posted == node.true
    node.change(5, status="active")
    go_on(node)
    assert node.posted == node.true
    assert node.status.anomalies == {"reset": 1, "went_back": 1}


def test_a_failover_and_a_crash_while_the_samples_are_posted_again(node: Node) -> None:
    node.traffic(5, 500)
    node.change(5, status="paused")
    with lost(node):
        node.tick()
        node.cycle()
    for fate in ("crash before", "crash after", "after"):
        node.store.next_writes = ["ok", fate]
        node.tick()
        node.survive()
        node.store.next_writes = []
        node.start()
    go_on(node)
    assert node.posted == node.true


def test_a_posted_sample_is_kept_until_a_later_commit(node: Node) -> None:
    node.traffic(5, 1)
    remove(node, 5)
    assert node.state.backlog is not None
    assert node.state.backlog.posted
    assert not node.state.backlog.samples
    node.tick(backlog.RETENTION)
    assert node.state.backlog.posted, "no commit came since"
    node.traffic(6, 1)
    node.account()
    assert not node.state.backlog.posted


def test_another_machine_that_takes_the_node_over_makes_them_worthless(node: Node) -> None:
    """The other machine has posted samples of its own, so nobody knows what the node state has of ours."""
    node.traffic(5, 1)
    remove(node, 5)
    kept = node.state.backlog
    assert kept is not None
    assert kept.posted
    assert kept.recall("other stream:7") == backlog.Backlog(kept.stream, kept.next_number)
    assert kept.recall(kept.position(kept.posted[-1])) == kept
    back = kept.recall("")
    assert [one.number for one in back.samples] == [one.number for one in kept.posted]
    assert {one.since for one in back.samples} == {0.0}


def test_the_room_is_limited(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_RETAINED", 1)
    for number in (5, 6):
        node.traffic(number, 1)
        remove(node, number)
        assert node.state.backlog is not None
        assert node.state.backlog.posted[-1].state.peers
        assert len(node.state.backlog.posted) == 1
    assert node.posted[6] == Counters(1001, 10)
