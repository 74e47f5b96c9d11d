"""Reads the node state and the quarantine from wgsyncd's own tables."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from uuid import UUID

from wgsyncd import log
from wgsyncd.core.model import DeviceRow, PublicKey
from wgsyncd.core.quarantine import QuarantinedDelta, QuarantineEntry
from wgsyncd.core.records import PeerRecord, PeerRecords, RecordState
from wgsyncd.core.state import Condition, ConditionType, InterfaceCheckpoint, NodeState, Removal
from wgsyncd.stores.nexavpn.connection import Connection

_log = log.get("store")
_LAST = 253_370_764_800.0  # the first second of the year 9999
_PEERS = """
SELECT interface, public_key, row_id, device, owner, address, config, state, epoch, rx, tx, handshake, sampled_at
FROM wgsyncd.peers WHERE node = %s
"""


def stored_time(seconds: float) -> float:
    """UNIX seconds of wgsyncd's own tables, within the times that datetime knows. NaN becomes 0."""
    return min(max(0.0, float(seconds)), _LAST)


def load_state(connection: Connection, node: str, rows: Mapping[UUID, DeviceRow]) -> NodeState | None:
    """The node's stored state of one moment, or None if it has none yet.

    ``rows``: device rows by id. Values that are equal in a record and its row are kept in memory once.
    """
    with connection.transaction(snapshot=True):
        found = connection.query("SELECT revision, spool, receipt FROM wgsyncd.node_states WHERE node = %s", (node,))
        if not found:
            return None
        records = PeerRecords()
        times: dict[float, float] = {}  # many records share few times: each time is in memory once
        for name, key, row_id, device, owner, address, config, state, epoch, rx, tx, handshake, at in connection.stream(
            _PEERS, (node,)
        ):
            public_key = PublicKey(bytes(key))
            if row := rows.get(row_id):
                public_key = row.public_key if row.public_key == public_key else public_key  # type: ignore[assignment]
                row_id, device = row.id, row.device if row.device == device else device  # noqa: PLW2901
            records.add(PeerRecord(
                intern(name), public_key, row_id, device, intern(owner), address, bytes(config),
                _state(state, name, device), intern(epoch), rx % 2**64, tx % 2**64, handshake,
                times.setdefault(at, stored_time(at)),
            ))  # fmt: skip
        interfaces = connection.query(
            "SELECT interface, epoch, sampled_at FROM wgsyncd.interfaces WHERE node = %s", (node,)
        )
        standing = connection.query(
            "SELECT type, subject, name, reason FROM wgsyncd.conditions WHERE node = %s", (node,)
        )
        removed = connection.query(
            "SELECT uptime, removed, demanded, peers FROM wgsyncd.removals WHERE node = %s ORDER BY id", (node,)
        )
        boots = connection.query("SELECT boot FROM wgsyncd.boots WHERE node = %s ORDER BY first_seen", (node,))
    revision, spool, receipt = found[0]
    return NodeState(
        int(revision),
        records,
        {name: InterfaceCheckpoint(epoch, stored_time(at)) for name, epoch, at in interfaces},
        frozenset(_condition(*values) for values in standing),
        _position(spool, node),
        tuple(boot for (boot,) in boots),
        tuple(Removal(*values) for values in removed),
        receipt,
    )


def _state(word: str, interface: str, device: str) -> RecordState:
    """The state of a record. Only the audit row of an addition depends on it, so a damaged one becomes PRESENT."""
    try:
        return RecordState(word)
    except ValueError:
        _log.warning("wgsyncd.peers is damaged: a state is passed over", interface=interface, device=device)
        return RecordState.PRESENT


def _position(text: str, node: str) -> str:
    """The position of the spooled samples. A damaged one becomes none, as for a spool of another stream."""
    if not text or text.partition(":")[2].isdecimal():
        return text
    _log.warning("wgsyncd.node_states is damaged: the position of the spool is passed over", node=node)
    return ""


def condition_texts(condition: Condition) -> tuple[str, str, str, str]:
    """The columns of a condition. One column holds the plan and the number of removals of a tripped guard."""
    guard = condition.type == ConditionType.GUARD_TRIPPED
    reason = f"{condition.reason}:{condition.removals}" if guard else condition.reason
    return condition.type, condition.subject, condition.name, reason


def _condition(kind: str, subject: str, name: str, reason: str) -> Condition:
    if kind != ConditionType.GUARD_TRIPPED:
        return Condition(kind, subject, name, reason)
    plan, _, count = reason.partition(":")  # one column holds both
    return Condition(kind, subject, name, plan, int(count) if count.isdecimal() else 0)


def load_quarantine(connection: Connection, node: str) -> tuple[QuarantineEntry, ...]:
    """The node's deltas in quarantine, oldest first."""
    found = connection.query(
        "SELECT id, interface, row_id, device, rx, tx, since, until FROM wgsyncd.quarantine WHERE node = %s"
        " ORDER BY id",
        (node,),
    )
    return tuple(
        QuarantineEntry(
            number,
            QuarantinedDelta(interface, row_id, device, int(rx), int(tx), stored_time(since), stored_time(until)),
        )
        for number, interface, row_id, device, rx, tx, since, until in found
    )
