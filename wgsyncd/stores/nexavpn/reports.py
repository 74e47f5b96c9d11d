"""Reads what only the admin's commands need: names, bytes by time or by device, details of a device."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.answers import AuditRow, Coverage, DeviceDetails, Rule
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.model import Counters, DeviceId, DeviceRow
from wgsyncd.stores.alike import History, ask_aside
from wgsyncd.stores.border import at_border
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.eligibility import rules
from wgsyncd.stores.nexavpn.pieces import BUCKETS, DAYS, everything
from wgsyncd.stores.nexavpn.rows import text_of
from wgsyncd.stores.nexavpn.schema import check_schema
from wgsyncd.stores.nexavpn.settings import nexavpn
from wgsyncd.stores.own_values import stored_time

_NAMES = f"""
SELECT d.id, coalesce(u.username, ''), {text_of("d.name")}
FROM wgsyncd.devices d LEFT JOIN wgsyncd.users u ON u.id = d.user_id ORDER BY d.id
"""  # noqa: S608
_GONE = """
SELECT t.device FROM wgsyncd.totals t WHERE t.node = %s AND t.rx + t.tx > 0
    AND NOT EXISTS (SELECT FROM wgsyncd.devices d WHERE d.id = t.device) ORDER BY t.device
"""
_DETAILS = """
SELECT d.name, d.platform, d.app_version, d.created_at, d.approved_at, d.revoked_at, d.last_connected_at,
       d.last_seen_at, coalesce(t.rx, 0), coalesce(t.tx, 0)
FROM wgsyncd.devices d LEFT JOIN wgsyncd.totals t ON t.node = %s AND t.device = d.id WHERE d.id = %s
"""
_AUDIT = """
SELECT created_at, event_type, message FROM wgsyncd.audit_logs
WHERE entity_type = 'device' AND entity_id::text = %s AND metadata ->> 'node' = %s
ORDER BY created_at DESC, id DESC LIMIT %s
"""


@at_border
class NexaReports:
    """Implements :class:`wgsyncd.ports.ReportSource`. Writes nothing.

    Bytes are those that this node counted. The view wgsyncd.usage has the sum over all nodes, for the application.
    """

    perspective = Perspective.SERVER

    def __init__(self, settings: Settings) -> None:
        self._node, self._zone = settings.node.name, settings.node.zone
        self._connection = Connection(
            nexavpn(settings).database, on_connect=lambda connection: check_schema(connection, self._node)
        )

    def names(self, *, gone: bool = False) -> Sequence[DeviceName]:
        if gone:
            return [DeviceName("", str(device), "") for (device,) in self._connection.query(_GONE, (self._node,))]
        return [DeviceName(one, str(one), owner, name or "") for one, owner, name in self._connection.query(_NAMES)]

    def coverage(self) -> Coverage:
        sql = f"SELECT (SELECT min(at)::text FROM {everything(DAYS)}), (SELECT min(at) FROM {everything(BUCKETS)})"  # noqa: S608
        ever = *(self._node, "-infinity") * 2, *(self._node, 0) * 2
        day, bucket = self._connection.query(sql, ever)[0]
        since = self._connection.query("SELECT node, accounting_since FROM wgsyncd.node_states")
        return Coverage(day, bucket, {str(node): stored_time(at) for node, at in since})

    def days(self, first: str, last: str, devices: Collection[str] | None = None) -> Mapping[str, Counters]:
        return self._sums("at::text", DAYS, first, "<=", last, devices)

    def buckets(self, start: int, end: int, devices: Collection[str] | None = None) -> Mapping[int, Counters]:
        return self._sums("at", BUCKETS, start, "<", end, devices)

    def devices_of_days(self, first: str, last: str) -> Mapping[str, Counters]:
        return self._sums("device::text", DAYS, first, "<=", last)

    def devices_of_buckets(self, start: int, end: int) -> Mapping[str, Counters]:
        return self._sums("device::text", BUCKETS, start, "<", end)

    def _sums(
        self, key: str, history: History, first: object, beyond: str, last: object,
        devices: Collection[str] | None = None,
    ) -> dict[Any, Counters]:  # fmt: skip
        """Bytes from ``first`` until ``last``, grouped by ``key``. ``devices``: device names, None for all devices."""
        among = "" if devices is None else " AND device::text = ANY(%s)"
        sql = f"SELECT {key}, sum(rx), sum(tx) FROM {everything(history)} WHERE at {beyond} %s{among} GROUP BY 1"  # noqa: S608
        values = *(self._node, first) * 2, last, *(() if devices is None else (list(devices),))
        found = self._connection.query(sql, values)
        return {at: Counters(int(rx), int(tx)) for at, rx, tx in found}

    def details(self, row_id: DeviceId) -> DeviceDetails | None:
        rows = self._connection.query(_DETAILS, (self._node, row_id))
        if not rows:
            return None
        name, platform, app, *times, rx, tx = rows[0]
        labels = ("created", "approved", "revoked", "last connected", "last seen")
        return DeviceDetails(
            {"name": name, "platform": platform, "app": app},
            {label: _seconds(at) for label, at in zip(labels, times, strict=True)},
            {"total": Counters(int(rx), int(tx))},
        )

    def rules(self, row: DeviceRow, _: float) -> Sequence[Rule]:
        """No rule depends on the time."""
        return rules(row)

    def audit(self, device: str, most: int) -> Sequence[AuditRow]:
        rows = ask_aside(self._connection, _AUDIT, (device, self._node, most))
        return [
            AuditRow(at.astimezone(self._zone).strftime("%Y-%m-%d %H:%M:%S"), event.partition(".")[2], message)
            for at, event, message in rows
        ]

    def close(self) -> None:
        self._connection.close()


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
