"""A heartbeat says whether a reconcile has left all peers as the rows want them."""

from __future__ import annotations

import pytest

from tests.fakemachine import FakeMachine
from tests.node import Node
from wgsyncd.core.identity import Heartbeat, Identity


def test_a_heartbeat_says_whether_a_reconcile_was_good_since_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alpha = Node()
    alpha.machine = FakeMachine()
    alpha.start()
    told: list[bool] = []
    beat = alpha.store.beat

    def listening(identity: Identity, uptime: float, *, reconciled: bool = False) -> Heartbeat:
        told.append(reconciled)
        return beat(identity, uptime)

    monkeypatch.setattr(alpha.store, "beat", listening)
    alpha.cycle()
    alpha.agent.beat()
    alpha.agent.beat()
    alpha.account()
    alpha.agent.beat()
    assert told[-3:] == [True, False, False], "neither a heartbeat nor a poll is a reconcile"
    for _ in range(3):
        alpha.cycle()
    alpha.agent.beat()
    assert told[-1], "a rest is one, too"
    with monkeypatch.context() as patch:
        patch.setattr(alpha.wg, "apply", lambda *_: [])
        alpha.device(66)
        alpha.cycle()
        alpha.agent.beat()
    assert not told[-1], "the peer is still missing"
