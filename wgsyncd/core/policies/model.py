"""The values of policies: what the tables say, and what a device may reach.

Ids of devices, owners and groups are texts as the store shows them. Addresses are numbers in :class:`Access`, and
packed networks everywhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.model import DeviceId, PublicKey, RowKey
from wgsyncd.core.network import Network, Networks
from wgsyncd.core.policies.ranges import Ranges, as_text, join, range_of, subtract

IPV4_BYTES = 4


class Access(NamedTuple):
    """The addresses that a device may reach, of each IP version."""

    v4: Ranges = ()
    v6: Ranges = ()

    @classmethod
    def of(cls, networks: Networks) -> Access:
        """All addresses of these networks."""
        four = join(range_of(net) for net in networks if len(net.packed) == IPV4_BYTES)
        return cls(four, join(range_of(net) for net in networks if len(net.packed) != IPV4_BYTES))

    @property
    def is_empty(self) -> bool:
        return not self.v4 and not self.v6

    @property
    def profile(self) -> str:
        """The name of the profile: 32 hexadecimal digits that depend on the addresses alone."""
        parts = (",".join(f"{first:x}-{last:x}" for first, last in ranges) for ranges in self)
        return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]

    def texts(self) -> list[str]:
        """The ranges for people: "10.0.0.0/8" where one network is the whole range, else "10.0.0.1-10.0.0.9"."""
        four = [as_text(first, last, IPV4_BYTES) for first, last in self.v4]
        return four + [as_text(first, last, 16) for first, last in self.v6]

    def less(self, other: Access) -> Access:
        """The addresses that ``other`` does not have."""
        return Access(subtract(self.v4, other.v4), subtract(self.v6, other.v6))

    def plus(self, other: Access) -> Access:
        if self.is_empty or other.is_empty:
            return self if other.is_empty else other  # the same object: devices share it
        return Access(join(self.v4 + other.v4), join(self.v6 + other.v6))

    def limited_to(self, families: frozenset[int]) -> Access:
        """The addresses of some IP versions. ``families``: the bytes of their addresses, 4 or 16."""
        return Access(self.v4 if IPV4_BYTES in families else (), self.v6 if 16 in families else ())


NO_ACCESS = Access()


class Target(NamedTuple):
    """Who a policy is for: the type as the table has it, and the id of a device, an owner or a group."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """One policy as the tables have it. Nobody has validated its texts yet."""

    id: DeviceId
    name: str
    priority: int
    effect: str
    targets: tuple[Target, ...]
    destinations: tuple[str, ...]  # "10.0.0.0/8"
    full_tunnel: bool = False
    is_active: bool = True
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    members: frozenset[str]  # ids of owners
    is_deleted: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class PolicyTables:
    """All that the tables say about access, of one moment."""

    policies: tuple[AccessPolicy, ...] = ()
    groups: tuple[Group, ...] = ()
    dns_servers: frozenset[Network] = frozenset()  # hosts, of the gateways of this node
    # By device id: what its client routes into the tunnel, as its profile was issued. Without an entry nobody knows.
    routes: Mapping[str, Networks] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)  # by device id: the owner's id, if rows have a name instead


class GatewayRow(NamedTuple):
    """What the store tells clients about a gateway."""

    public_key: RowKey
    listen_port: int
    network: Network | None  # of its devices and of its interface. None: no network, or one of all addresses


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What an admin has set about policies."""

    lowest_first: bool = True  # the policy with the lowest number decides
    dns: bool = True  # every device reaches the DNS servers at port 53
    always: Networks = ()  # every device reaches these, beside its policies
    free_sources: Networks = ()  # these may begin flows to devices
    judges_local: bool = True  # traffic to the gateway itself is judged, too
    rejects: bool = False  # refused packets are answered
    enforce: bool = True  # policies decide. False: the packet filter has no table of wgsyncd


class FaultKind(StrEnum):
    """What is wrong with a policy."""

    EFFECT = "effect"  # neither allow nor deny, so it denies
    TARGET = "target"  # an unknown type, so it is for nobody
    NO_TARGET = "no target"  # so it is for nobody
    DESTINATION = "destination"  # not a network: an allow covers less, and a deny covers more


class PolicyFault(NamedTuple):
    """One fault of one policy, with the text that is wrong."""

    policy: DeviceId
    name: str
    kind: FaultKind
    text: str


class Device(NamedTuple):
    """A device whose peer is live once the peers are applied."""

    id: str  # "" if nobody knows whose peer this is
    owner: str
    hosts: Networks  # its addresses
    interface: str
    key: PublicKey
    is_frozen: bool = False  # its peer is left unchanged, and so are its elements
    stays: bool = True  # its peer was live before the cycle, too
    new_hosts: Networks = ()  # the addresses that its peer gets in this cycle


class Element(NamedTuple):
    """What the ruleset says about one source address."""

    device: str  # the tag of the device
    profile: str


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


def tag(device: str) -> str:
    """A device's id as the ruleset has it. An id with odd characters or of odd length becomes a digest.

    So no id can say anything in the language of the packet filter, nor exceed the length of its comments.
    """
    return device if _PLAIN.fullmatch(device) else f"sha256:{hashlib.sha256(device.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What the packet filter's table contains, desired or found. If the two are equal, nothing has to be changed."""

    tunnels: frozenset[str] = frozenset()  # names of interfaces
    dns: frozenset[Network] = frozenset()
    free: Access = NO_ACCESS  # sources that are not judged
    sites: Access = NO_ACCESS  # networks behind peers that are always kept
    profiles: Mapping[str, Access] = field(default_factory=dict)  # by name
    elements: Mapping[Network, Element] = field(default_factory=dict)  # by the device's address, as a host
    judges_local: bool = True
    rejects: bool = False
