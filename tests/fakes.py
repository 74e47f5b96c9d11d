"""A WireGuard in memory, which behaves like the real one and fails when told to.

It is no mock: it keeps state instead of prepared answers.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    Change,
    ChangeKind,
    Counters,
    InterfaceState,
    PeerConfig,
    PeerState,
    PublicKey,
)
from wgsyncd.core.network import Network, as_networks
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.errors import DumpInterrupted, InterfaceMissing, WireGuardError
from wgsyncd.ports import NewInterface


class Crash(BaseException):
    """The process dies here. It is a BaseException so that no code handles it, as after SIGKILL."""


@dataclass(slots=True)
class _Live:
    """A peer in the fake kernel, with its counters in bytes and its handshake in UNIX nanoseconds."""

    preshared_key: bytes = field(default=NO_PRESHARED_KEY, repr=False)
    allowed_ips: set[Network] = field(default_factory=set)
    persistent_keepalive: int = 0
    rx: int = 0
    tx: int = 0
    handshake: int = 0
    endpoint: str | None = None


@dataclass(slots=True)
class _Interface:
    index: int
    public_key: PublicKey | None
    listen_port: int
    peers: dict[PublicKey, _Live] = field(default_factory=dict)
    classes: set[PublicKey] = field(default_factory=set)  # shaping classes of tests/plane.py


class FakeWireGuard:
    """Implements the port WireGuard over a kernel in memory.

    It counts:

    - ``reads``: reads of each interface
    - ``writes``: changes that the kernel got for each interface
    - ``touched``: messages that named the peer with each key
    - ``created``: the interfaces that it was asked to create
    - ``retries``: dumps that were repeated

    Each fault stays until the test takes it back:

    - :meth:`delete`: the interface is missing
    - ``broken[interface] = errno``: every read and write of an interface fails
    - ``refused[key] = errno``: the changes of one peer fail
    - ``torn[interface] = n``: the next n dumps are interrupted. A read makes up to six attempts.
    - ``crash_after = n``: the process dies right after the n-th change from now

    ``needs_classes``: wgsyncd may add a peer only if tests/plane.py has made its shaping class before.
    """

    def __init__(self, *interfaces: str) -> None:
        self.retries = 0
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.touched: Counter[PublicKey] = Counter()
        self.created: list[NewInterface] = []
        self.broken: dict[str, int] = {}
        self.refused: dict[PublicKey, int] = {}
        self.torn: dict[str, int] = {}
        self.create_fails: int = 0  # errno
        self.crash_after: int | None = None
        self.closed = self.needs_classes = False
        self._boot = 1
        self._last_index = 1
        self._interfaces: dict[str, _Interface] = {}
        for name in interfaces:
            self.add_interface(name)

    # ---- the port

    def read(self, interface: str) -> InterfaceState:
        """A dump of the interface. Later changes of the kernel do not change it."""
        self.reads[interface] += 1
        actual = self._find(interface)
        for attempt in range(6):
            self.retries += attempt > 0
            if not self.torn.get(interface):
                break
            self.torn[interface] -= 1
        else:
            raise DumpInterrupted(interface, "EINTR", "peers changed during each of 6 dumps")
        epoch = f"fake-boot-{self._boot}:{actual.index}"
        peers = {key: _state(key, peer) for key, peer in actual.peers.items()}
        return InterfaceState(interface, epoch, actual.public_key, actual.listen_port, peers)

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Make the changes in order. Refused changes are returned, and the others are made."""
        failed = []
        for change in changes:
            actual = self._find(interface)
            if self.needs_classes and change.kind is ChangeKind.ADD:
                assert change.public_key in actual.classes, "a peer comes in only after its class was made"
            number = self.refused.get(change.public_key, 0) or _set_peer(actual, change)
            if number:
                failed.append(FailedChange(change, errno.errorcode[number], os.strerror(number)))
            self.writes[interface] += 1
            self.touched[change.public_key] += 1
            if self.crash_after is not None:
                self.crash_after -= 1
                if self.crash_after <= 0:
                    self.crash_after = None
                    raise Crash
        return failed

    def create(self, creation: NewInterface) -> None:
        """Create an empty interface. The private key file is not read."""
        self.created.append(creation)
        name = creation.interface
        if self.create_fails:
            raise _error(name, self.create_fails)
        if name in self._interfaces:
            raise _error(name, errno.EEXIST)
        self.add_interface(name, listen_port=creation.listen_port)

    def close(self) -> None:
        """Note that it was closed. A fake has nothing to release."""
        self.closed = True

    # ---- what others than wgsyncd do to the kernel

    def add_interface(self, name: str, *, public_key: PublicKey | None = None, listen_port: int = 51820) -> None:
        """`ip link add`: the interface gets a new index, and so a new epoch."""
        self._last_index += 1
        self._interfaces[name] = _Interface(self._last_index, public_key, listen_port)

    def delete(self, name: str) -> None:
        """`ip link del`: the interface is gone with its peers."""
        del self._interfaces[name]

    def reboot(self, *interfaces: str) -> None:
        """Boot the machine. The named interfaces (default: all) exist again afterwards, without peers."""
        keep = {name: self._interfaces.get(name) for name in interfaces or tuple(self._interfaces)}
        self._boot += 1
        self._last_index = 1
        self._interfaces = {}
        for name, old in keep.items():
            self.add_interface(
                name,
                public_key=old.public_key if old else None,
                listen_port=old.listen_port if old else 51820,
            )

    def handshake(self, interface: str, key: PublicKey, at_ns: int, endpoint: str = "192.0.2.1:1024") -> None:
        """Complete a handshake at a time (UNIX nanoseconds)."""
        peer = self._find(interface).peers[key]
        peer.handshake, peer.endpoint = at_ns, endpoint

    def traffic(self, interface: str, key: PublicKey, rx: int = 0, tx: int = 0) -> None:
        """Add bytes to the counters of a peer."""
        peer = self._find(interface).peers[key]
        peer.rx += rx
        peer.tx += tx

    def add_behind(self, interface: str, peer: PeerConfig) -> None:
        """`wg set INTERFACE peer …` by somebody else: sets one peer and nothing else."""
        change = Change(ChangeKind.ADD, interface, peer.public_key, None, peer)
        if number := _set_peer(self._find(interface), change):
            raise _error(interface, number)

    def remove_behind(self, interface: str, key: PublicKey) -> None:
        """`wg set INTERFACE peer KEY remove` by somebody else."""
        del self._find(interface).peers[key]

    def recreate_behind(self, interface: str, key: PublicKey) -> None:
        """Somebody else removes a peer and adds it again. Its configuration stays, counters and handshake are zero."""
        actual = self._find(interface)
        old = actual.peers.pop(key)
        actual.peers[key] = _Live(old.preshared_key, old.allowed_ips, old.persistent_keepalive)

    def peers(self, interface: str) -> dict[PublicKey, PeerConfig]:
        """The peers of an interface as configured. It does not count as a read."""
        return {key: _state(key, peer).config for key, peer in self._find(interface).peers.items()}

    def classes(self) -> dict[str, set[PublicKey]]:
        """The shaping classes of each interface that exists. The sets themselves can be changed."""
        return {name: one.classes for name, one in self._interfaces.items()}

    def counters(self, interface: str, key: PublicKey) -> Counters:
        """The counters of a peer. It does not count as a read."""
        peer = self._find(interface).peers[key]
        return Counters(peer.rx, peer.tx)

    def _find(self, name: str) -> _Interface:
        if name in self.broken:
            raise _error(name, self.broken[name])
        if name not in self._interfaces:
            raise _error(name, errno.ENODEV)
        return self._interfaces[name]


def _error(interface: str, number: int) -> WireGuardError:
    kind = InterfaceMissing if number == errno.ENODEV else WireGuardError
    return kind(interface, errno.errorcode[number], os.strerror(number))


def _state(key: PublicKey, actual: _Live) -> PeerState:
    peer = PeerConfig(key, actual.preshared_key, as_networks(actual.allowed_ips), actual.persistent_keepalive)
    return PeerState(peer, actual.rx, actual.tx, actual.handshake, actual.endpoint)


def _set_peer(interface: _Interface, change: Change) -> int:
    """Do what set_peer() in Linux' drivers/net/wireguard/netlink.c does with a change. Returns an errno or 0."""
    key, after = change.public_key, change.desired
    actual = interface.peers.get(key)
    if actual is None:
        if after is None or change.kind is ChangeKind.UPDATE:  # WGPEER_F_REMOVE_ME, WGPEER_F_UPDATE_ONLY
            return 0
        if key == interface.public_key:  # the kernel silently ignores the interface's own key
            return 0
        actual = interface.peers[key] = _Live()
    if after is None:
        del interface.peers[key]
        return 0
    if change.sets_preshared_key:
        actual.preshared_key = after.preshared_key
    if change.sets_allowed_ips:
        actual.allowed_ips.clear()
        for network in after.allowed_ips:
            if network.prefixlen > len(network.packed) * 8:
                return errno.EINVAL  # earlier addresses stay, and a new peer stays too
            for other in interface.peers.values():  # an address belongs to the last peer that asked for it
                other.allowed_ips.discard(network)
            actual.allowed_ips.add(network)
    if change.sets_keepalive:
        actual.persistent_keepalive = after.persistent_keepalive
    return 0
