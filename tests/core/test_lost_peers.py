"""Peers that their interface lost come back without another baseline, because that of an earlier epoch means zero."""

from __future__ import annotations

import pytest

from tests.core.test_recording import after, before, node_state
from tests.samples import EPOCH, actual, dump, planned, record, row
from wgsyncd.core.model import Counters
from wgsyncd.core.peers.recording import taken_out
from wgsyncd.core.records import PeerRecord, RecordState, doubted


def test_a_peer_that_its_interface_lost_needs_no_other_baseline() -> None:
    kernel = actual(dump(epoch="boot-b:3"))
    assert before([row(5)], kernel, node_state(record(5, counters=Counters(9, 9)))) == []
    (new,) = before([row(5)], kernel, node_state())
    assert new.state is RecordState.ADDING
    (untold,) = before([row(5)], kernel, node_state(record(5, state=RecordState.ADDING)))
    assert untold.state is RecordState.ADDING, "nobody was told of its first addition"


@pytest.mark.parametrize(
    "old",
    [
        record(5, counters=Counters(9, 9), epoch=doubted(EPOCH)),
        record(5, counters=Counters(9, 9), config_digest=b"8 others"),
        record(5, counters=Counters(9, 9), row_id=6),
    ],
)
def test_a_lost_peer_gets_a_baseline_of_zero_if_its_record_is_doubted_or_out_of_date(old: PeerRecord) -> None:
    kernel = actual(dump(epoch="boot-b:3"))
    (one,) = before([row(5)], kernel, node_state(old))
    assert (one.state, one.counters, one.epoch) == (RecordState.RESTORING, (0, 0), "boot-b:3")


def test_a_lost_peer_that_waits_for_its_class_is_no_new_one_in_the_next_cycle() -> None:
    kernel = actual(dump(epoch="boot-b:3"))
    _, books = after([row(5)], kernel, node_state(record(5, counters=Counters(9, 9))))
    assert books.interfaces["wg0"].epoch == "boot-b:3"
    assert taken_out(books, planned([row(5)], kernel, books.records).changes, kernel) == frozenset()
    (one,) = before([row(5)], kernel, books)
    assert (one.state, one.counters, one.epoch) == (RecordState.RESTORING, (0, 0), "boot-b:3")
