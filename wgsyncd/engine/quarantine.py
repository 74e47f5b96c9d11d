"""What an admin decides about deltas that no link can have carried: released into the figures, or dropped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from wgsyncd.core.audit import Entry, Scribe
from wgsyncd.core.state import Booked, Held
from wgsyncd.core.usage import posting
from wgsyncd.core.usage.calendar import Windows
from wgsyncd.errors import InDoubt, Refused
from wgsyncd.ports import Store


def release(store: Store, ids: Collection[int], scribe: Scribe, windows: Callable[[], Windows]) -> tuple[Held, ...]:
    """Book these, in one transaction and once. Refused, with nothing done, where one of them is not there."""
    frame, held = windows(), _find(store, ids)
    for one in held:
        if one.delta.row_id is None:
            raise Refused(f"{one.id} is of a peer that was no device's, so nothing is done: it can only be dropped")
    booked = posting.release((one.delta for one in held), frame)
    _discharge(store, ids, booked, _words(scribe, "quarantine_released", held, frame), frame.now)
    now = windows()
    if now.mark != frame.mark:  # the daemon may have rolled the figures on before these bytes came into the old window
        store.roll(now)
    return held


def drop(store: Store, ids: Collection[int], scribe: Scribe, windows: Callable[[], Windows]) -> tuple[Held, ...]:
    """Forget these, unbooked. Refused, with nothing done, where one of them is not there."""
    frame, held = windows(), _find(store, ids)
    _discharge(store, ids, (), _words(scribe, "quarantine_dropped", held, frame), frame.now)
    return held


def _find(store: Store, ids: Collection[int]) -> tuple[Held, ...]:
    held = tuple(one for one in store.quarantine() if one.id in ids)
    if unknown := sorted(set(ids) - {one.id for one in held}):
        raise Refused(f"no delta {unknown[0]} in quarantine, so nothing is done: see `wgsyncd quarantine`")
    return held


def _words(scribe: Scribe, action: str, held: Sequence[Held], frame: Windows) -> tuple[Entry, ...]:
    deltas = [one.delta for one in held]
    return tuple(
        scribe.entry(
            action, d.device, interface=d.interface, rx=d.rx, tx=d.tx, since=frame.local(d.since),
            until=frame.local(d.until),
        )
        for d in deltas
    )  # fmt: skip


def _discharge(
    store: Store, ids: Collection[int], booked: Sequence[Booked], audit: Sequence[Entry], now: float
) -> None:
    try:
        store.discharge(ids, booked, audit, now)
    except InDoubt:
        if store.waits(ids):  # they leave together or not at all
            raise
