"""Reads and moves open pieces: the newest bytes of each device, in its row of wgsyncd.totals.

To add to a row that is written anyway costs little. To add to buckets and days as well would take a third of a posting.
Three rules keep every byte in one place:

1. The bytes of a device at a time are the sum of its buckets (or days) and of its open piece. Every reader adds both.
2. An open piece has one bucket and one day. It is moved before bytes of another bucket or day are added to it.
3. One transaction adds a piece to both tables and empties it. The row of the node is locked meanwhile, and every
   posting of the node changes that row. So no posting adds to a piece that is being moved.

A dump puts back one table after the other, in the order of their names. Bytes that a daemon posts before node_states is
back are posted again. In an open piece they leave with the row of the totals. In buckets and days, which are back
already, they would stay. So every byte of the present bucket goes to an open piece.
"""

from wgsyncd.core.state import Posting
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import RevisionConflict
from wgsyncd.stores.alike import History
from wgsyncd.stores.nexavpn.connection import Connection

MOST = 2**63 - 1  # the largest bigint
BUCKETS = History("wgsyncd.buckets", "start", "open_bucket")
DAYS = History("wgsyncd.days", "day", "open_day")
RECONNECTED = 180  # seconds: after so long without a handshake, the next one begins a connection (REJECT_AFTER_TIME)
_AT_ONCE = 1000  # pieces that one transaction moves
NO_PIECE = "\t\\N\t\\N\t\\N\t\\N\n"  # the end of a line for stage_moved that opens no piece


def added(to: str, column: str, more: str) -> str:
    """An assignment that adds to a column of the table ``to``, up to the largest bigint. ``more`` is not below 0."""
    return f"{column} = least({to}.{column}, {MOST} - {more}) + {more}"


def connected(new: str) -> str:
    """Assignments to connected and seen of wgsyncd.totals as t, from the handshake in ``new``, which may be NULL."""
    return f""", connected = CASE WHEN {new}.seen > t.seen + {RECONNECTED} THEN {new}.seen ELSE t.connected END,
        seen = greatest(t.seen, {new}.seen)"""


def _moving(history: History) -> str:
    table, time, open_time = history
    return f"""INSERT INTO {table} AS t (node, device, {time}, rx, tx)
        SELECT node, device, {open_time}, open_rx, open_tx FROM old ON CONFLICT (node, device, {time})
        DO UPDATE SET {added("t", "rx", "excluded.rx")}, {added("t", "tx", "excluded.tx")}"""  # noqa: S608


_CLOSE = f"""
WITH old AS (SELECT * FROM wgsyncd.totals
             WHERE node = %s AND open_bucket > 0 AND NOT (open_bucket = %s AND open_day = %s) LIMIT {_AT_ONCE}),
     buckets AS ({_moving(BUCKETS)}), days AS ({_moving(DAYS)})
UPDATE wgsyncd.totals t SET open_bucket = 0, open_rx = 0, open_tx = 0 FROM old
WHERE t.node = old.node AND t.device = old.device
"""  # noqa: S608
# Adds to the totals and to the open pieces. A piece of another bucket or day is not changed.
_ADD = f"""
UPDATE wgsyncd.totals t SET {added("t", "rx", "s.more_rx")}, {added("t", "tx", "s.more_tx")},
    {added("t", "open_rx", "s.more_rx")}, {added("t", "open_tx", "s.more_tx")},
    open_bucket = %s, open_day = %s{connected("s")}
FROM pg_temp.stage_moved s
WHERE t.node = %s AND t.device = s.device AND (t.open_bucket = 0 OR t.open_bucket = %s AND t.open_day = %s)
"""  # noqa: S608
_BEGIN = """
INSERT INTO wgsyncd.totals (open_bucket, open_day, node, device, rx, tx, open_rx, open_tx, seen, connected)
SELECT %s, %s::date, %s, device, more_rx, more_tx, more_rx, more_tx, coalesce(seen, 0), coalesce(seen, 0)
FROM pg_temp.stage_moved s
WHERE device IS NOT NULL AND NOT EXISTS (SELECT FROM wgsyncd.totals t WHERE t.node = %s AND t.device = s.device)
"""


def everything(history: History) -> str:
    """A table expression of device, at, rx and tx: one node's history from a time on, with all open pieces.

    It takes the node and the time, and then both again.
    """
    table, time, open_time = history
    return f"""(SELECT device, {time} AS at, rx, tx FROM {table} WHERE node = %s AND {time} >= %s
        UNION ALL SELECT device, {open_time}, open_rx, open_tx FROM wgsyncd.totals
                  WHERE node = %s AND open_bucket > 0 AND {open_time} >= %s) pieces"""  # noqa: S608


class OpenPieces:
    """Closes the open pieces of one node. It remembers the bucket and day of those that are open."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._open: tuple[int, str] | None = None  # None: unknown

    def forget(self) -> None:
        """Forget what is remembered: another server may answer, or this one was put back."""
        self._open = None

    def close_older(self, connection: Connection, calendar: UsageCalendar) -> None:
        """Move the pieces of every other bucket or day than the present one, some in each transaction."""
        now = calendar.bucket, calendar.today
        moved = _AT_ONCE if self._open != now else 0
        while moved == _AT_ONCE:
            with connection.transaction():
                lock_node(connection, self._node)
                moved = connection.execute(_CLOSE, (self._node, *now))
        self._open = now

    def add(self, connection: Connection, count: int, calendar: UsageCalendar) -> None:
        """Add the bytes of so many lines of stage_moved in the open transaction.

        RevisionConflict: a piece of another bucket or day is still open.
        """
        now = calendar.bucket, calendar.today
        added = connection.execute(_ADD, (*now, self._node, *now)) if count else 0
        if added < count:
            added += connection.execute(_BEGIN, (*now, self._node, self._node))
        if added != count:
            raise RevisionConflict(f"{count - added} open pieces are of another time: another program wrote them")


def lock_node(connection: Connection, node: str) -> None:
    """Let no other transaction post for this node until the open one ends."""
    connection.query("SELECT 1 FROM wgsyncd.node_states WHERE node = %s FOR UPDATE", (node,))


def open_piece(posting: Posting, now: tuple[int, str]) -> str:
    """The end of a line for stage_moved. "" if the posting has other bytes than of the bucket and day ``now``."""
    if len(posting.allocations) != 1:
        return ""
    (one,) = posting.allocations
    if (one.bucket, one.day) != now or one.rx > MOST or one.tx > MOST:
        return ""
    seen = "\\N" if posting.handshake is None else posting.handshake
    return f"\t{posting.row_id}\t{one.rx}\t{one.tx}\t{seen}\n"
