"""Accounting handles first starts and devices with several peers, in complete transactions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import EPOCH, NOW, actual, calendar, device_name, dump, peer, psk, record, records, row, state
from wgsyncd.core.audit import AuditAction, AuditEvent
from wgsyncd.core.batches import split
from wgsyncd.core.model import EARLIEST, Counters, DeviceRow, InterfaceState, PublicKey, decode_key
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.records import RecordState, config_digest
from wgsyncd.core.state import Allocation, Condition, InterfaceCheckpoint, NodeState, Posting, WriteBatch
from wgsyncd.core.usage import posting
from wgsyncd.core.usage.posting import Anomaly, PostingResult, chunks, post


def booking(kernel: dict[str, InterfaceState], books: NodeState, rows: list[DeviceRow] | None = None) -> PostingResult:
    known = {PublicKey(decode_key(one.public_key)): one for one in rows} if rows is not None else None
    return post(kernel, books, calendar(), since={}, max_rates={}, rows=known)


EMPTY = NodeState(0, records(), {}, frozenset())


def test_an_unknown_peer_of_a_row_never_accounted_counts_in_full() -> None:
    kernel = actual(dump(state(peer(5), 700, 300, EARLIEST)))
    writes = booking(kernel, EMPTY, [row(5, has_no_usage=True)]).writes
    assert [(b.rx, b.tx, b.handshake) for b in writes.postings] == [(700, 300, EARLIEST / 1e9)]
    assert [(r.counters, r.state, r.epoch, r.row_id) for r in writes.records] == [
        ((700, 300), RecordState.PRESENT, EPOCH, 5)
    ]


def test_of_a_row_that_was_accounted_the_present_counters_become_the_baseline() -> None:
    kernel = actual(dump(state(peer(5), 700, 300, EARLIEST)))
    writes = booking(kernel, EMPTY, [row(5)]).writes
    assert [(b.rx, b.tx, b.allocations) for b in writes.postings] == [(0, 0, ())]
    assert writes.records[0].counters == (700, 300)
    later = post(
        actual(dump(state(peer(5), 701, 300, EARLIEST))),
        EMPTY.after(writes),
        calendar(NOW + 15),
        since={},
        max_rates={},
    )
    assert later.writes.postings[0].rx == 1


@pytest.mark.parametrize("rows", [None, [], [row(6)]])
def test_a_peer_of_no_row_is_not_adopted(rows: list[DeviceRow] | None) -> None:
    assert not booking(actual(dump(state(peer(5), 700))), EMPTY, rows).writes


def test_a_device_with_peers_on_both_interfaces_is_booked_once_with_the_sum() -> None:
    kernel = actual(dump(state(peer(5), 10, 1, 7)), dump(state(peer(5, "10.251.0.5/32"), 20, 2, EARLIEST), name="wg1"))
    known = record(5), record(5, peer(5, "10.251.0.5/32"), interface="wg1")
    books = NodeState(1, records(*known), {}, frozenset())
    (one,) = booking(kernel, books).writes.postings
    assert (one.row_id, one.rx, one.tx, one.handshake) == (5, 30, 3, EARLIEST / 1e9)
    assert [(p.rx, p.tx) for p in one.allocations] == [(30, 3)], "one statement's value per bucket"


def test_a_foreign_peers_record_moves_on_without_booking() -> None:
    books = NodeState(1, records(record(5, row_id=None)), {}, frozenset())
    writes = booking(actual(dump(state(peer(5), 10))), books).writes
    assert writes.postings == ()
    assert writes.records[0].counters == (10, 0)


def test_only_a_change_of_the_configuration_changes_its_digest() -> None:
    one = peer(5, preshared_key=psk(5), keepalive=25)
    digests = {
        config_digest(other)
        for other in (
            one, one._replace(preshared_key=psk(6)), one._replace(persistent_keepalive=0), one._replace(
                allowed_ips=()), peer(5, "10.200.0.6/32", preshared_key=psk(5), keepalive=25)
        )
    }  # fmt: skip
    assert len(digests) == 5
    two = peer(5, "10.200.0.5/32", "10.200.0.6/32")
    assert config_digest(two) == config_digest(peer(5, "10.200.0.6/32", "10.200.0.5/32"))
    assert len(config_digest(two)) == 8


# -- the node state after a transaction


def test_the_ledger_after_a_transaction() -> None:
    old = Condition("row_rejected", "5", "d5", "bad_key")
    stands = Condition("row_rejected", "6", "d6", "bad_key")
    books = NodeState(
        7, records(record(5), record(6)), {"wg0": InterfaceCheckpoint("a", 1.0)}, frozenset((old, stands))
    )
    new = stands._replace(reason="bad_address")
    after = books.after(
        WriteBatch(
            records=(record(6, counters=Counters(9, 9)), record(7)),
            removed=(record(5).peer_id,),
            checkpoints={"wg1": InterfaceCheckpoint("b", 2.0)},
            started=frozenset((new,)),
            ended=frozenset((old,)),
        )
    )
    assert after.revision == 8
    assert after.records == records(record(6, counters=Counters(9, 9)), record(7))
    assert after.interfaces == {"wg0": InterfaceCheckpoint("a", 1.0), "wg1": InterfaceCheckpoint("b", 2.0)}
    assert after.conditions == {new}, "a new detail takes the old one's place"


def test_no_writes_are_false_and_any_write_is_true() -> None:
    assert not WriteBatch()
    assert not WriteBatch() + WriteBatch()
    for some in (
        WriteBatch(records=(record(5),)), WriteBatch(removed=(record(5).peer_id,)), WriteBatch(approval_used=True),
        WriteBatch(audit=(AuditEvent(AuditAction.DAEMON_STOPPED, "c"),)), WriteBatch(checkpoints={"wg0": InterfaceCheckpoint("a", 1.0)}),
    ):  # fmt: skip
        assert some


def test_of_two_records_of_one_peer_the_later_stands() -> None:
    later = record(5, counters=Counters(2, 2))
    assert (WriteBatch(records=(record(5), record(6))) + WriteBatch(records=(later,))).records == (later, record(6))


# -- batches


TOO_MUCH, ANEW = 2**50, -1


@given(
    st.lists(st.sampled_from([0, 1, 2, 3, TOO_MUCH, ANEW]), max_size=30), st.sets(st.integers(1, 30)), st.integers(1, 8)
)  # fmt: skip
def test_portions_and_then_the_rest_are_booked_as_all_at_once(moves: list[int], apart: set[int], size: int) -> None:
    """Each row has one peer on wg0, and each third row also has one on wg1.

    `moves` says how many bytes each row moved.
    """
    numbers = range(1, len(moves) + 1)
    moved = dict(zip(numbers, moves, strict=True))
    both = [n for n in numbers if n % 3 == 0]
    kernel = actual(
        dump(*(state(peer(n), 9 + moved[n], 0) for n in reversed(numbers))),
        dump(*(state(peer(100 + n), 9 + 2 * moved[n], 1) for n in both), name="wg1"),
    )
    known = [record(n, rx=9) for n in reversed(numbers)]
    known += [record(100 + n, row_id=n, interface="wg1", rx=9) for n in both]
    books = NodeState(0, records(*known), {"wg0": InterfaceCheckpoint(EPOCH, NOW - 15)}, frozenset())
    account = partial(post, calendar=calendar(), since={}, max_rates={"wg0": 1e9, "wg1": 1e9})
    at_once = account(kernel, books)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posting, "CHUNK", size)
        parts = list(chunks(kernel, books, apart))
    total, rest, odd = WriteBatch(), books, list[Anomaly]()
    for part in parts:
        assert sum(len(one.peers) for one in part.values()) == size
        some = account(part, rest, complete=False)
        assert not some.writes.checkpoints, "that all were looked at is said at the end"
        assert not {b.row_id for b in some.writes.postings} & apart
        rest = rest.after(some.writes)
        total += some.writes
        odd += some.anomalies
    last = account(kernel, rest)
    assert len([r for r in last.writes.records if r.row_id not in apart]) <= size
    total += last.writes
    assert {b.row_id: b for b in total.postings} == {b.row_id: b for b in at_once.writes.postings}
    assert {r.peer_id: r for r in total.records} == {r.peer_id: r for r in at_once.writes.records}
    assert Counter(total.quarantined) == Counter(at_once.writes.quarantined)
    assert (total.commit_last, total.checkpoints) == (at_once.writes.commit_last, at_once.writes.checkpoints)
    assert Counter((*odd, *last.anomalies)) == Counter(at_once.anomalies)


def posted(number: int) -> Posting:
    return Posting(number, device_name(number), (Allocation(None, "2026-09-21", number, 1),))


def many(devices: int, quiet: int, quarantined: int) -> WriteBatch:
    """Returns a batch with postings for ``devices`` and with ``quiet`` records that have no bytes.

    Each third device has a peer on both interfaces. The batch also holds ``quarantined`` deltas.
    """
    both = tuple(record(n, interface="wg1") for n in range(0, devices, 3))
    return WriteBatch(
        postings=tuple(posted(n) for n in reversed(range(devices))),
        records=tuple(record(n) for n in range(devices + quiet)) + both,
        quarantined=tuple(QuarantinedDelta("wg0", devices + n, "d", 9, 9, 0.0, 1.0) for n in range(quarantined)),
        checkpoints={"wg0": InterfaceCheckpoint("a", 1.0)},
        audit=(AuditEvent(AuditAction.INTERFACE_MISSING, "d"),),
    )


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 8))
def test_batches_are_complete_in_themselves_and_add_up(devices: int, quiet: int, size: int) -> None:
    whole = many(devices, quiet, min(quiet, 2))
    parts = list(split(whole, size))
    assert all(len(part.postings) <= size for part in parts)
    total = WriteBatch()
    for part in parts:
        rows = {b.row_id for b in part.postings}
        assert rows <= {r.row_id for r in part.records}
        others = [b.row_id for other in parts if other is not part for b in other.postings]
        assert not {r.row_id for r in part.records} & set(others), "a device's bytes stand with its baselines"
        assert [b.row_id for b in part.postings] == sorted(rows), "in id order: two writers cannot deadlock"
        total += part
    assert {b.row_id: b for b in total.postings} == {b.row_id: b for b in whole.postings}
    assert len(total.postings) == len(whole.postings)
    assert {r.peer_id: r for r in total.records} == {r.peer_id: r for r in whole.records}
    assert [part.audit for part in parts if part.audit] == [whole.audit]
    assert parts[-1].audit == whole.audit, "what is said of the whole comes last"


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("ab"), st.sampled_from(("wg0", "wg1"))), unique=True),
       st.sets(st.integers(1, 6), max_size=2), st.integers(1, 4))  # fmt: skip
def test_a_transaction_has_the_records_of_its_devices_though_a_row_id_was_used_again(
    peers: list[tuple[int, str, str]], last: set[int], size: int
) -> None:
    """Each peer belongs to a device of a row. Two devices may have one row, and a device may have two peers."""
    known = [record(at, row_id=row_id, device=device, interface=interface)
             for at, (row_id, device, interface) in enumerate(peers)]  # fmt: skip
    kernel = actual(*(
        dump(*(state(peer(at), at + 1) for at, one in enumerate(peers) if one[2] == name), name=name)
        for name in ("wg0", "wg1")
    ))  # fmt: skip
    books = NodeState(1, records(*known), {}, frozenset())
    whole = replace(booking(kernel, books).writes, commit_last=frozenset(last))
    moved: Counter[tuple[object, str]] = Counter()
    for part in split(whole, size):
        owed: Counter[tuple[object, str]] = Counter()
        for one in part.records:
            owed[one.row_id, one.device] += one.rx
        posted_bytes = {(b.row_id, b.device): b.rx for b in part.postings}
        assert posted_bytes == owed, "the bytes of a device stand with all its baselines"
        moved += owed
    assert moved == {
        one: sum(at + 1 for at, (row_id, device, _) in enumerate(peers) if (row_id, device) == one)
        for one in {(row_id, device) for row_id, device, _ in peers}
    }


def test_a_batch_knows_whether_its_records_have_new_counts_only() -> None:
    books = NodeState(1, records(record(5), record(6)), {}, frozenset())
    usual = booking(actual(dump(state(peer(5), 9), state(peer(6), 9))), books).writes
    assert usual.counts_only
    assert [part.counts_only for part in split(usual, 1)] == [True, True]
    assert [part.counts_only for part in split(replace(usual, commit_last=frozenset({5})), 1)] == [True, True]
    assert (usual + WriteBatch(spool_position="a:1")).counts_only
    assert not (usual + WriteBatch(records=(record(7),))).counts_only
    assert not WriteBatch(audit=(AuditEvent(AuditAction.DAEMON_STOPPED, "c"),)).counts_only
    assert not booking(actual(dump(state(peer(5), 9), epoch="boot-b:3")), books).writes.counts_only
    assert not booking(actual(dump(state(peer(5), 9), state(peer(7), 9))), books, [row(7)]).writes.counts_only


def test_a_usual_batch_is_paired() -> None:
    kernel = actual(dump(*(state(peer(n), n, 0) for n in (7, 5, 6)), state(peer(9), 0, 0, 8)))
    known = [record(n) for n in range(5, 8)] + [record(9, handshake=9)]
    usual = booking(kernel, NodeState(1, records(*known), {}, frozenset())).writes
    assert [b.row_id for b in usual.postings] == [5, 6, 7]
    assert [r.row_id for r in usual.records] == [5, 6, 7, 9]
    assert usual.is_paired
    assert not replace(usual, records=usual.records[::-1]).is_paired
    assert not replace(usual, records=(*usual.records, record(5, interface="wg1"))).is_paired, "two records of a row"
    assert not replace(usual, records=usual.records[:2]).is_paired
    assert not replace(usual, postings=usual.postings[::-1], records=usual.records[2::-1]).is_paired


@given(st.integers(0, 30), st.integers(1, 8))
def test_a_record_whose_audit_row_comes_last_is_not_written_before_it(quiet: int, size: int) -> None:
    """A change is audited once, because its record still differs.

    A crash after an early record would lose the audit row.
    """
    writes = replace(many(0, quiet, min(quiet, 3)), removed=(record(99).peer_id,))
    parts = list(split(writes, size))
    assert len([part for part in parts if part]) == 1


def test_odd_devices_stand_in_the_transaction_that_speaks_of_them() -> None:
    def one(number: int) -> Posting:
        return Posting(number, device_name(number), (Allocation(None, "2026-09-21", 1, 1),))

    whole = WriteBatch(postings=tuple(one(n) for n in range(1, 8)), commit_last=frozenset((1, 4)), approval_used=True)
    parts = list(split(whole, 2))
    assert [[b.row_id for b in part.postings] for part in parts] == [[2, 3], [5, 6], [7, 1, 4]]
    assert [part.approval_used for part in parts] == [False, False, True]
