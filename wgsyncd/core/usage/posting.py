"""Turns the kernel's counters into postings and new baselines, so that every byte is posted once.

The node state holds the last posted sample of each peer: its epoch, its counters and its latest handshake. These
counters are the baseline. The delta of a later sample is its counter minus the baseline.

The invariants, and what each one relies on:

1. For every live peer, ``posted + (counter - baseline) = counted``. One transaction changes a device's bytes, windows
   and baseline together (:class:`wgsyncd.core.state.WriteBatch`). The same transaction checks the revision and adds one
   to it, so it happens once or not at all. After a failed commit, wgsyncd reads the node state from the store again.
   (Not after RowsLocked, which writes nothing.) So the next posting starts from what the store really has. To post a
   sample twice in a row is harmless: the second delta is zero.
2. A delta is valid only until the counter restarts at zero. A counter restarts in each new epoch (boot id, interface
   index) and each time that its peer is added. Three signs show a restart: another epoch, a counter below its baseline,
   or a handshake that is gone. After a restart, the delta is the whole counter.
3. A baseline of zero is committed *before* a peer is added, and the waiting samples are posted before that commit. A
   crash before the addition leaves a baseline without a peer, which is harmless. Another order could leave a peer whose
   first bytes have no baseline, or compare a sample from before the restart with the new baseline.
4. Before a peer is removed, it loses its allowed IPs, so that no more traffic passes. Then its last sample is taken and
   written to the spool's file. Only then is the peer removed, even if the file could not be written (see the limits).
5. A sample that cannot be posted at once goes to the spool (:mod:`wgsyncd.core.usage.backlog`). Waiting samples are
   posted before any later sample, in the order in which they were taken. The transaction that completes a sample also
   stores the sample's number. So a sample from before a restart never meets a baseline from after it. The order is:
   write the file, post and store the number, write the file without the sample. A crash before the commit of the number
   only delays the posting. After this commit, the stored number prevents a second posting.
6. A device that is left out of a posting (its row is locked) keeps its baseline. A waiting sample is done only when it
   is posted for all its devices. Until then the whole sample stays in the backlog.

The limits:

- Bytes after the last sample that is posted or in the file are lost if another program, a power cut or a reboot ends
  the counter. If the spool cannot be written, samples are only in memory and are lost with the process.
- A restart is invisible if the new counters have passed the old ones before the next sample. Another program can cause
  this: it adds the peer again, or makes the interface again with the same index. Then as many bytes are missing as the
  old counters had reached.
- The samples in a damaged spool file are not posted. wgsyncd renames the file and reports it. An admin may put it back
  after later samples were posted. Then a counter below its baseline looks like a restart: bytes may be posted twice.
- When the bytes came between two samples is unknown. They are shared out over this span by time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from wgsyncd.core.model import NO_BYTES, Counters, DeviceId, DeviceRow, InterfaceState, PeerState, PublicKey
from wgsyncd.core.reasons import AnomalyKind
from wgsyncd.core.records import PeerRecord, record_of
from wgsyncd.core.state import (
    Allocation,
    InterfaceCheckpoint,
    NodeState,
    Posting,
    QuarantinedDelta,
    WriteBatch,
    merge_allocations,
)
from wgsyncd.core.usage.calendar import SpanPart, UsageCalendar, allocate_parts

SLACK = 5.0  # seconds added to a span before its capacity is computed: to read a dump takes time
CHUNK = 2_500  # peers whose sums are in memory at one time: some 900 bytes for each peer


class CounterDelta(NamedTuple):
    """The bytes that a peer moved since its baseline, and whether its counters restarted."""

    delta: Counters
    reset: bool  # within one epoch a counter is below its baseline, or the handshake is gone


def counter_delta(baseline: PeerRecord, found: PeerState, epoch: str) -> CounterDelta:
    """The bytes since the baseline, and whether the counters were reset.

    ``found`` is the sampled peer, ``epoch`` its interface's epoch. In another epoch both counters began at zero, so
    they are the delta. Within one epoch, a counter below its baseline or a handshake that is gone means that another
    program removed the peer and added it again. Then both counters are the delta, too, and ``reset`` is true.
    """
    if baseline.epoch != epoch:
        return CounterDelta(found.counters, False)
    rx, tx = found.rx - baseline.rx, found.tx - baseline.tx
    if rx < 0 or tx < 0 or (baseline.handshake and not found.latest_handshake):
        return CounterDelta(found.counters, True)
    return CounterDelta(Counters(rx, tx), False)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something about a peer's counters that an admin should know."""

    kind: AnomalyKind
    interface: str
    device: str
    owner: str
    previous: Counters
    current: Counters


@dataclass(frozen=True, slots=True)
class PostingResult:
    """What to write for a set of samples, and what to report about them."""

    writes: WriteBatch
    anomalies: tuple[Anomaly, ...]


def chunks(
    actual: Mapping[str, InterfaceState], node_state: NodeState, apart: Set[DeviceId]
) -> Iterator[dict[str, InterfaceState]]:
    """Parts of these samples that are posted one by one, so that memory stays small when very many peers moved.

    Each part has ``CHUNK`` peers that moved, in the order of their rows' ids. The last peers (at most ``CHUNK``) are in
    no part. The caller posts the complete samples afterwards, which covers these last peers and the rows in ``apart``.
    """
    moved = [
        record
        for record in node_state.records.each()
        if record.row_id not in apart
        and (state := actual.get(record.interface)) is not None
        and (found := state.peers.get(record.public_key)) is not None
        and _has_moved(record, found, state.epoch)
    ]
    moved.sort(key=lambda record: (record.row_id is not None, record.row_id))
    for at in range(0, len(moved) - CHUNK, CHUNK):
        peers: dict[str, dict[PublicKey, PeerState]] = {}
        for record in moved[at : at + CHUNK]:
            found = actual[record.interface].peers[record.public_key]
            peers.setdefault(record.interface, {})[record.public_key] = found
        yield {name: replace(actual[name], peers=some) for name, some in peers.items()}


def _has_moved(record: PeerRecord, found: PeerState, epoch: str) -> bool:
    counted = record.rx == found.rx and record.tx == found.tx and record.handshake == found.latest_handshake
    return not counted or record.epoch != epoch


def post(
    actual: Mapping[str, InterfaceState],
    node_state: NodeState,
    calendar: UsageCalendar,
    *,
    since: Mapping[str, float],
    max_rates: Mapping[str, float],
    skipped_since: Mapping[DeviceId, Mapping[str, float]] | None = None,
    rows: Mapping[PublicKey, DeviceRow] | None = None,
    at: float | None = None,
    complete: bool = True,
) -> PostingResult:
    """The postings, new baselines and anomalies of samples. The writes are empty if nothing moved.

    A peer that is in no sample keeps its baseline. Times are UNIX seconds.

    - ``actual``: the samples by interface.
    - ``since``: when each interface was last sampled. For an interface that is not in it, the node state has the time.
    - ``skipped_since``: the same by row id, for rows that earlier postings left out.
    - ``max_rates``: bits per second by interface. A delta above this rate goes to quarantine, if its span is known.
    - ``rows``: the rows by key, if they were just read. Only with these rows is a peer without a record adopted.
    - ``at``: when the samples were taken. None means ``calendar.now``.
    - ``complete``: the samples contain all peers. Only then do the writes contain a checkpoint for each interface.
    """
    now = calendar.now if at is None else min(at, calendar.now)
    sampled_at = now if at is None else at  # after `now` if the clock was set back. The next span is then unknown
    allocations: dict[tuple[DeviceId, str], list[Allocation]] = {}
    handshakes: dict[tuple[DeviceId, str], int] = {}  # UNIX nanoseconds
    records: list[PeerRecord] = []
    quarantined: list[QuarantinedDelta] = []
    anomalies: list[Anomaly] = []
    unusual: set[DeviceId] = set()
    parts: dict[float, tuple[SpanPart, ...]] = {}  # by the start of the span: nearly all peers have the same start

    def add(row_id: DeviceId, device: str, delta: Counters, started: float, handshake: int) -> None:
        of_device = allocations.setdefault((row_id, device), [])
        if delta != (0, 0):
            if started not in parts:
                parts[started] = calendar.parts(started, now)
            of_device += allocate_parts(delta, parts[started])
        handshakes[row_id, device] = max(handshakes.get((row_id, device), 0), handshake)

    for name, state in actual.items():
        sampled, recorded = node_state.interfaces.get(name), node_state.records.of(name)
        for key, found in state.peers.items():
            record = recorded.get(key)
            if record is None:
                row = rows.get(key) if rows is not None else None
                if row is None:
                    continue
                # wgsyncd starts beside peers that are already there. If a device has no usage yet, nobody has counted
                # its bytes, so they are posted in full. Otherwise another program has already counted them.
                records.append(record_of(name, state.epoch, found, row.id, row.device, row.owner, now))
                add(row.id, row.device, found.counters if row.has_no_usage else NO_BYTES, now, found.latest_handshake)
                continue
            if not _has_moved(record, found, state.epoch):
                continue
            delta, reset = counter_delta(record, found, state.epoch)
            skipped = skipped_since.get(record.row_id) if skipped_since and record.row_id is not None else None
            started = (since if skipped is None else skipped).get(name)
            known_span = True
            if started is None:
                started = max(record.sampled_at, sampled.at if sampled else 0.0)
                known_span = started <= now
            started = min(started, now)  # the clock may go back: a negative span would put every delta into quarantine
            # An interrupted posting may have sampled this peer later than its interface.
            came_since = max(started, record.sampled_at) if record.sampled_at <= now else started
            if reset:
                anomalies.append(
                    Anomaly(AnomalyKind.RESET, name, record.device, record.owner, record.counters, found.counters)
                )
            capacity = max_rates.get(name, float("inf")) / 8 * (now - started + SLACK)
            too_much = known_span and max(delta) > capacity
            if record.row_id is not None and (reset or too_much):
                unusual.add(record.row_id)
            if too_much:
                anomalies.append(
                    Anomaly(AnomalyKind.QUARANTINED, name, record.device, record.owner, record.counters, found.counters)
                )
                quarantined.append(QuarantinedDelta(name, record.row_id, record.device, *delta, came_since, now))
                delta = NO_BYTES
            newer = found.latest_handshake if found.latest_handshake > record.handshake else 0
            if record.row_id is not None and (delta != (0, 0) or newer):
                add(record.row_id, record.device, delta, came_since, newer)
            records.append(PeerRecord(  # `replace` would take four times as long
                name, record.public_key, record.row_id, record.device, record.owner, record.address,
                record.config_digest,
                record.state, state.epoch, found.rx, found.tx, found.latest_handshake, sampled_at,
            ))  # fmt: skip
    if not (records or quarantined):
        return PostingResult(WriteBatch(), ())
    writes = WriteBatch(
        postings=tuple(
            Posting(*device, merge_allocations(some), handshakes[device] / 1e9 if handshakes[device] else None)
            for device, some in sorted(allocations.items())
        ),
        records=tuple(records),
        quarantined=tuple(quarantined),
        commit_last=frozenset(unusual),
        # The recorder writes and audits a new epoch. Until then the checkpoint keeps the old one.
        checkpoints={
            name: InterfaceCheckpoint(mark.epoch, now)
            for name in actual
            if complete and (mark := node_state.interfaces.get(name)) is not None
        },
    )
    return PostingResult(writes, tuple(anomalies))


def post_released(held: Iterable[QuarantinedDelta], calendar: UsageCalendar) -> tuple[Posting, ...]:
    """The postings for deltas that an admin released from quarantine.

    Each delta is shared out over the buckets and days of its own span. A delta without a row is left out.
    """
    allocations: dict[tuple[DeviceId, str], tuple[Allocation, ...]] = {}
    for one in held:
        if one.row_id is not None:
            added = calendar.allocate(Counters(one.rx, one.tx), one.since, one.until)
            device = one.row_id, one.device
            allocations[device] = allocations.get(device, ()) + added
    return tuple(Posting(*device, merge_allocations(some)) for device, some in sorted(allocations.items()))
