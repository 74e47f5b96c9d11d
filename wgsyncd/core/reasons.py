"""Reasons: why a row has no peer, why a row is rejected and why a change is made, without sentences.

A reason is a member of an enum, with the facts that belong to it. A sentence is made where it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Inactive(StrEnum):
    """Why a row wants no peer."""

    OWNER_MISSING = "owner_missing"
    OWNER_INACTIVE = "owner_inactive"
    DEVICE_INACTIVE = "device_inactive"
    DEADLINE_PASSED = "deadline_passed"  # it was not activated in time


@dataclass(frozen=True, slots=True)
class InactiveReason:
    """Why a row wants no peer, with the store's own words for the owner and for the states."""

    kind: Inactive
    state: str = ""  # of the owner or of the device: "paused"
    owner: str = ""
    owner_kind: str = ""  # what the store calls an owner: "contract"


class ChangeCause(StrEnum):
    """Why a peer is added, updated or removed."""

    WANTED = "wanted"
    DIFFERS = "differs"
    MOVED_FROM = "moved_from"  # it is added here, and goes from another interface
    MOVED_TO = "moved_to"  # it is removed here, and is wanted on another interface
    NEW_KEY = "new_key"  # it is added in place of the row's peer with the old key
    KEY_REPLACED = "key_replaced"  # it is removed: its row has another key now
    INACTIVE = "inactive"
    ROW_GONE = "row_gone"
    NO_ROW = "no_row"
    GONE_FROM_KERNEL = "gone_from_kernel"  # for the audit trail: somebody else removed it


@dataclass(frozen=True, slots=True)
class ChangeReason:
    """Why a change is made."""

    cause: ChangeCause
    interface: str = ""  # from or to which the peer moved
    address_from: tuple[str, ...] = ()  # the devices that had the address until now; "" is a foreign peer
    inactive: InactiveReason | None = None


WANTED = ChangeReason(ChangeCause.WANTED)


class UpdatedPart(StrEnum):
    """What was updated of a peer, as far as the records tell."""

    ADDRESS = "address"
    KEY = "key"
    OTHER = "other"  # preshared key or keepalive


class Reason(StrEnum):
    """Why a row is rejected."""

    BAD_KEY = "bad_key"
    BAD_PRESHARED_KEY = "bad_preshared_key"
    BAD_ADDRESS = "bad_address"
    ADDRESS_OUTSIDE = "address_outside"
    INTERFACE_ADDRESS = "interface_address"
    INTERFACE_KEY = "interface_key"
    UNKNOWN_INTERFACE = "unknown_interface"
    DUPLICATE_KEY = "duplicate_key"
    DUPLICATE_ADDRESS = "duplicate_address"
    NO_DEADLINE = "no_deadline"


class KeyFault(StrEnum):
    """Why a text is no key."""

    EMPTY = "empty"
    NOT_BASE64 = "not_base64"
    NOT_CANONICAL = "not_canonical"
    LENGTH = "length"
    ZERO = "zero"


@dataclass(frozen=True, slots=True)
class RejectionFacts:
    """What a reason of rejection is about. Texts of a row are cut to what such a field may hold; none is a key."""

    value: str = ""  # the address or the interface, as the row has it
    interface: str = ""  # the kernel's name
    rival: str = ""  # the device that has the key or the address; "" is a peer that is left as it is
    key_fault: KeyFault | None = None
    key_bytes: int = 0  # its length, where that is the fault


NO_FACTS = RejectionFacts()


class TransitionKind(StrEnum):
    """A transition in a device's life."""

    ACTIVATE = "activate"
    EXPIRE = "expire"
    FIRST_HANDSHAKE = "first_handshake"  # an active row that never had one


class AnomalyKind(StrEnum):
    """What is odd about a peer's counters."""

    RESET = "reset"  # they went back without a known reason
    QUARANTINED = "quarantined"  # they moved more than the link can carry
