"""A WireGuard in memory that does what the kernel does, and fails when told to. No mocks: it has state, not answers."""

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
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.errors import DumpInterrupted, InterfaceMissing, SpoolCorrupt, SpoolError, WireGuardError
from wgsyncd.ports import FailedChange, NewInterface


class Crash(BaseException):
    """The process dies here. No BaseException is caught on the way, as none would be after SIGKILL."""


@dataclass(slots=True)
class _Live:
    """A peer in the fake kernel."""

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


class FakeWireGuard:
    """The WireGuard port over a kernel in memory.

    What it counts: ``reads`` (per interface), ``writes`` (changes the kernel was sent, per interface), ``touched``
    (per key: how often a message named the peer), ``created`` (creations asked for), ``retries``.

    Faults, each of which stays until it is taken back: ``missing`` via :meth:`delete`; ``broken[interface] = errno``
    for every read and write of an interface; ``refused[key] = errno`` for the changes of one peer; ``torn[interface] =
    n`` for n more torn dumps (each attempt uses one up; a read makes six); ``crash_after = n``: the process dies right
    after the n-th change from now.
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
        self.closed = False
        self._boot = 1
        self._last_index = 1
        self._interfaces: dict[str, _Interface] = {}
        for name in interfaces:
            self.add_interface(name)

    # ---- the port

    def read(self, interface: str) -> InterfaceState:
        """A dump, which nothing later changes."""
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
        """The changes, in order; a refused one is returned and the others are made."""
        failed = []
        for change in changes:
            actual = self._find(interface)
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
        """An empty interface. The private key file is not looked at."""
        self.created.append(creation)
        name = creation.interface
        if self.create_fails:
            raise _error(name, self.create_fails)
        if name in self._interfaces:
            raise _error(name, errno.EEXIST)
        self.add_interface(name, listen_port=creation.listen_port)

    def close(self) -> None:
        """Noted only: a fake has nothing to give back."""
        self.closed = True

    # ---- the world behind wgsyncd's back

    def add_interface(self, name: str, *, public_key: PublicKey | None = None, listen_port: int = 51820) -> None:
        """`ip link add`: a new index, so a new epoch."""
        self._last_index += 1
        self._interfaces[name] = _Interface(self._last_index, public_key, listen_port)

    def delete(self, name: str) -> None:
        """`ip link del`."""
        del self._interfaces[name]

    def reboot(self, *interfaces: str) -> None:
        """Another boot: the interfaces named (default: all that were) are there again, empty."""
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
        """A completed handshake at that time (UNIX nanoseconds)."""
        peer = self._find(interface).peers[key]
        peer.handshake, peer.endpoint = at_ns, endpoint

    def traffic(self, interface: str, key: PublicKey, rx: int = 0, tx: int = 0) -> None:
        """So many more bytes."""
        peer = self._find(interface).peers[key]
        peer.rx += rx
        peer.tx += tx

    def add_behind(self, interface: str, peer: PeerConfig) -> None:
        """`wg set INTERFACE peer …` by someone else: sets this and nothing else."""
        change = Change(ChangeKind.ADD, interface, peer.public_key, None, peer)
        if number := _set_peer(self._find(interface), change):
            raise _error(interface, number)

    def remove_behind(self, interface: str, key: PublicKey) -> None:
        """`wg set INTERFACE peer KEY remove` by someone else."""
        del self._find(interface).peers[key]

    def recreate_behind(self, interface: str, key: PublicKey) -> None:
        """A peer removed and added again by someone else: same configuration, counters and handshake at nothing."""
        actual = self._find(interface)
        old = actual.peers.pop(key)
        actual.peers[key] = _Live(old.preshared_key, old.allowed_ips, old.persistent_keepalive)

    def peers(self, interface: str) -> dict[PublicKey, PeerConfig]:
        """What is configured, without a read."""
        return {key: _state(key, peer).config for key, peer in self._find(interface).peers.items()}

    def counters(self, interface: str, key: PublicKey) -> Counters:
        """A peer's bytes, without a read."""
        peer = self._find(interface).peers[key]
        return Counters(peer.rx, peer.tx)

    def _find(self, name: str) -> _Interface:
        if name in self.broken:
            raise _error(name, self.broken[name])
        if name not in self._interfaces:
            raise _error(name, errno.ENODEV)
        return self._interfaces[name]


class FakeSpool:
    """The spool port in memory: what was saved outlives the process.

    Faults: ``full`` (nothing can be saved), ``damaged`` (what was saved is set aside when it is next loaded),
    ``unreadable`` (it cannot be read now); for the next saves, in their order, ``next_saves``: "ok", "fails", "crash
    before", "crash after".
    """

    def __init__(self) -> None:
        self.kept: Backlog | None = None
        self.full = self.damaged = self.unreadable = False
        self.next_saves: list[str] = []
        self.saves = self.streams = 0

    def begin(self) -> Backlog:
        """Numbered streams."""
        self.streams += 1
        return Backlog(f"stream{self.streams}")

    def load(self) -> Backlog | None:
        """What was saved last."""
        if self.unreadable:
            raise SpoolError("spool cannot be read: Input/output error")
        if self.damaged:
            self.damaged, self.kept = False, None
            raise SpoolCorrupt("spool is torn; set aside as spool.bad1", "spool.bad1")
        return self.kept

    def save(self, backlog: Backlog) -> None:
        """Instead of what was saved before."""
        fate = self.next_saves.pop(0) if self.next_saves else "ok"
        if self.full or fate == "fails":
            raise SpoolError("spool cannot be written: No space left on device")
        if fate == "crash before":
            raise Crash
        self.kept = backlog
        self.saves += 1
        if fate == "crash after":
            raise Crash


def _error(interface: str, number: int) -> WireGuardError:
    kind = InterfaceMissing if number == errno.ENODEV else WireGuardError
    return kind(interface, errno.errorcode[number], os.strerror(number))


def _state(key: PublicKey, actual: _Live) -> PeerState:
    peer = PeerConfig(key, actual.preshared_key, as_networks(actual.allowed_ips), actual.persistent_keepalive)
    return PeerState(peer, actual.rx, actual.tx, actual.handshake, actual.endpoint)


def _set_peer(interface: _Interface, change: Change) -> int:
    """What set_peer() in Linux' drivers/net/wireguard/netlink.c does with a change's attributes; errno or 0."""
    key, after = change.public_key, change.desired
    actual = interface.peers.get(key)
    if actual is None:
        if after is None or change.kind is ChangeKind.UPDATE:  # WGPEER_F_REMOVE_ME, WGPEER_F_UPDATE_ONLY
            return 0
        if key == interface.public_key:  # silently ignored
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
                return errno.EINVAL  # those before it stay, and so does a peer that was just made
            for other in interface.peers.values():  # the last one who asks for an address has it
                other.allowed_ips.discard(network)
            actual.allowed_ips.add(network)
    if change.sets_keepalive:
        actual.persistent_keepalive = after.persistent_keepalive
    return 0
