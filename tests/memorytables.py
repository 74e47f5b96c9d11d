"""wgsyncd's own tables in memory, which are the same beside every control plane."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from wgsyncd.core.identity import Identity
from wgsyncd.core.inspect.verify import DaySums, VerifyRanges
from wgsyncd.core.model import Counters
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.records import PeerId, PeerRecord, PeerRecords
from wgsyncd.core.state import Condition, InterfaceCheckpoint, NodeState, Posting, Removal, rename_keys
from wgsyncd.core.usage.aside import SetAside

MOST = 2**63 - 1
Sums = dict[tuple[str, Any], Counters]  # bytes by device name and day, or by device name and bucket


class Boot(NamedTuple):
    """One boot in which a node wrote. Times are UNIX seconds."""

    first_seen: float
    last_seen: float
    uptime: float


@dataclass
class OwnTables:
    """wgsyncd's own tables, and the devices of a control plane. The stores of all nodes share them."""

    devices: dict[Any, Any] = field(default_factory=dict)  # the control plane's devices, by id
    seq: dict[str, int] = field(default_factory=dict)  # by node
    begun: dict[str, float] = field(default_factory=dict)
    approved: dict[str, str | None] = field(default_factory=dict)
    adopted: dict[str, bool] = field(default_factory=dict)
    adopted_from_the_start: bool = True  # most tests are of nodes that an admin has adopted before
    spool: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    records: dict[tuple[str, PeerId], PeerRecord] = field(default_factory=dict)
    interfaces: dict[tuple[str, str], InterfaceCheckpoint] = field(default_factory=dict)
    conditions: dict[tuple[str, str, str], Condition] = field(default_factory=dict)
    buckets: Sums = field(default_factory=dict)
    days: Sums = field(default_factory=dict)
    quarantine: dict[int, tuple[str, QuarantinedDelta]] = field(default_factory=dict)  # by id
    holders: dict[str, tuple[Identity, float]] = field(default_factory=dict)  # with the heartbeat, by node
    serves: dict[str, frozenset[str]] = field(default_factory=dict)  # interfaces, by node
    boots: dict[tuple[str, str], Boot] = field(default_factory=dict)  # by node and boot id
    set_aside: dict[tuple[str, str], tuple[SetAside, Posting]] = field(default_factory=dict)  # by node and device
    removals: dict[str, tuple[Removal, ...]] = field(default_factory=dict)  # by node
    uptime: dict[str, float] = field(default_factory=dict)  # by node, of the holder's boot
    quarantined: int = 0  # the last id in the quarantine

    def held(self, node: str) -> int:
        """How many deltas of a node are in quarantine."""
        return sum(1 for owner, _ in self.quarantine.values() if owner == node)

    def consent(self, node: str) -> tuple[str | None, bool]:
        """Returns the plan id that an admin approved, and whether an admin adopted the node."""
        return self.approved.get(node), self.adopted.get(node, self.adopted_from_the_start)


Tables = TypeVar("Tables", bound=OwnTables)


def copy_tables(db: Tables) -> Tables:
    """A copy for a transaction to work on. Device rows may be dicts, so they are copied too."""
    work = copy(db)
    work.__dict__.update({name: copy(value) for name, value in vars(db).items()})
    work.devices = {device: copy(row) for device, row in db.devices.items()}
    return work


def rename_interfaces(db: OwnTables, node: str, renamed: Mapping[str, str | None]) -> None:
    """Change the names of interfaces of one node. See :class:`wgsyncd.core.state.WriteBatch`."""
    if not renamed:
        return
    marks = rename_keys({name: mark for (one, name), mark in db.interfaces.items() if one == node}, renamed)
    records = PeerRecords(record for (one, _), record in db.records.items() if one == node)
    records.rename(renamed)
    of_others = {at: mark for at, mark in db.interfaces.items() if at[0] != node}
    db.interfaces = of_others | {(node, name): mark for name, mark in marks.items()}
    kept = {at: record for at, record in db.records.items() if at[0] != node}
    db.records = kept | {(node, record.peer_id): record for record in records.each()}


def add_bytes(sums: Sums, at: tuple[str, Any], rx: int, tx: int) -> None:
    old = sums.get(at, Counters(0, 0))
    sums[at] = Counters(old.rx + rx, old.tx + tx)


def sums_of(db: OwnTables, device: str, scope: VerifyRanges) -> tuple[
    tuple[Counters, ...], tuple[Counters, ...], tuple[DaySums, ...]
]:  # fmt: skip
    """The sums of one device that a verification asks for: buckets, days, and days beside their buckets."""
    buckets = {at: sums for (name, at), sums in db.buckets.items() if name == device}
    days = {at: sums for (name, at), sums in db.days.items() if name == device}

    def between(sums: dict[Any, Counters], first: Any, beyond: Any) -> Counters:
        some = [s for at, s in sums.items() if first <= at < beyond]
        return Counters(sum(s.rx for s in some), sum(s.tx for s in some))

    def cut(sums: Counters) -> Counters:
        return Counters(min(sums.rx, MOST), min(sums.tx, MOST))

    return (
        tuple(cut(between(buckets, *some)) for some in scope.rolling),
        tuple(cut(between(days, *some)) for some in scope.months),
        tuple(
            DaySums(day, between(buckets, *day.inner), between(buckets, *day.outer),
                    days.get(day.name, Counters(0, 0)))
            for day in scope.days
        ),
    )  # fmt: skip


def has_new_counts_only(record: PeerRecord, node_state: NodeState) -> bool:
    """Whether a record differs from the known one in counters, handshake and time only."""
    known = node_state.records[record.peer_id]
    return record.same_identity(known) and (record.epoch, record.state) == (known.epoch, known.state)
