"""Writes the audit trail: rows of admin_logs, which belongs to the application and may refuse them.

The trail only informs, so nothing waits for it. An audit row that the table refuses is kept in wgsyncd_unwritten, in
the same transaction, and is written later.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.core.audit import AuditEvent
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import ASIDE, Connection, Values
from wgsyncd.stores.mikyun.messages import AuditMessages
from wgsyncd.stores.mikyun.reading import to_datetime
from wgsyncd.stores.mikyun.trouble import TIMED_OUT, MariaDBError

# Rows in one INSERT. A row of admin_logs has at most 8 KB: 1000 of them stay below max_allowed_packet (default 16 MB).
AT_ONCE = 1000
MOST_KEPT = 10_000  # audit rows of one node in wgsyncd_unwritten. The oldest ones are dropped
RETRY = 60.0  # seconds until rows that were refused are tried again
INTO = "INSERT INTO admin_logs (action_type, target_type, target_id, message, created_at) VALUES "
_KEEP = "INSERT INTO wgsyncd_unwritten (node, action_type, target_type, target_id, message, happened_at) VALUES "
_NEXT = """
SELECT id, action_type, target_type, target_id, message, happened_at FROM wgsyncd_unwritten
WHERE node = %s AND id > %s ORDER BY id LIMIT %s
"""
# As an application writes that sets no mode: a text is cut, a character that the column cannot hold becomes "?", and a
# column without a default gets the empty value of its type.
LENIENT = ", sql_mode = ''"
_JAPANESE = ("utf8", "ucs2", "utf16", "utf32", "gb18030", "cp932", "sjis", "ujis", "eucjpms")  # beginnings of names


class AuditTrail:
    """Writes audit rows of one node, and keeps those that are refused. ``language``: "ja" or "en"."""

    def __init__(self, node: str, zone: ZoneInfo, language: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._zone, self._language, self._clock = node, zone, language, clock
        self._messages = AuditMessages(language, zone)
        self._waiting = 0  # rows in wgsyncd_unwritten, as far as this process knows
        self._waits = True  # whether rows may be there
        self._again = -RETRY  # monotonic: when to try them again
        self._after = 0  # their id that was tried last
        self._slow_until = -RETRY  # monotonic: until then, the table is not waited for again
        self._log, self._changed = log.get("store"), log.OnChange()

    def use_charset(self, charset: str | None) -> None:
        """Write English where the message's column cannot hold Japanese. ``charset``: of this column, None: unknown."""
        self._messages = AuditMessages(self._language if holds_japanese(charset) else "en", self._zone)

    def insert(self, connection: Connection, audit: Iterable[AuditEvent], now: float) -> None:
        """Write audit rows in the open transaction, or keep them there. Only trouble of the connection is an error."""
        entries, at = self._messages.entries(audit), to_datetime(now, self._zone)
        while part := list(islice(entries, AT_ONCE)):
            if is_slow := self._clock() < self._slow_until:
                refused = None
            else:
                refused = _insert(connection, INTO, [(*one, at) for one in part], LENIENT)
                self._tell(refused)
            if refused is not None and refused.number == TIMED_OUT:
                self._slow_until = self._clock() + RETRY
            if is_slow or refused is not None:
                self._keep(connection, [(self._node, *one, now) for one in part])

    def _keep(self, connection: Connection, rows: Sequence[Values]) -> None:
        failed = _insert(connection, _KEEP, rows)
        if failed is not None:
            self._log.error("audit rows are lost: wgsyncd_unwritten refuses them too", rows=len(rows), why=str(failed))
            return
        self._waits, self._again = True, self._clock() + RETRY
        count = connection.query("SELECT COUNT(*) FROM wgsyncd_unwritten WHERE node = %s", (self._node,))[0][0]
        if count > MOST_KEPT:
            self._log.error("audit rows are lost: too many wait for admin_logs", rows=count - MOST_KEPT)
            sql = "DELETE FROM wgsyncd_unwritten WHERE node = %s ORDER BY id LIMIT %s"
            connection.execute(sql, (self._node, count - MOST_KEPT))
        self._waiting = min(count, MOST_KEPT)

    def _tell(self, refused: MariaDBError | None) -> None:
        if not self._changed("admin_logs", refused is not None or None):
            return
        if refused is not None:
            self._log.warning("admin_logs refuses audit rows: they wait in wgsyncd_unwritten", why=str(refused))
        else:
            self._log.info("admin_logs takes audit rows again")

    def write_kept(self, connection: Connection) -> int:
        """Try the rows that were kept, if it is time. This is for between two transactions, and it raises nothing.

        Returns how many rows wait.
        """
        if self._waits and self._clock() >= self._again:
            self._again = self._clock() + RETRY
            with suppress(StoreError):
                self._waits = not self._write_kept(connection, self._clock() + ASIDE)
        return self._waiting

    def _write_kept(self, connection: Connection, until: float) -> bool:
        """Write rows until none waits, or until it is late. Returns whether none waits."""
        while rows := connection.query(_NEXT, (self._node, self._after, AT_ONCE)):
            written: list[int] = []
            with connection.transaction():
                refused = _insert(connection, INTO, [self._row(one) for one in rows], LENIENT)
                if refused is None:
                    written, self._after = [one[0] for one in rows], rows[-1][0]
                for one in rows if refused is not None else ():
                    if self._clock() >= until:
                        break
                    self._after = one[0]  # one row that is refused for ever must not hold up the others
                    if _insert(connection, INTO, [self._row(one)], LENIENT) is None:
                        written.append(one[0])
                if written:
                    places = ", ".join(map(str, written))
                    connection.execute(f"DELETE FROM wgsyncd_unwritten WHERE id IN ({places})")  # noqa: S608
            if self._clock() >= until:
                return False
        self._after = 0
        left = connection.query("SELECT COUNT(*) FROM wgsyncd_unwritten WHERE node = %s", (self._node,))[0][0]
        self._waiting = left
        if not left:
            self._tell(None)
        return not left

    def _row(self, kept: Values) -> Values:
        _, *entry, happened_at = kept
        return (*entry, to_datetime(float(str(happened_at)), self._zone))


def holds_japanese(charset: str | None) -> bool:
    """Whether texts of a character set can be Japanese. None: unknown, so they can."""
    return charset is None or charset.startswith(_JAPANESE)


def _insert(connection: Connection, into: str, rows: Sequence[Values], settings: str = "") -> MariaDBError | None:
    """Insert rows. Returns the error with which the server refuses them."""
    literal = cache(lambda value: connection.quote(str(value)))  # the rows of one event have most values in common
    values = ", ".join([f"({', '.join(map(literal, row))})" for row in rows])
    found = connection.side_query(into + values, settings=settings)
    return found if isinstance(found, MariaDBError) else None
