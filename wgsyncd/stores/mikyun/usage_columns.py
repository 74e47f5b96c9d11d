"""The SQL that adds bytes and handshakes to the columns of customer_devices.

The values are numbers, times and names that wgsyncd read or made, written into the statement as text. The driver needs
more time to put values into a statement than the server needs to execute it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from wgsyncd.core.state import Posting
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.pieces import ADD, BUCKETS, DAYS
from wgsyncd.stores.mikyun.reading import to_datetime

BIGINT_MAX = 2**63 - 1  # a column that already holds this number must not make the posting of all devices fail
_WINDOWS = ("total", "24h", "month")


@dataclass(frozen=True, slots=True)
class UsageColumns:
    """The columns of one installation. ``swapped``: the rx columns get what the server sent."""

    zone: ZoneInfo
    swapped: bool  # mikyun.perspective is "device"
    has_updated_at: bool

    def keep_updated_at(self, prefix: str) -> str:
        """The end of a SET list. It keeps a time that belongs to the application."""
        # ON UPDATE CURRENT_TIMESTAMP moves the column unless the statement sets it.
        return f", {prefix}updated_at = {prefix}updated_at" if self.has_updated_at else ""

    def additions(self, of_window: str) -> str:
        """A SET list that adds the values of ``v`` to the columns of ``d``. A column gets at most BIGINT_MAX.

        No part leaves the range of a BIGINT, which would be an error. An admin may have made a column negative.

        ``of_window``: the name of a value, with places for a side and a window: ``v.{side}_{window}``.
        """
        limited = "IF({value} > {most} - GREATEST({column}, 0), {most}, {column} + {value})"
        return self._set(of_window, limited)

    def plain_additions(self, of_window: str) -> str:
        """As :meth:`additions`, but too large a sum is an error of the server. This takes a fifth less of its time."""
        return self._set(of_window, "{column} + {value}")

    def _set(self, of_window: str, of_column: str) -> str:
        sides = ("tx", "rx") if self.swapped else ("rx", "tx")
        return ", ".join(
            f"d.{name} = {of_column.format(column=f'COALESCE(d.{name}, 0)', value=value, most=BIGINT_MAX)}"
            for window in _WINDOWS
            for column, side in zip(("rx", "tx"), sides, strict=True)
            for name, value in ((f"{column}_bytes_{window}", of_window.format(side=side, window=window)),)
        )

    def handshake(self) -> str:
        """The end of a SET list for the handshake of ``v``. An older handshake than the column's changes nothing."""
        return (
            "d.last_handshake_at = IF(v.handshake IS NULL OR d.last_handshake_at >= v.handshake,"
            f" d.last_handshake_at, v.handshake){self.keep_updated_at('d.')}"
        )

    def update(self, postings: Sequence[Posting], calendar: UsageCalendar) -> str:
        """The UPDATE that adds these postings. There is at least one.

        The UPDATE joins a list of values. So it needs grants on columns only, and it cannot create again a row that
        was deleted meanwhile.
        """
        rows = ", ".join(self._values(one, calendar) for one in postings)
        # The first SELECT gives the list its column names and types. Its id NULL belongs to no device. A device may
        # have the id 0. STRAIGHT_JOIN and the primary key let the server read the list first and each device by its id.
        return f"""UPDATE (SELECT CAST(NULL AS SIGNED) AS id, 0 AS rx_total, 0 AS tx_total, 0 AS rx_24h, 0 AS tx_24h,
                                  0 AS rx_month, 0 AS tx_month, CAST(NULL AS DATETIME) AS handshake
                           UNION ALL VALUES {rows}) v
                   STRAIGHT_JOIN customer_devices d FORCE INDEX (PRIMARY) ON v.id = d.id
                   SET {self.additions("v.{side}_{window}")}, {self.handshake()}"""  # noqa: S608

    def _values(self, posting: Posting, calendar: UsageCalendar) -> str:
        every, (first, beyond) = posting.allocations, calendar.month
        in_24h = [one for one in every if one.bucket is not None and one.bucket >= calendar.rolling_start]
        in_month = [one for one in every if first <= one.day < beyond]
        sums = [f"{sum(one.rx for one in some)},{sum(one.tx for one in some)}" for some in (every, in_24h, in_month)]
        handshake = "NULL" if posting.handshake is None else repr(to_datetime(posting.handshake, self.zone))
        return f"({posting.row_id:d},{','.join(sums)},{handshake})"


def add_to_history(connection: Connection, postings: Iterable[Posting]) -> None:
    """Add the bytes of postings to the buckets and days of their devices.

    A bucket or a day may exist already, for example from another node: then the bytes are added to it.
    """
    pieces = [(one.device, part) for one in sorted(postings, key=lambda one: one.device) for part in one.allocations]
    quoted = {device: connection.quote(device) for device, _ in pieces}
    buckets = [f"({quoted[device]},{p.bucket},{p.rx},{p.tx})" for device, p in pieces if p.bucket is not None]
    days = [f"({quoted[device]},'{p.day}',{p.rx},{p.tx})" for device, p in pieces]
    for (table, time, _), values in ((BUCKETS, buckets), (DAYS, days)):
        if values:
            connection.execute(f"INSERT INTO {table} (device, {time}, rx, tx) VALUES {', '.join(values)} {ADD}")  # noqa: S608
