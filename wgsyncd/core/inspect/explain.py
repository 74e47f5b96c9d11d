"""Why one device has a peer, or has none: what the rules say of its row, what the kernel and the books have of it, and
what the next cycle would do with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from wgsyncd.core.model import (
    NO_BYTES,
    Change,
    Counters,
    Kind,
    PeerState,
    PublicKey,
    Rejection,
    Row,
    Status,
    Transition,
    decode_key,
    read_key,
)
from wgsyncd.core.network import parse_host
from wgsyncd.core.peers import lifecycle
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.records import Record
from wgsyncd.core.state import Ledger
from wgsyncd.core.usage.posting import advance


class Rule(NamedTuple):
    """One of the conditions that a row has to meet, and what it has."""

    text: str
    holds: bool
    value: str


@dataclass(frozen=True, slots=True)
class Live:
    """A peer of the device on an interface. ``record``: its baseline, None where the books do not know it yet."""

    interface: str
    found: PeerState
    row_key: bool  # it has the key that the row has now
    record: Record | None
    unbooked: Counters  # since the baseline
    reset: bool  # the counters went back without a known reason


@dataclass(frozen=True, slots=True)
class Due:
    """A change of the plan that is the device's, and whether the next cycle makes it."""

    change: Change
    fate: str  # "next", "withheld" (by the guard) or "unclear" (until an unreadable key is mended)


@dataclass(frozen=True, slots=True)
class Story:
    """All of it."""

    row: Row
    key: PublicKey | None
    bad_key: str  # why the key cannot be read
    interface: str | None  # the kernel's name of the row's; None: it is not this node's
    elsewhere: bool
    rules: tuple[Rule, ...]
    rejection: Rejection | None
    frozen: bool
    peers: tuple[Live, ...]
    left: tuple[Record, ...]  # baselines of peers that no interface has now
    due: tuple[Due, ...]
    steps: tuple[Transition, ...]
    trouble: str  # why the row's interface could not be read
    holder: str  # who has the row's address on its interface, where that is another peer
    verdict: str = ""


def find_rows(text: str, rows: Iterable[Row]) -> list[Row]:
    """The rows that an admin may mean by a public key or an address."""
    found: list[Row] = []
    try:
        address = parse_host(text)
    except ValueError:
        return [row for row in rows if text and row.public_key == read_key(text)]
    for row in rows:
        try:
            if parse_host(row.address) == address:
                found.append(row)
        except ValueError:
            continue
    return found


def tell(
    row: Row, outlook: Outlook, ledger: Ledger, interface_of: Mapping[str, str], elsewhere: frozenset[str], now: float
) -> Story:
    """The story of a row. ``interface_of``: the kernel's interface name for the store's."""
    key, bad_key = None, ""
    try:
        key = PublicKey(decode_key(row.public_key))
    except ValueError as error:
        bad_key = str(error)
    steps = tuple(step for step in outlook.steps if step.row.id == row.id)
    after = lifecycle.assume((row,), steps)[0]
    rejection = next((one for one in outlook.desired.rejections if one.row_id == row.id), None)
    records = [one for one in ledger.records.each() if one.row_id == row.id or one.public_key == key]
    keys = {one.public_key for one in records if one.row_id == row.id} | ({key} if key is not None else set())
    peers = tuple(
        _live(name, found, key, ledger.records.of(name).get(found.peer.public_key), state.epoch)
        for name, state in outlook.live.items()
        for found in state.peers.values()
        if found.peer.public_key in keys
    )
    slots = {(one.interface, one.found.peer.public_key) for one in peers}
    plan = outlook.plan
    fates = (("next", plan.changes), ("withheld", plan.withheld), ("unclear", plan.unclear))
    due = tuple(
        Due(change, fate)
        for fate, changes in fates
        for change in changes
        if change.row_id == row.id or (change.row_id is None and change.public_key == key)
    )
    interface = interface_of.get(row.interface)
    story = Story(
        row=row,
        key=key,
        bad_key=bad_key,
        interface=interface,
        elsewhere=row.interface in elsewhere,
        rules=_rules(after, now),
        rejection=rejection,
        frozen=any(one.found.peer.public_key in outlook.desired.frozen.get(one.interface, ()) for one in peers),
        peers=peers,
        left=tuple(one for one in records if one.slot not in slots),
        due=due,
        steps=steps,
        trouble=outlook.troubles.get(interface, "") if interface is not None else "",
        holder=_holder(row, key, interface, outlook, ledger),
    )
    return replace(story, verdict=_verdict(story, after.why_not(now)))


def _live(name: str, found: PeerState, key: PublicKey | None, record: Record | None, epoch: str) -> Live:
    delta, reset = advance(record, found, epoch) if record is not None else (NO_BYTES, False)
    return Live(name, found, found.peer.public_key == key, record, delta, reset)


def _rules(row: Row, now: float) -> tuple[Rule, ...]:
    """The four conditions, as the README has them."""
    ended = row.status is Status.ISSUED and row.qr_end is not None and now > row.qr_end
    return (
        Rule("its contract exists", row.contract_status is not None, row.contract),
        Rule("its contract is active", row.contract_active, row.contract_status or "no contract"),
        Rule(
            "its status is active, or issued with the QR code alive",
            row.status is not Status.OFF and not ended,
            f"{row.status_text}, QR code ended" if ended else row.status_text,
        ),
        Rule("it is not deleted", not row.deleted, "deleted" if row.deleted else ""),
    )


def _holder(row: Row, key: PublicKey | None, interface: str | None, outlook: Outlook, ledger: Ledger) -> str:
    state = outlook.live.get(interface) if interface is not None else None
    if state is None:
        return ""
    try:
        address = parse_host(row.address)
    except ValueError:
        return ""
    for found in state.peers.values():
        if address in found.peer.allowed_ips and found.peer.public_key != key:
            record = ledger.records.of(state.name).get(found.peer.public_key)
            if record is None or record.row_id != row.id:
                return record.device if record is not None and record.device else "a foreign peer"
    return ""


_FATES = {
    "next": "",
    "withheld": ", but the guard withholds that (wgsyncd plan)",
    "unclear": ", but that waits until the unreadable key of a row is mended",
}
_DOING = {Kind.ADD: "adds", Kind.UPDATE: "updates", Kind.REMOVE: "removes"}


def _verdict(story: Story, why_not: str | None) -> str:
    """One sentence: what it has, what it wants, what comes next."""
    where = " and ".join(dict.fromkeys(one.interface for one in story.peers))
    doing = "; ".join(
        f"the next cycle {_DOING[one.change.kind]} it {'from' if one.change.kind is Kind.REMOVE else 'on'}"
        f" {one.change.interface}{_FATES[one.fate]}"
        for one in story.due
    )
    if story.elsewhere:
        return f"is another node's: {story.row.interface} stands in node.elsewhere"
    if story.rejection is not None:
        kept = f"its live peer on {where} is left as it is" if story.frozen else doing or "it has no peer"
        return f"wants a peer but cannot be followed, {story.rejection.reason.value}: {story.rejection.detail}; {kept}"
    if story.trouble:
        return f"wants {'a' if why_not is None else 'no'} peer; the kernel cannot be asked: {story.trouble}"
    if why_not is not None:
        return f"wants no peer ({why_not})" + (f"; {doing}" if doing else f", yet {where} has it" if where else "")
    if doing:
        return f"wants a peer; {doing}"
    return f"has its peer on {where}, as the row wants it" if where else "wants a peer and has none"
