"""The guard remembers removals: many small steps get no further than one large one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.node import Node
from tests.samples import device_name, key, text
from tests.variants import USERS
from wgsyncd.core.state import Removal
from wgsyncd.errors import StoreError

FIRST = 2


def filled(count: int) -> Node:
    made = Node('[log]\nlevel = "error"\n')
    for number in range(FIRST, FIRST + count):
        made.device(number)
    made.cycle()
    return made


def live(node: Node) -> int:
    return len(node.kernel_of("wg0"))


def hinted(node: Node, number: int) -> None:
    """A notification: alone if that is possible, else with a full cycle, as the daemon does it."""
    node.tick(0.1)
    if not node.agent.reconcile_devices(frozenset({device_name(number)})):
        node.agent.reconcile()


def looked(node: Node, number: int) -> None:
    node.tick(0.02)
    node.agent.reconcile()


def killed(node: Node, number: int) -> None:
    """The process is killed in each cycle, after the kernel changed and before that is recorded."""
    node.store.next_writes = ["ok"] * (number % 3) + ["crash before"]
    node.survive()
    node.store.next_writes = []
    node.start()


def failed(node: Node, number: int) -> None:
    """The database can be read, but not written. Revoked peers are removed all the same."""
    node.store.read_only = True
    node.tick(0.1)
    with pytest.raises(StoreError):
        node.agent.reconcile()
    node.store.read_only = False


def pause(node: Node, number: int) -> None:
    node.change(number, status="paused")


def delete(node: Node, number: int) -> None:
    node.delete(number)


def rekey(node: Node, number: int) -> None:
    node.change(number, public_key=text(number + 1000))


@pytest.mark.parametrize("step", [looked, hinted, killed])
@pytest.mark.parametrize("revoke", [pause, delete])
def test_a_loop_of_one_update_a_row_stops_at_the_budget(
    revoke: Callable[[Node, int], None], step: Callable[[Node, int], None]
) -> None:
    """F2: 240 live peers, 48 may go unasked."""
    node = filled(240)
    for number in range(FIRST, FIRST + 60):
        revoke(node, number)
        step(node, number)
    assert live(node) == 240 - 48
    node.cycle()
    assert live(node) == 240 - 48
    assert node.status.guard_tripped
    assert ("guard_tripped", "r640") in node.actions
    assert sum(one.removed for one in node.db.removals["r640"]) == 48


def test_new_keys_one_by_one_stop_at_the_budget() -> None:
    node = filled(60)
    for number in range(FIRST, FIRST + 20):
        rekey(node, number)
        looked(node, number)
    assert sum(key(number + 1000) in node.kernel_of("wg0") for number in range(FIRST, FIRST + 20)) == 12


def test_ten_rows_at_a_time_stop_at_the_budget() -> None:
    node = filled(240)
    for start in range(FIRST, 232, 10):
        for number in range(start, start + 10):
            pause(node, number)
        node.tick(1)
        node.agent.reconcile()
    assert live(node) == 200, "the next ten would be fifty"


def test_removals_without_a_record_count_until_they_are_recorded() -> None:
    node = filled(60)
    for number in range(FIRST, FIRST + 30):
        pause(node, number)
        failed(node, number)
    assert live(node) == 48
    node.cycle()
    assert live(node) == 48
    assert sum(one.removed for one in node.db.removals["r640"]) == 12


def test_the_memory_survives_a_restart_and_ends_after_an_hour() -> None:
    node = filled(60)
    for number in range(FIRST, FIRST + 12):
        delete(node, number)
    node.cycle()
    assert live(node) == 48
    node.start()
    delete(node, 20)
    node.cycle()
    assert node.status.guard_tripped
    node.tick(3000)
    node.start()
    node.cycle()
    assert live(node) == 48
    node.tick(600)
    node.cycle()
    assert live(node) == 47, "within the budget of another hour"
    assert not node.status.guard_tripped


def test_three_revocations_in_ten_minutes_go_whatever_else_waits() -> None:
    node = filled(60)
    for number in range(20, 40):
        delete(node, number)
    node.cycle()
    assert live(node) == 60
    for number in (2, 3, 4, 5):
        pause(node, number)
        node.cycle()
    assert live(node) == 57
    assert key(5) in node.kernel_of("wg0")
    node.tick(600)
    node.cycle()
    assert live(node) == 56


def test_approved_removals_and_moves_are_not_remembered() -> None:
    node = filled(60)
    for number in range(2, 22):
        delete(node, number)
    node.cycle()
    node.agent.approve(node.status.plan_id)
    node.store.next_writes = ["ok", "before"]
    node.survive()
    node.cycle()
    assert live(node) == 40
    for number in range(22, 42):
        node.change(number, interface="wg1", address=f"10.251.0.{number}")
    node.cycle()
    assert [one.removed for one in node.db.removals["r640"]] == [0, 0], "only how many peers there were"
    delete(node, 50)
    node.cycle()
    assert node.db.removals["r640"][2:] == (Removal(node.mono, 1, 0, 40),)


def test_peers_that_a_reboot_lost_are_no_removals() -> None:
    node = filled(60)
    for number in range(2, 42):
        delete(node, number)
    node.reboot()
    node.cycle()
    assert live(node) == 20
    assert node.db.removals == {}


def test_a_guard_whose_set_grows_row_by_row_does_not_fill_the_audit_trail() -> None:
    node = filled(60)
    for number in range(FIRST, FIRST + 40):
        delete(node, number)
        looked(node, number)
    assert node.actions.count(("guard_tripped", "r640")) <= 3


class Removals(RuleBasedStateMachine):
    """Revokes devices in any steps. In no window do more peers go than the budget says."""

    @initialize(count=st.integers(1, 60))
    def begin(self, count: int) -> None:
        self.variant = Node.variant
        Node.variant = USERS
        self.node, self.count = filled(count), count
        Node.variant = self.variant
        self.gone: list[float] = []
        self.left = set(range(FIRST, FIRST + count))

    @rule(step=st.sampled_from([looked, hinted, killed]), how=st.sampled_from([pause, delete]), some=st.integers(1, 6))
    def revoke(self, step: Callable[[Node, int], None], how: Callable[[Node, int], None], some: int) -> None:
        for number in sorted(self.left)[:some]:
            self.left.discard(number)
            how(self.node, number)
            step(self.node, number)

    @rule(seconds=st.sampled_from([60, 599, 600, 3000, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.node.tick(seconds)
        self.node.agent.reconcile()

    @invariant()
    def never_more_than_the_budget(self) -> None:
        self.gone += [self.node.now] * (self.count - live(self.node) - len(self.gone))
        for window, more in ((600, 3), (3600, 18)):
            late = sum(1 for at in self.gone if self.node.now - at < window)
            there = live(self.node) + late
            assert late <= min(max(10, 0.2 * there), max(1, there / 2)) + more


Removals.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRemovals = Removals.TestCase
