"""Records: what the store knows about each peer that is installed.

A :class:`PeerRecord` holds the baseline of a peer's counters. It also says for which row the peer was installed.
Audit rows about peers are the difference between the records and the next dump. So a crash between kernel and
database neither loses such a row nor writes it twice.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum

from wgsyncd.core.model import Counters, DeviceId, PeerConfig, PeerState, PublicKey
from wgsyncd.core.values import peer_value

PeerId = tuple[str, PublicKey]
"""What identifies a peer: the name of its interface, and its public key."""


class RecordState(StrEnum):
    """What the last transaction knew about a peer. The words have the same length: a store may rely on that."""

    PRESENT = "present"
    ADDING = "arrives"  # the zero baseline is stored, and the peer is about to be added
    RESTORING = "returns"  # as ADDING, for a peer that its interface lost (re-creation, reboot)


USED_BEFORE = -1
"""The handshake in the record of a peer that had one, but none since its counters began at zero again."""


def recorded_handshake(found: int, before: int) -> int:
    """The handshake to record for a peer that shows ``found``. ``before``: the recorded one.

    After a reboot, a peer shows no handshake until its device connects. The device was used all the same.
    """
    return found or (USED_BEFORE if before else 0)


@peer_value(frozen=True, slots=True)
class PeerRecord:
    """The record of one peer. ``row_id`` is None for a foreign peer that is about to be removed."""

    interface: str
    public_key: PublicKey
    row_id: DeviceId | None
    device: str
    owner: str
    address: str
    config_digest: bytes  # the result of the function config_digest
    state: RecordState
    epoch: str
    rx: int  # bytes, like tx: the baseline of the peer's counters
    tx: int
    handshake: int  # UNIX nanoseconds, 0 = never, USED_BEFORE
    sampled_at: float  # UNIX seconds of the last change of this record

    @property
    def counters(self) -> Counters:
        """The baseline: the received and the sent bytes as one value."""
        return Counters(self.rx, self.tx)

    @property
    def peer_id(self) -> PeerId:
        return self.interface, self.public_key

    def same_identity(self, old: "PeerRecord") -> bool:
        """Whether ``old`` differs from this record at most in epoch, state, counters, handshake and sample time."""
        return (
            self.config_digest == old.config_digest
            and self.row_id == old.row_id and self.device == old.device and self.owner == old.owner
            and self.address == old.address and self.peer_id == old.peer_id
        )  # fmt: skip


DOUBT = "?"  # the first character of a doubted epoch


def doubted(epoch: str) -> str:
    """The epoch of a record whose counters may be ahead of the kernel's, although their epoch is an old one.

    A boot can come back: an earlier state of a virtual machine is restored, or a node goes back to a machine that ran
    it before. Then a counter may be posted already, and the baseline of its posting is lost. If another node has posted
    the same counter, the epoch is :data:`DOUBT` alone: no counter is sure then.
    """
    return epoch if epoch.startswith(DOUBT) else DOUBT + epoch


def boot_of(epoch: str) -> str:
    return epoch.lstrip(DOUBT).partition(":")[0]


def config_digest(peer: PeerConfig) -> bytes:
    """Eight bytes that change when the allowed IPs, the preshared key or the keepalive of ``peer`` change.

    The digest reveals nothing of the preshared key: that key has 256 random bits, and the digest has 64.
    """
    text = b"|".join(sorted(peer.allowed_ips))
    return hashlib.blake2b(
        text + peer.preshared_key + peer.persistent_keepalive.to_bytes(2), digest_size=8, person=b"wgsyncd.peer"
    ).digest()


def addresses_of(peer: PeerConfig) -> str:
    """A peer's allowed IPs as text for records and messages: sorted and joined by commas."""
    return ",".join(sorted(map(str, peer.allowed_ips)))


def record_of(
    interface: str, epoch: str, found: PeerState, row_id: DeviceId | None, device: str, owner: str, now: float
) -> PeerRecord:
    """The first record of a peer that is there already. Its present counters become the baseline."""
    return PeerRecord(
        interface, found.config.public_key, row_id, device, owner, addresses_of(found.config),
        config_digest(found.config), RecordState.PRESENT, epoch, found.rx, found.tx, found.latest_handshake, now,
    )  # fmt: skip


_NONE: Mapping[PublicKey, PeerRecord] = {}


class PeerRecords(Mapping[PeerId, PeerRecord]):
    """The records of a node by peer id.

    The mapping keeps them by interface and then by key, because a tuple for each would take 64 bytes.
    """

    def __init__(self, some: Iterable[PeerRecord] = ()) -> None:
        self._by_interface: dict[str, dict[PublicKey, PeerRecord]] = {}
        self.update(some)

    def of(self, interface: str) -> Mapping[PublicKey, PeerRecord]:
        """The records of one interface, by key."""
        return self._by_interface.get(interface, _NONE)

    def each(self) -> Iterator[PeerRecord]:
        """All records. The method `values` would be slower, because it looks every record up by its peer id."""
        for some in self._by_interface.values():
            yield from some.values()

    def by_device(self) -> dict[tuple[DeviceId, str], frozenset[PeerId]]:
        """The ids of the peers that are installed for rows, by row id and device. A row id may be used again."""
        peers: dict[tuple[DeviceId, str], frozenset[PeerId]] = {}
        for record in self.each():
            if record.row_id is not None:
                device = record.row_id, record.device
                peers[device] = peers.get(device, frozenset()) | {record.peer_id}
        return peers

    def interface_of(self, epoch: str, probably: str) -> str | None:
        """The name of an interface with a record of this epoch. ``probably``: the name to look at first."""
        for name in (probably, *self._by_interface):
            if any(record.epoch.lstrip(DOUBT) == epoch for record in self.of(name).values()):
                return name
        return None

    def renamed_devices(self, newer: Iterable[PeerRecord]) -> Iterator[tuple[DeviceId, str, str]]:
        """Row id, old name and new name of each device that has another name in one of these newer records."""
        for one in newer:
            known = self.of(one.interface).get(one.public_key)
            if known is not None and known.device != one.device and known.row_id == one.row_id is not None:
                yield one.row_id, known.device, one.device

    def add(self, record: PeerRecord) -> None:
        """Store ``record``. It replaces an older record of the same peer."""
        self._by_interface.setdefault(record.interface, {})[record.public_key] = record

    def update(self, records: Iterable[PeerRecord]) -> None:
        """Store each of ``records``. This is faster than many calls of :meth:`add`."""
        name: str | None = None
        some: dict[PublicKey, PeerRecord] = {}
        for record in records:
            if record.interface != name:  # usually all records are of one interface
                name = record.interface
                some = self._by_interface.setdefault(name, {})
            some[record.public_key] = record

    def discard(self, peer_id: PeerId) -> None:
        """Remove the record with the peer id ``peer_id``, if there is one."""
        name, key = peer_id
        self._by_interface.get(name, {}).pop(key, None)

    def rename(self, renamed: Mapping[str, str | None]) -> None:
        """Give interfaces, by their old name, other names. None: the interface and its records are gone."""
        some = {name: self._by_interface.pop(name, {}) for name in renamed}
        for old, new in renamed.items():
            if new is not None:
                self._by_interface[new] = {key: replace(one, interface=new) for key, one in some[old].items()}

    def copy(self) -> "PeerRecords":
        other = PeerRecords()
        other._by_interface = {name: dict(some) for name, some in self._by_interface.items()}
        return other

    def __getitem__(self, peer_id: PeerId) -> PeerRecord:
        name, key = peer_id
        return self.of(name)[key]

    def __iter__(self) -> Iterator[PeerId]:
        return ((name, key) for name, some in self._by_interface.items() for key in some)

    def __len__(self) -> int:
        return sum(map(len, self._by_interface.values()))
