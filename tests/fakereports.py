"""The reports of a database in memory, which equal the reports of MariaDB.

tests/contract/test_reports.py runs on both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.memorytables import Sums
from tests.samples import TOKYO
from tests.tables import FakeDatabase
from wgsyncd.core.inspect.answers import AuditRow, Coverage, DeviceDetails, Rule
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.model import Counters, DeviceId, DeviceRow
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.stores.mikyun.eligibility import rules
from wgsyncd.stores.mikyun.messages import ACTIONS


class FakeReports:
    """Implements the port ReportSource. Its audit rows have no time.

    ``down``: there is no answer. ``no_audit``: the audit rows cannot be read.
    """

    def __init__(self, database: FakeDatabase, perspective: Perspective = Perspective.SERVER) -> None:
        self.db, self.perspective = database, perspective
        self.down = self.no_audit = False

    def names(self, *, gone: bool = False) -> Sequence[DeviceName]:
        self._ask()
        if gone:
            stored = {device for device, _ in (*self.db.days, *self.db.buckets)}
            left = sorted(stored - {one["device_id"] for one in self.db.devices.values()})
            return [DeviceName("", one, "") for one in left]
        return [DeviceName(n, d["device_id"], d["contract_id"]) for n, d in sorted(self.db.devices.items())]

    def coverage(self) -> Coverage:
        self._ask()
        days, buckets = [day for _, day in self.db.days], [start for _, start in self.db.buckets]
        return Coverage(min(days, default=None), min(buckets, default=None), dict(self.db.begun))

    def days(self, first: str, last: str, devices: Collection[str] | None = None) -> Mapping[str, Counters]:
        return self._sums(self.db.days, 1, lambda day: first <= day <= last, devices)

    def buckets(self, start: int, end: int, devices: Collection[str] | None = None) -> Mapping[int, Counters]:
        return self._sums(self.db.buckets, 1, lambda at: start <= at < end, devices)

    def devices_of_days(self, first: str, last: str) -> Mapping[str, Counters]:
        return self._sums(self.db.days, 0, lambda day: first <= day <= last, None)

    def devices_of_buckets(self, start: int, end: int) -> Mapping[str, Counters]:
        return self._sums(self.db.buckets, 0, lambda at: start <= at < end, None)

    def details(self, row_id: DeviceId) -> DeviceDetails | None:
        self._ask()
        d = self.db.devices.get(row_id)
        if d is None:
            return None

        texts = {"role": d.get("device_role") or "", "parent": "yes" if d["is_parent"] else "no",
                 "platform": d.get("platform") or "", "app": d.get("app_version") or ""}  # fmt: skip
        labels = ("created", "issued", "activated", "paused", "first handshake", "last handshake")
        times = {label: _seconds(d.get(f"{label.replace(' ', '_')}_at")) for label in labels}
        sums = {w: Counters(d[f"rx_bytes_{w}"] or 0, d[f"tx_bytes_{w}"] or 0) for w in ("total", "24h", "month")}
        return DeviceDetails(texts, times, sums)

    def rules(self, row: DeviceRow, now: float) -> Sequence[Rule]:
        return rules(row, now)

    def audit(self, device: str, most: int) -> Sequence[AuditRow]:
        self._ask()
        if self.no_audit:
            raise StoreError("1142: SELECT command denied for table 'wgsyncd_audit'", StoreErrorCode.DENIED)
        ours = [one for one in self.db.logs if one.action in ACTIONS]
        found = [AuditRow("", one.action, one.message) for one in ours
                 if (one.target_type, one.target_id) == ("device", device)]  # fmt: skip
        return found[::-1][:most]

    def close(self) -> None:
        """Do nothing: there is no connection to release."""

    def _ask(self) -> None:
        if self.down:
            raise StoreError("2003: Can't connect", StoreErrorCode.UNREACHABLE)

    def _sums(self, table: Sums, key: int, within: Any, devices: Collection[str] | None) -> dict[Any, Counters]:
        self._ask()
        sums: dict[Any, Counters] = {}
        for at, found in table.items():
            if within(at[1]) and (devices is None or at[0] in devices):
                old = sums.get(at[key], Counters(0, 0))
                sums[at[key]] = Counters(old.rx + found.rx, old.tx + found.tx)
        if self.perspective is Perspective.DEVICE:
            return {at: Counters(found.tx, found.rx) for at, found in sums.items()}
        return sums


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=TOKYO).timestamp()
