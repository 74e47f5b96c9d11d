"""One machine holds a node. Another one is refused, or takes it over, and the bytes of both are posted once at most."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fakemachine import FakeMachine
from tests.node import Node
from wgsyncd.core.identity import SILENCE, Identity
from wgsyncd.core.model import Counters
from wgsyncd.errors import NotHolder, RevisionConflict, StoreError


def place(machine: FakeMachine, database: Any = None, start: float | None = None) -> Node:
    """A machine with interfaces of its own, and a daemon of node r640 on it."""
    node = Node(database=database)
    node.machine = machine
    node.now = start or node.now
    node.store.clock = lambda: node.now
    machine.clock, machine.seconds = node.store.clock, machine.seconds
    node.wg._boot = int(machine.boot[-1])
    node.start()
    return node


def stop(node: Node) -> None:
    node.agent.account()
    node.agent.flush()
    node.agent.holding.release()


@pytest.fixture
def alpha() -> Node:
    made = place(FakeMachine("alpha", "fake-boot-1"))
    made.device(5)
    made.device(6)
    made.cycle()
    return made


def beta_of(alpha: Node, boot: str = "fake-boot-2", **fields: Any) -> Node:
    """Another machine that begins to serve the same node at the same time."""
    made = place(FakeMachine(**{"host": "beta", "boot": boot, **fields}), alpha.db, alpha.now)
    made._numbers, made.true = alpha._numbers, alpha.true
    return made


def counted(node: Node) -> dict[int, Counters]:
    return node.posted


def test_a_second_machine_is_refused_and_touches_nothing(alpha: Node) -> None:
    alpha.traffic(5, 1000)
    alpha.account()
    beta = beta_of(alpha)
    for number in (5, 6):
        beta.wg.add_behind("wg0", beta.peer(number))
    beta.wg.traffic("wg0", beta.peer(5).public_key, 77)
    beta.tick(20)
    for work in (beta.agent.reconcile, beta.agent.account, beta.agent.beat):
        with pytest.raises(NotHolder) as refused:
            work()
        assert not refused.value.lost
    said = str(refused.value)
    assert "host alpha, boot fake-boot-1, heartbeat" in said
    assert "wgsyncd takeover" in said
    assert not beta.wg.writes
    alpha.cycle()
    assert counted(alpha) == alpha.true


def test_a_silent_machine_is_taken_over_and_can_post_nothing_any_more(alpha: Node) -> None:
    alpha.traffic(5, 1000)
    alpha.account()
    beta = beta_of(alpha)
    beta.tick(SILENCE + 1)
    beta.cycle()
    assert beta.status.taken_over_at
    assert beta.actions.count(("node_taken_over", "r640")) == 1
    beta.traffic(5, 300)
    beta.account()
    before = counted(beta)
    assert before == beta.true
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 40)
    writes = alpha.wg.writes.copy()
    with pytest.raises(RevisionConflict):
        alpha.agent.account()
    with pytest.raises(NotHolder) as lost:
        alpha.agent.account()
    assert lost.value.lost
    assert "host beta" in str(lost.value)
    assert counted(beta) == before
    assert alpha.wg.writes == writes


def test_a_replacement_that_took_another_name_is_told_from_a_node_that_is_lost(alpha: Node) -> None:
    """The daemon that comes back does not claim its former name, as if it were free."""
    alpha.traffic(5, 1000)
    alpha.account()
    beta = beta_of(alpha)
    beta.tick(SILENCE + 1)
    beta.cycle()
    stop(beta)
    beta.settings = replace(beta.settings, node=replace(beta.settings.node, name="r650"))
    beta.store = beta._store()
    beta.store.clock = lambda: beta.now
    beta.start()
    beta.cycle()
    with pytest.raises(NotHolder, match="another machine runs node r640 as r650 now: host beta") as lost:
        alpha.agent.beat()
    assert lost.value.lost


def test_an_idle_loser_finds_out_by_its_heartbeat(alpha: Node) -> None:
    beta = beta_of(alpha)
    beta.tick(SILENCE + 1)
    beta.cycle()
    with pytest.raises(NotHolder):
        alpha.agent.beat()


def test_a_database_that_was_put_back_may_name_an_earlier_holder(alpha: Node) -> None:
    """The daemon that runs goes on, and no admin has to start it again."""
    alpha.traffic(5, 1000)
    alpha.account()
    earlier = Identity("another machine", "1", "its boot", "old")
    alpha.db.holders["r640"] = earlier, alpha.now - SILENCE - 1
    alpha.agent.beat()
    alpha.traffic(5, 500)
    alpha.account()
    assert counted(alpha) == alpha.true
    assert alpha.actions.count(("node_taken_over", "r640")) == 1


def test_after_a_clean_stop_a_replacement_starts_at_once(alpha: Node) -> None:
    stop(alpha)
    beta = beta_of(alpha)
    beta.cycle()
    assert beta.actions.count(("node_taken_over", "r640")) == 1
    stop(beta)
    beta.start()
    beta.cycle()
    assert beta.actions.count(("node_taken_over", "r640")) == 1, "a restart takes nothing over"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_machine_that_boots_again_goes_on_at_once(alpha: Node, stopped: bool) -> None:
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.account()
    if stopped:
        stop(alpha)
    alpha.tick(30)
    alpha.machine.boot, alpha.machine.namespace, alpha.machine.seconds = "fake-boot-2", "7", 10.0
    alpha.reboot()
    alpha.cycle()
    alpha.traffic(5, 500)
    alpha.account()
    assert counted(alpha) == alpha.true
    assert ("node_taken_over", "r640") not in alpha.actions
    assert not alpha.status.anomalies


def test_a_crash_of_the_daemon_is_no_reason_to_wait(alpha: Node) -> None:
    alpha.start()
    alpha.cycle()
    alpha.agent.beat()
    assert ("node_taken_over", "r640") not in alpha.actions


@pytest.mark.parametrize(
    "fields",
    [{"machine": "id of alpha"}, {"machine": "id of alpha", "boot": "fake-boot-1", "namespace": "2"}],
    ids=["clone", "namespace"],
)
def test_the_same_machine_id_elsewhere_is_refused_too(alpha: Node, fields: dict[str, str]) -> None:
    """A clone has its own boot and is up since before the heartbeat. A container has its own network namespace."""
    clone = beta_of(alpha, **fields)
    clone.tick(20)
    with pytest.raises(NotHolder):
        clone.agent.reconcile()
    alpha.cycle()


def test_without_the_database_the_claim_waits(alpha: Node) -> None:
    """The daemon starts and keeps samples. It claims the node when the database answers for the first time."""
    alpha.traffic(5, 1000)
    alpha.start()
    alpha.store.down = True
    alpha.account(fails=True)
    with pytest.raises(StoreError):
        alpha.agent.beat()
    assert alpha.spool.kept is not None
    alpha.back()
    assert counted(alpha) == alpha.true
    assert alpha.state.holds_node


def test_without_the_database_a_refusal_comes_late(alpha: Node) -> None:
    beta = beta_of(alpha)
    beta.store.down = True
    beta.cycle(fails=True)
    beta.store.down = False
    with pytest.raises(NotHolder) as refused:
        beta.agent.reconcile()
    assert not refused.value.lost


def test_a_node_that_goes_back_to_a_machine_is_not_posted_twice(alpha: Node) -> None:
    """The peers of alpha stay in place while beta runs the node. Then alpha runs it again in the same boot."""
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.account()
    beta = beta_of(alpha)
    beta.tick(SILENCE + 1)
    beta.cycle()
    beta.traffic(5, 300)
    beta.account()
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 40)  # Nobody counts these bytes.
    stop(beta)
    alpha.now, alpha.machine.seconds = beta.now, 2000.0
    alpha.start()
    alpha.cycle()
    assert counted(alpha) == alpha.true
    assert alpha.status.anomalies == {"came_back": 1}
    told = [one.text for one in alpha.admin.audit() if one.action == "usage_anomaly"]
    assert len(told) == 1
    assert re.search(r"\b300\b.*\b1040\b", told[0]), "both numbers, the one before first"
    alpha.traffic(5, 7)
    alpha.account()
    assert counted(alpha) == alpha.true
    assert alpha.status.anomalies == {"came_back": 1}


def test_samples_from_before_a_takeover_are_left_out_when_a_later_boot_wrote(alpha: Node) -> None:
    """alpha keeps samples without a database and dies. beta serves. Then alpha boots again and finds its spool."""
    assert alpha.machine is not None
    alpha.traffic(5, 1000)
    alpha.account()
    alpha.store.down = True
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 40)
    alpha.account(fails=True)
    alpha.store.down = False
    beta = beta_of(alpha)
    beta.tick(SILENCE + 1)
    beta.cycle()
    beta.traffic(5, 300)
    beta.account()
    stop(beta)
    alpha.machine.boot, alpha.machine.seconds, alpha.now = "fake-boot-3", 5.0, beta.now
    alpha.wg._boot = 2
    alpha.reboot()
    alpha.cycle()
    alpha.traffic(5, 9)
    alpha.account()
    assert counted(alpha) == alpha.true
    assert alpha.status.anomalies == {"came_back": 1}


def test_a_running_copy_ends_one_of_the_two(alpha: Node) -> None:
    """Machine id, namespace and boot are the same in a copy of the memory. The slower one finds a strange revision."""
    twin = beta_of(alpha, host="alpha", boot="fake-boot-1")
    twin.state.holds_node = True
    twin.cycle()
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 10)
    with pytest.raises(RevisionConflict):
        alpha.agent.account()
    alpha.agent.account()  # The first time, it takes itself for a machine that was put back.
    twin.wg.traffic("wg0", twin.peer(5).public_key, 10)
    with pytest.raises(RevisionConflict):
        twin.agent.account()
    twin.agent.account()
    alpha.wg.traffic("wg0", alpha.peer(5).public_key, 10)
    with pytest.raises(RevisionConflict):
        alpha.agent.account()
    with pytest.raises(NotHolder) as copy:
        alpha.agent.account()
    assert "running copy" in str(copy.value)
    assert all(counted(alpha)[number].rx <= alpha.true[number].rx + 20 for number in alpha.true), "nothing is doubled"
