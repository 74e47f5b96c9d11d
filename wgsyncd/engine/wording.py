"""Makes English sentences of reasons and discrepancies, for reports, the log and commands."""

from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

from wgsyncd.core.identity import SILENCE, Holder, OtherNode
from wgsyncd.core.inspect.verify import Check, Discrepancy
from wgsyncd.core.model import Change, InvalidKey, PeerConfig, Rejection
from wgsyncd.core.peers.identities import IdentityChange
from wgsyncd.core.reasons import ChangeCause, Inactive, InactiveReason, KeyFault, Reason, TransitionKind
from wgsyncd.core.state import Condition
from wgsyncd.core.words import counted

FOREIGN = "a foreign peer"
RESTORE = "A mistake? Restore the rows, and do nothing else"

TRANSITIONS = {
    TransitionKind.ACTIVATE: "active (first handshake)",
    TransitionKind.EXPIRE: "expired (activation deadline passed)",
    TransitionKind.FIRST_HANDSHAKE: "first handshake",
}


def until_mended(rows: Sequence[str] = ()) -> str:
    """What a removal waits for. ``rows``: those with unreadable keys, as `row 7 (0001-DEV-007)`, if they are known."""
    more = f" and {counted(len(rows) - 1, 'more row')}" if len(rows) > 1 else ""
    return f"until the unreadable key of {rows[0] if rows else 'a row'}{more} is mended"


def if_a_mistake(devices: Iterable[str]) -> str:
    """What undoes the mistake that made the guard keep peers. ``devices``: theirs, "" for a foreign peer."""
    return RESTORE if any(devices) else "A mistake? Keep these peers: wgsyncd adopt --undo"


def inactive(reason: InactiveReason) -> str:
    """Why a row asks for no peer."""
    owner = f"{reason.owner_kind or 'owner'} {reason.owner}"
    match reason.kind:
        case Inactive.OWNER_MISSING:
            return f"{owner} does not exist"
        case Inactive.OWNER_INACTIVE:
            return f"{owner} {reason.state}"
        case Inactive.DEVICE_INACTIVE:
            return f"device {reason.state}"
        case Inactive.DEADLINE_PASSED:
            return "activation deadline passed"
        case Inactive.SUPERSEDED:
            return "the device has another key now"
        case Inactive.GATEWAY_INACTIVE:
            return f"gateway {reason.state}"


def change(one: Change) -> str:
    """Why a change is made."""
    reason = one.reason
    words = _cause(one)
    if not reason.address_from:
        return words
    holders = ", ".join(sorted(device or FOREIGN for device in reason.address_from))
    taken = f"address moved from {holders}"
    return taken if reason.cause is ChangeCause.WANTED else f"{words}, {taken}"


def _cause(one: Change) -> str:
    reason = one.reason
    match reason.cause:
        case ChangeCause.DIFFERS:
            return difference(one.current, one.desired) if one.current and one.desired else "differs"
        case ChangeCause.MOVED_FROM:
            return f"moved from {reason.interface}"
        case ChangeCause.MOVED_TO:
            return f"moved to {reason.interface}"
        case ChangeCause.INACTIVE if reason.inactive is not None:
            return inactive(reason.inactive)
    return _CAUSES[reason.cause]


_CAUSES = {
    ChangeCause.WANTED: "wanted",
    ChangeCause.NEW_KEY: "new key",
    ChangeCause.KEY_REPLACED: "has a new key",
    ChangeCause.INACTIVE: "inactive",
    ChangeCause.ROW_GONE: "row is gone",
    ChangeCause.NO_ROW: "in no row",
    ChangeCause.GONE_FROM_KERNEL: "gone from the kernel",
}


def difference(found: PeerConfig, wanted: PeerConfig) -> str:
    """The parts in which two configurations of a peer differ. The text never has a key."""
    parts = []
    if found.allowed_ips != wanted.allowed_ips:
        old, new = (",".join(sorted(map(str, ips))) or "-" for ips in (found.allowed_ips, wanted.allowed_ips))
        parts.append(f"address {old} -> {new}")
    if found.preshared_key != wanted.preshared_key:
        parts.append("preshared key" if any(wanted.preshared_key) else "preshared key cleared")
    if found.persistent_keepalive != wanted.persistent_keepalive:
        parts.append(f"keepalive {found.persistent_keepalive} -> {wanted.persistent_keepalive} s")
    return ", ".join(parts)


def rejection(one: Rejection) -> str:
    """Why a row is rejected. The text never has a key."""
    facts = one.facts
    fault = str(InvalidKey(facts.key_fault, facts.key_bytes)) if facts.key_fault is not None else ""
    match one.reason:
        case Reason.BAD_KEY:
            return f"public_key {fault}"
        case Reason.BAD_PRESHARED_KEY:
            return f"preshared_key {fault}{', which would mean none' if facts.key_fault is KeyFault.ZERO else ''}"
        case Reason.BAD_ADDRESS:
            return f"address {facts.value!r} is not a host address"
        case Reason.ADDRESS_OUTSIDE:
            return f"address {facts.value} is outside the networks of {facts.interface}"
        case Reason.INTERFACE_ADDRESS:
            return f"address {facts.value} is {facts.interface}'s own"
        case Reason.INTERFACE_KEY:
            return "public_key is an interface's own"
        case Reason.UNKNOWN_INTERFACE:
            return f"interface {facts.value!r} is not configured"
        case Reason.DUPLICATE_KEY:
            return f"the public key is {facts.holder}'s" if facts.holder else "its peer belongs to a kept or frozen one"
        case Reason.DUPLICATE_ADDRESS if facts.holder:
            return f"address {facts.value} is {facts.holder}'s"
        case Reason.DUPLICATE_ADDRESS:
            return f"address {facts.value} is held by a peer that is left as it is"
        case Reason.NO_DEADLINE:
            return "issued, but it has no activation deadline"
        case Reason.LONG_NAME:
            return "the device's name is too long for wgsyncd's tables"
        case Reason.UNKNOWN_STATUS:
            return "the status of the device or of its owner is no word that wgsyncd knows"
        case Reason.KEYS_DISAGREE:
            return "the device has another public key than its peer"
        case Reason.GATEWAY_MISMATCH:
            return f"the device belongs to another gateway than its peer, which is on {facts.interface}"
        case Reason.NOT_ALLOCATED:
            return f"address {facts.value} is not allocated to the device"
        case Reason.ALLOCATED_ELSEWHERE:
            return f"address {facts.value} is allocated to {facts.holder}"
        case Reason.OVER_DEVICE_LIMIT:
            return f"its owner may have {counted(int(facts.value), 'device')}, and others have the places"
        case Reason.PSK_SEALED:
            return f"the preshared key cannot be opened: {facts.value}"


def numbers(one: Discrepancy) -> dict[str, int]:
    """The two numbers of a discrepancy by their names. Empty if the discrepancy is not about numbers."""
    names = {
        Check.BASELINE: (f"{one.side} counted on {one.interface}", "baseline"),
        Check.UNPOSTED: (f"{one.side} counted on {one.interface}", "baseline"),
        Check.FIGURE: (one.name, one.source),
        Check.NEGATIVE: (one.name, one.source),
        Check.LOW: (one.name, one.source),
        Check.FUTURE: (one.name, one.source),
        Check.DAY: (f"{'received' if one.side == 'rx' else 'sent'} on {one.day}", "its buckets"),
    }.get(one.check)
    return {} if names is None else dict(zip(names, (one.value, one.expected), strict=True))


def discrepancy(one: Discrepancy) -> str:
    """What is wrong, in one sentence with both numbers. The text has no complete key."""
    match one.check:
        case Check.UNREAD:
            return f"{one.interface} cannot be read, so nothing is known about its peers: {one.error}"
        case Check.SHAPING:
            return f"bandwidth is not as the rows ask for: {one.error}"
        case Check.QUARANTINE:
            return f"{counted(one.value, 'delta')} in quarantine, not posted"
        case Check.ABSENT:
            return f"recorded as a peer of {one.interface} ({one.peer}), but the interface has none"
        case Check.UNRECORDED:
            return f"a peer of {one.interface} ({one.peer}) without a baseline: its bytes are not posted"
        case Check.FUTURE:
            ahead = (one.value - one.expected) / 3600
            return f"its {one.name} is {ahead:.1f} h from now: was node.zone changed, or does a clock go wrong?"
    (name, value), (other, expected) = numbers(one).items()
    if one.check is Check.BASELINE:
        return f"{name} ({one.peer}): {value}, {other}: {expected}: another program added the peer again"
    if one.check is Check.UNPOSTED:
        return f"{name} ({one.peer}): {value}, {other}: {expected}: {value - expected} bytes are not posted"
    return f"{name}: {value}, {other}: {expected} ({value - expected:+d})"


HARMLESS = frozenset(("cap_reached",))
"""Conditions of a store that are no trouble: the profile says what then happens."""
_CONDITIONS = {
    "unknown_profile": "names the bandwidth profile {!r}, which the configuration does not have",
    "devices_over_limit": "has more devices than it may have: {}",
    "parent_conflict": "has {} parent devices, and may have one",
}
_COUNTED = {
    "unknown_profile": ("owner names", "owners name", "a bandwidth profile that the configuration does not have"),
    "devices_over_limit": ("owner has", "owners have", "more devices than max_devices"),
    "parent_conflict": ("owner has", "owners have", "several parent devices"),
    "policy_faulty": ("policy is", "policies are", "faulty, and each doubt is decided against access"),
    "gateway_drift": ("gateway's row differs", "gateways' rows differ", "from the interface"),
    "unallocated": ("device has", "devices have", "an address that is not allocated to it"),
}


def bring_up(interface: str) -> str:
    """The command that brings an interface up. If another program has its port, it lists who has which port."""
    return f"ip link set {interface} up || ss -lunp"


def set_port(interface: str, port: int) -> str:
    """The command that gives an interface this port, or lists the program that has it."""
    return f"wg set {interface} listen-port {port} || ss -lunp 'sport = :{port}'"


def identity_change(interface: str, one: IdentityChange) -> tuple[str, str]:
    """What is other than clients of an interface know it, and the command that mends it."""
    (key, _, port), (new_key, _, new_port) = one.known.partition(" "), one.found.partition(" ")
    if not one.found:
        return "it has lost its private key", f"systemctl restart wg-quick@{interface}"
    if key == new_key:
        return f"its port was {port} and is {new_port}", set_port(interface, int(port))
    what = f"its public key was {key[:8]}… and is {new_key[:8]}…: put the old PrivateKey back"
    return what, f"editor /etc/wireguard/{interface}.conf && systemctl restart wg-quick@{interface}"


def condition(one: Condition) -> str:
    """A condition of a store's own type, about its subject."""
    return _CONDITIONS.get(one.type, f"{one.type}: {{}}").format(one.reason).removesuffix(": ")


def conditions(kind: str, count: int) -> str:
    """How many conditions of a store's own type there are."""
    if kind not in _COUNTED:
        return f"{count} in the database"
    one, several, what = _COUNTED[kind]
    return f"{counted(count, one, several)} {what}"


def zone_changed(old: ZoneInfo, new: ZoneInfo, effect: str) -> str:
    """What a changed `node.zone` means. ``effect``: what the store says about it."""
    undo = f"If the application did not change its zone, write {old} again. Then run `wgsyncd verify`"
    return f"node.zone is {new} now, and was {old}. {effect}. {undo}"


def node_taken(node: str, holder: Holder) -> str:
    """Why a daemon does not start: another machine holds its node. What to do about it."""
    return (
        f"another machine runs node {node}: {_where(holder)}. Stop wgsyncd there, or give this server another"
        f" node.name. If that machine is dead, wait until {SILENCE:.0f} s after its last heartbeat,"
        " or run `wgsyncd takeover` here"
    )


def interfaces_taken(names: Iterable[str], other: OtherNode) -> str:
    """Why a daemon does not start, or ends: the daemon of another node serves its interfaces. What to do about it."""
    first = min(names)
    return (
        f"another wgsyncd of this machine serves {first} as node {other.node}: {_where(other.holder)}. Stop it, or take"
        f" interfaces.{first} out of one of the two configurations. If it is dead, wait until {SILENCE:.0f} s after its"
        " last heartbeat"
    )


def node_lost(node: str, holder: Holder | None) -> str:
    """Why a daemon ends: another machine holds its node by now."""
    where = f": {_where(holder)}" if holder is not None else ""
    return (
        f"another machine runs node {node} now{where}. This wgsyncd ends, and its peers stay in place."
        " Take the interfaces down here, or run `wgsyncd takeover` to run the node here again"
    )


def node_twin(node: str) -> str:
    """Why a daemon ends: another daemon writes as this machine and this boot."""
    return (
        f"another wgsyncd writes as node {node} with the machine id and boot id of this one: a running copy of this"
        " machine. This wgsyncd ends, and its peers stay in place. Shut one of the two machines down"
    )


def _where(holder: Holder) -> str:
    known = holder.identity
    heard = "it has stopped" if holder.age is None else f"heartbeat {max(0.0, holder.age):.0f} s ago"
    return f"host {known.host or 'unknown'}, boot {known.boot}, {heard}"
