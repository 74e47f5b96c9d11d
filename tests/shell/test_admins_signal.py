"""SIGUSR1 does what `wgsyncd sync` does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.node import Node
from wgsyncd.daemon import lock
from wgsyncd.daemon.daemon import Daemon
from wgsyncd.daemon.events import _SIGNALS, Event, EventQueue
from wgsyncd.daemon.systemd import Notifier
from wgsyncd.ports import Snapshot


@pytest.mark.parametrize(("event", "plans"), [(Event.RECONCILE, 0), (_SIGNALS[signal.SIGUSR1], 1)])
def test_the_signal_of_an_admin_plans_though_nothing_has_changed(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Event, plans: int
) -> None:
    read, asked = node.store.snapshot, list[Event]()

    def snapshot() -> Snapshot:
        asked.append(event)
        return read()

    monkeypatch.setattr(node.store, "snapshot", snapshot)
    claims = lock.Claims(tmp_path.name, ())
    file, queue = tmp_path / "wgsyncd.toml", EventQueue()
    daemon = Daemon(file, node.settings, lambda *_: node.agent, queue, node.status, Notifier({}), claims)
    for _ in range(2):
        daemon._handle(Event.RECONCILE)  # after two plans in a row, the rest begins
    asked.clear()
    daemon._handle(event)
    assert len(asked) == plans
    claims.close()
