"""Each test repeats, as short as possible, a fault that tests/faults found with real parts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.node import Node
from tests.samples import address, key, text
from wgsyncd.core.model import Change, InterfaceState
from wgsyncd.core.peers.plan import FailedChange


def test_a_sample_taken_by_a_clock_that_was_behind_is_booked(node: Node) -> None:
    """The sample's span was negative. So every delta was more than the link carries, and went into quarantine."""
    node.account()
    node.store.down = True
    node.now -= 3600
    node.traffic(6, 1000, 10)
    node.account(fails=True)
    node.now += 3600
    node.store.down = False
    node.cycle()
    assert not node.db.quarantine
    node.right()


def test_what_is_said_to_be_sampled_is_no_later_than_the_dump(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database takes its time to fail. Bytes that are counted meanwhile are in no sample."""
    node.account()
    node.store.down = True
    node.traffic(6, 1000, 10)
    asked = node.now + 15
    read = node.wg.read

    def slow(interface: str) -> InterfaceState:
        state = read(interface)
        node.tick(2)
        return state

    monkeypatch.setattr(node.wg, "read", slow)
    node.account(fails=True)
    assert node.status.sampled_at == {"wg0": asked, "wg1": asked}


def test_a_counter_that_began_anew_while_the_database_is_away_is_not_forgotten(node: Node) -> None:
    """The counter equalled its baseline for a while. The sample after it replaced the sample before it."""
    node.wg.recreate_behind("wg0", key(6))
    node.cycle()
    node.store.down = True
    node.traffic(6, 400, 40)
    node.shake(6)
    node.account(fails=True)
    node.wg.recreate_behind("wg0", key(6))
    node.account(fails=True)
    node.traffic(6, 900, 90)
    node.shake(6)
    node.account(fails=True)
    node.store.down = False
    node.cycle()
    node.right()


@pytest.mark.parametrize("last", [900, 950])
@pytest.mark.parametrize("fault", [False, True])
def test_a_removal_in_the_middle_of_a_long_booking_loses_no_byte_of_a_counter_that_began_anew(
    node: Node, small: None, fault: bool, last: int
) -> None:
    """Only the dump that is being posted shows the counter reset. The last sample equals or exceeds the baseline."""
    for number in (5, 6, 7):
        node.traffic(number, 900)
    node.account()
    node.wg.recreate_behind("wg0", key(7))
    for number in (5, 6, 7):
        node.traffic(number, 100)

    def meanwhile() -> None:
        node.traffic(7, last - 100)
        node.change(7, status="paused")
        if fault:
            node.store.next_writes = ["deadlock"]

    node.account_during(meanwhile, fails=fault)
    assert key(7) not in node.wg.peers("wg0")
    node.cycle()
    node.right()
    assert node.posted[7].rx == 900 + last


@pytest.mark.parametrize("last", [900, 950])
@pytest.mark.parametrize("road", ["reconcile", "reconcile without accounting", "store cannot write"])
def test_a_removal_loses_no_byte_of_a_counter_that_only_the_first_dump_shows_reset(
    node: Node, monkeypatch: pytest.MonkeyPatch, road: str, last: int
) -> None:
    loses_no_byte(node, monkeypatch, road, last)


@pytest.mark.parametrize("last", [900, 950])
def test_nor_does_a_removal_in_a_cycle_for_a_few_devices(
    node: Node, monkeypatch: pytest.MonkeyPatch, last: int, no_other_plane: None
) -> None:
    loses_no_byte(node, monkeypatch, "devices", last)


def loses_no_byte(node: Node, monkeypatch: pytest.MonkeyPatch, road: str, last: int) -> None:
    """The cycle's dump shows the reset. When the peer's last sample is taken, the counter has passed its baseline."""
    node.traffic(7, 900)
    node.cycle()
    node.wg.recreate_behind("wg0", key(7))
    node.traffic(7, 100)
    node.change(7, status="paused")
    apply, silenced = node.wg.apply, list[str]()

    def later(interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        if not silenced:
            node.traffic(7, last - 100)
        silenced.append(interface)
        return apply(interface, changes)

    monkeypatch.setattr(node.wg, "apply", later)
    if road == "devices":
        assert node.agent.reconcile_devices(frozenset({"0001-DEV-007"}))
    elif road == "reconcile without accounting":
        node.agent.reconcile(with_accounting=False)
    elif road == "reconcile":
        node.cycle()
    else:
        node.device(9)  # The baseline of a new peer is what the store cannot write.
        node.store.next_writes = ["deadlock"]
        node.cycle(fails=True)
    assert silenced
    assert key(7) not in node.wg.peers("wg0")
    node.cycle()
    node.right()
    assert node.posted[7].rx == 900 + last


@pytest.mark.parametrize("swapped", [False, True])
def test_a_preempted_posting_loses_no_last_sample_of_a_removed_peer(node: Node, swapped: bool) -> None:
    """Each interface loses a peer. The outcome forgot the records of both before the second sample was posted."""
    node.device(8, interface="wg1")
    node.cycle()
    node.traffic(7, 100)
    node.traffic(8, 200, interface="wg1")
    if swapped:
        node.change(7, public_key=text(8))
        node.change(8, public_key=text(7))
    else:
        node.change(7, status="paused")
        node.change(8, status="paused")
    node.tick()
    node.agent.reconcile(lambda: True, preemptible=True)
    node.cycle()
    assert node.posted == node.true


@pytest.mark.parametrize("used", [False, True])
def test_the_first_bytes_of_a_key_in_two_rows_belong_to_the_row_that_asks_for_the_peer(used: bool) -> None:
    """The plan gives the peer to row 9. Its bytes went to row 5, which is paused, because its id is lower."""
    node = Node()
    node.device(5, seen=used, status="paused")
    node.device(9, seen=False, public_key=text(5), address=address(5))
    for one in node.wanted()["wg0"].values():
        node.wg.add_behind("wg0", one)
    node.traffic(9, 100, peer=5)
    node.cycle()
    assert node.posted == node.true
