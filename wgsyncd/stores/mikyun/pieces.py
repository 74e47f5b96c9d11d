"""Reads and moves open pieces, which hold the newest bytes of each device in the row of its peer.

To add to a row that is written anyway costs little. To add to wgsyncd_buckets and wgsyncd_days as well would take half
of a posting. Three rules keep every byte in one place:

1. The bytes of a device at a time are the sum of its buckets (or days) and of its open pieces. Every reader adds both.
2. An open piece has one bucket and one day. It is moved before bytes of another bucket or day are added to it. It is
   also moved before its row is deleted, gets another device, or gives its name to another interface.
3. One transaction adds a piece to both tables and empties it. The row of the node is locked meanwhile, and every
   posting of the node changes that row. So no posting adds to a piece that is being moved.

A dump puts back one table after the other, maybe while a daemon writes. If the columns and days are put back before the
peers, then bytes that are added to both are posted a second time after the older baselines. Nothing shows that. Bytes
in an open piece leave with the row of the baseline, and then the columns show them (:mod:`wgsyncd.core.usage.halves`).
So every byte of the present bucket goes to an open piece, if its device has one.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain

from wgsyncd.core.model import NO_BYTES, Counters
from wgsyncd.core.records import PeerId
from wgsyncd.core.state import Posting
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.stores.alike import History
from wgsyncd.stores.mikyun.connection import Connection, Values

AT_ONCE = 1000  # pieces that one transaction moves
ADD = "ON DUPLICATE KEY UPDATE rx = rx + VALUES(rx), tx = tx + VALUES(tx)"


BUCKETS = History("wgsyncd_buckets", "start", "open_bucket")
DAYS = History("wgsyncd_days", "day", "open_day")


def sums_by_row(history: History, among: str, beyond: str) -> str:
    """A SELECT of row_id, rx and tx: each row's bytes from a time on (a parameter) until a second one (a parameter).

    ``among``: which rows, as ``BETWEEN 1 AND 9``. ``beyond``: the operator of the second limit, ``<`` or ``<=``. The
    statement takes the two limits twice.
    """
    # The rows are named in the inner SELECTs too, so that the server makes the sums of these rows only.
    table, time, open_time = history
    return f"""SELECT row_id, SUM(rx) AS rx, SUM(tx) AS tx FROM (
        SELECT r.id AS row_id, SUM(h.rx) AS rx, SUM(h.tx) AS tx
            FROM customer_devices r STRAIGHT_JOIN {table} h FORCE INDEX (PRIMARY) ON h.device = r.device_id
            WHERE r.id {among} AND h.{time} >= %s AND h.{time} {beyond} %s GROUP BY r.id
        UNION ALL
        SELECT r.id, SUM(p.open_rx), SUM(p.open_tx)
            FROM customer_devices r STRAIGHT_JOIN wgsyncd_peers p FORCE INDEX (device) ON p.device = r.device_id
            WHERE r.id {among} AND p.open_bucket > 0 AND p.{open_time} >= %s AND p.{open_time} {beyond} %s
            GROUP BY r.id) pieces GROUP BY row_id"""  # noqa: S608


def everything(history: History) -> str:
    """A table expression of device, time, rx and tx: the history with all open pieces. It takes the first time twice.

    The first time is a parameter, so that the server reads no more than it has to.
    """
    table, time, open_time = history
    return f"""(SELECT device, {time} AS at, rx, tx FROM {table} WHERE {time} >= %s
        UNION ALL SELECT device, {open_time}, open_rx, open_tx FROM wgsyncd_peers
                  WHERE open_bucket > 0 AND {open_time} >= %s) pieces"""  # noqa: S608


def add(connection: Connection, node: str, postings: Collection[Posting], calendar: UsageCalendar) -> list[Posting]:
    """Add the bytes of the present bucket to open pieces of the node. Returns the postings with the other bytes.

    The open transaction has locked the row of the node, so nobody else changes its pieces.
    """
    now = calendar.bucket, calendar.today
    sums: dict[str, Counters] = {}
    for one in postings:
        for part in one.allocations:
            if (part.bucket, part.day) == now:
                before = sums.get(one.device, NO_BYTES)
                sums[one.device] = Counters(before.rx + part.rx, before.tx + part.tx)
    if not sums:
        return list(postings)
    among = ", ".join(map(connection.quote, sums))
    found = connection.query(
        f"""SELECT device, no FROM wgsyncd_peers WHERE node = %s AND device IN ({among})
            AND (open_bucket = 0 OR (open_bucket = %s AND open_day = %s))""",  # noqa: S608
        (node, *now),
    )
    added = {device: number for device, number in found if device in sums}  # the server takes "a" and "a " for the same
    if added:
        rows = ",".join(f"({number},{sums[device].rx},{sums[device].tx})" for device, number in added.items())
        connection.execute(
            f"""UPDATE (SELECT 0 AS no, 0 AS rx, 0 AS tx UNION ALL VALUES {rows}) v
                STRAIGHT_JOIN wgsyncd_peers p FORCE INDEX (PRIMARY) ON p.no = v.no
                SET p.open_rx = p.open_rx + v.rx, p.open_tx = p.open_tx + v.tx, p.open_bucket = %s, p.open_day = %s""",  # noqa: S608
            now,
        )
    return [
        replace(one, allocations=tuple(part for part in one.allocations if (part.bucket, part.day) != now))
        if one.device in added
        else one
        for one in postings
    ]


def close_older(connection: Connection, node: str, bucket: int, day: str) -> None:
    """Move the node's open pieces of every other bucket or day than these, in transactions of :data:`AT_ONCE` pieces.

    The row of the node is locked meanwhile, so no posting of the node can add to a piece that is being moved.
    """
    found = connection.query(
        "SELECT no FROM wgsyncd_peers WHERE node = %s AND open_bucket > 0 AND NOT (open_bucket = %s AND open_day = %s)",
        (node, bucket, day),
    )
    numbers = sorted(row[0] for row in found)
    for at in range(0, len(numbers), AT_ONCE):
        with connection.transaction():
            lock_node(connection, node)
            among = ", ".join(map(str, numbers[at : at + AT_ONCE]))
            close(connection, f"no IN ({among})", ())
            connection.execute(
                f"UPDATE wgsyncd_peers SET open_bucket = 0, open_rx = 0, open_tx = 0 WHERE no IN ({among})"  # noqa: S608
            )


def lock_node(connection: Connection, node: str) -> None:
    """Lock the row of the node, as each transaction does first that posts or moves bytes of the node."""
    connection.query("SELECT revision FROM wgsyncd_nodes WHERE node = %s FOR UPDATE", (node,))


def close_of(connection: Connection, node: str, peers: Sequence[PeerId]) -> None:
    """Move the open pieces of these peers in the open transaction. Their rows are about to go, or to be replaced."""
    for at in range(0, len(peers), AT_ONCE):
        part = peers[at : at + AT_ONCE]
        where = f"node = %s AND (interface, public_key) IN ({', '.join(['(%s, %s)'] * len(part))})"
        close(connection, where, (node, *chain.from_iterable(part)))


def close(connection: Connection, where: str, values: Values) -> None:
    """Add open pieces to wgsyncd_buckets and wgsyncd_days. The caller resets or deletes their rows afterwards."""
    for table, time, open_time in (BUCKETS, DAYS):
        # In id order of the target's key, so that two nodes cannot wait for each other.
        connection.execute(
            f"""INSERT INTO {table} (device, {time}, rx, tx)
                SELECT device, {open_time}, SUM(open_rx), SUM(open_tx) FROM wgsyncd_peers
                WHERE {where} AND open_bucket > 0 GROUP BY device, {open_time} ORDER BY device, {open_time} {ADD}""",  # noqa: S608
            values,
        )
