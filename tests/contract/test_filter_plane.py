"""The packet filter in the engine's cycles: no element ever lets one device use the access of another.

The engine, the store and WireGuard are in memory. nft and the kernel's tables are real. After each change of a peer and
after each transaction of nft the test compares every element with the live peer that has its address.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.namespace import own_network
from tests.policed_node import PolicedNode
from tests.policing import networks, policy, tables
from tests.samples import device_name, key_number, text
from wgsyncd.core.network import parse_host
from wgsyncd.core.policies.model import PolicyTables
from wgsyncd.dataplane.nftables.nft import Nft

HOSTS = {number: f"10.200.0.{number}" for number in range(2, 10)}


def for_devices(*numbers: int, to: str = "10.1.0.0/16") -> PolicyTables:
    return tables(policy(1, "allow", to, to=[("device", device_name(number)) for number in numbers]))


OPEN, NOTHING = networks("10.1.0.0/16").profile, networks().profile


@pytest.fixture
def node() -> Iterator[PolicedNode]:
    with own_network():
        made = PolicedNode()
        made.tables = for_devices(*HOSTS)
        for number in (5, 6, 7):
            made.device(number)
        made.cycle()
        yield made
        made.netfilter.close()


def test_every_live_peer_has_its_element_and_the_next_cycle_commits_nothing(node: PolicedNode) -> None:
    assert node.access() == {5: OPEN, 6: OPEN, 7: OPEN}
    generation = node.netfilter.generation()
    node.quiet()
    assert node.netfilter.generation() == generation


def test_a_cycle_with_nothing_changed_reads_no_rows_and_puts_the_table_right(node: PolicedNode) -> None:
    reads = [node.store.reads]
    for digest in ("same", "same", "same", "same", "other"):
        node.tick()
        node.agent.reconcile(digest=digest)
        reads.append(node.store.reads)
    read = [after > before for before, after in pairwise(reads)]
    assert read == [True, True, False, False, True]
    node.agent.reconcile(digest="other")
    node.nft.run("flush ruleset\n")
    node.agent.reconcile(digest="other")
    assert node.access() == {5: OPEN, 6: OPEN, 7: OPEN}


def test_the_policies_of_a_live_peer_change_without_the_peer(node: PolicedNode) -> None:
    node.tables = for_devices(5, 6)
    before = node.wg.writes.total()
    node.cycle()
    assert node.access() == {5: OPEN, 6: OPEN, 7: NOTHING}
    assert node.wg.writes.total() == before


def test_two_devices_that_change_their_addresses_never_have_the_access_of_the_other(node: PolicedNode) -> None:
    node.tables = for_devices(5)
    node.cycle()
    node.change(5, address=HOSTS[6])
    node.change(6, address=HOSTS[5])
    node.cycle()
    node.cycle()
    assert node.access() == {5: OPEN, 6: NOTHING, 7: NOTHING}
    node.right()


def test_a_revoked_device_has_no_element_and_its_successor_its_own(node: PolicedNode) -> None:
    node.tables = for_devices(5, 7)
    node.change(5, status="paused")
    node.device(8, address=HOSTS[5])
    node.cycle()
    assert node.access() == {6: NOTHING, 7: OPEN, 8: NOTHING}
    assert parse_host(HOSTS[5]) in node.found().ruleset.elements


def test_a_rejected_row_freezes_its_element_too(node: PolicedNode) -> None:
    node.change(5, address="junk")
    node.tables = for_devices(6, 7)
    node.cycle()
    assert node.access() == {5: OPEN, 6: OPEN, 7: OPEN}


def test_a_failing_nft_adds_no_peer_and_takes_the_revoked_ones(node: PolicedNode) -> None:
    node.device(8)
    node.change(5, status="paused")
    node.nft.fails = 100
    node.cycle()
    assert sorted(key_number(one) for one in node.kernel_of("wg0")) == [6, 7]
    node.nft.fails = 0
    node.cycle()
    assert node.access() == {6: OPEN, 7: OPEN, 8: OPEN}
    node.right()


def test_a_removal_that_the_kernel_refuses_gives_the_address_to_nobody_else(node: PolicedNode) -> None:
    node.wg.refused[next(one for one in node.kernel_of("wg0") if key_number(one) == 5)] = 1
    node.change(5, status="paused")
    node.device(8, address=HOSTS[5])
    node.cycle()
    node.wg.refused.clear()
    node.cycle()
    node.cycle()
    assert node.access() == {6: OPEN, 7: OPEN, 8: OPEN}


@pytest.mark.parametrize("fails", [1, 2, 3, 4, 100])
def test_no_peer_gets_the_address_of_another_while_nft_fails(node: PolicedNode, fails: int) -> None:
    """Device 6 may reach nothing. It gets the address of device 5, whose element cannot be withdrawn."""
    node.tables = for_devices(5)
    node.cycle()
    node.change(5, address=HOSTS[9])
    node.change(6, address=HOSTS[5])
    node.nft.fails = fails
    node.cycle()
    node.nft.fails = 0
    for _ in range(2):
        node.cycle()
    assert node.access() == {5: OPEN, 6: NOTHING, 7: NOTHING}
    node.right()


def test_an_emptied_policy_table_takes_access_from_nobody_until_an_admin_approves(node: PolicedNode) -> None:
    node.tables = tables()
    node.cycle()
    assert node.access() == {5: OPEN, 6: OPEN, 7: OPEN}
    snapshot = node.store.snapshot()
    decision = node.cycle()
    assert decision is not None
    plan = node.filter.plan(snapshot, decision, node.filter.read())
    assert plan is not None and len(plan.withheld) == 3
    node.store.approve(plan.plan_id)
    node.cycle()
    assert node.access() == {5: NOTHING, 6: NOTHING, 7: NOTHING}


def test_while_the_store_is_away_the_ruleset_stays_and_is_put_right(node: PolicedNode) -> None:
    before = node.found().ruleset
    node.store.down = True
    node.cycle(fails=True)
    Nft().run("flush ruleset\n")
    assert node.filter.mend()
    assert node.found().ruleset == before
    node.back()
    node.right()


def test_an_interface_that_cannot_be_read_keeps_its_elements(node: PolicedNode) -> None:
    node.wg.broken["wg0"] = 1
    node.cycle()
    assert set(node.found().ruleset.elements) == {parse_host(HOSTS[number]) for number in (5, 6, 7)}
    node.wg.broken.clear()
    node.cycle()
    assert node.access() == {5: OPEN, 6: OPEN, 7: OPEN}


def test_a_new_process_without_rows_leaves_the_table_alone(node: PolicedNode) -> None:
    before = node.found().ruleset
    node.start()
    assert node.found().ruleset == before


@pytest.mark.parametrize("seed", range(6))
def test_no_interruption_ever_gives_a_device_the_access_of_another(node: PolicedNode, seed: int) -> None:
    """Devices get each other's addresses, come and go, while nft fails and the process dies at any moment."""
    chance = random.Random(seed)
    for number in (2, 3, 4):
        node.device(number)
    for _ in range(15):
        for _ in range(chance.randint(1, 3)):
            number = chance.choice(node.numbers)
            node.change(number, address=HOSTS[chance.choice(list(HOSTS))], status=chance.choice(["active", "active", "paused"]), public_key=text(number))  # fmt: skip
        node.tables = for_devices(*chance.sample(node.numbers, 4), to=chance.choice(["10.1.0.0/16", "10.2.0.0/16"]))
        match chance.randint(0, 4):
            case 0:
                node.nft.fails = chance.randint(1, 4)
            case 1:
                node.nft.crash_after = chance.randint(1, 3)
            case 2:
                node.wg.crash_after = chance.randint(1, 4)
            case 3:
                Nft().run("flush ruleset\n")
        node.survive()
        node.check()
    node.nft.fails = node.nft.crash_after = 0
    for place, number in enumerate(node.numbers):
        node.change(number, address=HOSTS[list(HOSTS)[place]], status="active")
    node.tables = for_devices(5, 6)
    for _ in range(3):
        node.survive()
    wanted = {number: OPEN if number in (5, 6) else NOTHING for number in node.numbers}
    withheld = node.access()
    assert {number: withheld[number] for number in (5, 6)} == {5: OPEN, 6: OPEN}
    assert withheld.keys() == wanted.keys()


def test_without_policies_in_the_store_the_table_stays_as_it_is(node: PolicedNode) -> None:
    before = node.found().ruleset
    node.tables = None
    node.change(5, status="paused")
    node.cycle()
    assert node.found().ruleset == before
