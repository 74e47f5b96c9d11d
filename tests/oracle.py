"""The truth about every byte, told by the kernel's side alone: the lives of counters, and how far each is secured.

A life is one peer from its being added to its end. Its bytes are the customer's due as far as

- they are still in the kernel, or
- a look at them was secured: it stood in the database, or in the spool's file, at some time; or
- the daemon itself ended the life, and the process that did so has not died since.

The rest cannot be had: what came after the last secured look at a peer that somebody else, or a reboot, took away. And a
life of which nothing tells the next one apart, since its counters had passed the old ones when they were first looked
at, hides as many bytes as the old one had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wgsyncd.core.model import Counters
from wgsyncd.core.records import PeerId
from wgsyncd.core.usage.calendar import BOUNDARY_GRACE, UsageCalendar

Value = tuple[str, Counters, int]  # epoch, counters, handshake: all that a look can tell


def plus(one: Counters, other: Counters, sign: int = 1) -> Counters:
    return Counters(one.rx + sign * other.rx, one.tx + sign * other.tx)


@dataclass
class Bytes:
    """Some bytes of a life, which came between a look at ``after`` and one at ``until`` that secured them."""

    rx: int
    tx: int
    total: Counters  # of the life, with these
    at: float  # when they came
    after: float
    until: float | None = None


@dataclass(eq=False)
class Life:
    """One peer, from its being added to its end."""

    row: int
    slot: PeerId
    peer: Any  # the kernel's own, which keeps its last counters when it is gone
    number: int  # lives in the order in which they began
    born: float
    came: list[Bytes] = field(default_factory=list)
    over: bool = False
    ended_by: int | None = None  # the process that removed it

    @property
    def counters(self) -> Counters:
        return Counters(self.peer.rx, self.peer.tx)


class Point(NamedTuple):
    """The last look at a peer that is secured; ``life`` None: baseline zero, for whatever life comes."""

    life: Life | None
    value: Value


class Chain:
    """What secured looks tell, in their order."""

    def __init__(self) -> None:
        self.secured: dict[Life, Counters] = {}
        self.hidden: Counter[tuple[int, str]] = Counter()  # by row and side
        self.last: dict[PeerId, Point] = {}
        self.ended: dict[PeerId, int] = {}  # the number of the last life before a baseline zero
        self.odd: set[int] = set()  # rows of which it is not known when their bytes came

    def copy(self) -> Chain:
        other = Chain()
        other.secured, other.hidden = dict(self.secured), Counter(self.hidden)
        other.last, other.ended, other.odd = dict(self.last), dict(self.ended), set(self.odd)
        return other

    def begin(self, slot: PeerId, value: Value) -> None:
        """Baseline zero is committed."""
        last = self.last.get(slot)
        if last is not None and last.life is not None:
            self.ended[slot] = last.life.number
        self.last[slot] = Point(None, value)

    def look(self, life: Life, value: Value) -> bool:
        """A look at a life is secured; whether that is news."""
        last, counters = self.last.get(life.slot), value[1]
        if last is not None and last.life is life:
            if counters < self.secured[life]:
                return False  # seen before
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

    def can_come_next(self, life: Life, counters: Counters) -> bool:
        """Looks are secured in their order: whether one at this life may be the next of its peer."""
        last = self.last.get(life.slot)
        if last is None or last.life is None:
            return life.number > self.ended.get(life.slot, -1)
        if last.life is life:
            old = self.secured[life]
            return counters.rx >= old.rx and counters.tx >= old.tx
        return life.number > last.life.number

    def hides(self, life: Life, value: Value) -> Counters:
        """How many bytes of a life nobody can know of, if it is seen like that now."""
        last = self.last.get(life.slot)
        if last is None or last.life is None or last.life is life:
            return Counters(0, 0)
        (epoch, now, handshake), (old_epoch, old, old_handshake) = value, last.value
        told = epoch != old_epoch or now.rx < old.rx or now.tx < old.tx or (old_handshake and not handshake)
        return Counters(0, 0) if told else old


@dataclass
class Truth:
    """All lives, and what is due for them."""

    lives: list[Life] = field(default_factory=list)
    durable: Chain = field(default_factory=Chain)  # by the database or the spool
    booked: Chain = field(default_factory=Chain)  # by the database
    seen: dict[tuple[PeerId, Value], list[Life]] = field(default_factory=dict)  # several, where they looked the same

    def of(self, row: int) -> Iterator[Life]:
        return (life for life in self.lives if life.row == row)

    def secure(self, slot: PeerId, value: Value, now: float, *, booked: bool) -> None:
        """A look stands in the database (``booked``) or in the spool."""
        lives = self.seen.get((slot, value))
        if lives is None:
            return  # of a peer without a row
        chain = self.booked if booked else self.durable
        life = next((one for one in lives if chain.can_come_next(one, value[1])), lives[0])
        if booked:
            self.booked.look(life, value)
        if self.durable.look(life, value):
            for one in life.came:
                if one.until is None and one.total.rx <= value[1].rx and one.total.tx <= value[1].tx:
                    one.until = now

    def begin(self, slot: PeerId, value: Value) -> None:
        self.booked.begin(slot, value)
        self.durable.begin(slot, value)

    def lose_the_spool(self) -> None:
        """What was secured there alone is not any more."""
        self.durable.odd |= {life.row for life in self.lives}
        odd = self.durable.odd
        self.durable = self.booked.copy()
        self.durable.odd |= odd

    def due(self, row: int, process: int) -> Counters:
        """The bytes of a row that must be booked in the end, and more must never be."""
        total = Counters(-self.durable.hidden[row, "rx"], -self.durable.hidden[row, "tx"])
        for life in self.of(row):
            kept = not life.over or life.ended_by == process
            total = plus(total, life.counters if kept else self.durable.secured.get(life, Counters(0, 0)))
        return total

    def at_last(self, row: int, process: int, epoch: dict[str, str]) -> Counters:
        """The same, once every live peer was looked at."""
        total = self.due(row, process)
        for life in self.of(row):
            if not life.over:
                value = (epoch[life.slot[0]], life.counters, life.peer.handshake)
                total = plus(total, self.durable.hides(life, value), -1)
        return total

    def days(self, row: int, calendar: UsageCalendar) -> tuple[Counter[str], Counter[str]]:
        """The bytes received that must be on each day, and those that may: by the looks between which they came."""
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
