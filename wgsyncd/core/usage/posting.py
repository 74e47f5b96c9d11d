"""Turns the kernel's counters into postings and new baselines, so that every byte is posted once.

The node state holds the last posted sample of each peer: its epoch, its counters and its latest handshake. These
counters are the baseline. The delta of a later sample is its counter minus the baseline.

The invariants, and what each one relies on:

1. For every live peer, ``posted + (counter - baseline) = counted``. One transaction changes a device's bytes, windows
   and baseline together (:class:`wgsyncd.core.state.WriteBatch`). The same transaction checks the revision and adds one
   to it, so it happens once or not at all. After a failed commit, wgsyncd reads the node state from the store again.
   So the next posting starts from what the store really has. To post a sample twice in a row is harmless: the second
   delta is zero.
2. A delta is valid only until the counter restarts at zero. A counter restarts in each new epoch (boot id, interface
   index) and each time that its peer is added. Three signs show a restart: another epoch, a counter below its baseline,
   or a handshake that is gone. After a restart, the delta is the whole counter.
3. A baseline of zero is committed *before* a peer is added, and the waiting samples are posted before that commit. A
   crash before the addition leaves a baseline without a peer, which is harmless. Another order could leave a peer whose
   first bytes have no baseline, or compare a sample from before the restart with the new baseline. A peer that its
   interface lost has one already: by rule 2, a baseline of an earlier epoch means zero, unless it is doubted (rule 7).
4. Before a peer is removed, it loses its allowed IPs, so that no more traffic passes. Then its last sample is taken and
   written to the spool's file. Only then is the peer removed, even if the file could not be written (see the limits).
5. A sample that cannot be posted at once goes to the spool (:mod:`wgsyncd.core.usage.backlog`). Waiting samples are
   posted before any later sample, in the order in which they were taken. The transaction that completes a sample also
   stores the sample's number. So a sample from before a restart never meets a baseline from after it. The order is:
   write the file, post and store the number, write the file without the sample. A crash before the commit of the number
   only delays the posting. After this commit, the stored number prevents a second posting.
6. A row that cannot be changed keeps no sample back. Somebody has locked the row, or the store refuses the change.
   Then the transaction sets the posting aside in the store, and moves the baseline all the same. A later transaction
   posts what is set aside and deletes it there. So ``posted`` of rule 1 includes what is set aside.
7. Invariant 2 needs counters that never go back to an earlier state. A machine can come back: a virtual machine is put
   back to a snapshot, or a node goes back to a machine that ran it before. A container may get another boot id although
   its kernel goes on. The claim of the node notices that (:mod:`wgsyncd.core.identity`). Its transaction marks the
   epochs of all baselines as doubted. No counter is posted in full after a doubted baseline. The first sample becomes
   the baseline and is reported with both numbers. A waiting sample of a boot that wrote before the boot of its baseline
   is reported and left out. Without marks nothing changes.
8. A record names the device that gets the bytes. It changes its device only while no byte waits to be posted
   (:mod:`wgsyncd.core.peers.recording`). So a row id or a key that is used again takes no byte of the former device.
9. Rule 1 needs baselines and columns of one moment. A dump of one half may be put back. The revision and the column of
   a month show that (:mod:`wgsyncd.core.usage.halves`). They are compared whenever the node state went back. For that,
   bytes of the present bucket are stored in the row of the baseline.

The limits:

- Bytes after the last sample that is posted or in the file are lost if another program, a power cut or a reboot ends
  the counter. If the spool cannot be written, samples are only in memory and are lost with the process.
- A restart is invisible if the new counters have passed the old ones before the next sample. Another program can cause
  this: it adds the peer again, or makes the interface again with the same index. Then as many bytes are missing as the
  old counters had reached.
- The bytes between the last posting before a machine was put back and the first sample afterwards may be missing.
- A machine may be put back by less than half a minute, and its daemon may start again later than the boot's last stored
  uptime. Nothing shows that. A counter below its baseline then looks like a restart, and bytes may be posted twice.
- wgsyncd's own tables may be put back while no daemon runs, on a machine that lost the file with the revision. The
  bytes after the dump are posted again.
- A dump may be put back table by table while a daemon runs. If a bucket ends in that moment, its bytes may be posted
  twice.
- The samples in a damaged spool file are not posted. wgsyncd renames the file and reports it. An admin may put it back
  after later samples were posted. Then a counter below its baseline looks like a restart: bytes may be posted twice.
- When the bytes came between two samples is unknown. They are shared out over this span by time.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import inf
from operator import attrgetter

from wgsyncd.core.model import EARLIEST, NO_BYTES, Counters, DeviceId, DeviceRow, InterfaceState, PeerState, PublicKey
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.reasons import AnomalyKind
from wgsyncd.core.records import DOUBT, PeerRecord, doubted, record_of, recorded_handshake
from wgsyncd.core.state import InterfaceCheckpoint, NodeState, Posting, WriteBatch, merge_postings
from wgsyncd.core.usage.calendar import SpanPart, UsageCalendar, allocate_parts
from wgsyncd.core.usage.spans import Spans

CHUNK = 10_000  # peers whose postings are in memory at one time: some 500 bytes for each peer
_ROW_ID = attrgetter("row_id")


def counter_delta(baseline: PeerRecord, found: PeerState, epoch: str) -> tuple[int, int, AnomalyKind | None]:
    """The received and sent bytes since the baseline, and what is unusual about the counters.

    ``found`` is the sampled peer, ``epoch`` its interface's epoch. In another epoch both counters began at zero, so
    they are the delta. Within one epoch, a counter below its baseline or a handshake that is gone means that another
    program removed the peer and added it again. Then both counters are the delta, too: RESET.

    After a baseline of a doubted epoch (:func:`wgsyncd.core.records.doubted`), only counters of the same epoch at or
    above the baseline are sure. Otherwise the delta is zero: CAME_BACK.
    """
    rx, tx = found.rx - baseline.rx, found.tx - baseline.tx
    goes_on = rx >= 0 and tx >= 0 and (found.latest_handshake or baseline.handshake <= 0)
    if baseline.epoch == epoch:
        return (rx, tx, None) if goes_on else (found.rx, found.tx, AnomalyKind.RESET)
    if not baseline.epoch.startswith(DOUBT):
        return found.rx, found.tx, None
    if goes_on and baseline.epoch == doubted(epoch):
        return rx, tx, None
    return 0, 0, AnomalyKind.CAME_BACK if found.rx or found.tx else None


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

    Each part has ``CHUNK`` peers that moved. The last peers (at most ``CHUNK``) are in no part. The caller posts the
    complete samples afterwards, which covers these last peers and the rows in ``apart``.
    """
    if sum(len(state.peers) for state in actual.values()) <= CHUNK:
        return
    part: dict[str, dict[PublicKey, PeerState]] = {}
    count = 0
    for name, state in actual.items():
        recorded = node_state.records.of(name)
        for key, found in state.peers.items():
            record = recorded.get(key)
            if record is None or record.row_id in apart or not _has_moved(record, found, state.epoch):
                continue
            if count == CHUNK:
                yield {name: replace(actual[name], peers=peers) for name, peers in part.items()}
                part, count = {}, 0
            part.setdefault(name, {})[key] = found
            count += 1


def _has_moved(record: PeerRecord, found: PeerState, epoch: str) -> bool:
    counted = record.rx == found.rx and record.tx == found.tx and max(record.handshake, 0) == found.latest_handshake
    return not counted or record.epoch != epoch


@dataclass(slots=True)
class _Collector:
    """Collects what the samples of one posting say."""

    now: float  # UNIX seconds
    postings: list[Posting] = field(default_factory=list)
    posted: list[PeerRecord] = field(default_factory=list)  # the new record of each posting, in the same order
    others: list[PeerRecord] = field(default_factory=list)  # new records without a posting
    anomalies: list[Anomaly] = field(default_factory=list)
    quarantined: list[QuarantinedDelta] = field(default_factory=list)
    unusual: set[DeviceId] = field(default_factory=set)  # rows whose devices have an anomaly
    counts_only: bool = True  # see WriteBatch

    def add(self, record: PeerRecord, rx: int, tx: int, parts: Sequence[SpanPart], handshake: int) -> None:
        """Add a new record, and post bytes and a newer handshake (UNIX nanoseconds) to its device."""
        seconds = handshake / 1e9 if handshake >= EARLIEST else None
        if record.row_id is None or not (rx or tx or seconds):
            self.others.append(record)
            return
        shares = allocate_parts(rx, tx, parts)
        self.posted.append(record)
        self.postings.append(Posting(record.row_id, record.device, shares, seconds))

    def report(self, kind: AnomalyKind, baseline: PeerRecord, found: PeerState) -> None:
        """Report an anomaly. The device's posting is then committed together with the anomaly's audit row."""
        name, device, owner = baseline.interface, baseline.device, baseline.owner
        self.anomalies.append(Anomaly(kind, name, device, owner, baseline.counters, found.counters))
        if baseline.row_id is not None:
            self.unusual.add(baseline.row_id)

    def quarantine(self, baseline: PeerRecord, rx: int, tx: int, since: float) -> None:
        """Put a delta into quarantine. It came since ``since`` (UNIX seconds)."""
        delta = QuarantinedDelta(baseline.interface, baseline.row_id, baseline.device, rx, tx, since, self.now)
        self.quarantined.append(delta)

    def batch(self, checkpoints: Mapping[str, InterfaceCheckpoint]) -> WriteBatch:
        """All that is collected. Empty without records, because nothing moved then."""
        if not (self.posted or self.others):
            return WriteBatch()
        self.postings.sort(key=_ROW_ID)
        self.posted.sort(key=_ROW_ID)  # so each record still belongs to the posting at the same place
        return WriteBatch(
            merge_postings(self.postings),
            (*self.posted, *self.others),
            checkpoints=checkpoints,
            quarantined=tuple(self.quarantined),
            commit_last=frozenset(self.unusual),
            counts_only=self.counts_only,
        )


def post(
    actual: Mapping[str, InterfaceState],
    node_state: NodeState,
    calendar: UsageCalendar,
    *,
    since: Mapping[str, float],
    max_rates: Mapping[str, float],
    rows: Mapping[PublicKey, DeviceRow] | None = None,
    former: NodeState | None = None,
    at: float | None = None,
    complete: bool = True,
) -> PostingResult:
    """The postings, new baselines and anomalies of samples. The writes are empty if nothing moved.

    A peer that is in no sample keeps its baseline. Times are UNIX seconds.

    - ``actual``: the samples by interface.
    - ``since``: when each interface was last sampled. For an interface that is not in it, the node state has the time.
    - ``max_rates``: bits per second by interface. A delta above this rate goes to quarantine, if its span is known.
    - ``rows``: the rows by key, if they were just read. Only with these rows is a peer without a record adopted.
    - ``former``: what this process knew before the store lost the records of ``rows``.
    - ``at``: when the samples were taken. None means ``calendar.now``.
    - ``complete``: the samples contain all peers. Only then do the writes contain a checkpoint for each interface.
    """
    now = calendar.now if at is None else min(at, calendar.now)
    sampled_at = now if at is None else at  # after `now` if the clock was set back. The next span is then unknown
    rows, marks, collected = rows or {}, node_state.interfaces, _Collector(now)
    for name, state in actual.items():
        epoch, recorded, mark = state.epoch, node_state.records.of(name), marks.get(name)
        spans = Spans(calendar, now, mark.at if mark is not None else 0.0, max_rates.get(name, inf))
        last_sampled = since.get(name)
        for key, found in state.peers.items():
            old, handshake = recorded.get(key), found.latest_handshake
            if old is None:
                if (row := rows.get(key)) is not None:
                    # wgsyncd starts beside peers that are already there. If a device has no usage yet, nobody has
                    # counted its bytes, so they are posted in full. Otherwise another program has counted them.
                    # A former baseline is one that this process posted before the store lost it.
                    rx, tx = found.counters if row.has_no_usage else NO_BYTES
                    before = former.records.get((name, key)) if former is not None else None
                    if before is not None and not row.has_no_usage:
                        rx, tx, _ = counter_delta(replace(before, epoch=doubted(before.epoch)), found, epoch)
                    new = record_of(name, epoch, found, row.id, row.device, row.owner, now)
                    collected.add(new, rx, tx, calendar.parts(now), handshake)
                    collected.counts_only = False
                continue
            if not _has_moved(old, found, epoch):
                continue
            span = spans.of(last_sampled, old.sampled_at)
            if old.epoch != epoch:
                collected.counts_only = False
                if at is not None and node_state.is_outdated(epoch, old.epoch):
                    collected.report(AnomalyKind.CAME_BACK, old, found)
                    continue  # The baseline stays: it is of a later boot.
            rx, tx, anomaly = counter_delta(old, found, epoch)
            if anomaly is not None:
                collected.report(anomaly, old, found)
            if rx > span.capacity or tx > span.capacity:
                collected.report(AnomalyKind.QUARANTINED, old, found)
                collected.quarantine(old, rx, tx, span.since)
                rx = tx = 0
            new = PeerRecord(  # `replace` would take four times as long
                name, old.public_key, old.row_id, old.device, old.owner, old.address, old.config_digest,
                old.state, epoch, found.rx, found.tx, recorded_handshake(handshake, old.handshake), sampled_at,
            )  # fmt: skip
            collected.add(new, rx, tx, span.parts, handshake if handshake > old.handshake else 0)
    # The recorder writes and audits a new epoch. Until then the checkpoint keeps the old one.
    done = {name: InterfaceCheckpoint(marks[name].epoch, now) for name in actual if complete and name in marks}
    return PostingResult(collected.batch(done), tuple(collected.anomalies))
