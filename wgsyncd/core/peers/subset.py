"""A part of everything: the rows of a few devices and the peers that have to do with them, for a cycle of their own.

It is a short cut for the plain case. Wherever these rows could have to do with others (a rival for a key or an address,
a rejected row, a tripped guard) it gives up, and a full cycle decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from wgsyncd.core.model import InterfaceState, PublicKey, Row, decode_key
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.records import Records
from wgsyncd.core.state import Ledger


@dataclass(frozen=True, slots=True)
class Part:
    """The peers with these keys, in the dumps and in the books."""

    keys: frozenset[PublicKey]
    live: Mapping[str, InterfaceState]
    ledger: Ledger

    def of(self, live: Mapping[str, InterfaceState]) -> dict[str, InterfaceState]:
        """The same part of other dumps."""
        return {
            name: replace(state, peers={key: state.peers[key] for key in self.keys if key in state.peers})
            for name, state in live.items()
        }

    def within(self, ledger: Ledger) -> Ledger:
        """The same part of other books."""
        return replace(ledger, records=Records(one for one in ledger.records.each() if one.public_key in self.keys))


def narrow(rows: Iterable[Row], live: Mapping[str, InterfaceState], ledger: Ledger) -> Part | None:
    """The part of these rows; None if it cannot be told apart."""
    ids: set[int] = set()
    keys: set[PublicKey] = set()
    for row in rows:
        ids.add(row.id)
        try:
            keys.add(PublicKey(decode_key(row.public_key)))
        except ValueError:
            return None  # whose live peer is it?
    if any(condition.kind == "row_rejected" and condition.subject in map(str, ids) for condition in ledger.conditions):
        return None  # it may be accepted now, which is to be told
    marks = ledger.interfaces
    if any(name not in marks or marks[name].epoch != state.epoch for name, state in live.items()):
        return None  # to be filled first
    for record in ledger.records.each():
        if record.row_id in ids:
            keys.add(record.public_key)
        elif record.public_key in keys:
            return None  # another row's peer, as far as the books know
    part = Part(frozenset(keys), {}, ledger)
    return Part(part.keys, part.of(live), part.within(ledger))


def stands_alone(outlook: Outlook, part: Part, live: Mapping[str, InterfaceState]) -> bool:
    """Whether a plan that was made from a part is what the whole would have given."""
    desired, plan = outlook.desired, outlook.plan
    if desired.rejections or desired.unreadable_keys or outlook.tripped or plan.unclear or any(plan.foreign.values()):
        return False
    for change in plan.changes:
        if not change.sets_allowed_ips or change.after is None:
            continue
        wanted = change.after.allowed_ips
        for key, found in live[change.interface].peers.items():
            if key not in part.keys and any(net in wanted for net in found.peer.allowed_ips):
                return False  # somebody has the address
    return True
