"""A subset is decided alone only if no other peer is affected, and the check grows with the number of peers only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from tests.samples import EPOCH, NOW, SITES, actual, address, dump, peer, record, records, row
from wgsyncd.core.model import DeviceRow, InterfaceState, PeerState, PublicKey
from wgsyncd.core.peers.desired import PeerPolicy, build_desired
from wgsyncd.core.peers.guard import RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.subset import is_independent, select_subset
from wgsyncd.core.state import InterfaceCheckpoint, NodeState


class CountedPeers(Mapping[PublicKey, PeerState]):
    """The peers of a dump. It counts how many of them a loop has reached."""

    def __init__(self, peers: Mapping[PublicKey, PeerState]) -> None:
        self._peers, self.looks = peers, 0

    def __iter__(self) -> Iterator[PublicKey]:
        for key in self._peers:
            self.looks += 1
            yield key

    def __getitem__(self, key: PublicKey) -> PeerState:
        return self._peers[key]

    def __len__(self) -> int:
        return len(self._peers)


def independent(rows: list[DeviceRow], kernel: dict[str, InterfaceState], numbers: range) -> bool:
    marks = {name: InterfaceCheckpoint(EPOCH, NOW) for name in kernel}
    books = NodeState(1, records(*(record(n) for n in numbers)), marks, frozenset())
    part = select_subset(rows, kernel, books)
    assert part is not None
    desired = build_desired(rows, SITES, PeerPolicy(), part.actual, NOW, part.node_state.records.by_device)
    plan = make_plan(desired, part.actual, part.node_state.records, PeerPolicy())
    decision = apply_guard(desired, plan, part.actual, RemovalLimits(10, 0.2, 3), None)
    assert plan.changes
    return is_independent(decision, part, kernel, books)


@pytest.mark.parametrize(("taken", "alone"), [(address(250), True), (address(20), False)], ids=["free", "taken"])
def test_an_address_of_another_peer_needs_a_full_cycle(taken: str, alone: bool) -> None:
    kernel = actual(dump(*(peer(n) for n in range(2, 30))), dump(name="wg1"))
    assert independent([row(5, address=taken)], kernel, range(2, 30)) is alone


def test_the_same_address_on_another_interface_is_free() -> None:
    kernel = actual(dump(peer(5), peer(6)), dump(peer(7, address(250)), name="wg1"))
    assert independent([row(5, address=address(250))], kernel, range(5, 7))


def test_a_peer_of_the_subset_may_give_its_address_to_another_one() -> None:
    kernel = actual(dump(*(peer(n) for n in range(2, 30))), dump(name="wg1"))
    assert independent([row(5, address=address(6)), row(6, address=address(5))], kernel, range(2, 30))


@pytest.mark.parametrize("changed", [1, 10, 50])
def test_each_peer_is_looked_at_once_however_many_devices_change(changed: int) -> None:
    numbers = range(2, 102)
    there = dump(*(peer(n) for n in numbers))
    counted = CountedPeers(there.peers)
    kernel = actual(replace(there, peers=counted), dump(name="wg1"))
    rows = [row(n, address=address(n + 100)) for n in range(2, 2 + changed)]
    assert independent(rows, kernel, numbers)
    assert counted.looks == len(numbers)
