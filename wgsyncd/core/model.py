"""The nouns: keys, peers as they are wanted and as they are, rows, changes, transitions.

Units throughout: bytes are bytes, times are UNIX nanoseconds (handshakes, as the kernel gives them) or UNIX seconds
as float (everything else), addresses are packed in network byte order. Names are those of wg(8).
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType, TypeVar

from wgsyncd.core.network import Networks
from wgsyncd.core.reasons import (
    WANTED,
    ChangeReason,
    Inactive,
    InactiveReason,
    KeyFault,
    Reason,
    RejectionFacts,
    TransitionKind,
)

KEY_BYTES = 32  # WG_KEY_LEN, uapi/linux/wireguard.h
NO_PRESHARED_KEY = bytes(KEY_BYTES)  # "if all zero, then no preshared key is used", uapi/linux/wireguard.h

PublicKey = NewType("PublicKey", bytes)
"""A Curve25519 public key, 32 raw bytes. Printed by :func:`fingerprint` only, except by `wgsyncd explain`."""


_T = TypeVar("_T")


def reuse_equal(new: _T, old: _T) -> _T:
    """``new``; where ``old`` is equal, that object: so it is in memory once. 100 bytes of 100,000 peers are 10 MB."""
    return old if old == new else new


RowKey = bytes | str | None
"""A key as a row has it: its 32 bytes, or where it is none the text as it stands there."""


class InvalidKey(ValueError):
    """A text is no key. Never holds the text."""

    def __init__(self, fault: KeyFault, size: int = 0) -> None:
        self.fault, self.size = fault, size
        super().__init__(f"has {size} bytes, not {KEY_BYTES}" if fault is KeyFault.LENGTH else _KEY_FAULTS[fault])


_KEY_FAULTS = {
    KeyFault.EMPTY: "is empty",
    KeyFault.NOT_BASE64: "is not base64",
    KeyFault.NOT_CANONICAL: "is not canonical base64",
    KeyFault.ZERO: "is all zeros",
}


def read_key(text: str | None) -> RowKey:
    """A row's text; :func:`decode_key` says of one that is no key why it is not."""
    try:
        return decode_key(text) if text else text
    except ValueError:
        return text


def decode_key(text: RowKey) -> bytes:
    """The 32 bytes of a key as wg(8) writes it: 44 characters of canonical base64. Bytes are one already.

    Raises InvalidKey for anything else. ``binascii.a2b_base64`` alone lets junk,
    white space and non-canonical last characters through, so two different texts could name one key.
    """
    if not text:
        raise InvalidKey(KeyFault.EMPTY)
    if isinstance(text, bytes):
        return text
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error too
        raise InvalidKey(KeyFault.NOT_BASE64) from None
    if len(raw) != KEY_BYTES:
        raise InvalidKey(KeyFault.LENGTH, len(raw))
    if encode_key(raw) != text:
        raise InvalidKey(KeyFault.NOT_CANONICAL)
    return raw


def encode_key(key: bytes) -> str:
    """A key as wg(8) writes it. For the wire and for `wg`; logs, metrics and audit rows get :func:`fingerprint`."""
    return binascii.b2a_base64(key, newline=False).decode()


def fingerprint(key: bytes) -> str:
    """The first eight characters of a key's base64: enough for an admin to find it in `wg show`, too few to use it."""
    return encode_key(key[:6]) + "…"


class Counters(NamedTuple):
    """Bytes that the server received from (rx) and sent to (tx) a peer since the peer was added."""

    rx: int
    tx: int


NO_BYTES = Counters(0, 0)


class PeerConfig(NamedTuple):
    """A peer's configuration, as wanted or as found. Equal means: the kernel needs nothing."""

    public_key: PublicKey
    preshared_key: bytes  # NO_PRESHARED_KEY for none
    allowed_ips: Networks
    persistent_keepalive: int = 0  # seconds, 0 = off

    def __repr__(self) -> str:  # a NamedTuple would print the preshared key
        ips = ",".join(sorted(map(str, self.allowed_ips)))
        return f"Peer({fingerprint(self.public_key)} {ips} keepalive={self.persistent_keepalive})"


class PeerState(NamedTuple):
    """A peer in the kernel."""

    config: PeerConfig
    rx: int  # see Counters; two numbers, since an object for both would be 64 bytes of each peer
    tx: int
    latest_handshake: int  # UNIX nanoseconds, 0 = never
    endpoint: str | None = None

    @property
    def counters(self) -> Counters:
        """Both."""
        return Counters(self.rx, self.tx)


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """One dump of one interface, complete and untorn.

    ``epoch`` names the life of the kernel's counters: boot id and interface index. Two dumps with the same epoch count
    on; with another epoch every counter began at zero.
    """

    name: str
    epoch: str
    public_key: PublicKey | None  # None while the interface has no private key
    listen_port: int
    peers: Mapping[PublicKey, PeerState]
    kind: str = "kernel"  # or "userspace"


class Status(StrEnum):
    """What a row says about its device. Everything but ISSUED and ACTIVE wants no peer."""

    ISSUED = "issued"
    ACTIVE = "active"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device as the store has it. Texts are as they stand there, keys as :func:`read_key` gives them (a text costs
    more memory than a key, and both are kept for as long as the row is): nothing is trusted yet."""

    id: int
    device: str
    owner: str
    interface: str  # the store's name of it
    address: str
    public_key: RowKey = field(repr=False)
    preshared_key: RowKey = field(repr=False)
    status: Status
    status_text: str  # as it stands in the store, for messages
    inactive: tuple[InactiveReason, ...] = ()  # what besides the status keeps the device off; the first one is told
    activation_deadline: float | None = (
        None  # UNIX seconds, of issued and expired ones; None: the store has no date for it
    )
    version: str | None = None  # as the store writes it: a step is taken only while it still says so
    first_handshake_known: bool = False
    has_no_usage: bool = False  # all totals are zero and no handshake was ever recorded

    def share_keys(self, peer: PeerConfig) -> None:
        """From now on the keys are the peer's own objects, where they are equal: see :func:`once`."""
        object.__setattr__(self, "public_key", reuse_equal(self.public_key, peer.public_key))
        object.__setattr__(self, "preshared_key", reuse_equal(self.preshared_key, peer.preshared_key))

    @property
    def is_expired(self) -> bool:
        """Whether the device was not activated by its deadline, and the store says so."""
        return self.status is Status.OFF and self.status_text == "expired"

    def inactive_reason(self, now: float) -> InactiveReason | None:
        """Why this row wants no peer at ``now``, or None if it wants one (behaviour: "which rows want a peer")."""
        if self.inactive:
            return self.inactive[0]
        if self.status is Status.OFF:
            return InactiveReason(Inactive.DEVICE_INACTIVE, self.status_text)
        if self.status is Status.ISSUED and self.activation_deadline is not None and now > self.activation_deadline:
            return InactiveReason(Inactive.DEADLINE_PASSED)
        return None


class ChangeKind(StrEnum):
    """What a change does; in the order in which they are applied."""

    REMOVE = "remove"
    UPDATE = "update"
    ADD = "add"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do to one interface. ``before`` is what the dump had (None for ADD), ``after`` what is wanted (None
    for REMOVE). ``device`` is empty for a peer that no row and no record knows (a foreign one)."""

    kind: ChangeKind
    interface: str
    public_key: PublicKey
    current: PeerConfig | None
    desired: PeerConfig | None
    row_id: int | None = None
    device: str = ""
    owner: str = ""
    reason: ChangeReason = WANTED
    is_revocation: bool = True  # a removal: a row revokes this very peer, it is not merely unclaimed

    @property
    def sets_preshared_key(self) -> bool:
        """A left-out PSK means "unchanged" to the kernel; so it is sent only where it differs, zeros to clear it."""
        old = self.current.preshared_key if self.current else NO_PRESHARED_KEY
        return self.desired is not None and self.desired.preshared_key != old

    @property
    def sets_allowed_ips(self) -> bool:
        """Whether the allowed IPs have to be sent (the whole list, replacing what is there)."""
        return self.desired is not None and (
            self.current is None or self.current.allowed_ips != self.desired.allowed_ips
        )

    @property
    def sets_keepalive(self) -> bool:
        """Whether the persistent keepalive has to be sent."""
        old = self.current.persistent_keepalive if self.current else 0
        return self.desired is not None and self.desired.persistent_keepalive != old


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that wants a peer but cannot be followed."""

    row_id: int
    device: str
    reason: Reason
    facts: RejectionFacts


@dataclass(frozen=True, slots=True)
class Transition:
    """A step in a device's life, to be written only if the row is still ``row`` (an admin's click in between wins)."""

    row: DeviceRow
    kind: TransitionKind
    at: float  # UNIX seconds: the handshake's time, or the deadline that passed
