"""The backlog: samples that the store has not taken yet, kept until they are posted.

Late posting is exact for three reasons:

1. Samples hold counters, not differences. A sample adds its difference to the baseline that the node state has at that
   time. So a sample that is posted twice in a row adds nothing the second time.
2. Rule 1 holds only until a counter restarts at zero. So samples are posted one by one, in the order in which they were
   taken. The transaction that completes a sample also stores its number in the node state. A sample in the file with
   this number or a lower one is never posted again. The node state stores only numbers of samples in the file. While
   the file cannot be written, its samples stay unchanged in memory too (``durable_position``). So a process that finds
   the file later knows which of its samples are posted. Samples only in memory need no position: the process knows
   which are posted. If a commit is in doubt, rule 1 makes a second posting harmless.
3. Before a peer is added again, the samples that wait are posted. So no old sample meets the baseline of the new peer.

For each peer and day, only the last sample is kept, so a long outage needs little room. A sample is also kept if the
next one does not include its bytes or its facts:

- The counter restarted between the two samples.
- It is the first sample with a handshake. A later handshake may be after the activation deadline.
- It is the first sample after a restart within one epoch. Only this sample is sure to show the restart.
- It spans midnight, or the next sample is of another day. Bytes are posted to the day on which they came.

A posted sample is kept for a while, because a failover of the database may lose the last commits. If the node state
went back to an earlier position, the sample waits again. For a peer that was removed, nothing else has its bytes.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from wgsyncd.core.model import Counters, InterfaceState, PublicKey
from wgsyncd.core.records import PeerId
from wgsyncd.core.state import NodeState

CAPACITY = 500_000  # peers in all samples together: some 60 MB in the file
RETENTION = 300.0  # seconds: so long a posted sample is kept, and then until the next commit
MOST_RETAINED = 20_000  # peers in all posted samples that are kept


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters of some or all peers of one interface at one instant."""

    number: int  # grows from sample to sample, also when the daemon restarts
    since: float  # UNIX seconds of the sample before: these peers moved their bytes later. 0.0: unknown
    at: float  # UNIX seconds
    day: str  # the zone's date of ``since`` and of ``at`` less BOUNDARY_GRACE. "" if these dates differ
    state: InterfaceState


@dataclass(frozen=True, slots=True)
class Backlog:
    """The samples that are not posted, in the order in which they were taken.

    ``stream`` names their numbering. If the file with the last number is lost, another stream begins.
    """

    stream: str
    next_number: int = 1
    samples: tuple[Sample, ...] = ()
    posted: tuple[Sample, ...] = ()  # kept for a node state that goes back, in the same order
    other_node: str = ""  # the name of another node in the spool. Only the store knows whether this node had it before

    @property
    def peers(self) -> int:
        """The number of peers in all samples together."""
        return sum(len(sample.state.peers) for sample in self.samples)

    def position(self, sample: Sample) -> str:
        """The position that the node state stores with the sample: ``stream:number``."""
        return f"{self.stream}:{sample.number}"

    def after(self, position: str) -> Backlog:
        """This backlog without the samples that are posted. ``position`` is the node state's ``spool_position``."""
        stream, _, number = position.partition(":")
        if stream != self.stream:
            return self
        posted = int(number)
        kept = tuple(sample for sample in self.samples if sample.number > posted)
        return replace(self, next_number=max(self.next_number, posted + 1), samples=kept)

    def retain(self, sample: Sample) -> Backlog:
        """This backlog with one more posted sample, whose position is the node state's. The oldest ones may go."""
        kept, room = (*self.posted, sample), MOST_RETAINED
        for index in range(len(kept) - 1, -1, -1):
            room -= len(kept[index].state.peers)
            if room < 0:
                kept = kept[index + 1 :]
                break
        return replace(self, posted=kept)

    def forget(self, now: float) -> Backlog:
        """This backlog after a commit at ``now`` (UNIX seconds). Posted samples older than RETENTION are gone."""
        kept = tuple(one for one in self.posted if abs(now - one.at) < RETENTION)
        return self if len(kept) == len(self.posted) else replace(self, posted=kept)

    def recall(self, position: str) -> Backlog:
        """This backlog after the node state went back to ``position``. Samples whose posting was lost wait again.

        Another stream's position says nothing about them, so then they are forgotten. Nobody knows either how long
        their peers moved bytes after the baseline.
        """
        stream, _, number = position.partition(":")
        if position and stream != self.stream:
            return replace(self, posted=())
        lost = tuple(replace(one, since=0.0) for one in self.posted if one.number > int(number or 0))
        kept = self.posted[: len(self.posted) - len(lost)]
        return replace(self, samples=(*lost, *self.samples), posted=kept)

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
        """This backlog with one more sample. The same backlog if the sample says nothing new.

        The new sample has only peers that differ from the last sample or baseline. It replaces earlier samples of the
        same peers, but none with the number ``durable_position`` or a lower one.

        ``since``, ``day``: see :class:`Sample`. ``known``: the node state as last read, which the store may be ahead
        of. None: it was never read. OverflowError if the backlog would have more than CAPACITY peers.
        """
        past = self._past(state, known)
        news = dict(state.peers)
        over: dict[int, set[PublicKey]] = {}  # peers that earlier samples lose, by the index of the sample
        for key, found in state.peers.items():
            seen = past.get(key, [])
            now = _Observation(state.epoch, found.counters, found.latest_handshake)
            if (not seen and known is not None) or (seen and now == seen[-1]._replace(at_sample=None)):
                del news[key]  # the peer has no baseline, or nothing changed
                continue
            index = seen[-1].at_sample if seen else None
            if index is None or len(seen) < 2 or seen[-2].restarted(seen[-1]) or seen[-1].ended(now):
                continue
            if seen[-1].handshake > 0 >= seen[-2].handshake:
                continue
            if day and self.samples[index].day == day and self.samples[index].number > durable_position:
                over.setdefault(index, set()).add(key)
        if not news:
            return self
        older = [_without(one, over.get(index, set())) for index, one in enumerate(self.samples)]
        began = since
        for one in (self.samples[index] for index in over):  # its length counts too: the clock may have been set back
            began = min(began, one.since, since - (one.at - one.since))
        new = Sample(self.next_number, began, at, day, replace(state, peers=news))
        samples = (*(one for one in older if one.state.peers), new)
        kept = replace(self, next_number=self.next_number + 1, samples=samples)
        if kept.peers > CAPACITY:
            raise OverflowError(f"the spool holds {self.peers} counters, its most is {CAPACITY}")
        return kept

    def restarted(self, state: InterfaceState, ids: Set[PeerId], known: NodeState | None) -> InterfaceState:
        """The peers in ``ids`` whose counters restarted within this epoch since their last sample or baseline."""
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
        """For each peer of ``state``: its baseline, then its samples in order. A peer without any is left out."""
        past: dict[PublicKey, list[_Observation]] = {}
        recorded = known.records.of(known.recorded_name(state) or state.name) if known is not None else {}
        for key in state.peers:
            record = recorded.get(key)
            if record is not None:
                past[key] = [_Observation(record.epoch, record.counters, max(record.handshake, 0))]
        for index, one in enumerate(self.samples):
            if one.state.name == state.name:
                for key in one.state.peers.keys() & state.peers.keys():
                    found = one.state.peers[key]
                    seen = _Observation(one.state.epoch, found.counters, found.latest_handshake, index)
                    past.setdefault(key, []).append(seen)
        return past


class _Observation(NamedTuple):
    """One peer's counters at its baseline or in one sample."""

    epoch: str
    counters: Counters
    handshake: int
    at_sample: int | None = None  # index of the sample in the backlog. None: the baseline

    def restarted(self, later: _Observation) -> bool:
        """Whether the counter restarted within one epoch. Only ``later`` may show it: later samples may be higher."""
        return self.epoch == later.epoch and self.ended(later)

    def ended(self, later: _Observation) -> bool:
        """Whether the counter restarted before ``later``, by the signs of :mod:`wgsyncd.core.usage.posting`."""
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
