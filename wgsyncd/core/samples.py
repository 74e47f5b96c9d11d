"""Samples that are not booked yet: what dumps said while the database took nothing in, kept until it does.

Booking them late is exact because

1. they hold counters, not differences: what they add is the difference to the baseline that the books then have, so
   a sample that was booked already adds nothing;
2. that holds within one life of a counter. So they are booked in the order in which they were taken, one transaction
   each, and in it the books note the sample's number: what is at or below that number is never booked again;
3. a peer is added anew only after all samples before it were booked, since every cycle begins with them.

For each life of a counter and each day one sample of a peer is kept, its last: bytes are then booked to the day they
came on, and an outage of any length needs little room.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from wgsyncd.core.ledger import Ledger, Slot
from wgsyncd.core.model import InterfaceState, PeerState, PublicKey

MOST = 500_000  # peers in all samples together; some 60 MB as they are written


@dataclass(frozen=True, slots=True)
class Sample:
    """What one interface's counters were at one instant; a part of a dump."""

    number: int  # they grow, also over restarts
    at: float  # UNIX seconds
    day: str  # of the zone, YYYY-MM-DD
    state: InterfaceState


@dataclass(frozen=True, slots=True)
class Backlog:
    """The samples that are not booked, in the order in which they were taken. ``stream`` names their numbering: another
    one begins where the file with the last number was lost."""

    stream: str
    next_number: int = 1
    samples: tuple[Sample, ...] = ()

    @property
    def peers(self) -> int:
        """How many counters are kept."""
        return sum(len(sample.state.peers) for sample in self.samples)

    def mark(self, sample: Sample) -> str:
        """What the books note with the sample: see :attr:`wgsyncd.core.ledger.Ledger.spool`."""
        return f"{self.stream}:{sample.number}"

    def unbooked(self, mark: str) -> Backlog:
        """Without what the books have, by their mark."""
        stream, _, number = mark.partition(":")
        if stream != self.stream:
            return self
        booked = int(number)
        kept = tuple(sample for sample in self.samples if sample.number > booked)
        return replace(self, next_number=max(self.next_number, booked + 1), samples=kept)

    def keep(self, state: InterfaceState, at: float, day: str) -> Backlog:
        """With one more sample, which takes the place of what it overtakes: earlier ones of the same peers, on the same
        day, whose counters only went on. The same backlog if it says nothing new. OverflowError if it has no room."""
        news = dict(state.peers)
        unseen = set(news)
        older: list[Sample] = []
        for one in reversed(self.samples):
            sample = one
            if sample.state.name == state.name:
                met = sample.state.peers.keys() & unseen
                unseen -= met  # only a peer's latest sample may be replaced: one before it tells of another life
                same_life = sample.state.epoch == state.epoch
                for key in met if same_life else ():
                    if _says_the_same(sample.state.peers[key], news[key]):
                        del news[key]
                if same_life and sample.day == day:
                    over = {k for k in met & news.keys() if not _went_back(sample.state.peers[k], news[k])}
                    sample = _without(sample, over)
            if sample.state.peers:
                older.append(sample)
        if not news:
            return self
        new = Sample(self.next_number, at, day, replace(state, peers=news))
        kept = replace(self, next_number=self.next_number + 1, samples=(*reversed(older), new))
        if kept.peers > MOST:
            raise OverflowError(f"the spool holds {self.peers} counters, its most is {MOST}")
        return kept


def _says_the_same(old: PeerState, new: PeerState) -> bool:
    return (old.counters, old.latest_handshake) == (new.counters, new.latest_handshake)


def _went_back(old: PeerState, new: PeerState) -> bool:
    return (
        new.counters.rx < old.counters.rx
        or new.counters.tx < old.counters.tx
        or bool(old.latest_handshake and not new.latest_handshake)
    )


def _without(sample: Sample, keys: Set[PublicKey]) -> Sample:
    peers = {key: found for key, found in sample.state.peers.items() if key not in keys}
    return replace(sample, state=replace(sample.state, peers=peers))


def moved(state: InterfaceState, ledger: Ledger | None, only: Set[PublicKey] | None = None) -> InterfaceState:
    """The part of a dump that the books do not have: of the peers ``only``, or of all. Without books (None): all."""

    def news(slot: Slot, found: PeerState) -> bool:
        record = ledger.records.get(slot) if ledger is not None else None
        if record is None:
            return ledger is None
        return (record.epoch, record.counters, record.handshake) != (
            state.epoch,
            found.counters,
            found.latest_handshake,
        )

    peers: Mapping[PublicKey, PeerState] = {
        key: found
        for key, found in state.peers.items()
        if (only is None or key in only) and news((state.name, key), found)
    }
    return replace(state, peers=peers)
