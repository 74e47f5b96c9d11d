"""The values of the core: keys, actual and desired peers, rows, changes and transitions.

Handshakes of peers are UNIX nanoseconds, as the kernel gives them. All other times are UNIX seconds as float.
Sizes are bytes. Addresses are packed in network byte order. Names follow wg(8).
"""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, NewType, Protocol

from wgsyncd.core.network import Networks
from wgsyncd.core.reasons import (
    NO_FACTS,
    WANTED,
    ChangeReason,
    Inactive,
    InactiveReason,
    KeyFault,
    Reason,
    RejectionFacts,
    TransitionKind,
)
from wgsyncd.core.values import peer_value

KEY_BYTES = 32  # WG_KEY_LEN, uapi/linux/wireguard.h
EARLIEST = (1 << 30) * 10**9  # UNIX nanoseconds, the year 2004. The clock was wrong at an earlier handshake
NO_PRESHARED_KEY = bytes(KEY_BYTES)  # "if all zero, then no preshared key is used", uapi/linux/wireguard.h

PublicKey = NewType("PublicKey", bytes)
"""A Curve25519 public key: 32 raw bytes. Logs, metrics and audit rows show only its :func:`fingerprint`."""


class DeviceId(Protocol):
    """Identifies a device's row: an int, a str or a UUID, and one store has one type only. The lowest id wins."""

    def __lt__(self, other: Any, /) -> bool: ...

    def __hash__(self) -> int: ...


def plain_id(row_id: DeviceId) -> int | str:
    """An id as reports show it. JSON has no UUIDs, so any id that is no int becomes a text."""
    return row_id if isinstance(row_id, int) else str(row_id)


RowKey = bytes | str | None
"""A key of a row: its 32 bytes, or the unchanged text if the text is not a key, or None if the row has no key."""


class InvalidKey(ValueError):
    """A text is not a valid key, because of ``fault``. ``size``: the decoded length in bytes, if that is the fault.

    The message is the rest of a sentence about the key. It never has the text, which may be a preshared key.
    """

    def __init__(self, fault: KeyFault, size: int = 0) -> None:
        self.fault, self.size = fault, size
        words = {
            KeyFault.EMPTY: "is empty",
            KeyFault.NOT_BASE64: "is not base64",
            KeyFault.WHITE_SPACE: "has a space or a line break in it",
            KeyFault.NOT_CANONICAL: "is not canonical base64",
            KeyFault.LENGTH: f"has {size} bytes, not {KEY_BYTES}",
            KeyFault.ZERO: "is all zeros",
        }
        super().__init__(words[fault])


def read_key(text: str | None) -> RowKey:
    """The key of a row: its 32 bytes, or ``text`` itself if :func:`decode_key` does not accept it."""
    try:
        return decode_key(text) if text else text
    except ValueError:
        return text


def decode_key(text: RowKey) -> bytes:
    """The 32 bytes of a key that is written as wg(8) writes it: 44 characters of canonical base64.

    A key that is bytes already is returned unchanged. Anything else raises InvalidKey.

    ``binascii.a2b_base64`` accepts junk and white space unless it is strict. Even if it is strict, it accepts
    last characters that are not canonical. Two different texts could then name one key.
    """
    if not text:
        raise InvalidKey(KeyFault.EMPTY)
    if isinstance(text, bytes):
        return text
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # this includes binascii.Error
        raise InvalidKey(KeyFault.WHITE_SPACE if any(map(str.isspace, text)) else KeyFault.NOT_BASE64) from None
    if len(raw) != KEY_BYTES:
        raise InvalidKey(KeyFault.LENGTH, len(raw))
    if encode_key(raw) != text:
        raise InvalidKey(KeyFault.NOT_CANONICAL)
    return raw


def encode_key(key: bytes) -> str:
    """A key in base64, as wg(8) writes it. Logs, metrics and audit rows show :func:`fingerprint` instead."""
    return binascii.b2a_base64(key, newline=False).decode()


def fingerprint(key: bytes) -> str:
    """The first eight characters of a key's base64, and an ellipsis.

    They are enough for an admin to find the key in `wg show`, and too few to use it.
    """
    return encode_key(key[:6]) + "…"


class Counters(NamedTuple):
    """The bytes that the server received from a peer (rx) and sent to it (tx) since the peer was added."""

    rx: int
    tx: int


NO_BYTES = Counters(0, 0)


class PeerConfig(NamedTuple):
    """A peer's configuration, desired or actual. If the two are equal, the kernel needs no change."""

    public_key: PublicKey
    preshared_key: bytes  # NO_PRESHARED_KEY if the peer has none
    allowed_ips: Networks
    persistent_keepalive: int = 0  # seconds, 0 = off

    def __repr__(self) -> str:  # a NamedTuple would print the preshared key
        ips = ",".join(sorted(map(str, self.allowed_ips)))
        return f"Peer({fingerprint(self.public_key)} {ips} keepalive={self.persistent_keepalive})"


class PeerState(NamedTuple):
    """A peer in the kernel: its configuration, counters, latest handshake and endpoint."""

    config: PeerConfig
    rx: int  # bytes, like tx. One Counters object for both would take 64 bytes for each peer
    tx: int
    latest_handshake: int  # UNIX nanoseconds, 0 = never. Below EARLIEST: nobody knows when
    endpoint: str | None = None

    @property
    def counters(self) -> Counters:
        return Counters(self.rx, self.tx)


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """One dump of one interface, complete and uninterrupted.

    ``epoch`` names the lifetime of the kernel's counters: boot id and interface index. The counters go on between two
    dumps with the same epoch. In another epoch every counter began at zero.
    """

    name: str
    epoch: str
    public_key: PublicKey | None  # None while the interface has no private key
    listen_port: int
    peers: Mapping[PublicKey, PeerState]
    kind: str = "kernel"  # or "userspace"


class Status(StrEnum):
    """What a row says about its device. Only an issued or active device may have a peer."""

    ISSUED = "issued"
    ACTIVE = "active"
    EXPIRED = "expired"  # nobody activated the device by its deadline
    OFF = "off"
    UNKNOWN = "unknown"  # nobody knows what the row says, so it is rejected: a typo disconnects nobody


@peer_value(frozen=True, slots=True)
class DeviceRow:
    """One device as the store has it. Nobody has validated the row yet, so every text and key may be invalid.

    Keys are what :func:`read_key` returns. Rows stay in memory for long, and a key takes less memory than its text.
    """

    id: DeviceId
    device: str
    owner: str
    interface: str  # the store's name of the interface
    addresses: tuple[str, ...]  # the tunnel addresses, IPv4 and IPv6, in any order
    public_key: RowKey = field(repr=False)
    preshared_key: RowKey = field(repr=False)
    status: Status
    status_text: str  # the store's word for the status, for messages
    inactive: tuple[InactiveReason, ...] = ()  # reasons besides the status. Messages name the first one only
    activation_deadline: float | None = None  # UNIX seconds, for issued and expired devices. None: there is no date
    version: str | None = None  # the store's own mark: a transition needs a row that still has this version
    first_handshake: float | None = None  # UNIX seconds, only for issued devices: what the store has since the issue
    scanned_from: float | None = None  # UNIX seconds, of issued devices: an earlier handshake is of a former issue
    first_handshake_known: bool = False
    fault: Reason | None = None  # what the store has found wrong: the row is rejected if it asks for a peer
    fault_facts: RejectionFacts = NO_FACTS
    has_no_usage: bool = False  # all totals are zero and no handshake was ever recorded
    order: bytes = b""  # of rows that claim the same key or address, the lowest wins, then the lowest id
    name: str = ""  # what its owner calls it. "": the store keeps none
    other_keys: tuple[PublicKey, ...] = field(default=(), repr=False)  # further keys of the device: they want no peer

    @property
    def key(self) -> PublicKey | None:
        """The public key, or None if it cannot be read. No peer can have an unreadable key."""
        try:
            return PublicKey(decode_key(self.public_key))
        except InvalidKey:
            return None

    @property
    def is_unused(self) -> bool:
        """Whether the device was issued and never used. Its end takes nothing from a customer."""
        waited = self.status in (Status.ISSUED, Status.EXPIRED) and self.activation_deadline is not None
        return waited and not self.inactive and not self.first_handshake_known

    def inactive_reason(self, now: float) -> InactiveReason | None:
        """Why this row asks for no peer at ``now`` (UNIX seconds), or None if it asks for one."""
        if self.inactive:
            return self.inactive[0]
        if self.status in (Status.EXPIRED, Status.OFF):
            return InactiveReason(Inactive.DEVICE_INACTIVE, self.status_text)
        if self.status is Status.ISSUED and self.activation_deadline is not None and now > self.activation_deadline:
            return InactiveReason(Inactive.DEADLINE_PASSED)
        return None


class ChangeKind(StrEnum):
    """What a change does to a peer. Changes are applied in the order of these members."""

    REMOVE = "remove"
    UPDATE = "update"
    ADD = "add"


@peer_value(frozen=True, slots=True)
class Change:
    """One change to one peer of one interface.

    ``current`` is the actual configuration (None for ADD), ``desired`` is the desired one (None for REMOVE).
    ``device`` is empty for a foreign peer, which no row and no record knows.
    """

    kind: ChangeKind
    interface: str
    public_key: PublicKey
    current: PeerConfig | None
    desired: PeerConfig | None
    row_id: DeviceId | None = None
    device: str = ""
    owner: str = ""
    reason: ChangeReason = WANTED
    is_revocation: bool = True  # of a removal: some row demands it. False: no row asks for the peer, that is all
    name: str = ""  # what the owner calls the device. "": the store keeps no names, or the row is gone

    @property
    def sets_preshared_key(self) -> bool:
        """Whether the preshared key has to be sent. One that is not sent stays, and 32 zero bytes clear it."""
        old = self.current.preshared_key if self.current else NO_PRESHARED_KEY
        return self.desired is not None and self.desired.preshared_key != old

    @property
    def sets_allowed_ips(self) -> bool:
        """Whether the allowed IPs have to be sent. The complete list is sent, and it replaces the actual one."""
        return self.desired is not None and (
            self.current is None or self.current.allowed_ips != self.desired.allowed_ips
        )

    @property
    def sets_keepalive(self) -> bool:
        """Whether the persistent keepalive has to be sent, because it differs."""
        old = self.current.persistent_keepalive if self.current else 0
        return self.desired is not None and self.desired.persistent_keepalive != old


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected row, and why it is rejected: the row asks for a peer but is invalid."""

    row_id: DeviceId
    device: str
    reason: Reason
    facts: RejectionFacts


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a row that wgsyncd makes: a new status, or the time of the first handshake.

    The store makes the transition only if the row is still the same as ``row``. So an admin's change in between wins.
    """

    row: DeviceRow
    kind: TransitionKind
    at: float  # UNIX seconds: the handshake's time, or the deadline that passed
