"""What a store answers to the admin's commands about its devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wgsyncd.core.model import Counters, DeviceId


class Coverage(NamedTuple):
    """How far back days, buckets and node states go."""

    first_day: str | None  # YYYY-MM-DD. None: there is none
    first_bucket: int | None  # UNIX seconds
    begun: Mapping[str, float]  # by node, UNIX seconds: bytes from before are in one opening balance


@dataclass(frozen=True, slots=True)
class DeviceDetails:
    """What a store knows besides about a device, by the store's labels and in its order. Times are UNIX seconds."""

    texts: Mapping[str, str]
    times: Mapping[str, float | None]  # None: never
    bytes: Mapping[str, Counters]


HOURS = 24  # the hours of :class:`DeviceUsage`


class DeviceUsage(NamedTuple):
    """Bytes of devices, as the server sees them. A store without figures of a kind leaves out their label."""

    figures: Mapping[DeviceId, Mapping[str, Counters]]  # by row id, then by the store's label, such as "24h"
    hours: Mapping[str, Sequence[int]]  # by device name: received and sent bytes of the last HOURS hours


class Rule(NamedTuple):
    """One rule of the store for having a peer, whether a row meets the rule, and the row's value."""

    text: str
    holds: bool
    value: str


class AuditRow(NamedTuple):
    """One audit row that wgsyncd wrote."""

    at: str  # YYYY-MM-DD HH:MM:SS in the node's zone
    action: str
    message: str


class Link(NamedTuple):
    """The state of a network interface. ``addresses`` are texts such as "10.200.0.1/24"."""

    up: bool
    addresses: frozenset[str]
    mtu: int  # bytes
