"""Posts the usual batch by one UPDATE: devices whose peers moved, and nothing else.

The UPDATE changes the revision, the columns of the devices, the baselines and the open pieces. It waits for no lock.
Where something is unusual, nothing is written, and :class:`wgsyncd.stores.mikyun.writing.StateWriter` takes its longer
way. A batch is unusual in these cases:

- It holds more than postings, their records and checkpoints, or a device has more than one record in it.
- A record changes more than its counters, its handshake and its time.
- wgsyncd's tables cannot hold the id of a row.
- Its bytes came in a past bucket or day, or in more than one of them.
- A row is locked, is gone, or belongs to another device now, or an open piece of another bucket was not moved yet.
- The server refuses to change a row, or changes it too slowly. A sum beyond a BIGINT is such a refusal.
"""

from collections.abc import Sequence, Set
from zoneinfo import ZoneInfo

from wgsyncd.core.model import PublicKey
from wgsyncd.core.records import PeerRecord
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.stores.mikyun import pieces
from wgsyncd.stores.mikyun.changing import no_waiting
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.reading import BEYOND, to_datetime
from wgsyncd.stores.mikyun.usage_columns import UsageColumns

# The first SELECT gives the list its column names and types. No peer has the number 0. STRAIGHT_JOIN and the primary
# keys let the server read the list first and then each peer and each device by its number.
_UPDATE = """UPDATE wgsyncd_nodes n STRAIGHT_JOIN
       (SELECT 0 AS no, 0 AS rx, 0 AS tx, CAST(NULL AS DATETIME) AS handshake, 0 AS all_rx, 0 AS all_tx, 0 AS latest
        UNION ALL VALUES {rows}) v
       STRAIGHT_JOIN wgsyncd_peers p FORCE INDEX (PRIMARY) ON p.no = v.no
       STRAIGHT_JOIN customer_devices d FORCE INDEX (PRIMARY) ON d.id = p.row_id AND d.device_id = p.device
SET n.revision = n.revision + 1{uptime}, {additions}, {handshake},
    p.rx = v.all_rx, p.tx = v.all_tx, p.latest_handshake = v.latest, p.sampled_at = {at!r},
    p.open_rx = p.open_rx + v.rx, p.open_tx = p.open_tx + v.tx, p.open_bucket = {bucket}, p.open_day = '{day}'
WHERE n.node = {node} AND n.revision = {revision}
  AND (p.open_bucket = 0 OR (p.open_bucket = {bucket} AND p.open_day = '{day}'))"""


class UsualPosting:
    """Posts usual batches of one node. It remembers the numbers of the node's rows in wgsyncd_peers."""

    def __init__(self, node: str, zone: ZoneInfo) -> None:
        self._node, self._zone = node, zone
        self._numbers: dict[str, dict[PublicKey, int]] = {}  # by interface
        self._last_number = 0
        self._open: tuple[int, str] | None = None  # the bucket and day of all open pieces of the node. None: unknown

    def statement(
        self, connection: Connection, columns: UsageColumns, node_state: NodeState, writes: WriteBatch,
        calendar: UsageCalendar, refused: Set[str],
    ) -> str | None:  # fmt: skip
        """The UPDATE for a batch, or None for an unusual batch. It first moves older open pieces of the node.

        ``refused``: devices with a row that the server refuses to change.
        """
        if not _is_usual(writes, calendar) or (refused and any(one.device in refused for one in writes.postings)):
            return None
        now = calendar.bucket, calendar.today
        if self._open != now:
            pieces.close_older(connection, self._node, *now)
            self._open = now
        numbers = self._find_numbers(connection, writes.records)
        if numbers is None:
            self.forget()
            return None
        return no_waiting(connection) + _UPDATE.format(
            rows=self._rows(numbers, writes),
            uptime=uptime_sql(writes, "n."),
            additions=columns.plain_additions("v.{side}"),
            handshake=columns.handshake(),
            at=writes.records[0].sampled_at,
            bucket=now[0],
            day=now[1],
            node=connection.quote(self._node),
            revision=node_state.revision,
        )

    def forget(self) -> None:
        """Forget what is remembered: the database had something else."""
        self._numbers, self._last_number, self._open = {}, 0, None

    def _find_numbers(self, connection: Connection, records: Sequence[PeerRecord]) -> list[int] | None:
        """The numbers of the records' rows. None: a record has no row."""
        found = self._known_numbers(records)
        if found is None:  # rows that are new since the last time have higher numbers
            rows = connection.query(
                "SELECT no, interface, public_key FROM wgsyncd_peers WHERE no > %s AND node = %s ORDER BY no",
                (self._last_number, self._node),
            )
            for number, interface, key in rows:
                self._numbers.setdefault(interface, {})[PublicKey(key)] = self._last_number = number
            found = self._known_numbers(records)
        return found

    def _known_numbers(self, records: Sequence[PeerRecord]) -> list[int] | None:
        try:
            return [self._numbers[record.interface][record.public_key] for record in records]
        except KeyError:
            return None

    def _rows(self, numbers: Sequence[int], writes: WriteBatch) -> str:
        times: dict[int, str] = {}  # many handshakes are of the same second
        rows = []
        for number, record, posting in zip(numbers, writes.records, writes.postings, strict=True):
            rx = tx = 0
            for one in posting.allocations:  # there is one, or none
                rx, tx = one.rx, one.tx
            handshake = "NULL"
            if posting.handshake is not None:
                second = int(posting.handshake)
                handshake = times.get(second) or times.setdefault(second, repr(to_datetime(second, self._zone)))
            rows.append(f"({number},{rx},{tx},{handshake},{record.rx},{record.tx},{record.handshake})")
        return ",".join(rows)


def uptime_sql(writes: WriteBatch, prefix: str = "") -> str:
    """The end of a SET list for the node's row: the machine's uptime, if the batch has one."""
    return "" if writes.uptime is None else f", {prefix}uptime = {writes.uptime!r}"


def matches(writes: WriteBatch) -> int:
    """How many rows the UPDATE finds if nothing is unusual: the node's, and the peer's and the device's for each."""
    return 1 + 2 * len(writes.records)


def _is_usual(writes: WriteBatch, calendar: UsageCalendar) -> bool:
    records, postings = writes.records, writes.postings
    plain = WriteBatch(postings, records, checkpoints=writes.checkpoints, uptime=writes.uptime, counts_only=True)
    return (
        writes == plain
        and 0 < len(postings) == len(records)
        and writes.is_paired
        and len({record.sampled_at for record in records}) == 1
        and all(len(posting.allocations) < 2 and posting.row_id < BEYOND for posting in postings)
        and {(one.bucket, one.day) for posting in postings for one in posting.allocations}
        <= {(calendar.bucket, calendar.today)}
    )
