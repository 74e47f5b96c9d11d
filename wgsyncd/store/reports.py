"""What the admin's commands ask besides: names, and bytes by time and by device. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from wgsyncd.core.model import Counters
from wgsyncd.core.naming import Named
from wgsyncd.ports import Reach
from wgsyncd.settings import Settings
from wgsyncd.store.connection import Connection
from wgsyncd.store.mariadb import check_schema


class MariaDBReports:
    """See :class:`wgsyncd.ports.Reports`. Of all nodes that share the database: the books' bytes are per device."""

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection(settings.database, settings.node.zone, on_connect=check_schema)

    def names(self) -> Sequence[Named]:
        """See :class:`wgsyncd.ports.Reports`."""
        rows = self._connection.query("SELECT id, device_id, contract_id FROM customer_devices ORDER BY id")
        return [Named(int(number), str(device), str(contract)) for number, device, contract in rows]

    def reach(self) -> Reach:
        """See :class:`wgsyncd.ports.Reports`."""
        day, bucket = self._connection.query(
            "SELECT (SELECT MIN(day) FROM wgsyncd_days), (SELECT MIN(start) FROM wgsyncd_buckets)"
        )[0]
        begun = self._connection.query("SELECT node, begun FROM wgsyncd_nodes")
        return Reach(None if day is None else day.isoformat(), bucket, {str(node): float(at) for node, at in begun})

    def days(self, first: str, last: str, rows: Collection[int] | None = None) -> Mapping[str, Counters]:
        """See :class:`wgsyncd.ports.Reports`."""
        sums = self._sums("day", "wgsyncd_days WHERE day BETWEEN %s AND %s", (first, last), rows)
        return {str(day): found for day, found in sums.items()}

    def buckets(self, start: int, end: int, rows: Collection[int] | None = None) -> Mapping[int, Counters]:
        """See :class:`wgsyncd.ports.Reports`."""
        return self._sums("start", "wgsyncd_buckets WHERE start >= %s AND start < %s", (start, end), rows)

    def rows_of_days(self, first: str, last: str) -> Mapping[int, Counters]:
        """See :class:`wgsyncd.ports.Reports`."""
        return self._sums("row_id", "wgsyncd_days WHERE day BETWEEN %s AND %s", (first, last))

    def rows_of_buckets(self, start: int, end: int) -> Mapping[int, Counters]:
        """See :class:`wgsyncd.ports.Reports`."""
        return self._sums("row_id", "wgsyncd_buckets WHERE start >= %s AND start < %s", (start, end))

    def close(self) -> None:
        """See :class:`wgsyncd.ports.Reports`."""
        self._connection.close()

    def _sums(
        self, key: str, source: str, values: tuple[object, ...], rows: Collection[int] | None = None
    ) -> dict[int, Counters]:
        if rows is not None and not rows:
            return {}
        among = f" AND row_id IN ({', '.join(['%s'] * len(rows))})" if rows is not None else ""
        sql = f"SELECT {key}, SUM(rx), SUM(tx) FROM {source}{among} GROUP BY 1"  # noqa: S608
        found = self._connection.query(sql, (*values, *(rows or ())))
        return {at: Counters(int(rx), int(tx)) for at, rx, tx in found}  # SUM is a DECIMAL: exact
