"""The oracle knows the bytes that wg(8) counted for each device, over all of its peers.

It also compares them with the sums in the table. When a peer leaves the kernel, its last counters must be known. So its
wire is cut before, and the counters do not move. For a peer that is removed under traffic, the truth lies between two
numbers. A posted sum between these two numbers is then taken as the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Bytes(NamedTuple):
    """Holds bytes as the server sees them."""

    rx: int
    tx: int

    def plus(self, other: Bytes) -> Bytes:
        """Returns the sum."""
        return Bytes(self.rx + other.rx, self.tx + other.tx)


NONE = Bytes(0, 0)
SIDES = ("rx", "tx")


@dataclass(slots=True)
class Account:
    """Holds the truth about one device."""

    ended: Bytes = NONE  # bytes of peers that have left the kernel
    unsure: Bytes = NONE  # this many bytes more may have been posted
    seen: Bytes = NONE  # wg(8) showed this many of these bytes
    # an admin has taken this many bytes from the totals
    shift: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    # differences of earlier rounds, which are reported there: a negative number was never posted
    conceded: Bytes = NONE


class Difference(NamedTuple):
    """Describes a stored number that is wrong."""

    device: str
    column: str
    true: int
    posted: int


@dataclass(slots=True)
class Removals:
    """Counts the bytes of peers that the daemon removed under traffic, beyond the counters when the row changed."""

    times: int = 0
    seen: int = 0  # wg(8) showed this many at its last reading before the peer was gone
    posted: int = 0
    missed: int = 0  # shown and not posted
    unseen: int = 0  # posted and never shown, because they came after that reading

    def add(self, seen: Bytes, posted: Bytes) -> None:
        """Adds the bytes of one device."""
        self.seen += sum(seen)
        self.posted += sum(posted)
        self.missed += sum(max(0, s - b) for s, b in zip(seen, posted, strict=True))
        self.unseen += sum(max(0, b - s) for s, b in zip(seen, posted, strict=True))

    def data(self) -> dict[str, int]:
        """Returns the counts for the report."""
        return {"removals": self.times, "seen": self.seen, "posted": self.posted, "seen_and_not_booked": self.missed,
                "booked_and_not_seen": self.unseen}  # fmt: skip


class DueBytes:
    """Holds the truth about all devices."""

    def __init__(self, devices: Iterable[str]) -> None:
        self.accounts = {device: Account() for device in devices}
        self.removals = Removals()
        self.lost = self.doubled = 0
        self.differences: list[Difference] = []

    def end(self, device: str, last: Bytes) -> None:
        """Ends a peer of the device. No byte moved after its last counters were read."""
        account = self.accounts[device]
        account.ended = account.ended.plus(last)

    def end_busy(self, device: str, least: Bytes, seen: Bytes, most: Bytes) -> None:
        """Ends a peer that moved bytes until its end.

        The bytes are at least ``least`` and at most ``most``, and wg(8) showed ``seen``.
        """
        account = self.accounts[device]
        account.ended = account.ended.plus(least)
        account.unsure = account.unsure.plus(Bytes(most.rx - least.rx, most.tx - least.tx))
        account.seen = account.seen.plus(Bytes(seen.rx - least.rx, seen.tx - least.tx))
        self.removals.times += 1

    def counted(self, actual: Mapping[str, Bytes]) -> dict[str, Bytes]:
        """Returns the least number of bytes of each device, with the counters of the present peers."""
        return {
            device: account.ended.plus(account.conceded).plus(actual.get(device, NONE))
            for device, account in self.accounts.items()
        }

    def compare(self, actual: Mapping[str, Bytes], posted: Mapping[str, Bytes]) -> list[Difference]:
        """Returns the totals that are wrong. The admin's changes are taken out before."""
        wrong: list[Difference] = []
        for device, least in self.counted(actual).items():
            account = self.accounts[device]
            for at, side in enumerate(SIDES):
                figure = posted[device][at] + account.shift[side]
                if not least[at] <= figure <= least[at] + account.unsure[at]:
                    wrong.append(Difference(device, f"{side}_bytes_total", least[at], figure))
        return wrong

    def conclude(self, actual: Mapping[str, Bytes], posted: Mapping[str, Bytes]) -> list[Difference]:
        """Ends the round. Adds up the differences, and begins the next round at the posted bytes."""
        wrong = self.compare(actual, posted)
        for one in wrong:
            self.lost += max(0, one.true - one.posted)
            self.doubled += max(0, one.posted - one.true)
        self.differences += wrong
        for device, least in self.counted(actual).items():
            account = self.accounts[device]
            figure = Bytes(*(posted[device][at] + account.shift[side] for at, side in enumerate(SIDES)))
            more = Bytes(figure.rx - least.rx, figure.tx - least.tx)
            if any(account.unsure) and not any(one.device == device for one in wrong):
                self.removals.add(account.seen, more)
            account.conceded = account.conceded.plus(more)
            account.unsure = account.seen = NONE
        return wrong

    def data(self, actual: Mapping[str, Bytes], posted: Mapping[str, Bytes]) -> dict[str, Any]:
        """Returns sums for the report. ``true`` is the number of counted bytes, posted or not."""
        counted = self.counted(actual)
        found: dict[str, Any] = {}
        for at, side in enumerate(SIDES):
            wrong = sum(one.posted - one.true for one in self.differences if one.column.startswith(side))
            true = sum(one[at] for one in counted.values()) - wrong
            figure = sum(posted[device][at] + account.shift[side] for device, account in self.accounts.items())
            found[f"{side}_bytes_total"] = {"true": true, "posted": figure}
        return found
