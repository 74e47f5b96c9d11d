"""Turns deltas that an admin released from quarantine into postings."""

from collections.abc import Iterable
from operator import attrgetter

from wgsyncd.core.model import Counters
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.state import Posting, merge_postings
from wgsyncd.core.usage.calendar import UsageCalendar


def post_released(held: Iterable[QuarantinedDelta], calendar: UsageCalendar) -> tuple[Posting, ...]:
    """The postings for deltas that an admin released from quarantine.

    Each delta is shared out over the buckets and days of its own span. A delta without a row is left out.
    """
    some = [
        Posting(one.row_id, one.device, calendar.allocate(Counters(one.rx, one.tx), one.since, one.until))
        for one in held
        if one.row_id is not None
    ]
    return merge_postings(sorted(some, key=attrgetter("row_id")))
