"""Writes the audit trail: rows of audit_logs, which belongs to the application and may refuse them.

The trail only informs, so nothing waits for it. Rows that the table refuses are kept in wgsyncd.unwritten, in the same
transaction, and are written later.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.core.audit import AuditAction, AuditEvent
from wgsyncd.core.reasons import ChangeCause
from wgsyncd.errors import StoreError
from wgsyncd.stores.audit_texts import is_known
from wgsyncd.stores.nexavpn.connection import AT_ONCE, Connection, Values
from wgsyncd.stores.nexavpn.messages import MESSAGES, device_id, entry
from wgsyncd.stores.nexavpn.rows import Gateways

_MOST_KEPT = 10_000  # rows of one node in wgsyncd.unwritten. The oldest ones are dropped
_ENTRY = "event_type, entity_type, entity_id, status, message, metadata"
# unnest makes one statement of any number of rows.
_ROWS = "unnest(%s::text[], %s::text[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::double precision[])"
_INSERT = f"""
INSERT INTO wgsyncd.audit_logs (id, {_ENTRY}, created_at)
SELECT gen_random_uuid(), {_ENTRY}, to_timestamp(at) FROM {_ROWS} AS r ({_ENTRY}, at)
"""  # noqa: S608
_KEEP = f"""
INSERT INTO wgsyncd.unwritten (node, {_ENTRY}, happened_at) SELECT %s, {_ENTRY}, at FROM {_ROWS} AS r ({_ENTRY}, at)
"""  # noqa: S608
_NEXT = f"""
SELECT id, {_ENTRY}, happened_at FROM wgsyncd.unwritten WHERE node = %s ORDER BY id LIMIT {AT_ONCE}
"""  # noqa: S608
_DROP = """
DELETE FROM wgsyncd.unwritten WHERE node = %s AND id <= (
    SELECT id FROM wgsyncd.unwritten WHERE node = %s ORDER BY id DESC OFFSET %s LIMIT 1)
"""


class AuditTrail:
    """Writes audit rows of one node, and keeps those that are refused."""

    def __init__(self, node: str, zone: ZoneInfo, called: Callable[[str], str]) -> None:
        self._node, self._zone, self._called = node, zone, called
        self.gateways = Gateways({}, {})  # the store sets them as soon as it has read them
        self._moved: frozenset[str] = frozenset()  # devices of removed peers that another gateway has now
        self.waiting = 0  # rows in wgsyncd.unwritten, as far as this process knows
        self._waits = True  # whether rows may be there
        self._log, self._changed = log.get("store"), log.OnChange()

    def find_moved(self, connection: Connection, audit: Iterable[AuditEvent]) -> None:
        """Before the records of removed peers are deleted: find out which of the devices another gateway has now."""
        gone = [one for event in audit if _is_gone(event) and (one := device_id(event.target)) is not None]
        sql = "SELECT id::text FROM wgsyncd.moved_devices WHERE id = ANY(%s::uuid[])"
        found = connection.side_query(sql, (gone,)) if gone else []
        self._moved = frozenset(() if isinstance(found, StoreError) else (device for (device,) in found))

    def _told(self, event: AuditEvent) -> AuditEvent:
        """The event as an audit row tells it. A row that is gone here may be at another gateway."""
        if event.target not in self._moved or not _is_gone(event) or event.facts.reason is None:
            return event
        reason = replace(event.facts.reason, cause=ChangeCause.MOVED_TO, interface="another gateway")
        return replace(event, facts=replace(event.facts, reason=reason))

    def insert(self, connection: Connection, audit: Iterable[AuditEvent], now: float) -> None:
        """Write audit rows in the open transaction, or keep them there. Only trouble of the connection is an error."""
        events = (one for one in audit if is_known(one, MESSAGES))
        while rows := [
            (*one[:5], json.dumps(one.metadata), now)
            for event in islice(events, AT_ONCE)
            for one in (entry(self._told(event), self._node, self.gateways, self._zone, self._called),)
        ]:
            if not isinstance(self._write(connection, rows), StoreError):
                continue
            kept = connection.try_change(_KEEP, (self._node, *_columns(rows)))
            if isinstance(kept, StoreError):
                self._log.error(
                    "audit rows are lost: wgsyncd.unwritten refuses them too", rows=len(rows), why=str(kept)
                )
                return
            connection.execute(_DROP, (self._node, self._node, _MOST_KEPT))
            self._waits, self.waiting = True, min(self.waiting + len(rows), _MOST_KEPT)

    def _write(self, connection: Connection, rows: Sequence[Values]) -> int | StoreError:
        written = connection.try_change(_INSERT, _columns(rows))
        refused = isinstance(written, StoreError)
        if self._changed("audit_logs", refused or None):
            if refused:
                self._log.warning("audit_logs refuses audit rows: they wait in wgsyncd.unwritten", why=str(written))
            else:
                self._log.info("audit_logs takes audit rows again")
        return written

    def write_kept(self, connection: Connection) -> int:
        """Try the rows that were kept. This is for between two transactions, and it raises nothing.

        Returns how many rows wait.
        """
        with suppress(StoreError):
            while self._waits:
                with connection.transaction():
                    rows = connection.query(_NEXT, (self._node,))
                    kept = [(*one[1:6], json.dumps(one[6]), one[7]) for one in rows]
                    if kept and isinstance(self._write(connection, kept), StoreError):
                        break
                    ids = [one[0] for one in rows]
                    connection.execute(
                        "DELETE FROM wgsyncd.unwritten WHERE node = %s AND id = ANY(%s)", (self._node, ids)
                    )
                self._waits = len(rows) == AT_ONCE
                self.waiting = max(0, self.waiting - len(rows))
        return self.waiting


def _is_gone(event: AuditEvent) -> bool:
    reason = event.facts.reason
    return event.action is AuditAction.PEER_REMOVED and reason is not None and reason.cause is ChangeCause.ROW_GONE


def _columns(rows: Sequence[Values]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
