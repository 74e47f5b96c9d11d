"""Core orders device ids and never calculates with them, so numbers, texts and UUIDs work alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.samples import (
    NOW,
    TOKYO,
    actual,
    address,
    calendar,
    dump,
    key,
    peer,
    planned,
    record,
    records,
    row,
    state,
    wants,
)
from wgsyncd.core.batches import split
from wgsyncd.core.model import DeviceId, plain_id
from wgsyncd.core.peers.guard import RemovalLimits, apply_guard
from wgsyncd.core.state import Allocation, InterfaceCheckpoint, NodeState, Posting, WriteBatch
from wgsyncd.core.usage import posting
from wgsyncd.engine.reports import plan as plan_report

Make = Callable[[int], Any]


def as_uuid(number: int) -> UUID:
    return UUID(int=number)


def as_text(number: int) -> str:
    return str(UUID(int=number))


each_type = pytest.mark.parametrize("make", [int, as_text, as_uuid])


@each_type
def test_the_lowest_id_wins_an_address(make: Make) -> None:
    rows = [row(5, id=make(2)), row(6, id=make(1), address=address(5))]
    desired = wants(rows)
    assert [one.row_id for one in desired.rejections] == [make(2)]
    assert set(desired.peers["wg0"]) == {key(6)}


@each_type
def test_a_plan_is_in_the_order_of_the_ids(make: Make) -> None:
    rows = [row(5, id=make(9)), row(6, id=make(3))]
    plan = planned(rows, actual(dump(peer(98), peer(99))), records())
    assert [change.row_id for change in plan.changes] == [None, None, make(3), make(9)]


@each_type
def test_bytes_are_posted_to_the_device(make: Make) -> None:
    known = NodeState(1, records(record(5, row_id=make(5))), {"wg0": InterfaceCheckpoint("boot-a:3", NOW)}, frozenset())
    kernel = actual(dump(state(peer(5), 100, 10, 1)))
    posted = posting.post(kernel, known, calendar(NOW), since={}, max_rates={})
    assert [(one.row_id, one.rx) for one in posted.writes.postings] == [(make(5), 100)]


@each_type
def test_a_batch_is_split_in_the_order_of_the_ids(make: Make) -> None:
    known = NodeState(1, records(*(record(n, row_id=make(20 - n)) for n in range(5, 12))), {}, frozenset())
    kernel = actual(dump(*(state(peer(n), 100, 10, 1) for n in range(5, 12))))
    writes = posting.post(kernel, known, calendar(NOW), since={}, max_rates={}).writes
    parts = list(split(replace(writes, commit_last=frozenset((make(10),))), 2))
    assert [[one.row_id for one in part.postings] for part in parts] == [
        [make(9), make(11)], [make(12), make(13)], [make(14), make(15)], [make(10)]
    ]  # fmt: skip


@each_type
def test_postings_of_one_device_are_added_up(make: Make) -> None:
    one = Posting(make(5), "d", (Allocation(None, "2026-09-21", 1, 2),))
    both = WriteBatch(postings=(one,)) + WriteBatch(postings=(one, replace(one, row_id=make(6))))
    assert [(b.row_id, b.rx) for b in both.postings] == [(make(5), 2), (make(6), 1)]


@each_type
def test_a_report_can_be_written_as_json(make: Make) -> None:
    bad = row(7, id=make(7), preshared_key="junk")
    desired = wants([row(5, id=make(5)), bad])
    plan = planned([row(5, id=make(5)), bad], actual(dump(peer(6))), records(record(6, row_id=make(6))))
    decision = apply_guard(desired, plan, actual(dump(peer(6))), RemovalLimits(3, 0.2, 3), None)
    report = json.loads(msgspec.json.encode(plan_report.build(decision, TOKYO, NOW)))
    assert [one["row"] for one in report["changes"]] == [plain_id(make(6)), plain_id(make(5))]
    assert [one["row"] for one in report["rejected"]] == [plain_id(make(7))]


def test_an_int_stays_an_int_in_reports_and_a_uuid_becomes_its_text() -> None:
    ids: list[DeviceId] = [5, "five", UUID(int=5)]
    assert [plain_id(one) for one in ids] == [5, "five", "00000000-0000-0000-0000-000000000005"]
