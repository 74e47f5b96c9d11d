"""Decodes values of wgsyncd's own tables, which another program may have damaged.

One damaged value stops nothing. It is told, with the statement that mends it.
"""

from wgsyncd import log
from wgsyncd.core.model import DeviceId
from wgsyncd.core.quarantine import QuarantinedDelta, QuarantineEntry
from wgsyncd.core.records import DOUBT, RecordState
from wgsyncd.core.state import Condition, ConditionType

_log = log.get("store")
LAST = 253_370_764_800.0  # the first second of the year 9999
_REPAIR = "UPDATE {table} SET state = 'present' WHERE state NOT IN ('present', 'arrives', 'returns')"
_REPAIR_EPOCH = "UPDATE {table} SET epoch = '?' WHERE epoch NOT LIKE '%:%' AND epoch <> '?'"


def stored_time(seconds: float) -> float:
    """UNIX seconds within the times that datetime knows. The column may hold any number. NaN becomes 0."""
    return min(max(0.0, float(seconds)), LAST)


def _damaged(table: str, where: str, value: str, repair: str) -> None:
    _log.warning(f"{table} is damaged: the value is passed over", where=where, value=value[:20], repair=repair)


def record_state(word: str, table: str, interface: str, device: str) -> RecordState:
    """The state of a record. Only the audit row of an addition depends on it, so a damaged one becomes PRESENT."""
    try:
        return RecordState(word)
    except ValueError:
        _damaged(table, f"the state of {device} on {interface}", word, _REPAIR.format(table=table))
        return RecordState.PRESENT


def record_epoch(epoch: str, table: str, interface: str, device: str) -> str:
    """The epoch of a record. With a damaged one no counter is sure, so nothing is posted twice."""
    if ":" in epoch or epoch == DOUBT:
        return epoch
    _damaged(table, f"the epoch of {device} on {interface}", epoch, _REPAIR_EPOCH.format(table=table))
    return DOUBT


def spool_position(text: str, table: str, node: str) -> str:
    """The position of the spooled samples. A damaged one becomes none, as for a spool of another stream."""
    if not text or text.partition(":")[2].isdecimal():
        return text
    _damaged(table, f"the column spool_position of node {node}", text, f"UPDATE {table} SET spool_position = ''")  # noqa: S608
    return ""


def condition_texts(condition: Condition) -> tuple[str, str, str, str]:
    """The columns of a condition. One column holds the plan and the number of removals of a tripped guard."""
    guard = condition.type == ConditionType.GUARD_TRIPPED
    reason = f"{condition.reason}:{condition.removals}" if guard else condition.reason
    return condition.type, condition.subject, condition.name, reason


def stored_condition(kind: str, subject: str, name: str, reason: str) -> Condition:
    """The condition of these columns. See :func:`condition_texts`."""
    if kind != ConditionType.GUARD_TRIPPED:
        return Condition(kind, subject, name, reason)
    plan, _, count = reason.partition(":")
    return Condition(kind, subject, name, plan, int(count) if count.isdecimal() else 0)


def quarantine_entry(
    number: int, interface: str, row_id: DeviceId, device: str, rx: int, tx: int, since: float, until: float
) -> QuarantineEntry:
    """A delta in quarantine, of the columns of its row."""
    delta = QuarantinedDelta(interface, row_id, device, int(rx), int(tx), stored_time(since), stored_time(until))
    return QuarantineEntry(number, delta)
