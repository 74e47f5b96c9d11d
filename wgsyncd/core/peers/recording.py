"""What wgsyncd records before and after it applies a plan: intents and outcomes.

Intents and outcomes are differences between the node state and a dump. So wgsyncd may be interrupted anywhere and
compute them again. Audit rows report nothing that did not happen. Each change that happened is reported exactly once.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import NO_BYTES, Change, ChangeKind, DeviceId, DeviceRow, InterfaceState, fingerprint
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.removals import is_lost
from wgsyncd.core.peers.validate import DesiredPeer
from wgsyncd.core.reasons import ChangeCause, ChangeReason, UpdatedPart
from wgsyncd.core.records import (
    DOUBT,
    PeerId,
    PeerRecord,
    RecordState,
    addresses_of,
    config_digest,
    record_of,
    recorded_handshake,
)
from wgsyncd.core.state import InterfaceCheckpoint, NodeState, WriteBatch

MAX_PER_BATCH = 10_000  # added peers that one transaction records


def intents(
    node_state: NodeState, changes: Iterable[Change], actual: Mapping[str, InterfaceState], desired: Desired,
    now: float, quiet: Set[PeerId] = frozenset(),
) -> WriteBatch:  # fmt: skip
    """What the store has to know before ``changes`` are applied. ``now``: UNIX seconds.

    - A peer that will be added gets a record with a zero baseline. If it is one of ``quiet``, or if its interface has
      lost it, then its addition is not audited. A lost peer usually keeps its record, because that means zero.
    - A peer that will be removed and has no record gets one. Then its removal is audited even after a crash.
    - A peer that will be removed before its addition was audited gets the audit row of its addition.
    """
    records: list[PeerRecord] = []
    added: list[PeerRecord] = []
    for change in changes:
        name, key = change.interface, change.public_key
        state = actual[name]
        known = node_state.records.of(name).get(key)
        if change.kind is ChangeKind.ADD and change.desired is not None:
            want = desired.peers[name][key]
            row = want.row
            lost = known is not None and is_lost(known, state, node_state.interfaces)
            if known and lost and not known.epoch.startswith(DOUBT) and _is_up_to_date(known, want):
                continue  # A baseline of another epoch is one of zero already. The next posting writes it as such.
            # A peer that still waits for its return, for example for its class, is no new one in the next cycle.
            waits = known is not None and known.state is RecordState.RESTORING
            restoring = lost or waits or (known is not None and (name, key) in quiet)
            same = known if known is not None and known.config_digest == want.digest else None
            address = same.address if same is not None else addresses_of(change.desired)
            record = PeerRecord(
                name, key, row.id, row.device, row.owner, address, want.digest,
                RecordState.RESTORING if restoring else RecordState.ADDING, state.epoch, 0, 0,
                recorded_handshake(0, known.handshake if known is not None else 0), now,
            )  # fmt: skip
            if known is None or known.epoch != state.epoch or replace(known, sampled_at=now) != record:
                records.append(record)
        elif change.kind is ChangeKind.REMOVE and known is None and change.current is not None:
            records.append(
                record_of(name, state.epoch, state.peers[key], change.row_id, change.device, change.owner, now)
            )
        elif change.kind is ChangeKind.REMOVE and known is not None and known.state is RecordState.ADDING:
            records.append(replace(known, state=RecordState.PRESENT))
            added.append(known)
    return WriteBatch(records=tuple(records), added=tuple(added))


def taken_out(
    node_state: NodeState, changes: Iterable[Change], actual: Mapping[str, InterfaceState]
) -> frozenset[PeerId]:
    """The peers that somebody else has removed, and that will be added again."""
    recorded = (
        node_state.records.of(one.interface).get(one.public_key) for one in changes if one.kind is ChangeKind.ADD
    )
    return frozenset(
        record.peer_id
        for record in recorded
        if record is not None
        and record.state is RecordState.PRESENT
        and not is_lost(record, actual[record.interface], node_state.interfaces)
    )


def changes_hands(node_state: NodeState, desired: Desired) -> bool:
    """Whether a recorded peer belongs to another row or device now. Its bytes until now are the former device's."""
    for name, wants in desired.peers.items():
        recorded = node_state.records.of(name)
        for key, want in wants.items():
            record = recorded.get(key)
            if record is not None and _device_of(record) != (want.row.id, want.row.device):
                return True
    return False


def _is_up_to_date(record: PeerRecord, want: DesiredPeer) -> bool:
    """Whether the record of a peer that is as desired is correct. It compares digests: texts take ten times as long."""
    row = want.row
    return (
        record.config_digest == want.digest and record.state is RecordState.PRESENT and record.row_id == row.id
        and record.device == row.device and record.owner == row.owner
    )  # fmt: skip


_Device = tuple[DeviceId | None, str]


def _device_of(record: PeerRecord) -> _Device:
    """The row and the device of a peer. A row id may be used again for another device."""
    return record.row_id, record.device


@dataclass(slots=True)
class _OutcomeBuilder:
    """Collects the differences between the node state and the dump after a plan was applied."""

    marks: Mapping[str, InterfaceCheckpoint]
    actual: Mapping[str, InterfaceState]
    desired: Desired
    records: list[PeerRecord] = field(default_factory=list)
    departed: list[PeerRecord] = field(default_factory=list)  # records of peers that are neither actual nor desired
    arrived: list[PeerRecord] = field(default_factory=list)  # records of added peers, as they were before the addition
    entries: list[AuditEvent] = field(default_factory=list)
    added: tuple[PeerRecord, ...] = ()  # the new records of arrived peers of the last batch that are matched with none

    def peer(self, record: PeerRecord) -> None:
        """Compare one record with the dump, and collect the difference."""
        name, key = record.interface, record.public_key
        found, want = self.actual[name].peers.get(key), self.desired.peers.get(name, {}).get(key)
        if found is None:
            if want is None:
                self.departed.append(record)
            elif record.state is RecordState.PRESENT and is_lost(record, self.actual[name], self.marks):
                self.records.append(replace(record, state=RecordState.RESTORING))
            return  # the peer is still desired, so the next plan adds it
        as_wanted = want is not None and (found.config is want.config or found.config == want.config)
        if want is not None and as_wanted and _is_up_to_date(record, want):
            return
        if record.state is RecordState.ADDING:
            self.arrived.append(record)
            return
        fresh = self.fresh(record)
        if fresh == record:
            return
        self.records.append(fresh)
        is_known = record.state is RecordState.PRESENT and record.row_id is not None
        if is_known and record.config_digest != fresh.config_digest:
            part = UpdatedPart.ADDRESS if record.address != fresh.address else UpdatedPart.OTHER
            self.entries.append(_updated(fresh, part))

    def fresh(self, record: PeerRecord) -> PeerRecord:
        """The record of an actual peer, brought up to date from the dump and the rows."""
        name, key = record.interface, record.public_key
        found, want = self.actual[name].peers[key], self.desired.peers.get(name, {}).get(key)
        row = want.row if want is not None else None
        if row is not None and record.state is RecordState.PRESENT and not self._may_change_hands(record, row):
            row = None
        as_wanted = want is not None and (found.config is want.config or found.config == want.config)
        digest = want.digest if want is not None and as_wanted else config_digest(found.config)
        addresses = record.address if digest == record.config_digest else addresses_of(found.config)
        # wgsyncd clears the allowed IPs before it removes a peer. If the removal then fails, that is no update.
        if want is None and not found.config.allowed_ips:
            digest, addresses = record.config_digest, record.address
        return PeerRecord(  # `replace` would take four times as long
            record.interface, record.public_key, row.id if row else record.row_id, row.device if row else record.device,
            row.owner if row else record.owner, addresses, digest, RecordState.PRESENT, record.epoch, record.rx,
            record.tx, record.handshake, record.sampled_at,
        )  # fmt: skip

    def _may_change_hands(self, record: PeerRecord, row: DeviceRow) -> bool:
        """Whether the record may name the device of ``row``: it is the same device, or no byte waits to be posted."""
        state = self.actual[record.interface]
        found, restarted = state.peers[record.public_key], record.epoch != state.epoch
        posted = NO_BYTES if restarted else record.counters
        return _device_of(record) == (row.id, row.device) or found.counters == posted

    def match_moves(self) -> Iterator[WriteBatch]:
        """Match departed and arrived peers of the same device: its peer has moved, or has a new key.

        Other arrivals are yielded in batches of at most :data:`MAX_PER_BATCH` peers. What is left is added to
        ``records`` and ``added``, for the last batch.
        """
        paired = {_device_of(record) for record in self.departed if record.row_id is not None}
        added = {_device_of(one): one for one in self.arrived if _device_of(one) in paired}
        for record in self.departed:
            before = added.pop(_device_of(record), None)
            new = self.fresh(before) if before is not None else None
            if new is not None and new.interface != record.interface:
                facts = AuditFacts(interface=new.interface, previous_interface=record.interface, address=new.address)
                self.entries.append(AuditEvent(AuditAction.PEER_MOVED, new.device, facts))
            elif new is not None:
                self.entries.append(_updated(new, UpdatedPart.KEY))
            elif record.state is RecordState.PRESENT:
                self.entries.append(self._removed(record))
        alone = [one for one in self.arrived if _device_of(one) not in paired]
        self.arrived = [one for one in self.arrived if _device_of(one) in paired]
        while len(alone) > MAX_PER_BATCH:
            part, alone[:MAX_PER_BATCH] = tuple(map(self.fresh, alone[:MAX_PER_BATCH])), ()
            yield WriteBatch(records=part, added=part)
        self.added = tuple(map(self.fresh, alone))
        self.records += (*self.added, *map(self.fresh, self.arrived))

    def _removed(self, record: PeerRecord) -> AuditEvent:
        desired = self.desired
        address = record.address or "-"
        if record.row_id is None:
            facts = AuditFacts(interface=record.interface, address=address, peer=fingerprint(record.public_key))
            return AuditEvent(AuditAction.FOREIGN_PEER_REMOVED, record.interface, facts)
        reason = desired.removal_reason(record.public_key, record.row_id, record.device)
        if reason is None:
            gone = desired.key_of(record.row_id, record.device) is None
            reason = (
                ChangeReason(ChangeCause.ROW_GONE, owner=record.owner)
                if gone
                else ChangeReason(ChangeCause.GONE_FROM_KERNEL)
            )
        facts = AuditFacts(interface=record.interface, address=address, reason=reason)
        return AuditEvent(AuditAction.PEER_REMOVED, record.device, facts)


def _updated(record: PeerRecord, part: UpdatedPart) -> AuditEvent:
    facts = AuditFacts(interface=record.interface, updated=part)
    return AuditEvent(AuditAction.PEER_UPDATED, record.device, facts)


def outcomes(
    node_state: NodeState, actual: Mapping[str, InterfaceState], desired: Desired, now: float
) -> Generator[WriteBatch, None, WriteBatch]:
    """What the store has to know after a plan was applied: records brought up to date, and their audit rows.

    ``actual``: the dumps from after the apply. ``now``: UNIX seconds. The caller commits each batch before the next one
    is made, and at the end the last one, which is returned and may be empty. Each batch is complete in itself. Many
    added peers make several batches, because the new records of 100,000 peers would take 15 MiB.
    """
    builder = _OutcomeBuilder(node_state.interfaces, actual, desired)
    sampled: dict[str, InterfaceCheckpoint] = {}
    for name in actual:
        for record in node_state.records.of(name).values():
            builder.peer(record)
    restored: list[AuditEvent] = []
    for name, state in actual.items():
        mark = node_state.interfaces.get(name)
        if mark is None or mark.epoch != state.epoch:
            sampled[name] = InterfaceCheckpoint(state.epoch, now)
        if mark is not None and mark.epoch != state.epoch:
            count = len(state.peers.keys() & node_state.records.of(name).keys())
            restored.append(AuditEvent(AuditAction.INTERFACE_RESTORED, name, AuditFacts(count=count)))
    del node_state  # each commit makes another one, and memory need not hold both
    yield from builder.match_moves()
    return WriteBatch(
        records=tuple(builder.records),
        removed=tuple(record.peer_id for record in builder.departed),
        checkpoints=sampled,
        audit=(*builder.entries, *restored),
        added=builder.added,
    )
