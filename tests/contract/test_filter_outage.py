"""Access is withdrawn although the store cannot record it: policies and rows are read, and no commit works.

The engine, the store and WireGuard are in memory. nft and the kernel's tables are real.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespace import own_network
from tests.policed_node import PolicedNode
from tests.policing import networks, policy, tables
from tests.samples import device_name, key_number
from wgsyncd.core.network import parse_host
from wgsyncd.core.policies.model import PolicyTables
from wgsyncd.errors import FilterError

FIRST, COUNT, BUDGET = 2, 20, 4  # 20 % of 20 devices
OPEN, OTHER, NOTHING = (networks(*some).profile for some in (["10.1.0.0/16"], ["10.2.0.0/16"], []))


def for_devices(*numbers: int, to: str = "10.1.0.0/16") -> PolicyTables:
    return tables(policy(1, "allow", to, to=[("device", device_name(number)) for number in numbers]))


def without(*numbers: int) -> PolicyTables:
    """All devices but these have access."""
    return for_devices(*(set(range(FIRST, FIRST + COUNT)) - set(numbers)))


@pytest.fixture
def node() -> Iterator[PolicedNode]:
    with own_network():
        made = PolicedNode()
        made.tables = without()
        for number in range(FIRST, FIRST + COUNT):
            made.device(number)
        made.cycle()
        assert set(made.access().values()) == {OPEN}
        made.store.read_only = True
        yield made
        made.netfilter.close()


def lost(node: PolicedNode) -> set[int]:
    """The live peers that have no access."""
    names = {key_number(one) for one in node.kernel_of("wg0")}
    return {number for number in names if node.access().get(number, NOTHING) == NOTHING}


def mend(node: PolicedNode) -> None:
    node.store.read_only = False
    node.cycle()


def test_a_policy_that_is_gone_gives_no_access_although_nothing_can_be_written(node: PolicedNode) -> None:
    node.tables = without(5, 6)
    node.cycle(fails=True)
    assert lost(node) == {5, 6}
    mend(node)
    node.right()
    assert lost(node) == {5, 6}
    assert node.actions.count(("access_changed", "r640")) == 2, "the devices came, and two lost their access"


def test_emptied_tables_cut_nobody_off_although_nothing_can_be_written(node: PolicedNode) -> None:
    node.tables = tables()
    node.cycle(fails=True)
    assert not lost(node)
    assert node.filter.status.withheld == COUNT


def test_many_small_losses_get_no_further_than_one_large_one(node: PolicedNode) -> None:
    for count in range(1, 8):
        node.tables = without(*range(FIRST, FIRST + count))
        node.cycle(fails=True)
    assert len(lost(node)) == BUDGET
    mend(node)
    node.start()
    node.cycle()
    assert (len(lost(node)), node.filter.status.withheld) == (BUDGET, 3), "the guard knows what went meanwhile"


def test_a_loss_counts_once_however_often_it_is_tried(node: PolicedNode) -> None:
    node.tables = without(2, 3, 4)
    for _ in range(5):
        node.nft.fails = 100
        node.cycle(fails=True)
    assert not lost(node)
    node.nft.fails = 0
    node.tables = without(2, 3, 4, 5)
    node.cycle(fails=True)
    assert lost(node) == {2, 3, 4, 5}


def test_a_revoked_device_goes_with_its_element_and_its_bytes_are_kept(node: PolicedNode) -> None:
    node.traffic(5, 55, 5)
    node.change(5, status="paused")
    node.cycle(fails=True)
    assert parse_host("10.200.0.5") not in node.found().ruleset.elements
    assert 5 not in {key_number(one) for one in node.kernel_of("wg0")}
    mend(node)
    node.right()
    assert node.posted[5] == (55, 5)


def test_nobody_gets_an_address_that_waits_for_the_store(node: PolicedNode) -> None:
    """Device 5 keeps its old address and what its policies allow there. Devices 30 and 31 wait."""
    node.change(5, address="10.200.0.99")
    node.device(30, address="10.200.0.5")
    node.device(31)
    node.tables = for_devices(*range(5, 32), to="10.2.0.0/16")
    node.cycle(fails=True)
    found = node.found().ruleset.elements
    assert found[parse_host("10.200.0.5")] == (device_name(5), OTHER)
    assert not found.keys() & {parse_host("10.200.0.99"), parse_host("10.200.0.31")}
    mend(node)
    node.right()
    assert {node.access()[number] for number in (5, 30, 31)} == {OTHER}


def test_an_address_that_cannot_change_yet_gives_no_access_of_former_policies(node: PolicedNode) -> None:
    """The guard keeps a peer, so device 5 cannot get its address yet. The store works."""
    node.store.read_only = False
    for number in range(6, 20):
        node.change(number, status="paused")
    node.change(5, address="10.200.0.6")
    node.tables = without(5)
    node.cycle()
    assert len(node.kernel_of("wg0")) == COUNT
    assert lost(node) == {5}


def test_a_filter_that_fails_meanwhile_keeps_its_rules_and_goes_on_later(
    node: PolicedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FilterError("EIO", "no answer")

    node.tables = without(5)
    with monkeypatch.context() as broken:
        broken.setattr(node.filter, "_withdraw", fail)
        node.cycle(fails=True)
    assert not lost(node)
    node.cycle(fails=True)
    assert lost(node) == {5}
