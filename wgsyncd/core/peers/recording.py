"""What to write down before and after a plan is applied.

Both are differences between the ledger and a dump, so they may be interrupted anywhere and asked again: nothing is
audited that did not happen, and nothing that happened is audited twice or forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from wgsyncd.core.audit import Entry, Scribe
from wgsyncd.core.model import Change, InterfaceState, Kind, fingerprint
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.peers.validate import Want
from wgsyncd.core.records import Record, State, addresses_of, config_digest
from wgsyncd.core.state import Condition, Ledger, Sampled, Writes

TOGETHER = 2_500  # peers that came, in one transaction


def before_apply(
    ledger: Ledger, changes: Iterable[Change], live: Mapping[str, InterfaceState], desired: Desired, scribe: Scribe,
    now: float,
) -> Writes:  # fmt: skip
    """Baseline zero of each peer about to be added, and a record of each foreign peer about to be removed (so that its
    removal is audited even if we die right after it). Of a peer that goes before its coming was written down, that."""
    records: list[Record] = []
    entries: list[Entry] = []
    for change in changes:
        name, key = change.interface, change.public_key
        state = live[name]
        known = ledger.records.of(name).get(key)
        if change.kind is Kind.ADD and change.after is not None:
            want = desired.peers[name][key]
            row = want.row
            mark = ledger.interfaces.get(name)
            restoring = known is not None and mark is not None and mark.epoch != state.epoch
            record = Record(
                name, key, row.id, row.device, row.contract, addresses_of(change.after), want.digest,
                State.RESTORING if restoring else State.ADDING, state.epoch, 0, 0, 0, now,
            )  # fmt: skip
            if known is None or replace(known, sampled_at=now) != record:
                records.append(record)
        elif change.kind is Kind.REMOVE and known is None and change.before is not None:
            found = state.peers[key]
            record = Record(
                name, key, change.row_id, change.device, change.contract, addresses_of(change.before),
                config_digest(change.before), State.PRESENT, state.epoch, found.rx, found.tx, found.latest_handshake,
                now,
            )  # fmt: skip
            records.append(record)
        elif change.kind is Kind.REMOVE and known is not None and known.state is State.ADDING:
            records.append(replace(known, state=State.PRESENT))
            entries.append(scribe.entry("peer_added", known.device, interface=name, address=known.address))
    return Writes(records=tuple(records), audit=tuple(entries))


def _is_told(record: Record, want: Want) -> bool:
    """Whether a peer that is as it is wanted is recorded so. By its digest: words cost ten times as much."""
    row = want.row
    return (
        record.config == want.digest and record.state is State.PRESENT and record.row_id == row.id
        and record.device == row.device and record.contract == row.contract
    )  # fmt: skip


@dataclass(slots=True)
class _Diary:
    """Collects what the dump says against the ledger."""

    scribe: Scribe
    live: Mapping[str, InterfaceState]
    desired: Desired
    records: list[Record] = field(default_factory=list)
    gone: list[Record] = field(default_factory=list)
    came: list[Record] = field(default_factory=list)  # as recorded before they came
    entries: list[Entry] = field(default_factory=list)

    def peer(self, record: Record) -> None:
        """Hold one record against the dump."""
        name, key = record.interface, record.public_key
        found, want = self.live[name].peers.get(key), self.desired.peers.get(name, {}).get(key)
        if found is None:
            if want is None:
                self.gone.append(record)
            return  # still wanted: the next plan adds it
        as_wanted = want is not None and (found.peer is want.peer or found.peer == want.peer)
        if want is not None and as_wanted and _is_told(record, want):
            if record.config is not want.digest:
                record.share(want.row.id, want.digest)
            return
        if record.state is not State.PRESENT:
            self.came.append(record)
            return
        fresh = self.fresh(record)
        if fresh == record:
            return
        self.records.append(fresh)
        if record.config != fresh.config and record.row_id is not None:
            reason = "address" if record.address != fresh.address else "preshared key or keepalive"
            self.entries.append(
                self.scribe.entry("peer_updated", fresh.device, interface=fresh.interface, reason=reason)
            )

    def fresh(self, record: Record) -> Record:
        """The record of a peer that is there, as the dump and the rows have it now."""
        name, key = record.interface, record.public_key
        found, want = self.live[name].peers[key], self.desired.peers.get(name, {}).get(key)
        row = want.row if want is not None else None
        as_wanted = want is not None and (found.peer is want.peer or found.peer == want.peer)
        digest = want.digest if want is not None and as_wanted else config_digest(found.peer)
        addresses = record.address if digest == record.config else addresses_of(found.peer)
        if want is None and not found.peer.allowed_ips:  # silenced by us, but its removal was refused: no update of it
            digest, addresses = record.config, record.address
        return Record(  # not by `replace`, which takes four times as long
            record.interface, record.public_key, row.id if row else record.row_id, row.device if row else record.device,
            row.contract if row else record.contract, addresses, digest, State.PRESENT, record.epoch, record.rx,
            record.tx, record.handshake, record.sampled_at,
        )  # fmt: skip

    def pair(self) -> Iterator[Writes]:
        """Word what came and went: a device that did both has moved, or has a new key. Who only came is written in
        several parts where they are many; what is left is for the last part."""
        paired = {record.row_id for record in self.gone if record.row_id is not None}
        added = {one.row_id: one for one in self.came if one.row_id in paired and one.state is State.ADDING}
        for record in self.gone:
            before = added.pop(record.row_id, None) if record.row_id is not None else None
            new = self.fresh(before) if before is not None else None
            if new is not None and new.interface != record.interface:
                facts = {"old": record.interface, "interface": new.interface, "address": new.address}
                self.entries.append(self.scribe.entry("peer_moved", new.device, **facts))
            elif new is not None:
                self.entries.append(
                    self.scribe.entry("peer_updated", new.device, interface=new.interface, reason="key")
                )
            elif record.state is State.PRESENT:
                self.entries.append(self._removed(record))
        if paired:
            self.came.sort(key=lambda record: record.row_id in paired)  # at the end: they go with the last part
        alone = sum(1 for record in self.came if record.row_id not in paired)
        while alone > TOGETHER:
            part, self.came[:TOGETHER] = self.came[:TOGETHER], ()
            alone -= TOGETHER
            yield self._arrivals(part, paired)
        last = self._arrivals(self.came, paired)
        self.records += last.records
        self.entries += last.audit

    def _arrivals(self, records: Sequence[Record], paired: Set[int]) -> Writes:
        fresh = tuple(map(self.fresh, records))
        word = self.scribe.entry
        words = (
            word("peer_added", new.device, interface=new.interface, address=new.address)
            for old, new in zip(records, fresh, strict=True)
            if old.state is State.ADDING and old.row_id not in paired
        )
        return Writes(records=fresh, audit=tuple(words))

    def _removed(self, record: Record) -> Entry:
        desired = self.desired
        where = {"interface": record.interface, "address": record.address or "-"}
        if record.row_id is None:
            return self.scribe.entry(
                "foreign_peer_removed", record.interface, peer=fingerprint(record.public_key), **where
            )
        revoked = desired.revoked.get(record.public_key)
        if revoked is not None:
            reason = revoked[1]
        elif desired.interface_of(record.public_key) is not None:
            reason = "moved to another interface"
        else:
            key = desired.key_of(record.row_id)
            same = "gone from the kernel" if key == record.public_key else "has a new key"
            reason = "row is gone" if key is None else same
        return self.scribe.entry("peer_removed", record.device, reason=reason, **where)


def after_apply(
    ledger: Ledger, live: Mapping[str, InterfaceState], desired: Desired, scribe: Scribe, now: float
) -> Iterator[Writes]:
    """What the dump after apply says against the ledger: records brought up to date, and the audit rows of it. In
    several parts where very many peers came, to be committed one after the other (the words of a hundred thousand would
    take 40 MiB). Each is complete in itself; the last one may be empty."""
    diary = _Diary(scribe, live, desired)
    sampled: dict[str, Sampled] = {}
    for name in live:
        for record in ledger.records.of(name).values():
            diary.peer(record)
    restored: list[Entry] = []
    for name, state in live.items():
        mark = ledger.interfaces.get(name)
        if mark is None or mark.epoch != state.epoch:
            sampled[name] = Sampled(state.epoch, now)
        if mark is not None and mark.epoch != state.epoch:
            count = len(state.peers.keys() & ledger.records.of(name).keys())
            restored.append(scribe.entry("interface_restored", name, count=count))
    del ledger  # each part makes another: this one need not be kept beside it
    yield from diary.pair()
    yield Writes(
        records=tuple(diary.records),
        gone=tuple(record.slot for record in diary.gone),
        sampled=sampled,
        audit=(*diary.entries, *restored),
    )


_STARTS = {
    "row_rejected": "row_rejected",
    "parent_conflict": "parent_conflict",
    "guard_tripped": "guard_tripped",
    "interface_missing": "interface_missing",
}
_ENDS = {"row_rejected": "row_accepted", "parent_conflict": "parent_conflict_cleared"}


def standing(
    outlook: Outlook, conflicts: Mapping[str, int] | None, missing: Iterable[str], node: str, ledger: Ledger
) -> frozenset[Condition]:
    """What stands after a cycle. ``conflicts`` None: they could not be seen, so those that were known still stand."""
    rejected = {
        Condition("row_rejected", str(r.row_id), r.device[:64], str(r.reason)) for r in outlook.desired.rejections
    }
    if conflicts is None:
        parents = {c for c in ledger.conditions if c.kind == "parent_conflict"}
    else:
        parents = {Condition("parent_conflict", contract, contract, str(n)) for contract, n in conflicts.items()}
    lost = {Condition("interface_missing", name, name, "") for name in missing}
    guard: set[Condition] = set()
    if outlook.withholds:
        count = sum(1 for change in outlook.plan.withheld if change.kind is Kind.REMOVE)
        guard = {Condition("guard_tripped", node, node, f"{outlook.plan_id}:{count}")}
    return frozenset(rejected | parents | lost | guard)


def conditions(ledger: Ledger, now_stands: frozenset[Condition], scribe: Scribe) -> Writes:
    """The conditions that start and end, each with its audit row; one that only changed its detail starts anew.

    The end of a missing interface is told by `interface_restored`, that of a tripped guard by `guard_approved` or by
    the plan's being small again.
    """
    started = now_stands - ledger.conditions
    subjects = {(c.kind, c.subject) for c in now_stands}
    ended = frozenset(c for c in ledger.conditions if (c.kind, c.subject) not in subjects)
    entries = [_word(scribe, _STARTS[c.kind], c) for c in sorted(started)]
    entries += [_word(scribe, _ENDS[c.kind], c) for c in sorted(ended) if c.kind in _ENDS]
    return Writes(started=started, ended=ended, audit=tuple(entries))


def _word(scribe: Scribe, action: str, condition: Condition) -> Entry:
    plan, _, count = condition.detail.partition(":")
    return scribe.entry(action, condition.label, reason=condition.detail, count=count or condition.detail, plan=plan)
