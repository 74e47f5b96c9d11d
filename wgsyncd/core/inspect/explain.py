"""Explains why one device has a peer or has none, and what the next cycle would do.

The explanation combines the device's row, the rules for it, the actual peers and the node state.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wgsyncd.core.inspect.connection import Connection, diagnose
from wgsyncd.core.model import (
    Change,
    Counters,
    DeviceRow,
    InvalidKey,
    PeerState,
    PublicKey,
    Rejection,
    Transition,
    decode_key,
    read_key,
)
from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.peers import lifecycle
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.reasons import InactiveReason
from wgsyncd.core.records import PeerRecord
from wgsyncd.core.state import NodeState
from wgsyncd.core.usage.posting import counter_delta


@dataclass(frozen=True, slots=True)
class ActualPeer:
    """An actual peer of the device. ``record`` is its baseline. None: the node state has no record of the peer yet."""

    interface: str
    found: PeerState
    row_key: bool  # the peer has the key that the row has now
    record: PeerRecord | None
    unposted: Counters  # bytes since the baseline that are not posted
    reset: bool  # see :func:`wgsyncd.core.usage.posting.counter_delta`


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change of the plan for the device, and whether the next cycle applies it."""

    change: Change
    when: str  # "next", "withheld" (by the guard) or "blocked" (until an unreadable key is corrected)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that wgsyncd knows about one device's row and its peers."""

    row: DeviceRow
    settled: DeviceRow  # the row after the transitions that are due
    key: PublicKey | None
    bad_key: InvalidKey | None  # why the key cannot be read
    interface: str | None  # the kernel's name of the row's interface. None: the interface is not of this node
    is_ignored: bool  # the configuration ignores the row's interface
    rejection: Rejection | None
    frozen: bool
    peers: tuple[ActualPeer, ...]
    stale_records: tuple[PeerRecord, ...]  # records of peers that no interface has now
    due: tuple[PendingChange, ...]
    transitions: tuple[Transition, ...]
    interface_error: str  # why the row's interface could not be read, or ""
    address_holders: Mapping[str, str]  # the devices of other peers by the row's address that they have. "": foreign
    connection: Connection | None  # what the kernel shows of the peer that the row wants. None: there is no such peer
    port: int  # of the row's interface. 0: unknown
    is_other: bool  # clients know another key or port of the row's interface
    inactive: InactiveReason | None  # why the row asks for no peer after the transitions that are due


def find_rows(text: str, rows: Iterable[DeviceRow]) -> list[DeviceRow]:
    """The rows that an admin may mean by ``text``, which is a public key or an address."""
    try:
        address = parse_host(text)
    except ValueError:
        return [row for row in rows if text and row.public_key == read_key(text)]
    return [row for row in rows if address in _hosts(row)]


def explain(
    row: DeviceRow,
    decision: Decision,
    node_state: NodeState,
    interface_of: Mapping[str, str],
    ignored_interfaces: frozenset[str],
    now: float,
) -> Explanation:
    """Collect everything about a row. This function is pure.

    ``interface_of``: the kernel's interface name by the store's name. ``ignored_interfaces``: the store's names.
    ``now``: UNIX seconds.
    """
    key: PublicKey | None = None
    bad_key: InvalidKey | None = None
    try:
        key = PublicKey(decode_key(row.public_key))
    except InvalidKey as error:
        bad_key = error
    transitions = tuple(one for one in decision.transitions if one.row.id == row.id)
    after = lifecycle.with_transitions((row,), transitions)[0]
    rejection = next((one for one in decision.desired.rejections if one.row_id == row.id), None)
    records = [one for one in node_state.records.each() if one.row_id == row.id or one.public_key == key]
    keys = {one.public_key for one in records if one.row_id == row.id} | ({key} if key is not None else set())
    peers = tuple(
        _live(name, found, key, node_state.records.of(name).get(found.config.public_key), state.epoch)
        for name, state in decision.actual.items()
        for found in state.peers.values()
        if found.config.public_key in keys
    )
    present = {(one.interface, one.found.config.public_key) for one in peers}
    plan = decision.plan
    groups = (("next", plan.changes), ("withheld", plan.withheld), ("blocked", plan.blocked))
    due = tuple(
        PendingChange(change, when)
        for when, changes in groups
        for change in changes
        if change.row_id == row.id or (change.row_id is None and change.public_key == key)
    )
    interface = interface_of.get(row.interface)
    served = next((one for one in peers if one.row_key and one.interface == interface), None)
    known = decision.actual.get(interface) if interface is not None else None
    return Explanation(
        row=row,
        key=key,
        bad_key=bad_key,
        interface=interface,
        is_ignored=row.interface in ignored_interfaces,
        settled=after,
        rejection=rejection,
        frozen=any(one.found.config.public_key in decision.desired.frozen.get(one.interface, ()) for one in peers),
        peers=peers,
        stale_records=tuple(one for one in records if one.peer_id not in present),
        due=due,
        transitions=transitions,
        interface_error=unread.text if (unread := decision.interface_errors.get(interface or "")) is not None else "",
        address_holders=_holders(row, key, interface, decision, node_state),
        connection=diagnose(served.found, served.unposted, now) if served is not None else None,
        port=known.listen_port if known is not None else 0,
        is_other=interface in decision.identity_changes,
        inactive=after.inactive_reason(now),
    )


def _live(name: str, found: PeerState, key: PublicKey | None, record: PeerRecord | None, epoch: str) -> ActualPeer:
    rx, tx, anomaly = counter_delta(record, found, epoch) if record is not None else (0, 0, None)
    return ActualPeer(name, found, found.config.public_key == key, record, Counters(rx, tx), anomaly is not None)


def _hosts(row: DeviceRow) -> set[Network]:
    """The valid addresses of a row."""
    hosts: set[Network] = set()
    for text in row.addresses:
        with contextlib.suppress(ValueError):
            hosts.add(parse_host(text))
    return hosts


def _holders(
    row: DeviceRow, key: PublicKey | None, interface: str | None, decision: Decision, node_state: NodeState
) -> dict[str, str]:
    state = decision.actual.get(interface) if interface is not None else None
    hosts, holders = _hosts(row), dict[str, str]()
    for found in state.peers.values() if state is not None else ():
        record = node_state.records.of(state.name).get(found.config.public_key) if state is not None else None
        if found.config.public_key != key and (record is None or record.row_id != row.id):
            for net in hosts.intersection(found.config.allowed_ips):
                holders[net.address] = record.device if record is not None else ""
    return holders
