"""Intents and outcomes around a plan audit each change once, after any interruption."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.samples import (
    EPOCH,
    NOW,
    TOKYO,
    actual,
    address,
    dump,
    key,
    peer,
    planned,
    psk,
    record,
    records,
    row,
    state,
    text,
    wants,
    with_last,
)
from wgsyncd.core.audit import AuditAction, AuditEvent
from wgsyncd.core.model import Counters, DeviceRow, InterfaceState, Status, encode_key
from wgsyncd.core.peers import recording
from wgsyncd.core.peers.recording import intents, outcomes
from wgsyncd.core.reasons import ChangeCause
from wgsyncd.core.records import USED_BEFORE, PeerRecord, RecordState, config_digest
from wgsyncd.core.state import InterfaceCheckpoint, NodeState, WriteBatch
from wgsyncd.stores.mikyun.messages import AuditMessages

MESSAGES = AuditMessages("en", TOKYO)
Kernel = dict[str, InterfaceState]


def node_state(*some: PeerRecord, epoch: str = EPOCH) -> NodeState:
    marks = {"wg0": InterfaceCheckpoint(epoch, NOW), "wg1": InterfaceCheckpoint(epoch, NOW)}
    return NodeState(1, records(*some), marks, frozenset())


def before(rows: list[DeviceRow], kernel: Kernel, books: NodeState) -> list[PeerRecord]:
    desired = wants(rows, kernel)
    return list(intents(books, planned(rows, kernel, books.records).changes, kernel, desired, NOW).records)


def after(rows: list[DeviceRow], kernel: Kernel, books: NodeState) -> tuple[list[tuple[str, str, str]], NodeState]:
    said = []
    for writes in with_last(outcomes(books, kernel, wants(rows, kernel), NOW)):
        said += [(e.action, e.target_id, e.message) for e in MESSAGES.entries(writes.events())]
        books = books.after(writes)
    return said, books


def off(number: int) -> DeviceRow:
    return row(number, status=Status.OFF, status_text="paused")


ADDING = record(5, state=RecordState.ADDING, sampled_at=NOW)


def test_baseline_zero_is_recorded_of_each_peer_about_to_be_added() -> None:
    assert before([row(5)], actual(dump()), node_state()) == [ADDING]


def test_a_baseline_that_is_there_already_is_not_written_again() -> None:
    earlier = record(5, state=RecordState.ADDING, sampled_at=NOW - 60)
    assert before([row(5)], actual(dump()), node_state(earlier)) == []


@pytest.mark.parametrize(
    "old",
    [
        record(5, counters=Counters(9, 9)),
        record(5, state=RecordState.ADDING, row_id=6),
        record(5, state=RecordState.ADDING, epoch="boot-a:2"),
        record(5, state=RecordState.ADDING, config_digest=b"8 others"),
    ],
)
def test_a_baseline_of_another_life_or_configuration_is_set_to_zero_anew(old: PeerRecord) -> None:
    assert before([row(5)], actual(dump()), node_state(old)) == [ADDING]


@pytest.mark.parametrize("handshake", [4, USED_BEFORE])
def test_a_baseline_of_zero_says_that_there_was_a_handshake_before(handshake: int) -> None:
    (one,) = before([row(5)], actual(dump()), node_state(record(5, counters=Counters(9, 9), handshake=handshake)))
    assert (one.counters, one.handshake) == ((0, 0), USED_BEFORE)


def test_a_foreign_peer_is_recorded_before_it_goes_so_that_its_removal_is_audited() -> None:
    kernel = actual(dump(state(peer(99), 7, 8, 9)))
    (one,) = before([], kernel, node_state())
    assert (one.row_id, one.device, one.counters, one.handshake) == (None, "", (7, 8), 9)
    assert after([], actual(dump()), node_state(one))[0] == [
        ("foreign_peer_removed", "wg0", f"Peer {text(99)[:8]}… (10.200.0.99/32), which no row names, removed from wg0")
    ]
    assert after([], kernel, node_state(one))[0] == [], "it is still there"


def test_an_unchanged_kernel_writes_nothing() -> None:
    kernel = actual(dump(peer(5), peer(6)), dump(name="wg1"))
    kept = node_state(record(5), record(6))
    assert not any(with_last(outcomes(kept, kernel, wants([row(5), row(6)], kernel), NOW)))


def test_an_interface_without_a_dump_says_nothing_about_its_peers() -> None:
    said, books = after([off(5)], actual(dump(name="wg1")), node_state(record(5)))
    assert (said, books.records) == ([], records(record(5)))


STORIES: dict[str, tuple[list[DeviceRow], Kernel, list[PeerRecord], list[tuple[str, str, str]]]] = {
    "added": (
        [row(5)], actual(dump(peer(5))), [ADDING],
        [("peer_added", "0001-DEV-005", "Peer added on wg0 with 10.200.0.5/32")],
    ),
    "paused": (
        [off(5)], actual(dump()), [record(5)],
        [("peer_removed", "0001-DEV-005", "Peer removed from wg0 (10.200.0.5/32): device paused")],
    ),
    "row gone": (
        [], actual(dump()), [record(5)],
        [("peer_removed", "0001-DEV-005", "Peer removed from wg0 (10.200.0.5/32): row is gone, contract 0001")],
    ),
    "moved": (
        [row(5, interface="wg1")], actual(dump(), dump(peer(5, "10.251.0.5/32"), name="wg1")),
        [record(5), record(5, peer(5, "10.251.0.5/32"), interface="wg1", state=RecordState.ADDING)],
        [("peer_moved", "0001-DEV-005", "Peer moved from wg0 to wg1 (10.251.0.5/32)")],
    ),
    "new key": (
        [row(5, public_key=text(50))], actual(dump(peer(50, address(5)))),
        [record(5), record(50, peer(50, address(5)), row_id=5, device="0001-DEV-005", state=RecordState.ADDING)],
        [("peer_updated", "0001-DEV-005", "Peer updated on wg0: key")],
    ),
    "new address": (
        [row(5, address=address(6))], actual(dump(peer(5, address(6)))), [record(5)],
        [("peer_updated", "0001-DEV-005", "Peer updated on wg0: address")],
    ),
    "new PSK": (
        [row(5, preshared_key=encode_key(psk(5)))], actual(dump(peer(5, preshared_key=psk(5)))), [record(5)],
        [("peer_updated", "0001-DEV-005", "Peer updated on wg0: preshared key or keepalive")],
    ),
    "being added, and its row revoked before it was": ([off(5)], actual(dump()), [ADDING], []),
    "being added, not there yet": ([row(5)], actual(dump()), [ADDING], []),
    "gone by a foreign hand, still wanted": ([row(5)], actual(dump()), [record(5)], []),
    "removal refused": ([off(5)], actual(dump(peer(5))), [record(5)], []),
    "restored": ([row(5)], actual(dump(peer(5))), [record(5, state=RecordState.RESTORING)], []),
    "renamed": ([row(5, device="other")], actual(dump(peer(5))), [record(5)], []),
    "taken over by another row": ([row(6, public_key=text(5), address=address(5))], actual(dump(peer(5))),
                                  [record(5)], []),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "kernel", "known", "audit"), STORIES.values(), ids=STORIES.keys())
def test_what_is_audited_after_apply_and_only_once(
    rows: list[DeviceRow], kernel: Kernel, known: list[PeerRecord], audit: list[tuple[str, str, str]]
) -> None:
    said, books = after(rows, kernel, node_state(*known))
    assert said == audit
    again, same = after(rows, kernel, books)
    assert again == []
    assert same.records == books.records


@pytest.mark.parametrize("dies_after", range(4))
def test_many_that_came_are_written_in_parts_each_complete_in_itself(
    monkeypatch: pytest.MonkeyPatch, dies_after: int
) -> None:
    """One more peer has moved.

    A crash between two parts leaves the rest to be written, and no part is written twice.
    """
    monkeypatch.setattr(recording, "MAX_PER_BATCH", 3)
    rows = [row(n) for n in range(5, 14)] + [row(20, interface="wg1")]
    kernel = actual(dump(*(peer(n) for n in range(5, 14))), dump(peer(20, address(20, "wg1")), name="wg1"))
    known = [record(n, state=RecordState.ADDING) for n in range(5, 14)]
    moved = replace(record(20), interface="wg1", state=RecordState.ADDING, address=f"{address(20, 'wg1')}/32")
    books = node_state(*known, record(20), moved)
    told: list[str] = []
    parts = list(with_last(outcomes(books, kernel, wants(rows, kernel), NOW)))
    assert [len(list(part.events())) for part in parts] == [3, 3, 4]
    for part in parts[:dies_after]:
        assert {entry.target for entry in part.events()} == {one.device for one in part.records}
        told += [entry.target for entry in part.events()]
        books = books.after(part)
    said, books = after(rows, kernel, books)
    assert sorted(told + [device for _, device, _ in said]) == sorted(one.device for one in rows)
    assert {one.state for one in books.records.values()} == {RecordState.PRESENT}
    assert len(books.records) == len(rows)


def test_after_apply_the_records_are_what_the_kernel_holds() -> None:
    rows = [row(5, address=address(6)), row(7, device="renamed"), off(8)]
    kernel = actual(dump(peer(5, address(6)), peer(7)))
    _, books = after(rows, kernel, node_state(record(5), record(7), record(8)))
    assert set(books.records) == {("wg0", key(5)), ("wg0", key(7))}
    moved = books.records["wg0", key(5)]
    assert (moved.address, moved.config_digest) == ("10.200.0.6/32", config_digest(peer(5, address(6))))
    assert books.records["wg0", key(7)].device == "renamed"


def test_a_reboot_that_restores_250_peers_is_one_audit_row() -> None:
    rows = [row(n) for n in range(2, 252)]
    books = node_state(*(record(n, counters=Counters(9, 9)) for n in range(2, 252)))
    empty = actual(dump(epoch="boot-b:3"))
    started = intents(books, planned(rows, empty, books.records).changes, empty, wants(rows, empty), NOW)
    assert not started
    full = actual(dump(*(peer(n) for n in range(2, 252)), epoch="boot-b:3"))
    said, done = after(rows, full, books.after(started))
    assert said == [("interface_restored", "wg0", "Interface is new: 250 peers restored")]
    assert after(rows, full, done)[0] == []
    assert done.interfaces["wg0"].epoch == "boot-b:3"
    assert {r.state for r in done.records.values()} == {RecordState.PRESENT}


def test_the_first_look_at_an_interface_is_marked_and_is_no_restoration() -> None:
    books = NodeState(0, records(), {}, frozenset())
    said, done = after([], actual(dump()), books)
    assert said == []
    assert done.interfaces == {"wg0": InterfaceCheckpoint(EPOCH, NOW)}


def test_a_peer_that_goes_before_its_coming_was_written_down_has_come_and_gone() -> None:
    """The daemon died after it added the peer and before it recorded the outcome. Meanwhile the row was revoked."""
    kernel, books = actual(dump(peer(5))), node_state(ADDING)
    rows = [off(5)]
    changes = planned(rows, kernel, books.records).changes
    writes = intents(books, changes, kernel, wants(rows, kernel), NOW)
    assert [(e.action, e.target_id, e.message) for e in MESSAGES.entries(writes.events())] == [
        ("peer_added", "0001-DEV-005", "Peer added on wg0 with 10.200.0.5/32")
    ]
    assert [r.state for r in writes.records] == [RecordState.PRESENT]
    books = books.after(writes)
    assert not intents(books, changes, kernel, wants(rows, kernel), NOW), "told once"
    assert [action for action, *_ in after(rows, actual(dump()), books)[0]] == ["peer_removed"]


def test_of_a_peer_whose_coming_was_written_down_only_its_going_is_told() -> None:
    kernel, books = actual(dump(peer(5))), node_state(record(5))
    changes = planned([off(5)], kernel, books.records).changes
    assert not intents(books, changes, kernel, wants([off(5)], kernel), NOW)


def test_a_row_id_that_was_used_again_joins_no_two_devices() -> None:
    """Row 5 was deleted, and its id now belongs to another device with another key and address."""
    new = row(5, device="0002-DEV-001", public_key=key(6), address=address(6))
    kernel, books = actual(dump(peer(5))), node_state(record(5))
    changes = planned([new], kernel, books.records).changes
    assert [(c.kind, c.device, c.reason.cause, c.is_revocation) for c in changes] == [
        ("remove", "0001-DEV-005", ChangeCause.ROW_GONE, False), ("add", "0002-DEV-001", ChangeCause.WANTED, True)
    ]  # fmt: skip
    books = books.after(WriteBatch(records=tuple(before([new], kernel, books))))
    said, books = after([new], actual(dump(peer(6))), books)
    assert said == [
        ("peer_removed", "0001-DEV-005", "Peer removed from wg0 (10.200.0.5/32): row is gone, contract 0001"),
        ("peer_added", "0002-DEV-001", "Peer added on wg0 with 10.200.0.6/32"),
    ]
    assert [(r.row_id, r.device) for r in books.records.each()] == [(5, "0002-DEV-001")]


def test_a_peer_that_left_for_an_interface_where_it_is_not_yet_moves_there() -> None:
    """The other interface refused the peer, or it was away."""
    kernel = actual(dump(), dump(name="wg1"))
    said, _ = after([row(5, interface="wg1")], kernel, node_state(record(5)))
    assert said == [("peer_removed", "0001-DEV-005", "Peer removed from wg0 (10.200.0.5/32): moved to wg1")]


def test_additions_of_two_batches_are_told_after_the_other_events() -> None:
    gone = AuditEvent(AuditAction.PEER_REMOVED, "0001-DEV-009")
    both = WriteBatch(added=(record(5),)) + WriteBatch(audit=(gone,), added=(record(6),))
    assert [(one.action, one.target) for one in both.events()] == [
        ("peer_removed", "0001-DEV-009"),
        ("peer_added", "0001-DEV-005"),
        ("peer_added", "0001-DEV-006"),
    ]
