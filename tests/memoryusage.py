"""The part of the stores in memory that tells which bytes they keep of their devices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Generic

from tests.memorytables import Tables
from wgsyncd.core.inspect.answers import HOURS, DeviceUsage
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import Counters, DeviceRow
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError


class MemoryUsage(Generic[Tables]):
    """Reads the bytes of devices for verifications and reports."""

    db: Tables
    _node: str
    _read: Callable[[str], None]
    _own_rows: Callable[[], Sequence[DeviceRow]]

    def _totals(self, device: Any, scope: VerifyRanges) -> DeviceTotals:
        raise NotImplementedError

    def _figures(self, device: Any) -> dict[str, Counters]:
        """The figures that the control plane keeps of a device, by label. The default keeps none."""
        return {}

    def listen(self, put: object) -> None:
        """A store in memory has no notifications."""

    def device_totals(self, scope: VerifyRanges) -> Iterator[DeviceTotals]:
        self._read("totals")
        if self._node not in self.db.seq:
            raise StoreError(f"node {self._node} has no node state yet")
        scope = scope.after(max(self.db.begun.values()))
        return iter([self._totals(row.id, scope) for row in self._own_rows()])

    def device_usage(self, devices: Collection[str], calendar: UsageCalendar) -> DeviceUsage:
        self._read("usage")
        hours: dict[str, list[int]] = {}
        for (device, at), moved in self.db.buckets.items():
            if device in devices and calendar.rolling_start <= at <= calendar.now:
                hour = max(0, HOURS - 1 - (calendar.bucket - at) // 3600)
                hours.setdefault(device, [0] * HOURS)[hour] += sum(moved)
        return DeviceUsage({row.id: found for row in self._own_rows() if (found := self._figures(row.id))}, hours)
