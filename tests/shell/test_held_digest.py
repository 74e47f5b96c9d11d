"""A store that holds a costly digest back keeps nobody waiting who tells of changed rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node import Node
from tests.samples import key
from wgsyncd.daemon import lock
from wgsyncd.daemon.daemon import Daemon
from wgsyncd.daemon.events import Event, EventQueue
from wgsyncd.daemon.systemd import Notifier


@pytest.mark.parametrize("named", [frozenset[str](), frozenset(("0001-DEV-005",))])
def test_a_hint_looks_at_once(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: frozenset[str]
) -> None:
    """A hint comes from a notification, or from `wgsyncd sync`."""
    claims = lock.Claims(tmp_path.name, ())
    file, events = tmp_path / "wgsyncd.toml", EventQueue()
    daemon = Daemon(file, node.settings, lambda *_: node.agent, events, node.status, Notifier({}), claims)
    read, last = node.store.digest, [node.store.digest()]

    def held(*, at_once: bool = False) -> object:
        if at_once:
            last.append(read())
        return last[-1]

    monkeypatch.setattr(node.store, "digest", held)
    monkeypatch.setattr(node.agent, "reconcile_devices", lambda _: False)  # as on a node with a further plane
    daemon._handle(Event.RECONCILE)
    node.db.update(5, status="paused")
    daemon.watcher.check_digest()
    assert key(5) in node.wg.peers("wg0"), "the usual look is too early"
    assert daemon.reconcile_now(named)
    assert key(5) not in node.wg.peers("wg0")
    claims.close()
