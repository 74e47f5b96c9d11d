"""What was really counted: per device, over all lives of its peers, by wg(8); and how the table's figures differ.

A peer's life ends when it leaves the kernel, and its last counters must be known then: so its wire was cut before, and
the counters stood still. Where it was removed under traffic the truth lies between two figures, and once the table has
one between them that is taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Bytes(NamedTuple):
    """As the server sees them."""

    rx: int
    tx: int

    def plus(self, other: Bytes) -> Bytes:
        """The sum."""
        return Bytes(self.rx + other.rx, self.tx + other.tx)


NONE = Bytes(0, 0)
SIDES = ("rx", "tx")


@dataclass(slots=True)
class Account:
    """One device's truth."""

    ended: Bytes = NONE  # of lives that are over
    unsure: Bytes = NONE  # as much more may have been booked
    seen: Bytes = NONE  # as much of it wg(8) showed
    shift: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))  # taken from the totals by an admin
    conceded: Bytes = NONE  # wrong in earlier rounds and reported there; a negative number was never booked


class Difference(NamedTuple):
    """A figure that is wrong."""

    device: str
    column: str
    true: int
    booked: int


@dataclass(slots=True)
class Removals:
    """Peers that the daemon removed under traffic. Bytes, beyond the counters when the row changed."""

    times: int = 0
    seen: int = 0  # wg(8) showed so many, at its last reading before the peer was gone
    booked: int = 0
    missed: int = 0  # shown and not booked
    unseen: int = 0  # booked and never shown: they came after that reading

    def add(self, seen: Bytes, booked: Bytes) -> None:
        """One device's."""
        self.seen += sum(seen)
        self.booked += sum(booked)
        self.missed += sum(max(0, s - b) for s, b in zip(seen, booked, strict=True))
        self.unseen += sum(max(0, b - s) for s, b in zip(seen, booked, strict=True))

    def data(self) -> dict[str, int]:
        """For the report."""
        return {"removals": self.times, "seen": self.seen, "booked": self.booked, "seen_and_not_booked": self.missed,
                "booked_and_not_seen": self.unseen}  # fmt: skip


class Truth:
    """All devices'."""

    def __init__(self, devices: Iterable[str]) -> None:
        self.accounts = {device: Account() for device in devices}
        self.removals = Removals()
        self.lost = self.doubled = 0
        self.differences: list[Difference] = []

    def end(self, device: str, last: Bytes) -> None:
        """A life is over; nothing moved after these counters were read."""
        account = self.accounts[device]
        account.ended = account.ended.plus(last)

    def end_busy(self, device: str, least: Bytes, seen: Bytes, most: Bytes) -> None:
        """A life is over, and bytes went on until its end: these at least, so many as wg(8) showed, at most."""
        account = self.accounts[device]
        account.ended = account.ended.plus(least)
        account.unsure = account.unsure.plus(Bytes(most.rx - least.rx, most.tx - least.tx))
        account.seen = account.seen.plus(Bytes(seen.rx - least.rx, seen.tx - least.tx))
        self.removals.times += 1

    def counted(self, actual: Mapping[str, Bytes]) -> dict[str, Bytes]:
        """At least so much, with the counters of the peers that live."""
        return {
            device: account.ended.plus(account.conceded).plus(actual.get(device, NONE))
            for device, account in self.accounts.items()
        }

    def compare(self, actual: Mapping[str, Bytes], booked: Mapping[str, Bytes]) -> list[Difference]:
        """The totals (the admin's doings undone) that are wrong."""
        wrong: list[Difference] = []
        for device, least in self.counted(actual).items():
            account = self.accounts[device]
            for at, side in enumerate(SIDES):
                figure = booked[device][at] + account.shift[side]
                if not least[at] <= figure <= least[at] + account.unsure[at]:
                    wrong.append(Difference(device, f"{side}_bytes_total", least[at], figure))
        return wrong

    def conclude(self, actual: Mapping[str, Bytes], booked: Mapping[str, Bytes]) -> list[Difference]:
        """The round is over: sum up what is wrong, and begin the next one at what is booked."""
        wrong = self.compare(actual, booked)
        for one in wrong:
            self.lost += max(0, one.true - one.booked)
            self.doubled += max(0, one.booked - one.true)
        self.differences += wrong
        for device, least in self.counted(actual).items():
            account = self.accounts[device]
            figure = Bytes(*(booked[device][at] + account.shift[side] for at, side in enumerate(SIDES)))
            more = Bytes(figure.rx - least.rx, figure.tx - least.tx)
            if any(account.unsure) and not any(one.device == device for one in wrong):
                self.removals.add(account.seen, more)
            account.conceded = account.conceded.plus(more)
            account.unsure = account.seen = NONE
        return wrong

    def data(self, actual: Mapping[str, Bytes], booked: Mapping[str, Bytes]) -> dict[str, Any]:
        """Sums for the report. ``true`` is what was counted, whatever was booked of it."""
        counted = self.counted(actual)
        found: dict[str, Any] = {}
        for at, side in enumerate(SIDES):
            wrong = sum(one.booked - one.true for one in self.differences if one.column.startswith(side))
            true = sum(one[at] for one in counted.values()) - wrong
            figure = sum(booked[device][at] + account.shift[side] for device, account in self.accounts.items())
            found[f"{side}_bytes_total"] = {"true": true, "booked": figure}
        return found
