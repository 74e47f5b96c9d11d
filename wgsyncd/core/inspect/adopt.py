"""What is live on a server before wgsyncd's first cycle, held against the rows: peer by peer, and what a start would do
to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wgsyncd.core.model import Change, Kind, PeerState, PublicKey, Row
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.records import Records, Slot


class Standing(StrEnum):
    """How a live peer stands to the rows."""

    MATCHES = "matches"  # as its row wants it: nothing would be sent for it
    DIFFERS = "differs"  # its row wants it otherwise: would be changed in place
    UNWANTED = "unwanted"  # its row wants no peer: would be removed
    FROZEN = "frozen"  # its row cannot be followed: left as it is
    FOREIGN = "foreign"  # in no row: would be removed, unless the configuration keeps it


class Fate(StrEnum):
    """What a start would do to it."""

    STAYS = "stays"
    CHANGED = "changed"
    REMOVED = "removed"
    WAITS = "waits"  # removed or changed only when an admin says so, or an unreadable key is mended


@dataclass(frozen=True, slots=True)
class Standee:
    """One live peer."""

    found: PeerState
    standing: Standing
    fate: Fate
    device: str  # "" for a foreign one
    reason: str  # of a change or a removal


@dataclass(frozen=True, slots=True)
class Adoption:
    """One interface."""

    peers: tuple[Standee, ...]  # by standing, then by device and address
    missing: tuple[Change, ...]  # peers that rows want and that are not there
    booked: int  # devices whose counters so far would be booked in full: nobody ever counted them
    started: int  # devices whose counters so far would be the starting point only

    def of(self, standing: Standing) -> tuple[Standee, ...]:
        """The peers that stand so."""
        return tuple(one for one in self.peers if one.standing is standing)


def adopt(outlook: Outlook, records: Records, rows: Collection[Row]) -> Mapping[str, Adoption]:
    """By interface; those that could not be read are left out."""
    changes: dict[Slot, tuple[Change, bool]] = {}
    plan = outlook.plan
    for change in plan.changes:
        changes[change.interface, change.public_key] = change, False
    for change in plan.withheld + plan.unclear:
        changes[change.interface, change.public_key] = change, True
    by_id = {row.id: row for row in rows}
    found: dict[str, Adoption] = {}
    for name, state in outlook.live.items():
        foreign = set(plan.foreign.get(name, ()))
        peers = [
            _stand(outlook, name, one, changes.get((name, key)), foreign=key in foreign, by_id=by_id, records=records)
            for key, one in state.peers.items()
        ]
        order = list(Standing)
        peers.sort(
            key=lambda one: (order.index(one.standing), one.device, sorted(map(str, one.found.peer.allowed_ips)))
        )
        missing = tuple(c for c, _ in changes.values() if c.kind is Kind.ADD and c.interface == name)
        new = [want.row for key, want in outlook.desired.peers[name].items()
               if key in state.peers and key not in records.of(name)]  # fmt: skip
        booked = sum(1 for row in new if row.never_counted)
        found[name] = Adoption(tuple(peers), missing, booked, len(new) - booked)
    return found


def _stand(
    outlook: Outlook, name: str, found: PeerState, change: tuple[Change, bool] | None, *, foreign: bool,
    by_id: Mapping[int, Row], records: Records,
) -> Standee:  # fmt: skip
    key = found.peer.public_key
    want = outlook.desired.peers[name].get(key)
    record = records.of(name).get(key)
    row = want.row if want else by_id.get(record.row_id or 0) if record else None
    device = row.device if row else ""
    if change is None:
        standing = Standing.MATCHES if want else Standing.FOREIGN if foreign else Standing.FROZEN
        if standing is Standing.FROZEN and not device:
            device = _claimant(key, outlook)
        return Standee(found, standing, Fate.STAYS, device, "")
    what, waits = change
    standing = Standing.DIFFERS if what.kind is Kind.UPDATE else Standing.FOREIGN if foreign else Standing.UNWANTED
    fate = Fate.WAITS if waits else Fate.CHANGED if what.kind is Kind.UPDATE else Fate.REMOVED
    return Standee(found, standing, fate, what.device, what.reason)


def _claimant(key: PublicKey, outlook: Outlook) -> str:
    """The device of the rejected row that has this key."""
    desired = outlook.desired
    return next((one.device for one in desired.rejections if desired.key_of(one.row_id) == key), "")
