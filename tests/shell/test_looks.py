"""The daemon looks whether rows have changed, on a node in memory: also rows that are again as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node import Node
from tests.samples import key
from wgsyncd import books
from wgsyncd.daemon import Daemon
from wgsyncd.inbox import Inbox, Message
from wgsyncd.systemd import Notifier


@pytest.fixture
def daemon(node: Node, tmp_path: Path) -> Daemon:
    """It has reconciled once."""
    made = Daemon(tmp_path / "wgsyncd.toml", node.settings, lambda _: node.agent, Inbox(), node.health, Notifier({}))
    made._handle(Message.RECONCILE)
    return made


def has(node: Node, number: int) -> bool:
    return key(number) in node.wg.peers("wg0")


def test_a_change_is_found(node: Node, daemon: Daemon) -> None:
    node.db.update(5, status="paused")
    daemon._look()
    assert not has(node, 5)
    node.db.update(5, status="active")
    daemon._look()
    assert has(node, 5)


@pytest.mark.parametrize("task", [Message.ACCOUNT, Message.RECONCILE])
def test_who_was_shut_out_during_a_booking_and_may_come_back_at_once_does(
    node: Node, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, task: Message
) -> None:
    monkeypatch.setattr(books, "BATCH", 1)
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
    daemon._look()
    assert has(node, 7)


def test_who_was_shut_out_by_a_hint_and_comes_back_without_one(node: Node, daemon: Daemon) -> None:
    node.db.update(5, status="paused")
    assert daemon.compare(frozenset(("0001-DEV-005",)))
    assert not has(node, 5)
    node.db.update(5, status="active")
    daemon._look()
    assert has(node, 5)


def test_a_hint_of_nothing_new_costs_no_reconcile(node: Node, daemon: Daemon) -> None:
    runs = node.health.runs["reconcile"]
    assert daemon.compare(frozenset(("0001-DEV-005",)))
    assert daemon.compare(frozenset(("no-such-device",)))
    daemon._look()
    assert node.health.runs["reconcile"] == runs
