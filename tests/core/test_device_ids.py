"""Core orders device ids and never calculates with them, so text ids such as UUIDs work too."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.samples import NOW, actual, address, calendar, dump, key, peer, planned, record, records, row, state, wants
from wgsyncd.core.state import InterfaceCheckpoint, NodeState
from wgsyncd.core.usage import posting


def uuid(number: int) -> Any:
    return str(UUID(int=number))


def test_the_lowest_id_wins_an_address() -> None:
    rows = [row(5, id=uuid(2)), row(6, id=uuid(1), address=address(5))]
    desired = wants(rows)
    assert [one.row_id for one in desired.rejections] == [uuid(2)]
    assert set(desired.peers["wg0"]) == {key(6)}


def test_a_plan_is_in_the_order_of_the_ids() -> None:
    rows = [row(5, id=uuid(9)), row(6, id=uuid(3))]
    plan = planned(rows, actual(dump(peer(98), peer(99))), records())
    assert [change.row_id for change in plan.changes] == [None, None, uuid(3), uuid(9)]


def test_bytes_are_posted_to_the_device() -> None:
    known = NodeState(1, records(record(5, row_id=uuid(5))), {"wg0": InterfaceCheckpoint("boot-a:3", NOW)}, frozenset())
    kernel = actual(dump(state(peer(5), 100, 10, 1)))
    posted = posting.post(
        kernel, known, calendar(NOW), since={}, max_rates={}, skipped_since={uuid(5): {"wg0": NOW - 60}}
    )
    assert [(one.row_id, one.rx) for one in posted.writes.postings] == [(uuid(5), 100)]
