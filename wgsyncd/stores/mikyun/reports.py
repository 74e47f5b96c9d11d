"""Reads what only the admin's commands need: names, bytes by time or by device, details of a device."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.answers import AuditRow, Coverage, DeviceDetails, Rule
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.model import Counters, DeviceId, DeviceRow
from wgsyncd.stores.alike import History, ask_aside
from wgsyncd.stores.border import at_border
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.eligibility import rules
from wgsyncd.stores.mikyun.pieces import BUCKETS, DAYS, everything
from wgsyncd.stores.mikyun.reading import to_seconds
from wgsyncd.stores.mikyun.row_text import DEVICE_NAME
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.shape import check_schema
from wgsyncd.stores.own_values import stored_time

DETAILS = """
SELECT device_role, is_parent, platform, app_version, created_at, issued_at, activated_at, paused_at,
       first_handshake_at, last_handshake_at, rx_bytes_total, tx_bytes_total, rx_bytes_24h, tx_bytes_24h,
       rx_bytes_month, tx_bytes_month
FROM customer_devices WHERE id = %s
"""
GONE = """
SELECT h.device FROM (SELECT device FROM wgsyncd_days GROUP BY device UNION SELECT device FROM wgsyncd_buckets
                      GROUP BY device UNION SELECT device FROM wgsyncd_peers WHERE open_bucket > 0) h
WHERE NOT EXISTS (SELECT 1 FROM customer_devices d WHERE d.device_id = h.device) ORDER BY h.device
"""
# The account may read this view, but not admin_logs itself: that table belongs to the application.
AUDIT = """
SELECT created_at, action_type, message FROM wgsyncd_audit
WHERE target_type = 'device' AND target_id = %s ORDER BY id DESC LIMIT %s
"""


@at_border
class MariaDBReports:
    """Implements :class:`wgsyncd.ports.ReportSource`. Writes nothing.

    Bytes are stored for each device, not for each node. So they include all nodes that share the database. Buckets and
    days have the server's view. The columns of devices have the configured view already.
    """

    def __init__(self, settings: Settings) -> None:
        own = mikyun(settings)
        self.perspective = Perspective(own.perspective)
        self._zone = settings.node.zone
        self._connection = Connection(own.database, settings.node.zone, on_connect=check_schema)

    def names(self, *, gone: bool = False) -> Sequence[DeviceName]:
        if gone:
            return [DeviceName("", str(device), "") for (device,) in self._connection.query(GONE)]
        names = f"{DEVICE_NAME}, CONVERT(contract_id USING utf8mb4)"
        rows = self._connection.query(f"SELECT id, {names} FROM customer_devices ORDER BY id")  # noqa: S608
        return [DeviceName(int(number), str(device), str(contract)) for number, device, contract in rows]

    def coverage(self) -> Coverage:
        day, bucket, open_day, open_bucket = self._connection.query(
            "SELECT (SELECT MIN(day) FROM wgsyncd_days), (SELECT MIN(start) FROM wgsyncd_buckets), MIN(open_day),"
            " MIN(open_bucket) FROM wgsyncd_peers WHERE open_bucket > 0"
        )[0]
        day, bucket = (min((at for at in some if at is not None), default=None)
                       for some in ((day, open_day), (bucket, open_bucket)))  # fmt: skip
        since = self._connection.query("SELECT node, accounting_since FROM wgsyncd_nodes")
        return Coverage(
            None if day is None else day.isoformat(), bucket, {str(node): stored_time(at) for node, at in since}
        )

    def days(self, first: str, last: str, devices: Collection[str] | None = None) -> Mapping[str, Counters]:
        return {str(day): found for day, found in self._sums("at", DAYS, first, "<=", last, devices).items()}

    def buckets(self, start: int, end: int, devices: Collection[str] | None = None) -> Mapping[int, Counters]:
        return self._sums("at", BUCKETS, start, "<", end, devices)

    def devices_of_days(self, first: str, last: str) -> Mapping[str, Counters]:
        return self._sums("device", DAYS, first, "<=", last)

    def devices_of_buckets(self, start: int, end: int) -> Mapping[str, Counters]:
        return self._sums("device", BUCKETS, start, "<", end)

    def details(self, row_id: DeviceId) -> DeviceDetails | None:
        rows = self._connection.query(DETAILS, (row_id,))
        if not rows:
            return None
        role, parent, platform, app, *rest = rows[0]
        texts = {"role": role or "", "parent": "yes" if parent else "no", "platform": platform or "", "app": app or ""}
        labels = ("created", "issued", "activated", "paused", "first handshake", "last handshake")
        times = {label: to_seconds(at, self._zone) for label, at in zip(labels, rest[:6], strict=True)}
        total, rolling, month = (
            Counters(int(rx or 0), int(tx or 0)) for rx, tx in zip(rest[6::2], rest[7::2], strict=True)
        )
        return DeviceDetails(texts, times, {"total": total, "24h": rolling, "month": month})

    def rules(self, row: DeviceRow, now: float) -> Sequence[Rule]:
        return rules(row, now)

    def audit(self, device: str, most: int) -> Sequence[AuditRow]:
        rows = ask_aside(self._connection, AUDIT, (device, most))
        return [AuditRow(str(at), str(action), str(message)) for at, action, message in rows]

    def close(self) -> None:
        self._connection.close()

    def _sums(
        self, key: str, history: History, first: object, beyond: str, last: object,
        devices: Collection[str] | None = None,
    ) -> dict[Any, Counters]:  # fmt: skip
        """Bytes from ``first`` until ``last``, grouped by a column. ``devices``: device ids, None for all devices."""
        if devices is not None and not devices:  # IN () would be a syntax error
            return {}
        among = f" AND device IN ({', '.join(['%s'] * len(devices))})" if devices is not None else ""
        rx, tx = ("tx", "rx") if self.perspective is Perspective.DEVICE else ("rx", "tx")
        sql = f"SELECT {key}, SUM({rx}), SUM({tx}) FROM {everything(history)} WHERE at {beyond} %s{among} GROUP BY 1"  # noqa: S608
        found = self._connection.query(sql, (first, first, last, *(devices or ())))
        # SUM is a DECIMAL, so it is exact.
        return {at: Counters(int(received), int(sent)) for at, received, sent in found}
