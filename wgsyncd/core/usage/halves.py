"""Own tables and columns that were put back from dumps of different times.

One transaction changes wgsyncd's own tables and the columns of devices. So the column of a month is always the sum of
its days. After a dump of one half was put back, it is not. The revision of the node state tells whether the own tables
are the half that went back. Somebody may write to a column, so the column alone tells nothing.

- The own tables are older: bytes after the baselines are in the columns already. The difference says how many. So the
  baseline moves on by the difference, and the days get it too. No byte is posted twice or lost.
- The columns are older: the baselines are right. The columns lack bytes, and nobody knows all of them. An admin is told
  both numbers.

The difference is exact while both halves are of the present month. Else nobody knows how many bytes came after the
baseline. Then the baseline counts that this process remembers. Without one, the first sample becomes the baseline.
One transaction holds all that is done for a device. After it, the column is the sum again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from wgsyncd.core.model import NO_BYTES, Counters, DeviceId
from wgsyncd.core.reasons import AnomalyKind
from wgsyncd.core.records import DOUBT, PeerRecord, doubted
from wgsyncd.core.state import NodeState, Posting
from wgsyncd.core.usage.calendar import UsageCalendar

Months = tuple[str, str]  # the first day of a span of months, and the first day after it


class Apart(NamedTuple):
    """A row whose month column is not the sum of its days."""

    device: str
    column: Counters  # as the server sees them
    days: Counters

    @property
    def more(self) -> Counters:
        """What the column has more than the days."""
        return Counters(self.column.rx - self.days.rx, self.column.tx - self.days.tx)

    @property
    def is_behind(self) -> bool:
        """Whether the column is older. A column of zero is a new row, or one that the application began again."""
        return max(self.more) <= 0 and self.column != NO_BYTES


class Mending(NamedTuple):
    """What to write for one device, and what to tell."""

    kind: AnomalyKind
    apart: Apart
    records: tuple[PeerRecord, ...] = ()
    history: tuple[Posting, ...] = ()  # bytes that are in the columns already

    @property
    def is_told(self) -> bool:
        """Whether column and days differ. A device without such a difference may have moved no byte."""
        return self.apart.column != self.apart.days


def spans(calendar: UsageCalendar, sampled_at: float) -> list[Months]:
    """The spans of months that a column may be the sum of. The first is the present month.

    The others are right until the column is refreshed after the last sample (``sampled_at``, UNIX seconds).
    """
    this = calendar.month
    last = replace(calendar, now=sampled_at).month
    if last == this:
        last = replace(calendar, now=max(calendar.now - 32 * 86400, 0.0)).month
    return [this, last, (last[0], this[1])]


Found = Sequence[Mapping[DeviceId, Apart]]  # the rows that are apart, for each of the spans


def older_columns(found: Found) -> list[Mending]:
    """The rows to tell of after a start with a node state that did not go back. Their baselines are right.

    Call this in the month of the last sample only: afterwards, a column may still be of any earlier month.
    """
    apart = [one for row_id, one in found[0].items() if all(row_id in rows for rows in found)]
    return [Mending(AnomalyKind.COLUMNS_BEHIND, one) for one in apart if one.is_behind]


def mend(state: NodeState, found: Found, former: NodeState | None, calendar: UsageCalendar) -> Iterator[Mending]:
    """What to do after the node state went back. ``former``: what this process knew before.

    If the node state is of an earlier month, the columns of that month show whether all tables went back together. If
    they did not, a device without bytes in the present month may have moved some in the earlier one.
    """
    exact = is_exact(state, calendar)
    apart = {row_id: one for row_id, one in found[0].items() if all(row_id in rows for rows in found)}
    records: dict[DeviceId, list[PeerRecord]] = {}
    for record in state.records.each():
        if record.row_id is not None and ((one := apart.get(record.row_id)) is None or one.device == record.device):
            records.setdefault(record.row_id, []).append(record)
    for row_id, one in apart.items():
        more, mine = one.more, records.pop(row_id, [])
        if exact and min(more) < 0:
            if one.is_behind:
                yield Mending(AnomalyKind.COLUMNS_BEHIND, one)
            continue
        known = more if exact and len(mine) == 1 else None
        moved = (_moved(record, former.records.get(record.peer_id) if former else None, known) for record in mine)
        added = calendar.allocate(Counters(max(more.rx, 0), max(more.tx, 0)), calendar.now)
        yield Mending(AnomalyKind.TABLES_BEHIND, one, tuple(moved), (Posting(row_id, one.device, added),))
    if exact or not found[1]:
        return
    for mine in records.values():
        moved = (_moved(record, former.records.get(record.peer_id) if former else None, None) for record in mine)
        yield Mending(AnomalyKind.TABLES_BEHIND, Apart(mine[0].device, NO_BYTES, NO_BYTES), tuple(moved))


def is_exact(state: NodeState, calendar: UsageCalendar) -> bool:
    """Whether the last sample is of the present month."""
    return replace(calendar, now=sampled_at(state)).month == calendar.month


def sampled_at(state: NodeState) -> float:
    """UNIX seconds of the last complete sample that was posted, 0.0 if there is none."""
    return max((mark.at for mark in state.interfaces.values()), default=0.0)


def _moved(record: PeerRecord, former: PeerRecord | None, more: Counters | None) -> PeerRecord:
    """The new baseline. ``more``: how many bytes came after the baseline, None if nobody knows.

    Its epoch is doubted, so a counter below it is not posted. The baseline that this process remembers counts if the
    peer began at zero since the dump.
    """
    if more is not None:
        rx, tx = record.rx + more.rx, record.tx + more.tx
        if former is None or (former.epoch == record.epoch and former.rx >= rx and former.tx >= tx):
            return replace(record, rx=rx, tx=tx, epoch=doubted(record.epoch))
    return replace(record, epoch=DOUBT) if former is None else replace(former, epoch=doubted(former.epoch))
