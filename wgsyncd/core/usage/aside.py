"""What a store sets aside: postings of devices whose row cannot be changed at present."""

from enum import StrEnum
from typing import NamedTuple


class Obstacle(StrEnum):
    """Why a row cannot be changed. If there are several reasons, the last one in alphabetical order is told."""

    LATE = "late"  # the server is too slow to change rows at present
    LOCKED = "locked"  # another program has locked the row
    REFUSED = "refused"  # the server refuses the change: a value out of range, a CHECK, a trigger, an ENUM


class SetAside(NamedTuple):
    """A device with a row that cannot be changed. Its bytes and its handshake wait in the store."""

    device: str
    obstacle: Obstacle
    detail: str  # of a refused row: the store's error, without values
    since: float  # UNIX seconds
