"""Reasons: why a row has no peer, why a row is rejected and why a change is made, without sentences.

A reason is a member of an enum, with the facts that belong to it. The code that shows a reason makes the sentence.
"""

from dataclasses import dataclass
from enum import StrEnum


class Inactive(StrEnum):
    """Why a row asks for no peer."""

    OWNER_MISSING = "owner_missing"
    OWNER_INACTIVE = "owner_inactive"
    DEVICE_INACTIVE = "device_inactive"
    DEADLINE_PASSED = "deadline_passed"  # nobody activated the device in time
    SUPERSEDED = "superseded"  # the device has another key now
    GATEWAY_INACTIVE = "gateway_inactive"  # the store says that the gateway of the row is not in use


@dataclass(frozen=True, slots=True)
class InactiveReason:
    """Why a row asks for no peer, with the store's own words for the owner and for the states."""

    kind: Inactive
    state: str = ""  # the state of the owner or of the device, for example "paused"
    owner: str = ""
    owner_kind: str = ""  # the store's word for an owner, for example "contract"


class ChangeCause(StrEnum):
    """Why a peer is added, updated or removed."""

    WANTED = "wanted"
    DIFFERS = "differs"
    MOVED_FROM = "moved_from"  # the peer is added here and removed from another interface
    MOVED_TO = "moved_to"  # the peer is removed here, because its row is on another interface, here or on another node
    NEW_KEY = "new_key"  # the peer is added in place of the row's peer with the old key
    KEY_REPLACED = "key_replaced"  # the peer is removed, because its row has another key now
    INACTIVE = "inactive"
    ROW_GONE = "row_gone"
    NO_ROW = "no_row"
    GONE_FROM_KERNEL = "gone_from_kernel"  # for audit rows only: somebody else removed the peer


@dataclass(frozen=True, slots=True)
class ChangeReason:
    """Why a change is made: the cause with its facts."""

    cause: ChangeCause
    interface: str = ""  # the interface from which or to which the peer moved. Of another node: the store's name
    address_from: tuple[str, ...] = ()  # the devices that had the address until now. "" means a foreign peer
    inactive: InactiveReason | None = None
    owner: str = ""  # whose row is gone


WANTED = ChangeReason(ChangeCause.WANTED)


class UpdatedPart(StrEnum):
    """Which part of a peer was updated, as far as the records show."""

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
    LONG_NAME = "long_name"
    UNKNOWN_STATUS = "unknown_status"
    KEYS_DISAGREE = "keys_disagree"  # the device has another key than its peer
    GATEWAY_MISMATCH = "gateway_mismatch"  # the device belongs to another gateway than its peer
    NOT_ALLOCATED = "not_allocated"  # the store allocated the address to nobody
    ALLOCATED_ELSEWHERE = "allocated_elsewhere"  # the store allocated the address to another device
    OVER_DEVICE_LIMIT = "over_device_limit"  # the owner has more devices than it may have
    PSK_SEALED = "psk_sealed"  # the encrypted preshared key cannot be opened


class KeyFault(StrEnum):
    """Why a text is not a valid key."""

    EMPTY = "empty"
    NOT_BASE64 = "not_base64"
    WHITE_SPACE = "white_space"
    NOT_CANONICAL = "not_canonical"
    LENGTH = "length"
    ZERO = "zero"


@dataclass(frozen=True, slots=True)
class RejectionFacts:
    """The facts of a rejection. No fact is a key."""

    value: str = ""  # the address that is bad or taken, the interface, the limit, or why a preshared key stays sealed
    interface: str = ""  # the kernel's name of the interface
    holder: str = ""  # the device that has the key or the address. "" means a peer that stays unchanged
    key_fault: KeyFault | None = None
    key_bytes: int = 0  # the decoded length, where the length is the fault


NO_FACTS = RejectionFacts()


class TransitionKind(StrEnum):
    ACTIVATE = "activate"
    EXPIRE = "expire"
    FIRST_HANDSHAKE = "first_handshake"  # the row is active already, and its device never had a handshake


class BandwidthCause(StrEnum):
    """Why other rates hold for an owner."""

    OWNER = "owner"  # the owner has another profile
    CAP_REACHED = "cap_reached"
    CAP_ENDED = "cap_ended"
    SETTINGS = "settings"  # the configuration gives the profile other rates


class AnomalyKind(StrEnum):
    """What is unusual about a peer's counters."""

    RESET = "reset"  # the counters began at zero again, without a known reason
    CAME_BACK = "came_back"  # the counters are of an earlier state of the machine, so they become the baseline
    TABLES_BEHIND = "tables_behind"  # wgsyncd's tables are older than the columns, so the baseline moved on
    COLUMNS_BEHIND = "columns_behind"  # the columns are older than wgsyncd's tables: they lack bytes
    WENT_BACK = "went_back"  # the store lost commits, and columns know nothing of them: bytes are posted again
    QUARANTINED = "quarantined"  # the delta is larger than the line can carry


class TakeoverCause(StrEnum):
    """Why a machine took a node over from another machine."""

    STOPPED = "stopped"  # the daemon of the other machine had stopped
    SILENT = "silent"  # the other machine had sent no heartbeat for minutes
    CLONE = "clone"  # the other machine is a clone of this one, which never stopped
    ORDERED = "ordered"  # an admin ordered it
