"""The objects of tc that shaping consists of, as values, and the numbers that follow from a rate.

Both directions have a tree of their own: a link of kind ifb with an HTB at its root. *Minor* is the minor number of a
class. Sources: uapi/linux/pkt_sched.h, net/sched/sch_htb.c and sch_fq_codel.c in Linux.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction

MAJOR = 0x7767  # the handle of both roots: "wg"
MAX_MINOR = 32767  # handles of leaves have 16 bits, and the upper half is the kernel's own choice
LINKS = {Direction.DOWN: "wgsyncd-down", Direction.UP: "wgsyncd-up"}  # with the number 0
MOST_LINKS = 32  # of one direction. Links with the numbers from 1 on have them in their name: "wgsyncd-down1"
QUEUE = 1000  # packets: txqueuelen of the links
DEVICE_PREFS, EXEMPT_PREFS = {4: 10, 16: 11}, {4: 5, 16: 6}  # by bytes of an address. The lower pref comes first
NOT_SHAPED = 0  # the minor of filters for exempt networks: HTB sends their packets at once
_FRAME = 1514  # bytes: psched_mtu of an ifb, the smallest quantum that lets a packet through in one round


class HtbClass(NamedTuple):
    """One class. A contract's class holds its devices' classes, which have the leaves."""

    minor: int
    parent: int  # minor of the contract's class. 0: the root
    rate: int  # bytes per second, like ceil
    ceil: int
    buffer: int  # ticks of 64 ns at the rate (PSCHED_SHIFT, include/net/pkt_sched.h), like cbuffer
    cbuffer: int
    quantum: int  # bytes


class Leaf(NamedTuple):
    """The fq_codel of a device's class."""

    minor: int  # of its class
    handle: int  # as major number. wgsyncd's own is the minor
    flows: int  # 0: the leaf is no fq_codel. The kernel changes the flows of no leaf
    limit: int = 1000  # packets
    memory: int = 4 << 20  # bytes
    target: int = 0  # µs as the kernel gives it back, like interval
    interval: int = 0


class Filter(NamedTuple):
    """One flower filter: the traffic of a device to its class, or of an exempt network past all classes."""

    pref: int
    handle: int
    network: Network | None  # None: wgsyncd makes no such filter
    minor: int


class Pref(NamedTuple):
    """All filters of one pref, if they are of a kind or protocol that wgsyncd uses under no such pref."""

    pref: int
    protocol: int  # ETH_P_*, uapi/linux/if_ether.h
    kind: str


class Root(StrEnum):
    """What stands at the root of a link."""

    NONE = "none"  # the kernel's default alone
    OURS = "ours"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Tree:
    """What one direction has in the kernel."""

    index: int = 0  # of the link. 0: there is none
    is_ifb: bool = True
    is_up: bool = False
    queue: int = QUEUE
    root: Root = Root.NONE
    classes: Mapping[int, HtbClass] = field(default_factory=dict)
    leaves: Mapping[int, Leaf] = field(default_factory=dict)  # by the minor of their class
    filters: tuple[Filter, ...] = ()
    foreign_prefs: frozenset[Pref] = frozenset()

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else uses the link's name or its root."""
        return self.index != 0 and (not self.is_ifb or self.root is Root.FOREIGN)

    @property
    def is_live(self) -> bool:
        """Whether a redirect may lead here. A link that is gone or down drops every packet (net/sched/act_mirred.c)."""
        return self.index != 0 and self.is_up and not self.is_foreign


class Hook(StrEnum):
    """Which qdisc an interface has at ffff:. On ``ingress``, the kernel would put an egress filter on ingress."""

    NONE = "none"
    CLSACT = "clsact"
    INGRESS = "ingress"


@dataclass(frozen=True, slots=True)
class Port:
    """What an interface has that leads its traffic to the trees."""

    hook: Hook = Hook.NONE
    redirects: Mapping[Direction, int] = field(default_factory=dict)  # wgsyncd's own: the link's index, 0: gone
    taken: frozenset[Direction] = frozenset()  # where a foreign filter has one of wgsyncd's prefs
    has_foreign_filters: bool = False
    detours: Mapping[tuple[Direction, Network], "Led"] = field(default_factory=dict)  # wgsyncd's own


class Led(NamedTuple):
    """Where the traffic of one address is led by a filter of its own."""

    handle: int  # of the filter
    link: int  # its index. 0: it is gone


class Passed(NamedTuple):
    """What a tree has sent and dropped since its root was made, with its leaves' drops (net/sched/sch_htb.c)."""

    sent: int = 0  # bytes
    dropped: int = 0  # packets


class ShapedTraffic(NamedTuple):
    """What the class of one device has let through and dropped since it was made."""

    minor: int  # of the class
    sent: int  # bytes
    dropped: int  # packets
    waiting: int  # packets that are in its queue now


@dataclass(frozen=True, slots=True)
class KernelState:
    """All that shaping has in the kernel: the trees, and every interface that exists or has a hook."""

    trees: Mapping[Direction, Tree]  # of the links with the number 0
    ports: Mapping[str, Port]  # by interface
    passed: Mapping[Direction, Passed] = field(default_factory=dict, compare=False)
    more: Mapping[int, Mapping[Direction, Tree]] = field(default_factory=dict)  # of the links with other numbers

    def every_tree(self) -> Iterator[tuple[int, Direction, Tree]]:
        """All trees, with the number and the direction of their link."""
        for number, trees in (0, self.trees), *self.more.items():
            for direction, tree in trees.items():
                yield number, direction, tree


def link_name(direction: Direction, number: int) -> str:
    return f"{LINKS[direction]}{number or ''}"


PLACES = {link_name(one, number): (one, number) for number in range(MOST_LINKS) for one in Direction}  # by name


def ticks(rate: int, size: int) -> int:
    """How long ``size`` bytes take at ``rate`` bytes per second, in ticks of 64 ns. The field has 32 bits."""
    return min(size * 1_000_000_000 // (rate * 64), 0xFFFFFFFF)


def top_class(minor: int, rate: int) -> HtbClass:
    """The class of a contract whose devices share ``rate``, or of a device that has ``rate`` for itself."""
    burst = ticks(rate, _burst(rate))
    return HtbClass(minor, 0, rate, rate, burst, burst, _quantum(rate))


def device_class(minor: int, parent: int, rate: int, devices: int) -> HtbClass:
    """The class of one of a contract's ``devices``. Equal rates let the devices share evenly.

    A class sends at its own rate even if its parent has nothing left (net/sched/sch_htb.c). So all own rates together
    must not exceed the rate of the contract. The divisor is a power of two, so that one more device changes few.
    """
    own = max(rate // max(64, 1 << (devices - 1).bit_length()), 1)
    return HtbClass(minor, parent, own, rate, ticks(own, 3200), ticks(rate, _burst(rate)), _quantum(rate))


def _burst(rate: int) -> int:
    return max(3200, rate * 5 // 1000)


def _quantum(rate: int) -> int:
    return min(max(_FRAME, rate // 1000), 60000)


def leaf(minor: int, rate: int) -> Leaf:
    """The leaf of a device that has at most ``rate``. A slow rate needs a target above the time of one packet."""
    target = max(5000, -(-_FRAME * 1_500_000 // rate))
    return Leaf(minor, minor, 256, target=_as_read(target), interval=_as_read(target + 95_000))


def _as_read(microseconds: int) -> int:
    """A time as the kernel gives it back: it keeps steps of 1,024 ns (CODEL_SHIFT, include/net/codel.h)."""
    return (microseconds * 1000 >> 10 << 10) // 1000
