"""A gateway in network namespaces: two clients, a server behind it, and the real packet filter between them.

The tunnels are pairs of veth that are named as WireGuard interfaces: the ruleset asks for the name alone. Both ends of a
pair have one hardware address and ask for none, because the filter refuses the questions of neighbours, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket as sockets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.namespace import run
from tests.policing import tables
from tests.samples import actual, dump
from tests.wait import until
from wgsyncd.core.model import NO_PRESHARED_KEY, PeerConfig
from wgsyncd.core.network import Networks
from wgsyncd.core.peers.guard import RemovalLimits
from wgsyncd.core.policies.model import Device, PolicySettings, PolicyTables
from wgsyncd.core.policies.plan import AccessPlan, plan_access
from wgsyncd.dataplane.nftables import listing
from wgsyncd.dataplane.nftables.filter import PacketFilter
from wgsyncd.dataplane.nftables.netfilter import Netfilter
from wgsyncd.dataplane.nftables.nft import Nft
from wgsyncd.dataplane.nftables.view import FilterSettings
from wgsyncd.ports import Phase

TUNNELS = frozenset(("wg0", "wg1"))
LIMITS = RemovalLimits(always_allowed=3, max_share=1.0, small_node=3)
SECONDS = 20.0  # more than anything here takes
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MAC = "02:00:00:00:00:01"


class Place:
    """A network namespace. It lives as long as this object keeps its descriptor."""

    def __init__(self) -> None:
        with _elsewhere(lambda: _libc("unshare", _CLONE_NEWNET)):
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def run(self, *command: str) -> str:
        return run("nsenter", f"--net={self.path}", *command)

    def socket(self, address: str, port: int = 0, kind: int = sockets.SOCK_DGRAM) -> sockets.socket:
        """A socket with an address of this place."""
        with _elsewhere(lambda: _libc("setns", self.fd, _CLONE_NEWNET)):
            made = sockets.socket(sockets.AF_INET6 if ":" in address else sockets.AF_INET, kind)
            made.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            made.bind((address, port))
        made.settimeout(SECONDS)
        return made


@contextlib.contextmanager
def _elsewhere(go: Callable[[], object]) -> Iterator[None]:
    """This thread in another network namespace, which ``go`` goes to."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        go()
        yield
    finally:
        _libc("setns", here, _CLONE_NEWNET)
        os.close(here)


def _libc(name: str, *arguments: int) -> None:
    assert getattr(ctypes.CDLL(None), name)(*arguments) == 0, name


class Gateway:
    """The router, in the network namespace of the test, with its filter."""

    def __init__(self, policies: PolicySettings) -> None:
        self.alice, self.bob, self.server = Place(), Place(), Place()
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run("ip", "link", "set", "lo", "up")
        self.link("wg0", self.alice, ("10.8.0.1/24", "fd08::1/64"), ("10.8.0.2/24", "10.8.0.3/24", "fd08::2/64"))
        self.link("wg1", self.bob, ("10.9.0.1/24", "fd09::1/64"), ("10.9.0.2/24", "fd09::2/64"))
        self.link(
            "lan0", self.server, ("10.0.0.1/8", "fd01::1/64"),
            ("10.1.0.1/8", "10.2.0.1/8", "10.1.0.53/8", "192.0.2.1/32", "fd01::2/64"),
        )  # fmt: skip
        run("ip", "route", "add", "192.0.2.0/24", "dev", "lan0")
        self.policies = policies
        self.netfilter, self.nft = Netfilter(), Nft()
        self.filter = self._filter()
        self._sockets: list[sockets.socket] = []

    def _filter(self) -> PacketFilter:
        settings = FilterSettings(TUNNELS, self.policies, LIMITS)
        return PacketFilter(settings, self.nft, self.netfilter)

    def restart(self) -> None:
        """Start a new process, which knows of the last one only what the kernel has."""
        self.netfilter.close()
        self.netfilter = Netfilter()
        self.filter = self._filter()
        self.filter.start()

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        self.netfilter.close()
        for place in (self.alice, self.bob, self.server):
            os.close(place.fd)

    def link(self, name: str, place: Place, ours: Sequence[str], theirs: Sequence[str]) -> None:
        run("ip", "link", "add", name, "address", _MAC, "type", "veth", "peer", "name", "up0", "address", _MAC, "netns", place.path)  # fmt: skip
        run("ip", "link", "set", name, "arp", "off", "up")
        place.run("ip", "link", "set", "lo", "up")
        place.run("ip", "link", "set", "up0", "arp", "off", "up")
        for address in ours:
            run("ip", "address", "add", address, "dev", name, *(("nodad",) if ":" in address else ()))
        for address in theirs:
            place.run("ip", "address", "add", address, "dev", "up0", *(("nodad",) if ":" in address else ()))
        place.run("ip", "route", "add", "default", "via", ours[0].partition("/")[0])
        place.run("ip", "-6", "route", "add", "default", "via", ours[1].partition("/")[0])

    # -- the filter

    def cycle(
        self, devices: Sequence[Device], found: PolicyTables | None = None, *, kept: Networks = (),
        approved: str | None = None, between: Callable[[], object] = lambda: None,
    ) -> AccessPlan:  # fmt: skip
        """One cycle of the filter. ``between`` stands for the phase in which the peers change."""
        plan = self.plan(devices, found, kept=kept, approved=approved)
        peers = [PeerConfig(one.key, NO_PRESHARED_KEY, one.hosts) for one in devices]
        live = actual(*(dump(*(p for p, d in zip(peers, devices, strict=True) if d.interface == name), name=name) for name in TUNNELS))  # fmt: skip
        self.filter.apply(Phase.WITHDRAW, plan, live)
        between()
        self.filter.apply(Phase.GRANT, plan, live)
        return plan

    def plan(
        self, devices: Sequence[Device], found: PolicyTables | None = None, *, kept: Networks = (),
        approved: str | None = None,
    ) -> AccessPlan:  # fmt: skip
        """What a cycle would do."""
        there = self.filter.read()
        return plan_access(
            devices, found or tables(), self.policies, LIMITS, there, approved, tunnels=TUNNELS, kept=kept
        )

    def found(self) -> listing.Found:
        """The table as nft shows it."""
        shown = self.nft.show()
        assert shown is not None
        return listing.decode(shown)

    # -- packets

    def refused(self) -> int:
        """How many packets the rules have refused."""
        return sum(one.packets for name, one in self.netfilter.counters().items() if name.startswith("refused_"))

    def socket(self, place: Place, address: str, port: int = 0, kind: int = sockets.SOCK_DGRAM) -> sockets.socket:
        self._sockets.append(place.socket(address, port, kind))
        return self._sockets[-1]

    def passes(self, sender: sockets.socket, receiver: sockets.socket, address: str, port: int | None = None) -> bool:
        """Whether a datagram arrives. It either arrives or is counted as refused."""
        refused = self.refused()
        sender.sendto(b"x", (address, port or receiver.getsockname()[1]))
        until(lambda: waiting(receiver) or self.refused() > refused, SECONDS, "end of a packet")
        return bool(drain(receiver))

    def reaches(self, place: Place, source: str, address: str, *, port: int = 0, to: Place | None = None) -> bool:
        """Whether a new flow from ``source`` gets to ``address`` and its answer comes back."""
        one, other = self.socket(place, source), self.socket(to or self.server, address, port)
        if not self.passes(one, other, address):
            return False
        assert self.passes(other, one, source), "whoever may ask gets an answer"
        return True


def waiting(receiver: sockets.socket) -> bool:
    receiver.setblocking(False)
    try:
        receiver.recv(1, sockets.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:  # an error of ICMP
        return True
    finally:
        receiver.settimeout(SECONDS)
    return True


def drain(receiver: sockets.socket) -> list[bytes]:
    """All datagrams that have arrived."""
    found = []
    receiver.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(receiver.recv(2000))
    receiver.settimeout(SECONDS)
    return found


@contextlib.contextmanager
def gateway(policies: PolicySettings | None = None) -> Iterator[Gateway]:
    """A gateway in network namespaces of its own. It needs root, nft and nsenter."""
    assert os.geteuid() == 0 and Path("/usr/sbin/nft").exists(), "NOT TESTED: needs root, and Debian's package nftables"
    with _elsewhere(lambda: _libc("unshare", _CLONE_NEWNET)):
        made = Gateway(policies or PolicySettings())
        try:
            yield made
        finally:
            made.close()
