"""Samples that are not booked yet: what dumps said while the database took nothing in, kept until it does.

Booking them late is exact because

1. they hold counters, not differences: what they add is the difference to the baseline that the books then have, so
   a sample that is booked twice in a row adds nothing the second time;
2. that holds within one life of a counter only. So they are booked in the order in which they were taken, one
   transaction each, and in it the books note the number of the sample: of what is in the file, nothing at or below that
   number is ever booked again. The books note only numbers that are in the file, and as long as it cannot be written
   what is in it stays as it is (``firm``): so a process that finds the file later knows what of it is booked. What is
   in memory alone needs no number: its process knows, but for the one sample whose commit is in doubt, and see 1;
3. a peer is added anew only after all samples before it were booked, since every cycle begins with them.

Of the samples of one peer on one day only the last is kept, so an outage of any length needs little room. One stays for
good where its successor would not tell the whole: where a counter began anew in between; where it is itself the first
of a new life, as it alone shows that the one before has ended; and where it spans midnight, since bytes are booked to
the day they came on.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from wgsyncd.core.model import Counters, InterfaceState, PublicKey
from wgsyncd.core.records import PeerId
from wgsyncd.core.state import NodeState

CAPACITY = 500_000  # peers in all samples together; some 60 MB as they are written


@dataclass(frozen=True, slots=True)
class Sample:
    """What one interface's counters were at one instant; a part of a dump."""

    number: int  # they grow, also over restarts
    since: float  # UNIX seconds of the look before: what these peers moved came later. 0.0: nobody knows
    at: float  # UNIX seconds
    day: str  # the zone's date in which ``since`` and ``at`` (at the latest an EDGE past it) both lie; "": in none
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

    def position(self, sample: Sample) -> str:
        """What the books note with the sample: see :attr:`wgsyncd.core.state.Ledger.spool`."""
        return f"{self.stream}:{sample.number}"

    def after(self, mark: str) -> Backlog:
        """Without what the books have, by their mark."""
        stream, _, number = mark.partition(":")
        if stream != self.stream:
            return self
        booked = int(number)
        kept = tuple(sample for sample in self.samples if sample.number > booked)
        return replace(self, next_number=max(self.next_number, booked + 1), samples=kept)

    def append(
        self,
        state: InterfaceState,
        since: float,
        at: float,
        day: str,
        known: NodeState | None,
        *,
        durable_position: int = 0,
    ) -> Backlog:
        """With one more sample (of what neither the books nor the samples have), which takes the place of those that it
        makes needless; never of one numbered ``firm`` or below. The same backlog if it says nothing new.

        ``since``, ``day``: see :class:`Sample`. ``known``: the books as last seen, which may be behind; None: never.
        OverflowError if there is no room.
        """
        past = self._past(state, known)
        news = dict(state.peers)
        over: dict[int, set[PublicKey]] = {}  # by the sample's place
        for key, found in state.peers.items():
            seen = past.get(key, [])
            now = _Observation(state.epoch, found.counters, found.latest_handshake)
            if (not seen and known is not None) or (seen and now == seen[-1]._replace(at_sample=None)):
                del news[key]  # nobody's, or as it was
                continue
            place = seen[-1].at_sample if seen else None
            if place is None or len(seen) < 2 or seen[-2].restarted(seen[-1]) or seen[-1].ended(now):
                continue
            if day and self.samples[place].day == day and self.samples[place].number > durable_position:
                over.setdefault(place, set()).add(key)
        if not news:
            return self
        older = [_without(one, over.get(place, set())) for place, one in enumerate(self.samples)]
        began = since
        for one in (self.samples[place] for place in over):  # by its length too: the clock may have been set back since
            began = min(began, one.since, since - (one.at - one.since))
        new = Sample(self.next_number, began, at, day, replace(state, peers=news))
        samples = (*(one for one in older if one.state.peers), new)
        kept = replace(self, next_number=self.next_number + 1, samples=samples)
        if kept.peers > CAPACITY:
            raise OverflowError(f"the spool holds {self.peers} counters, its most is {CAPACITY}")
        return kept

    def restarted(self, state: InterfaceState, ids: Set[PeerId], known: NodeState | None) -> InterfaceState:
        """The part of a dump with those of ``ids`` whose counters began anew in this epoch since their last look."""
        peers = {key: state.peers[key] for name, key in ids if name == state.name and key in state.peers}
        past = self._past(replace(state, peers=peers), known)
        new = {
            key: found
            for key, found in peers.items()
            if key in past
            and past[key][-1].restarted(_Observation(state.epoch, found.counters, found.latest_handshake))
        }
        return replace(state, peers=new)

    def _past(self, state: InterfaceState, known: NodeState | None) -> dict[PublicKey, list[_Observation]]:
        """What was seen before of each peer of a dump, from the baseline on."""
        past: dict[PublicKey, list[_Observation]] = {}
        recorded = known.records.of(state.name) if known is not None else {}
        for key in state.peers:
            record = recorded.get(key)
            if record is not None:
                past[key] = [_Observation(record.epoch, record.counters, record.handshake)]
        for place, one in enumerate(self.samples):
            if one.state.name == state.name:
                for key in one.state.peers.keys() & state.peers.keys():
                    found = one.state.peers[key]
                    seen = _Observation(one.state.epoch, found.counters, found.latest_handshake, place)
                    past.setdefault(key, []).append(seen)
        return past


class _Observation(NamedTuple):
    """A peer at one look."""

    epoch: str
    counters: Counters
    handshake: int
    at_sample: int | None = None  # of the sample; None: the baseline

    def restarted(self, later: _Observation) -> bool:
        """Whether ``later`` shows that this life is over, and what comes after ``later`` may not."""
        return self.epoch == later.epoch and self.ended(later)

    def ended(self, later: _Observation) -> bool:
        """Whether ``later`` is of another life; see :func:`wgsyncd.core.usage.posting.advance`."""
        return (
            self.epoch != later.epoch
            or later.counters.rx < self.counters.rx
            or later.counters.tx < self.counters.tx
            or bool(self.handshake and not later.handshake)
        )


def _without(sample: Sample, keys: Set[PublicKey]) -> Sample:
    if not keys:
        return sample
    peers = {key: found for key, found in sample.state.peers.items() if key not in keys}
    return replace(sample, state=replace(sample.state, peers=peers))
