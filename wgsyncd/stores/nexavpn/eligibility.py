"""The rules by which a device of NexaVPN may have a peer, and which of its rows counts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from sys import intern
from typing import NamedTuple
from uuid import UUID

from wgsyncd.core.inspect.answers import Rule
from wgsyncd.core.model import DeviceRow, PublicKey, RowKey, Status, read_key
from wgsyncd.core.network import parse_host
from wgsyncd.core.peers.validate import ADDRESS_LENGTH
from wgsyncd.core.reasons import NO_FACTS, Inactive, InactiveReason, Reason, RejectionFacts
from wgsyncd.core.state import Condition
from wgsyncd.stores.nexavpn.psk import PskSealed
from wgsyncd.stores.nexavpn.settings import INACTIVE

ACTIVE = "active"
UNKNOWN = "of unknown status"
UNALLOCATED = "unallocated"  # the type of the condition of a row that is accepted without an allocation


class PeerRow(NamedTuple):
    """One row of wireguard_peers with its device, owner, gateway and allocation, each column as text. NULL is ""."""

    device: str  # devices.id
    peer: str  # wireguard_peers.id
    gateway: str  # the id of the gateway of the peer
    created: str  # when the peer was created. The order of these texts is the order of the times
    public_key: str
    address: str
    envelope: str
    device_key: str
    device_gateway: str  # the gateway's id that the device has
    status: str
    username: str
    name: str  # devices.name
    holder: str  # the id of the device that has the address by ip_allocations
    flags: str  # one "0" or "1" for each of FLAGS

    def has(self, flag: str) -> bool:
        return self.flags[FLAGS.index(flag)] == "1"


FLAGS = (
    "peer deleted", "device deleted", "revoked", "approved", "user missing", "user active", "user deleted",
    "gateway active", "gateway deleted", "no usage",
)  # fmt: skip


class Requirements(NamedTuple):
    """What the configuration says about rows."""

    gateways: Mapping[str, str]  # the store's name of the interface, by the gateway's id
    open: Callable[[str, UUID], bytes]  # opens the envelope of a row, or raises PskSealed
    inactive_words: frozenset[str] = frozenset(INACTIVE)
    require_approval: bool = False
    require_allocation: bool = True


def _inactive(one: PeerRow, required: Requirements) -> tuple[InactiveReason, ...]:
    """Why a row asks for no peer, besides the status of its device. Empty if there is no reason."""
    is_good = one.has("user active") and not one.has("user missing") and not one.has("user deleted")
    return _reasons(
        one.flags, "" if is_good else one.username, require_approval=required.require_approval, moved=_has_moved(one)
    )


def _has_moved(one: PeerRow) -> bool:
    """Whether the device has another gateway than the row."""
    return one.device_gateway not in ("", one.gateway)


@lru_cache(maxsize=1024)  # most rows have the same few reasons: each tuple is in memory once
def _reasons(flags: str, username: str, *, require_approval: bool, moved: bool) -> tuple[InactiveReason, ...]:
    """``username``: if a reason is about the user."""
    has = dict(zip(FLAGS, (flag == "1" for flag in flags), strict=True))
    device = {
        "moved to another gateway" if moved else "has a deleted peer": has["peer deleted"],
        "deleted": has["device deleted"],
        "revoked": has["revoked"],
        "not approved": require_approval and not has["approved"],
    }
    user = {"deleted": has["user deleted"], "inactive": not has["user active"]}
    gateway = {"deleted": has["gateway deleted"], "inactive": not has["gateway active"]}
    owner = (username, "user")
    users = [InactiveReason(Inactive.OWNER_INACTIVE, state, *owner) for state, holds in user.items() if holds]
    return (
        *(InactiveReason(Inactive.DEVICE_INACTIVE, state) for state, holds in device.items() if holds),
        *([InactiveReason(Inactive.OWNER_MISSING, "", *owner)] if has["user missing"] else users),
        *(InactiveReason(Inactive.GATEWAY_INACTIVE, state) for state, holds in gateway.items() if holds),
    )


def device_rows(rows: Sequence[PeerRow], required: Requirements) -> Iterator[DeviceRow]:
    """The rows of one device, of its rows in wireguard_peers. The key of the device decides which of these counts.

    The keys of all others are the device's other keys. If no row has the key of the device, each gateway has one row,
    which is rejected. If another gateway's row counts but is rejected, the rows of this gateway are rejected as well.
    """
    living = [one for one in rows if not one.has("peer deleted")]
    if not living:
        last = max(rows, key=lambda one: (one.created, one.peer))
        yield _row(last, _keys(one for one in rows if one is not last), required)
        return
    main = next((one for one in living if one.public_key == one.device_key), None)
    if main is not None:
        row = _row(main, (), required)
        rest = [one for one in rows if one is not main]
        apart = [one for one in rest if one in living and one.gateway != main.gateway and row.fault is not None]
        keys = _keys(one for one in rest if one not in apart)
        yield replace(row, other_keys=keys) if keys else row
        living = apart
    for gateway in sorted({one.gateway for one in living}):
        first, *others = sorted(
            (one for one in living if one.gateway == gateway), key=lambda one: (one.created, one.peer)
        )
        yield _row(first, _keys(others), required)


def _row(one: PeerRow, others: tuple[PublicKey, ...], required: Requirements) -> DeviceRow:
    """The row of a device, which ``one`` stands for."""
    known = one.status == ACTIVE or one.status in required.inactive_words
    inactive = _inactive(one, required)
    status = Status.UNKNOWN if not known else Status.ACTIVE if one.status == ACTIVE else Status.OFF
    fault, facts = (None, NO_FACTS) if inactive or status is Status.OFF else _fault(one, required)
    preshared_key: RowKey = None
    if one.envelope and not inactive and status is Status.ACTIVE and fault is None:
        try:
            preshared_key = required.open(one.envelope, UUID(one.peer))
        except PskSealed as error:
            fault, facts = Reason.PSK_SEALED, RejectionFacts(str(error))
    return DeviceRow(
        id=UUID(one.device),
        device=one.device,
        owner=one.username,
        name=one.name,
        interface=required.gateways[one.gateway],
        addresses=(one.address,),
        public_key=read_key(one.public_key),
        preshared_key=preshared_key,
        status=status,
        status_text=intern(one.status) if known else UNKNOWN,
        inactive=inactive,
        first_handshake_known=True,  # no device waits for its first handshake
        fault=fault,
        fault_facts=facts,
        has_no_usage=one.has("no usage"),
        order=b"%b %b" % (one.created.encode(), UUID(one.peer).bytes),
        other_keys=others,
    )


def _fault(one: PeerRow, required: Requirements) -> tuple[Reason | None, RejectionFacts]:
    """What is wrong with a row, before its preshared key is opened. An address that is no host is left to the core."""
    if one.public_key != one.device_key:
        return Reason.KEYS_DISAGREE, NO_FACTS
    if _has_moved(one):
        return Reason.GATEWAY_MISMATCH, RejectionFacts(interface=required.gateways[one.gateway])
    if required.require_allocation and (reason := allocation_fault(one)) is not None:
        return reason, RejectionFacts(one.address[:ADDRESS_LENGTH], holder=one.holder)
    return None, NO_FACTS


def allocation_fault(one: PeerRow) -> Reason | None:
    """Why ip_allocations does not give the address of a row to its device. None if it does, or for no host address."""
    try:
        parse_host(one.address)
    except ValueError:
        return None
    if one.holder == one.device:
        return None
    return Reason.ALLOCATED_ELSEWHERE if one.holder else Reason.NOT_ALLOCATED


def unallocated(rows: Sequence[PeerRow], required: Requirements) -> Iterator[Condition]:
    """The condition of a device whose row is accepted although the allocation of its address fails."""
    for one in rows:
        wants = one.status == ACTIVE and not _inactive(one, required)
        if wants and one.public_key == one.device_key and (reason := allocation_fault(one)) is not None:
            yield Condition(UNALLOCATED, one.device, one.device, str(reason))


def _keys(rows: Iterable[PeerRow]) -> tuple[PublicKey, ...]:
    """The readable keys of rows."""
    keys = (read_key(one.public_key) for one in rows)
    return tuple(PublicKey(key) for key in keys if isinstance(key, bytes))


def rules(row: DeviceRow) -> tuple[Rule, ...]:
    """The rules, and whether a row keeps them."""
    kinds = {reason.kind: reason for reason in row.inactive}
    device, user, gateway = (
        kinds.get(kind) for kind in (Inactive.DEVICE_INACTIVE, Inactive.OWNER_INACTIVE, Inactive.GATEWAY_INACTIVE)
    )
    return (
        Rule("its status is active", row.status is Status.ACTIVE, row.status_text),
        Rule("it is approved, not revoked and not deleted", device is None, device.state if device else ""),
        Rule("its user exists", Inactive.OWNER_MISSING not in kinds, row.owner),
        Rule("its user is active", user is None, user.state if user else ""),
        Rule("its gateway is active", gateway is None, gateway.state if gateway else ""),
    )
