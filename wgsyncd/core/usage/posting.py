"""Counters -> deltas, windows and new baselines. Every byte the kernel counts is booked once.

A *look* at a peer is (epoch, counters, handshake). The books hold one for each peer, the baseline; what is booked of a
later one is the difference. The invariants, and what each rests on:

1. ``booked + (counter - baseline) = counted`` for every live peer, because a device's bytes, windows and baseline
   change in one transaction (:class:`wgsyncd.core.state.Writes`), and that transaction also compares and counts up
   ``seq``: it happens once or not at all. After any failure the ledger in memory is thrown away, so what is booked next
   starts from what the store really has. To book a look twice in a row adds nothing.
2. A counter belongs to a life: an epoch (boot id, interface index), and in it the time from a peer's being added to its
   end. A new life begins at zero: by another epoch, by a counter that went back, by a handshake that is gone.
3. A baseline of zero is committed *before* a peer is added, and everything that waits is booked before that. A crash
   between the two leaves a baseline without a peer, which costs nothing; the other order would leave a peer whose first
   bytes have no baseline, or an old life's look to be held against a new baseline.
4. Before a peer is removed it is silenced, looked at once more, and that look is in the books or in the spool's file.
5. A look that cannot be booked at once goes to the spool (:mod:`wgsyncd.core.usage.backlog`). Samples are booked
   before any later look is, in their order, each in a transaction that also notes its number: so a look at an old life
   never meets the baseline of a newer one. The order is: file written, booked with its number, file written without
   it. A crash after the first books it later; after the second, the number keeps it from being booked again.
6. A device that is left out of a booking (its row is locked) keeps its baseline. A sample is booked whole or not at
   all.

What cannot be had:

- what came after the last look that is in the books or in the file, when somebody else, a power cut or a reboot ends
  the life. Where the spool cannot be written, looks are in memory alone, and go with the process;
- the bytes of a life whose end nothing shows: a foreign hand (or an interface made anew with the index it had) began
  the next, and at the first look its counters had all passed the old ones. As many as the old life had are missing;
- what was in a spool that is damaged. It is set aside and said. One put back later, when others were booked since, is
  taken for what it says: within one life that adds nothing, over several it may book bytes again;
- when, within the span between two looks, bytes came: they are shared out by time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from wgsyncd.core.model import NO_BYTES, Counters, DeviceRow, InterfaceState, PeerState, PublicKey
from wgsyncd.core.reasons import AnomalyKind
from wgsyncd.core.records import PeerRecord, RecordState, addresses_of, config_digest
from wgsyncd.core.state import Allocation, InterfaceCheckpoint, NodeState, Posting, QuarantinedDelta, WriteBatch
from wgsyncd.core.usage.calendar import Share, UsageCalendar, allocate_shares

SLACK = 5.0  # seconds granted to a link's capacity: dumps are not taken at an instant
CHUNK = 2_500  # peers whose sums are in memory at one time: some 900 bytes for each


class CounterDelta(NamedTuple):
    """What a counter did since its baseline."""

    delta: Counters
    reset: bool  # it went back without a reason that we know


def counter_delta(baseline: PeerRecord, found: PeerState, epoch: str) -> CounterDelta:
    """The bytes since the baseline. A counter below it, or a handshake that is gone, means that somebody else made the
    peer anew: both counters then count from zero, and it is reported."""
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
    """What a set of dumps says since the ledger."""

    writes: WriteBatch
    anomalies: tuple[Anomaly, ...]


@dataclass(slots=True)
class _Accumulator:
    """One device's sum while dumps are gone through."""

    delta: Counters
    pieces: list[Allocation]
    handshake: int


def chunks(
    actual: Mapping[str, InterfaceState], node_state: NodeState, apart: Set[int]
) -> Iterator[dict[str, InterfaceState]]:
    """Where very many peers moved: parts of these dumps, in the order of the peers' rows, to be booked each by itself
    before the dumps as a whole are, for which then the rest is left. ``apart``: rows that are left for it, too."""
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


def _start_of(
    record: PeerRecord, skipped_since: Mapping[int, Mapping[str, float]], since: Mapping[str, float]
) -> Mapping[str, float]:
    return skipped_since.get(record.row_id, since) if record.row_id is not None else since


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
    skipped_since: Mapping[int, Mapping[str, float]] | None = None,
    rows: Mapping[PublicKey, DeviceRow] | None = None,
    at: float | None = None,
    complete: bool = True,
) -> PostingResult:
    """Account for dumps taken at ``at`` (UNIX seconds; None: at ``windows.now``). Only of ``whole`` ones it is said
    that the interface was sampled. A peer that is not in one is left as it is.

    ``since``: when the peers of each interface were last looked at (UNIX seconds; what is not there is taken from the
    ledger); ``late``: the same for the row ids of which it is earlier. ``max_rates``: bits per second. ``rows``: the
    rows by key where they were just read: only then can a peer that has no record yet be adopted. Nothing moved: empty
    writes.
    """
    now = calendar.now if at is None else min(at, calendar.now)
    sampled_at = now if at is None else at  # also where the clock was set back since: then nobody knows
    accounts: dict[int, _Accumulator] = {}
    records: list[PeerRecord] = []
    quarantined: list[QuarantinedDelta] = []
    anomalies: list[Anomaly] = []
    odd: set[int] = set()
    shares: dict[float, tuple[Share, ...]] = {}  # by the start of the span: nearly all have the same

    def add(row_id: int, delta: Counters, started: float, handshake: int) -> None:
        account = accounts.setdefault(row_id, _Accumulator(NO_BYTES, [], 0))
        account.delta = Counters(account.delta.rx + delta.rx, account.delta.tx + delta.tx)
        if delta != (0, 0):
            if started not in shares:
                shares[started] = calendar.shares(started, now)
            account.pieces += allocate_shares(delta, shares[started])
        account.handshake = max(account.handshake, handshake)

    for name, state in actual.items():
        sampled, recorded = node_state.interfaces.get(name), node_state.records.of(name)
        for key, found in state.peers.items():
            record = recorded.get(key)
            if record is None:
                row = rows.get(key) if rows is not None else None
                if row is None:
                    continue
                # First start beside running peers: what a device that was never counted has used so far is its due;
                # of any other the present counters were counted by whoever filled the columns before us.
                records.append(initial_record(name, state.epoch, found, row, now))
                add(row.id, found.counters if row.has_no_usage else NO_BYTES, now, found.latest_handshake)
                continue
            if not _has_moved(record, found, state.epoch):
                continue
            delta, reset = counter_delta(record, found, state.epoch)
            started = _start_of(record, skipped_since or {}, since).get(name)
            known_span = True
            if started is None:
                started = max(record.sampled_at, sampled.at if sampled else 0.0)
                known_span = started <= now
            started = min(started, now)  # whatever the clock did: no span is negative, or all would be too much for it
            # A booking that ended half-way has looked at this one later than at its interface.
            came_since = max(started, record.sampled_at) if record.sampled_at <= now else started
            if reset:
                anomalies.append(
                    Anomaly(AnomalyKind.RESET, name, record.device, record.owner, record.counters, found.counters)
                )
            capacity = max_rates.get(name, float("inf")) / 8 * (now - started + SLACK)
            too_much = known_span and max(delta) > capacity
            if record.row_id is not None and (reset or too_much):
                odd.add(record.row_id)
            if too_much:
                anomalies.append(
                    Anomaly(AnomalyKind.QUARANTINED, name, record.device, record.owner, record.counters, found.counters)
                )
                quarantined.append(QuarantinedDelta(name, record.row_id, record.device, *delta, came_since, now))
                delta = NO_BYTES
            newer = found.latest_handshake if found.latest_handshake > record.handshake else 0
            if record.row_id is not None and (delta != (0, 0) or newer):
                add(record.row_id, delta, came_since, newer)
            records.append(PeerRecord(  # not by `replace`, which takes four times as long
                name, record.public_key, record.row_id, record.device, record.owner, record.address,
                record.config_digest,
                record.state, state.epoch, found.rx, found.tx, found.latest_handshake, sampled_at,
            ))  # fmt: skip
    first, beyond = calendar.month
    booked = tuple(_booked(row_id, account, first, beyond) for row_id, account in sorted(accounts.items()))
    if not (records or quarantined):
        return PostingResult(WriteBatch(), ())
    writes = WriteBatch(
        postings=booked,
        records=tuple(records),
        quarantined=tuple(quarantined),
        commit_last=frozenset(odd),
        # A new epoch is left for the record step, which audits it; until then the interface keeps its old mark.
        checkpoints={
            name: InterfaceCheckpoint(mark.epoch, now)
            for name in actual
            if complete and (mark := node_state.interfaces.get(name)) is not None
        },
    )
    return PostingResult(writes, tuple(anomalies))


def _booked(row_id: int, account: _Accumulator, first: str, beyond: str) -> Posting:
    handshake = account.handshake / 1e9 if account.handshake else None
    if len(account.pieces) == 1:  # as nearly always
        (one,) = account.pieces
        delta = account.delta
        in_24h, in_month = (
            (delta if one.bucket is not None else NO_BYTES),
            (delta if first <= one.day < beyond else NO_BYTES),
        )
        return Posting(row_id, delta.rx, delta.tx, in_24h, in_month, (one,), handshake)
    recent = [p for p in account.pieces if p.bucket is not None]
    month = [p for p in account.pieces if first <= p.day < beyond]
    merged: dict[tuple[int | None, str], Counters] = {}
    for p in account.pieces:
        old = merged.get((p.bucket, p.day), NO_BYTES)
        merged[p.bucket, p.day] = Counters(old.rx + p.rx, old.tx + p.tx)
    return Posting(
        row_id,
        account.delta.rx,
        account.delta.tx,
        Counters(sum(p.rx for p in recent), sum(p.tx for p in recent)),
        Counters(sum(p.rx for p in month), sum(p.tx for p in month)),
        tuple(Allocation(bucket, day, rx, tx) for (bucket, day), (rx, tx) in merged.items()),
        handshake,
    )


def post_released(held: Iterable[QuarantinedDelta], calendar: UsageCalendar) -> tuple[Posting, ...]:
    """Deltas that were held back, as what they add to each device: shared out over their own time, as all are."""
    accounts: dict[int, _Accumulator] = {}
    for one in held:
        if one.row_id is None:
            continue
        account = accounts.setdefault(one.row_id, _Accumulator(NO_BYTES, [], 0))
        account.delta = Counters(account.delta.rx + one.rx, account.delta.tx + one.tx)
        account.pieces += calendar.allocate(Counters(one.rx, one.tx), one.since, one.until)
    first, beyond = calendar.month
    return tuple(_booked(row_id, account, first, beyond) for row_id, account in sorted(accounts.items()))


def initial_record(interface: str, epoch: str, found: PeerState, row: DeviceRow, now: float) -> PeerRecord:
    """The first record of a peer that was there before us."""
    return PeerRecord(
        interface, found.config.public_key, row.id, row.device, row.owner, addresses_of(found.config),
        config_digest(found.config), RecordState.PRESENT, epoch, found.rx, found.tx, found.latest_handshake, now,
    )  # fmt: skip
