"""The oracle: how many bytes of each row must be accounted, computed from the kernel in memory alone.

A life is one peer from its addition to its end. The daemon must account a byte of a life in one of these cases:

- the kernel still has the life.
- a sample of it was secured: the database or the spool file has had the sample at some time.
- the daemon itself ended the life, and the process that did so has not died since.

All other bytes are lost: they came after the last secured sample of a peer that somebody else or a reboot removed.

A new life can also hide bytes of the old one. If its counters are already higher at the first sample, nothing shows
that it is a new life. Then as many bytes as the old life had are lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wgsyncd.core.model import Counters
from wgsyncd.core.records import PeerId
from wgsyncd.core.usage.calendar import BOUNDARY_GRACE, UsageCalendar

Value = tuple[str, Counters, int]  # epoch, counters, handshake: all that a sample shows of a peer


def plus(one: Counters, other: Counters, sign: int = 1) -> Counters:
    """The sum of both. ``sign`` -1: their difference."""
    return Counters(one.rx + sign * other.rx, one.tx + sign * other.tx)


@dataclass
class Bytes:
    """Some bytes of a life. They came between a sample at ``after`` and the sample at ``until`` that secured them.

    All times are UNIX seconds.
    """

    rx: int
    tx: int
    total: Counters  # the counters of the life after these bytes
    at: float  # when the bytes came
    after: float
    until: float | None = None  # None: not secured yet


@dataclass(eq=False)
class PeerLifetime:
    """One peer from its addition to its end, and the bytes that came over it."""

    row: int
    slot: PeerId
    peer: Any  # the peer in the kernel: its last counters stay here after its end
    number: int  # lives are numbered in the order in which they began
    born: float
    came: list[Bytes] = field(default_factory=list)
    over: bool = False
    ended_by: int | None = None  # the process that removed it

    @property
    def counters(self) -> Counters:
        return Counters(self.peer.rx, self.peer.tx)


class Point(NamedTuple):
    """The last secured sample of a peer. ``life`` None: a baseline of zero, for the next life of the peer."""

    life: PeerLifetime | None
    value: Value


class Chain:
    """Follows the secured samples in their order, and knows how many bytes of each life they secure."""

    def __init__(self) -> None:
        self.secured: dict[PeerLifetime, Counters] = {}
        self.hidden: Counter[tuple[int, str]] = Counter()  # lost bytes by row and side ("rx" or "tx")
        self.last: dict[PeerId, Point] = {}
        self.ended: dict[PeerId, int] = {}  # the number of the last life before a baseline of zero
        self.odd: set[int] = set()  # rows for which nobody can know when their bytes came

    def copy(self) -> Chain:
        other = Chain()
        other.secured, other.hidden = dict(self.secured), Counter(self.hidden)
        other.last, other.ended, other.odd = dict(self.last), dict(self.ended), set(self.odd)
        return other

    def begin(self, slot: PeerId, value: Value) -> None:
        """A baseline of zero was committed: the next life of the peer counts from zero."""
        last = self.last.get(slot)
        if last is not None and last.life is not None:
            self.ended[slot] = last.life.number
        self.last[slot] = Point(None, value)

    def look(self, life: PeerLifetime, value: Value) -> bool:
        """A sample of a life was secured. Returns whether it is newer than the samples before it."""
        last, counters = self.last.get(life.slot), value[1]
        if last is not None and last.life is life:
            if counters < self.secured[life]:
                return False  # an older sample, secured again
        elif last is not None and last.life is not None:
            if last.life.number > life.number:
                return False
            hides = self.hides(life, value)
            self.hidden[life.row, "rx"] += hides.rx
            self.hidden[life.row, "tx"] += hides.tx
            if hides != (0, 0):
                self.odd.add(life.row)
        self.secured[life] = counters
        self.last[life.slot] = Point(life, value)
        return True

    def can_come_next(self, life: PeerLifetime, counters: Counters) -> bool:
        """Whether a sample of this life can be the next sample of its peer. Samples are secured in their order."""
        last = self.last.get(life.slot)
        if last is None or last.life is None:
            return life.number > self.ended.get(life.slot, -1)
        if last.life is life:
            old = self.secured[life]
            return counters.rx >= old.rx and counters.tx >= old.tx
        return life.number > last.life.number

    def hides(self, life: PeerLifetime, value: Value) -> Counters:
        """How many bytes are lost if a life is first sampled with ``value``: zero if a counter reset is visible."""
        last = self.last.get(life.slot)
        if last is None or last.life is None or last.life is life:
            return Counters(0, 0)
        (epoch, now, handshake), (old_epoch, old, old_handshake) = value, last.value
        told = epoch != old_epoch or now.rx < old.rx or now.tx < old.tx or (old_handshake and not handshake)
        return Counters(0, 0) if told else old


@dataclass
class Oracle:
    """Knows all lives, and computes the bytes that must be accounted for them."""

    lives: list[PeerLifetime] = field(default_factory=list)
    durable: Chain = field(default_factory=Chain)  # samples that the database or the spool has secured
    posted: Chain = field(default_factory=Chain)  # samples that the database has secured
    seen: dict[tuple[PeerId, Value], list[PeerLifetime]] = field(
        default_factory=dict
    )  # several lives can look the same

    def of(self, row: int) -> Iterator[PeerLifetime]:
        return (life for life in self.lives if life.row == row)

    def secure(self, slot: PeerId, value: Value, now: float, *, posted: bool) -> None:
        """The database (``posted``) or the spool has a sample now."""
        lives = self.seen.get((slot, value))
        if lives is None:
            return  # the peer has no row
        chain = self.posted if posted else self.durable
        life = next((one for one in lives if chain.can_come_next(one, value[1])), lives[0])
        if posted:
            self.posted.look(life, value)
        if self.durable.look(life, value):
            for one in life.came:
                if one.until is None and one.total.rx <= value[1].rx and one.total.tx <= value[1].tx:
                    one.until = now

    def begin(self, slot: PeerId, value: Value) -> None:
        self.posted.begin(slot, value)
        self.durable.begin(slot, value)

    def lose_the_spool(self) -> None:
        """The spool was damaged: samples that only the spool had are not secured any more."""
        self.durable.odd |= {life.row for life in self.lives}
        odd = self.durable.odd
        self.durable = self.posted.copy()
        self.durable.odd |= odd

    def due(self, row: int, process: int) -> Counters:
        """The bytes of a row that must be posted in the end. More must never be posted. ``process``: the current one."""
        total = Counters(-self.durable.hidden[row, "rx"], -self.durable.hidden[row, "tx"])
        for life in self.of(row):
            kept = not life.over or life.ended_by == process
            total = plus(total, life.counters if kept else self.durable.secured.get(life, Counters(0, 0)))
        return total

    def at_last(self, row: int, process: int, epoch: dict[str, str]) -> Counters:
        """The bytes of a row that must be posted after a sample of every existing peer. ``epoch``: by interface."""
        total = self.due(row, process)
        for life in self.of(row):
            if not life.over:
                value = (epoch[life.slot[0]], life.counters, life.peer.handshake)
                total = plus(total, self.durable.hides(life, value), -1)
        return total

    def days(self, row: int, calendar: UsageCalendar) -> tuple[Counter[str], Counter[str]]:
        """The least and the most received bytes (rx) that may be on each day.

        Bytes may be on any day between the samples before and after them. If that is one day, they must be on it.
        """
        least: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for one in (one for life in self.of(row) for one in life.came):
            if one.until is None:
                continue
            end = max(one.after, one.until - BOUNDARY_GRACE - 0.001)
            days, at = {calendar.day(one.after), calendar.day(one.at), calendar.day(end)}, one.after
            while (at := calendar.next_midnight(at)) < end:
                days.add(calendar.day(at))
            for day in days:
                most[day] += one.rx
            if len(days) == 1:
                least[days.pop()] += one.rx
        return least, most
