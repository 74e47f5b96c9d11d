"""Reads what the database has: the sums of each device, the transactions, and what was told of faults."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.faults.oracle import Bytes
from tests.faults.web import Web

ZONE = ZoneInfo("Asia/Tokyo")
BUCKET = 900  # in seconds, the default of usage.bucket_width
ROLLING = 86400

_FIGURES = """
SELECT d.device_id, d.rx_bytes_total, d.tx_bytes_total, d.rx_bytes_24h, d.tx_bytes_24h, d.rx_bytes_month,
       d.tx_bytes_month, COALESCE(b.rx, 0), COALESCE(b.tx, 0), COALESCE(m.rx, 0), COALESCE(m.tx, 0),
       COALESCE(a.rx, 0), COALESCE(a.tx, 0)
FROM customer_devices d
LEFT JOIN (SELECT device, SUM(rx) rx, SUM(tx) tx FROM {buckets} WHERE start >= %s AND start <= %s
           GROUP BY device) b ON b.device = d.device_id
LEFT JOIN (SELECT device, SUM(rx) rx, SUM(tx) tx FROM {days} WHERE day >= %s AND day < %s
           GROUP BY device) m ON m.device = d.device_id
LEFT JOIN (SELECT device, SUM(rx) rx, SUM(tx) tx FROM {days} GROUP BY device) a ON a.device = d.device_id
"""
# The open pieces are part of the buckets and days.
_FIGURES = _FIGURES.format(
    buckets="(SELECT device, start, rx, tx FROM wgsyncd_buckets"
    " UNION ALL SELECT device, open_bucket, open_rx, open_tx FROM wgsyncd_peers WHERE open_bucket > 0) h",
    days="(SELECT device, day, rx, tx FROM wgsyncd_days"
    " UNION ALL SELECT device, open_day, open_rx, open_tx FROM wgsyncd_peers WHERE open_bucket > 0) h",
)


class Figures(NamedTuple):
    """Holds the sums of one device in the table, and the sums of its buckets and days."""

    total: Bytes
    rolling: Bytes
    month: Bytes
    buckets: Bytes
    days_of_month: Bytes
    days: Bytes


class Books:
    """Reads the tables in MariaDB. Each method raises Away while the database is away."""

    # Restored tables are told by other anomalies, which name no peer with which anything was wrong.
    anomalies = (
        "SELECT COUNT(*) FROM admin_logs WHERE action_type = 'usage_anomaly' AND message NOT LIKE '%are older than%'"
    )
    quarantined = "SELECT COUNT(*) FROM wgsyncd_quarantine"
    _revision = "SELECT SUM(revision) FROM wgsyncd_nodes"
    # What is set aside is in no total yet, although the baseline has it.
    _baselines = (
        "SELECT public_key, rx, tx FROM wgsyncd_peers WHERE device NOT IN (SELECT device FROM wgsyncd_set_aside)"
    )

    def figures(self, web: Web, now: float) -> dict[str, Figures]:
        """Returns the sums of all devices. ``now`` is the daemon's time."""
        first = datetime.fromtimestamp(now, ZONE).date().replace(day=1)
        values = (int(now // BUCKET) * BUCKET - ROLLING, int(now), first, (first + timedelta(days=32)).replace(day=1))
        found = {}
        for name, *figures in web.query(_FIGURES, values):
            numbers = [int(figure) for figure in figures]
            found[str(name)] = Figures(*(Bytes(*numbers[at : at + 2]) for at in range(0, len(numbers), 2)))
        return found

    def baselines(self, web: Web) -> set[tuple[str, Bytes]]:
        """Returns the counters of each peer up to which its bytes are in the sums, with its key."""
        return {(b64encode(key).decode(), Bytes(int(rx), int(tx))) for key, rx, tx in web.query(self._baselines)}

    def revision(self, web: Web) -> int:
        """Returns how many transactions were written."""
        return int(web.query(self._revision)[0][0] or 0)

    def told(self, web: Web) -> tuple[int, int]:
        """Returns the numbers of anomalies and of quarantined deltas."""
        return int(web.query(self.anomalies)[0][0]), int(web.query(self.quarantined)[0][0])


class NexavpnBooks(Books):
    """Reads the tables in PostgreSQL. It has no windows, so each window is taken for right."""

    anomalies = "SELECT count(*) FROM audit_logs WHERE event_type = 'gateway.usage_anomaly'"
    quarantined = "SELECT count(*) FROM wgsyncd.quarantine"
    _revision = "SELECT sum(revision) FROM wgsyncd.node_states"
    _baselines = "SELECT public_key, rx, tx FROM wgsyncd.peers"
    _sums = """
        SELECT d.id, coalesce(u.rx_bytes, 0), coalesce(u.tx_bytes, 0), coalesce(b.rx, 0), coalesce(b.tx, 0),
               coalesce(a.rx, 0), coalesce(a.tx, 0)
        FROM devices d
        LEFT JOIN wgsyncd.usage u ON u.device = d.id
        LEFT JOIN (SELECT device, sum(rx) rx, sum(tx) tx FROM (
            SELECT device, rx, tx FROM wgsyncd.buckets UNION ALL SELECT device, open_rx, open_tx FROM wgsyncd.totals) h
            GROUP BY device) b ON b.device = d.id
        LEFT JOIN (SELECT device, sum(rx) rx, sum(tx) tx FROM (
            SELECT device, rx, tx FROM wgsyncd.days UNION ALL SELECT device, open_rx, open_tx FROM wgsyncd.totals) h
            GROUP BY device) a ON a.device = d.id
    """

    def figures(self, web: Web, _: float) -> dict[str, Figures]:
        """See :meth:`Books.figures`."""
        found = {}
        for name, *figures in web.query(self._sums):
            total, buckets, days = (Bytes(*map(int, figures[at : at + 2])) for at in (0, 2, 4))
            found[str(name)] = Figures(total, buckets, days, buckets, days, days)
        return found
