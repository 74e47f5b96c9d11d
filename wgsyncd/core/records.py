"""Records: what was last written down of each live peer.

A :class:`Record` is both the baseline of a peer's counters and the memory of what was installed for whom. Audit rows
about peers are the difference between the records and the next dump, so a crash between kernel and database neither
loses such a row nor writes it twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wgsyncd.core.model import Counters, PeerConfig, PublicKey, reuse_equal

PeerId = tuple[str, PublicKey]
"""Where a peer lives: interface and key."""


class RecordState(StrEnum):
    """What the last transaction knew of a peer. Words of one length: the server changes them where they are. In a page
    of records that is full, as those of new peers are, another length takes it up to eight times as long."""

    PRESENT = "present"
    ADDING = "arrives"  # baseline zero is stored, the peer is about to be added
    RESTORING = "returns"  # the same, for a peer that its interface lost (re-creation, reboot)


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """What is recorded of one live peer. ``row_id`` None: a foreign peer about to be removed."""

    interface: str
    public_key: PublicKey
    row_id: int | None
    device: str
    owner: str
    address: str
    config_digest: bytes  # see config_digest
    state: RecordState
    epoch: str
    rx: int  # bytes: the baseline of the peer's counters
    tx: int
    handshake: int  # UNIX nanoseconds, 0 = never
    sampled_at: float  # UNIX seconds; of the last change of this record

    @property
    def counters(self) -> Counters:
        """The baseline."""
        return Counters(self.rx, self.tx)

    @property
    def peer_id(self) -> PeerId:
        """Where it lives."""
        return self.interface, self.public_key

    def share(self, row_id: int, config: bytes) -> None:
        """From now on these objects are the record's own, where they are equal: see :func:`once`."""
        object.__setattr__(self, "row_id", reuse_equal(self.row_id, row_id))
        object.__setattr__(self, "config_digest", reuse_equal(self.config_digest, config))

    def same_identity(self, old: PeerRecord) -> bool:
        """Whether nothing but epoch, state, counters, handshake and their time differ."""
        return (
            self.config_digest == old.config_digest
            and self.row_id == old.row_id and self.device == old.device and self.owner == old.owner
            and self.address == old.address and self.peer_id == old.peer_id
        )  # fmt: skip


def config_digest(peer: PeerConfig) -> bytes:
    """Eight bytes that change when the peer's configuration does. The PSK has 256 random bits, so a 64-bit digest
    gives nothing of it away."""
    text = b"|".join(sorted(peer.allowed_ips))
    return hashlib.blake2b(
        text + peer.preshared_key + peer.persistent_keepalive.to_bytes(2), digest_size=8, person=b"wgsyncd.peer"
    ).digest()


def addresses_of(peer: PeerConfig) -> str:
    """A peer's allowed IPs as they are recorded and told."""
    return ",".join(sorted(map(str, peer.allowed_ips)))[:64]


_NONE: Mapping[PublicKey, PeerRecord] = {}


class PeerRecords(Mapping[PeerId, PeerRecord]):
    """Records by slot. They are kept by interface and then by key: a tuple for each would be 64 bytes of it."""

    def __init__(self, some: Iterable[PeerRecord] = ()) -> None:
        self._by_interface: dict[str, dict[PublicKey, PeerRecord]] = {}
        for record in some:
            self.add(record)

    def of(self, interface: str) -> Mapping[PublicKey, PeerRecord]:
        """Those of one interface, by key."""
        return self._by_interface.get(interface, _NONE)

    def each(self) -> Iterator[PeerRecord]:
        """All of them; `values` would look each up."""
        for some in self._by_interface.values():
            yield from some.values()

    def add(self, record: PeerRecord) -> None:
        """Put it in its slot, in place of what is there."""
        self._by_interface.setdefault(record.interface, {})[record.public_key] = record

    def discard(self, slot: PeerId) -> None:
        """Take out what is there, if anything is."""
        name, key = slot
        self._by_interface.get(name, {}).pop(key, None)

    def copy(self) -> PeerRecords:
        """Another mapping of the same records."""
        other = PeerRecords()
        other._by_interface = {name: dict(some) for name, some in self._by_interface.items()}
        return other

    def __getitem__(self, slot: PeerId) -> PeerRecord:
        name, key = slot
        return self.of(name)[key]

    def __iter__(self) -> Iterator[PeerId]:
        return ((name, key) for name, some in self._by_interface.items() for key in some)

    def __len__(self) -> int:
        return sum(map(len, self._by_interface.values()))
