"""The guard remembers losses of access, and an approval holds until the packet filter has done what it allows.

The engine, the store and WireGuard are in memory. nft and the kernel's tables are real.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespace import own_network
from tests.policed_node import PolicedNode
from tests.policing import networks, policy, tables
from tests.samples import device_name
from wgsyncd.core.policies.model import PolicyTables

FIRST, COUNT, BUDGET = 2, 20, 4  # 20 % of 20 devices
OPEN, NOTHING = networks("10.1.0.0/16").profile, networks().profile


def without(count: int) -> PolicyTables:
    """All devices but the first ``count`` have access."""
    names = [device_name(number) for number in range(FIRST + count, FIRST + COUNT)]
    return tables(policy(1, "allow", "10.1.0.0/16", to=[("device", name) for name in names]))


@pytest.fixture
def node() -> Iterator[PolicedNode]:
    with own_network():
        made = PolicedNode()
        made.tables = without(0)
        for number in range(FIRST, FIRST + COUNT):
            made.device(number)
        made.cycle()
        assert lost(made) == 0
        yield made
        made.netfilter.close()


def lost(node: PolicedNode) -> int:
    """How many devices have lost their access."""
    return list(node.access().values()).count(NOTHING)


def withheld(node: PolicedNode) -> tuple[int, str]:
    return node.filter.status.withheld, node.filter.status.plan_id


def test_many_small_losses_get_no_further_than_one_large_one_also_after_a_restart(node: PolicedNode) -> None:
    for count in range(1, 8):
        node.tables = without(count)
        node.cycle()
    assert lost(node) == BUDGET
    assert withheld(node)[0] == 3
    node.start()
    node.cycle()
    assert (lost(node), withheld(node)[0]) == (BUDGET, 3)
    node.tick(3700)
    node.cycle()
    assert (lost(node), withheld(node)) == (7, (0, "")), "within the budget of another hour"


def test_a_process_that_is_killed_in_each_cycle_forgets_no_loss(node: PolicedNode) -> None:
    for count in range(1, 8):
        node.tables = without(count)
        node.nft.crash_after = 1
        node.survive()
    node.cycle()
    assert lost(node) == BUDGET


def test_a_loss_counts_once_however_often_nft_fails(node: PolicedNode) -> None:
    node.tables = without(3)
    for _ in range(5):
        node.nft.fails = 100
        node.cycle()
    assert lost(node) == 0
    node.nft.fails = 0
    node.tables = without(BUDGET)
    node.cycle()
    assert (lost(node), withheld(node)) == (BUDGET, (0, ""))


def test_access_that_comes_back_and_goes_again_counts_again(node: PolicedNode) -> None:
    for count in (2, 0, 2, 0, 2):
        node.tables = without(count)
        node.cycle()
    assert (lost(node), withheld(node)[0]) == (0, 2)


def test_a_few_losses_on_a_small_node_need_nobody() -> None:
    with own_network():
        node = PolicedNode()
        node.device(FIRST)
        for count in (COUNT, 0, COUNT, 0, COUNT):
            names = [device_name(FIRST)] if not count else []
            node.tables = tables(policy(1, "allow", "10.1.0.0/16", to=[("device", name) for name in names]))
            node.cycle()
            assert list(node.access().values()) == [NOTHING if count else OPEN]
        node.netfilter.close()


@pytest.mark.parametrize("fails", [2, 100])
def test_an_approval_holds_until_it_is_done_and_is_then_used_up(node: PolicedNode, fails: int) -> None:
    node.tables = tables()
    node.cycle()
    count, plan = withheld(node)
    assert count == COUNT
    node.store.approve(plan)
    node.nft.fails = fails
    node.cycle()
    assert (lost(node), node.store.snapshot().approved) == (0, plan)
    node.nft.fails = 0
    node.cycle()
    assert (lost(node), node.store.snapshot().approved) == (COUNT, None)
    assert not [one for one in node.db.removals.get("r640", ()) if one.access], "an approved loss is not remembered"
    node.tables = without(0)
    node.cycle()
    node.tables = tables()
    node.cycle()
    assert lost(node) == 0, "the same plan needs another approval"


def test_an_approval_of_another_plan_is_used_up_at_once(node: PolicedNode) -> None:
    node.tables = tables()
    node.cycle()
    node.store.approve("0" * 32)
    node.cycle()
    assert (lost(node), node.store.snapshot().approved) == (0, None)
