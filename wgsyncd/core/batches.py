"""Splits a write batch into several transactions, so that none locks many devices at one time."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from wgsyncd.core.model import DeviceId
from wgsyncd.core.records import PeerRecord
from wgsyncd.core.state import Posting, WriteBatch


def split(writes: WriteBatch, size: int) -> Iterator[WriteBatch]:
    """The batch as several transactions, each with the postings of at most ``size`` devices.

    Each transaction is complete in itself: the bytes, buckets, days and baseline of a device are in one
    transaction. Only the last transaction may be larger. The last transaction holds:

    - Checkpoints, conditions and audit rows. After a crash before the last transaction, the next cycle makes them.
    - The records without a posting, because audit rows are the difference to these records. They lock no row of
      another writer.
    - The devices of ``commit_last``, because their audit and quarantine rows must be committed together with
      their baselines.
    - The devices with a transition. Once their handshake is posted, no later cycle would find the transition.
    """
    last = writes.commit_last | {step.row.id for step, _ in writes.transitions}
    if last or not writes.is_paired:
        yield from _split_any(writes, last, size)
        return
    end = max(len(writes.postings) - 1, 0) // size * size  # where the last transaction begins
    for at in range(0, end, size):
        part = writes.postings[at : at + size], writes.records[at : at + size]
        yield WriteBatch(*part, counts_only=writes.counts_only)
    yield replace(writes, postings=writes.postings[end:], records=writes.records[end:])


def _split_any(writes: WriteBatch, last: Set[DeviceId], size: int) -> Iterator[WriteBatch]:
    """:func:`split` for any batch. ``last``: the rows of the last transaction."""
    records: dict[tuple[DeviceId | None, str], list[PeerRecord]] = {(b.row_id, b.device): [] for b in writes.postings}
    others: list[PeerRecord] = []
    for record in writes.records:
        records.get((record.row_id, record.device), others).append(record)

    def part(postings: Sequence[Posting]) -> WriteBatch:
        some = tuple(r for b in postings for r in records[b.row_id, b.device])
        return WriteBatch(tuple(postings), some, counts_only=writes.counts_only)

    # Postings are in the order of row ids, so that two writers cannot deadlock on rows.
    # The postings of the last transaction come at the end.
    postings = sorted(writes.postings, key=lambda b: (b.row_id in last, b.row_id))
    at = 0
    while len(postings) - at > size and postings[at + size - 1].row_id not in last:
        yield part(postings[at : at + size])
        at += size
    rest = part(postings[at:])
    yield replace(writes, postings=rest.postings, records=(*rest.records, *others))
