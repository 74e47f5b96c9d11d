"""Compares actual peers with the rows before wgsyncd first starts, and shows what a start would do."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wgsyncd.core.model import Change, ChangeKind, DeviceId, DeviceRow, PeerState, PublicKey
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.records import PeerId, PeerRecords


class Match(StrEnum):
    """How an actual peer compares with the rows."""

    MATCHES = "matches"  # the peer is as desired: a start sends nothing for it
    DIFFERS = "differs"  # the peer is not as desired: a start updates it in place
    UNWANTED = "unwanted"  # its row asks for no peer: a start removes it
    FROZEN = "frozen"  # its row is rejected: a start leaves the peer unchanged
    FOREIGN = "foreign"  # it belongs to no row: a start removes it, unless the configuration keeps it


class Action(StrEnum):
    """What a start would do with an actual peer."""

    STAYS = "stays"
    CHANGED = "changed"
    REMOVED = "removed"
    WAITS = "waits"  # the guard withholds the change
    BLOCKED = "blocked"  # the change waits until an unreadable key is corrected


@dataclass(frozen=True, slots=True)
class LivePeer:
    """One actual peer, its comparison with the rows, and what a start would do with it."""

    found: PeerState
    match: Match
    action: Action
    device: str  # "" for a foreign peer
    change: Change | None  # the update or removal in the plan, also one that waits


@dataclass(frozen=True, slots=True)
class Adoption:
    """The comparison for one interface."""

    peers: tuple[LivePeer, ...]  # sorted by match, then by device and address
    missing: tuple[Change, ...]  # the additions: peers that are desired and not there
    posted_in_full: int  # devices without any usage: a start posts their present counters in full
    baseline_only: int  # devices with usage: a start takes their present counters only as baselines

    def of(self, match: Match) -> tuple[LivePeer, ...]:
        """The peers with this match."""
        return tuple(one for one in self.peers if one.match is match)


def adopt(decision: Decision, records: PeerRecords, rows: Collection[DeviceRow]) -> Mapping[str, Adoption]:
    """The comparison by interface. An interface that could not be read is left out.

    ``decision`` is what a first cycle would do. ``records`` are the baselines that already exist.
    """
    plan = decision.plan
    changes: dict[PeerId, tuple[Change, Action | None]] = {
        (change.interface, change.public_key): (change, why)
        for some, why in ((plan.changes, None), (plan.withheld, Action.WAITS), (plan.blocked, Action.BLOCKED))
        for change in some
    }
    by_id = {row.id: row for row in rows}
    found: dict[str, Adoption] = {}
    for name, state in decision.actual.items():
        foreign = set(plan.foreign.get(name, ()))
        peers = [
            _compare(
                decision, name, one, changes.get((name, key)), foreign=key in foreign, by_id=by_id, records=records
            )
            for key, one in state.peers.items()
        ]
        order = list(Match)
        peers.sort(key=lambda one: (order.index(one.match), one.device, sorted(map(str, one.found.config.allowed_ips))))
        missing = tuple(c for c, _ in changes.values() if c.kind is ChangeKind.ADD and c.interface == name)
        new = [want.row for key, want in decision.desired.peers[name].items()
               if key in state.peers and key not in records.of(name)]  # fmt: skip
        posted_in_full = sum(1 for row in new if row.has_no_usage)
        found[name] = Adoption(tuple(peers), missing, posted_in_full, len(new) - posted_in_full)
    return found


def _compare(
    decision: Decision, name: str, found: PeerState, change: tuple[Change, Action | None] | None, *, foreign: bool,
    by_id: Mapping[DeviceId, DeviceRow], records: PeerRecords,
) -> LivePeer:  # fmt: skip
    key = found.config.public_key
    want = decision.desired.peers[name].get(key)
    record = records.of(name).get(key)
    row = want.row if want else by_id.get(record.row_id) if record and record.row_id is not None else None
    device = row.device if row else ""
    if change is None:
        match = Match.MATCHES if want else Match.FOREIGN if foreign else Match.FROZEN
        if match is Match.FROZEN and not device:
            device = _claimant(key, decision)
        return LivePeer(found, match, Action.STAYS, device, None)
    what, waiting = change
    match = Match.DIFFERS if what.kind is ChangeKind.UPDATE else Match.FOREIGN if foreign else Match.UNWANTED
    action = waiting or (Action.CHANGED if what.kind is ChangeKind.UPDATE else Action.REMOVED)
    return LivePeer(found, match, action, what.device, what)


def _claimant(key: PublicKey, decision: Decision) -> str:
    """The device of the rejected row that has this key. "" if there is none."""
    desired = decision.desired
    return next((one.device for one in desired.rejections if desired.key_of(one.row_id, one.device) == key), "")
