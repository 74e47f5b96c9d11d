"""Deltas that wait for an admin, because the line cannot carry so many bytes."""

from dataclasses import dataclass
from typing import NamedTuple

from wgsyncd.core.model import DeviceId


@dataclass(frozen=True, slots=True)
class QuarantinedDelta:
    """A delta that is larger than the line can carry."""

    interface: str
    row_id: DeviceId | None
    device: str
    rx: int  # bytes, like tx
    tx: int
    since: float  # UNIX seconds, like until
    until: float

    @property
    def rate(self) -> float | None:
        """The rate of the busier direction in bits per second. None if the delta has no duration."""
        return max(self.rx, self.tx) * 8 / (self.until - self.since) if self.until > self.since else None


class QuarantineEntry(NamedTuple):
    """A delta in quarantine, with the number by which an admin names it."""

    id: int
    delta: QuarantinedDelta
