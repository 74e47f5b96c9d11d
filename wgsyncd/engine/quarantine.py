"""Releases or drops the quarantined deltas that an admin names.

A delta is quarantined if it is larger than its link can carry.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter

from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import Counters
from wgsyncd.core.quarantine import QuarantinedDelta, QuarantineEntry
from wgsyncd.core.state import Posting, merge_postings
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import InDoubt, UserError
from wgsyncd.ports import Store


def release(store: Store, ids: Collection[int], calendar: Callable[[], UsageCalendar]) -> tuple[QuarantineEntry, ...]:
    """Post these deltas to their devices, in one transaction and once. Returns their entries.

    UserError, and nothing is done, if a delta is not in quarantine or belongs to no device. InDoubt if the COMMIT got
    no answer and the deltas still wait.
    """
    frame, held = calendar(), _find(store, ids)
    for one in held:
        if one.delta.row_id is None:
            raise UserError(f"{one.id} is of a peer that was no device's, so nothing is done: it can only be dropped")
    postings = _postings((one.delta for one in held), frame)
    _resolve(store, ids, postings, _events(AuditAction.QUARANTINE_RELEASED, held), frame)
    now = calendar()
    if now.version != frame.version:
        # A boundary passed. The daemon may have refreshed the columns before these bytes came into the old window.
        store.refresh(now)
    return held


def drop(store: Store, ids: Collection[int], calendar: Callable[[], UsageCalendar]) -> tuple[QuarantineEntry, ...]:
    """Remove these deltas from the quarantine without posting them. Returns their entries.

    UserError, and nothing is done, if a delta is not in quarantine. InDoubt: see :func:`release`.
    """
    frame, held = calendar(), _find(store, ids)
    _resolve(store, ids, (), _events(AuditAction.QUARANTINE_DROPPED, held), frame)
    return held


def _postings(held: Iterable[QuarantinedDelta], calendar: UsageCalendar) -> tuple[Posting, ...]:
    """Each delta is shared out over the buckets and days of its own span. A delta without a row is left out."""
    some = [
        Posting(one.row_id, one.device, calendar.allocate(Counters(one.rx, one.tx), one.since, one.until))
        for one in held
        if one.row_id is not None
    ]
    return merge_postings(sorted(some, key=attrgetter("row_id")))


def _find(store: Store, ids: Collection[int]) -> tuple[QuarantineEntry, ...]:
    held = tuple(one for one in store.quarantine() if one.id in ids)
    if unknown := sorted(set(ids) - {one.id for one in held}):
        raise UserError(f"no delta {unknown[0]} in quarantine, so nothing is done: see `wgsyncd quarantine`")
    return held


def _events(action: AuditAction, held: Sequence[QuarantineEntry]) -> tuple[AuditEvent, ...]:
    return tuple(
        AuditEvent(
            action,
            d.device,
            AuditFacts(interface=d.interface, current=Counters(d.rx, d.tx), since=d.since, until=d.until),
        )
        for d in (one.delta for one in held)
    )


def _resolve(
    store: Store,
    ids: Collection[int],
    postings: Sequence[Posting],
    audit: Sequence[AuditEvent],
    calendar: UsageCalendar,
) -> None:
    try:
        store.resolve_quarantine(ids, postings, audit, calendar)
    except InDoubt:
        if store.still_quarantined(ids):  # The deltas leave together, so one that waits proves that none has left.
            raise
