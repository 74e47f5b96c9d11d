"""A clone with the same machine id and network cards starts beside a server that lives."""

from __future__ import annotations

import pytest

from tests.engine.test_holder import alpha, beta_of, counted
from tests.node import Node
from wgsyncd.errors import NotHolder, RevisionConflict

__all__ = ["alpha"]  # the fixture


@pytest.mark.parametrize("by", ["heartbeat", "commit"])
def test_a_fresh_clone_does_not_keep_the_node_of_a_server_that_lives(alpha: Node, by: str) -> None:
    """It has the same machine id and cards. It booted after the last heartbeat, as the machine itself might have."""
    alpha.traffic(5, 1000)
    alpha.account()
    clone = beta_of(alpha, machine="id of alpha")
    assert clone.machine is not None
    clone.tick(40)
    clone.machine.seconds = 20.0
    clone.cycle()
    clone.wg.traffic("wg0", clone.peer(5).public_key, 7)
    clone.account()
    alpha.now = clone.now
    if by == "heartbeat":
        alpha.agent.beat()
    else:
        alpha.wg.traffic("wg0", alpha.peer(5).public_key, 30)
        with pytest.raises(RevisionConflict):
            alpha.agent.account()
        alpha.cycle()
    with pytest.raises(NotHolder) as lost:
        clone.agent.beat()
    assert lost.value.lost
    clone.start()
    with pytest.raises(NotHolder):
        clone.agent.reconcile()
    alpha.cycle()
    alpha.account()
    before = counted(alpha)[5]
    assert before.rx <= 1037, "nothing is doubled"
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 500)
    alpha.account()
    assert counted(alpha)[5].rx == before.rx + 500
    assert alpha.actions.count(("node_taken_over", "r640")) == 1


def test_an_ordered_takeover_by_a_clone_is_not_taken_back(alpha: Node) -> None:
    clone = beta_of(alpha, machine="id of alpha")
    clone.tick(20)
    seen = clone.store.holder()
    assert seen is not None
    clone.agent.holding.take_over(seen, "root", clone.calendar)
    clone.cycle()
    alpha.now = clone.now
    with pytest.raises(NotHolder):
        alpha.agent.beat()
