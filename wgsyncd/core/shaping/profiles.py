"""Profiles: which rates a contract has bought, and which ones hold after its monthly cap.

Rates are bytes per second of IP packets inside the tunnels. *Down* is to the device, *up* is from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.model import Counters
from wgsyncd.core.network import Networks


class Direction(StrEnum):
    """A direction of traffic, as the device sees it."""

    DOWN = "down"
    UP = "up"


class Counted(StrEnum):
    """Which bytes of a month count towards a cap."""

    BOTH = "both"
    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile of the configuration. A direction without a rate is not limited."""

    down: int | None = None  # bytes per second, like up
    up: int | None = None
    shared: bool = True  # by all devices of the contract. False: each device has as much
    monthly: int | None = None  # bytes. From so many on, the rates of ``beyond`` hold until the month ends
    beyond: str = ""  # the name of a profile
    counts: Counted = Counted.BOTH

    def is_used_up(self, month: Counters | None) -> bool:
        """Whether a contract with these bytes of the month has reached its cap. None: nobody knows the bytes."""
        return self.monthly is not None and month is not None and self.used(month) >= self.monthly

    def used(self, month: Counters) -> int:
        """The bytes that count. The server sends what a device downloads."""
        return {Counted.DOWN: month.tx, Counted.UP: month.rx, Counted.BOTH: month.tx + month.rx}[self.counts]


@dataclass(frozen=True, slots=True)
class ShapingPolicy:
    """The settings of shaping."""

    enforce: bool = False  # False: nothing is shaped, and what wgsyncd has made is taken away
    default: str = ""  # the profile of contracts that name none, or an unknown one. "": they are not shaped
    exempt: Networks = ()  # traffic between these networks and devices is not shaped
    profiles: Mapping[str, Profile] = field(default_factory=dict)  # by name


class Terms(NamedTuple):
    """What the store says about one contract."""

    profile: str = ""  # the name of its profile, or ""
    month: Counters | None = None  # all bytes of the month, as the server received and sent them. None: not asked for


class Choice(NamedTuple):
    """The profile that holds for a contract, and why."""

    name: str  # of the contract's own profile, or of the default one. "": the contract is not shaped
    down: int | None  # bytes per second, like up. None: not limited
    up: int | None
    shared: bool
    unknown: str = ""  # the name in the contract that the configuration does not have
    beyond: str = ""  # the profile whose rates hold, because the cap is reached

    @property
    def held(self) -> str:
        """The profile whose rates hold. "-": there is none, so the contract is not limited."""
        return self.beyond or self.name or "-"

    def rate(self, direction: Direction) -> int | None:
        """The rate of one direction in bytes per second. None: it is not limited."""
        return self.down if direction is Direction.DOWN else self.up


def choose(terms: Terms, policy: ShapingPolicy) -> Choice:
    """The profile that holds for a contract. Names are compared exactly."""
    unknown = terms.profile if terms.profile not in policy.profiles else ""
    name = policy.default if unknown or not terms.profile else terms.profile
    profile = policy.profiles.get(name)
    if profile is None:
        return Choice("", None, None, True, unknown)
    if not profile.is_used_up(terms.month):
        return Choice(name, profile.down, profile.up, profile.shared, unknown)
    slow = policy.profiles[profile.beyond]
    return Choice(name, slow.down, slow.up, profile.shared, unknown, profile.beyond)
