"""A virtual machine is put back to a snapshot: no byte is posted twice, and its work goes on."""

from __future__ import annotations

import pytest

from tests.engine.test_holder import alpha, counted, stop
from tests.node import Node
from wgsyncd.core.identity import SILENCE
from wgsyncd.core.model import Counters

__all__ = ["alpha"]  # the fixture


@pytest.mark.parametrize("beats", [True, False])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_machine_that_was_put_back_posts_nothing_twice(alpha: Node, restarted: bool, beats: bool) -> None:
    """A snapshot of the virtual machine is restored, with its memory. Its counters are lower than the baselines.

    Between snapshot and restoration, there was a commit, and perhaps a heartbeat.
    """
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.traffic(6, 50)
    alpha.account()
    old_state, old_cache = alpha.state, alpha.agent._cache._node_state
    alpha.traffic(5, 500)
    alpha.machine.seconds = 2000.0
    alpha.account()
    if beats:
        alpha.agent.beat()
    for number in (5, 6):
        alpha.wg.recreate_behind("wg0", alpha.peer(number).public_key)
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 1100)
    alpha.wg.traffic("wg0", alpha.peer(6).public_key, 60)
    alpha.machine.seconds = 1500.0
    if restarted:
        alpha.start()
    else:
        alpha.state, alpha.agent._cache._node_state = old_state, old_cache
    alpha.survive()
    alpha.cycle()
    alpha.account()
    assert counted(alpha)[5] == alpha.true[5], "1100 is below the baseline of 1500"
    assert counted(alpha)[6] == Counters(60, 0), "60 is above the baseline of 50"
    assert alpha.status.anomalies == {"came_back": 1}
    alpha.traffic(5, 3)
    alpha.account()
    assert counted(alpha)[5] == alpha.true[5]


def test_a_machine_that_was_put_back_goes_on_with_its_memory(alpha: Node) -> None:
    """Its uptime has passed the last one that was stored. Only the strange revision shows what happened."""
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.account()
    old_state, old_cache = alpha.state, alpha.agent._cache._node_state
    alpha.traffic(5, 500)
    alpha.account()
    alpha.wg.recreate_behind("wg0", alpha.peer(5).public_key)
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 1100)
    alpha.machine.seconds += 30
    alpha.state, alpha.agent._cache._node_state = old_state, old_cache
    alpha.survive()
    alpha.cycle()
    assert counted(alpha) == alpha.true
    assert alpha.status.anomalies == {"came_back": 1}
    alpha.traffic(5, 40)
    alpha.account()
    assert counted(alpha) == alpha.true


@pytest.mark.parametrize("after", [40, 3600])
def test_a_machine_that_was_put_back_may_start_its_daemon_later(alpha: Node, after: float) -> None:
    """A snapshot without a running daemon is restored. Its uptime has passed the stored one when the daemon starts."""
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.account()
    snapshot = alpha.machine.seconds
    alpha.tick(40)
    alpha.traffic(5, 500)
    alpha.account()
    stored = alpha.machine.seconds
    alpha.wg.recreate_behind("wg0", alpha.peer(5).public_key)
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 1100)
    alpha.machine.seconds = snapshot
    alpha.tick(after)
    alpha.machine.seconds = max(alpha.machine.seconds, stored + 1)
    alpha.start()
    alpha.cycle()
    alpha.account()
    assert counted(alpha)[5] == alpha.true[5]
    assert alpha.status.anomalies == {"came_back": 1}
    alpha.traffic(5, 3)
    alpha.account()
    assert counted(alpha)[5] == alpha.true[5]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_container_that_gets_another_boot_id_posts_nothing_twice(alpha: Node, stopped: bool) -> None:
    """It has the network of its host, so the counters go on although the boot id is another one."""
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.account()
    if stopped:
        stop(alpha)
    alpha.tick(30 if stopped else SILENCE + 30)
    alpha.traffic(5, 200)
    alpha.machine.boot, alpha.wg._boot = "fake-boot-2", 2
    alpha.start()
    alpha.cycle()
    alpha.traffic(5, 30)
    alpha.account()
    assert counted(alpha) == alpha.true
    assert not alpha.status.anomalies
    alpha.start()
    alpha.cycle()
    alpha.account()
    assert counted(alpha) == alpha.true
