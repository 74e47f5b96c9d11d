"""The tables of mikyun_cloud and wgsyncd's own tables, as dicts in memory."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from wgsyncd.core.inspect.verify import DaySums, DeviceTotals, VerifyRanges
from wgsyncd.core.model import Counters
from wgsyncd.core.records import PeerId, PeerRecord
from wgsyncd.core.state import Condition, InterfaceCheckpoint, QuarantinedDelta
from wgsyncd.stores.mikyun.messages import AuditEntry

MOST = 2**63 - 1
Device = dict[str, Any]
Sums = dict[tuple[int, Any], Counters]
COUNTS = [f"{side}_bytes_{window}" for window in ("total", "24h", "month") for side in ("rx", "tx")]


def new_device(number: int, **columns: Any) -> Device:
    """A row as the web application inserts it. Columns that are not given are NULL or have their default."""
    plain: Device = dict.fromkeys(("wg_iface", "wg_ip", "public_key", "preshared_key", "issued_at", "qr_expires_at",
                                   "first_handshake_at", "last_handshake_at", "activated_at", "deleted_at"))  # fmt: skip
    plain |= dict.fromkeys(COUNTS, 0)
    plain |= {"id": number, "device_id": f"0001-DEV-{number:03}", "contract_id": "0001", "status": "issued",
              "is_parent": 0, "created_at": "2026-01-01 00:00:00", "updated_at": "2026-01-01 00:00:00"}  # fmt: skip
    return plain | columns


def word(text: str) -> str:
    """A text in the form that the collation of the columns compares: without case and trailing spaces."""
    return text.rstrip(" ").casefold()


@dataclass
class FakeDatabase:
    """Holds the tables of one database. The stores of all nodes share it."""

    contracts: dict[str, str] = field(default_factory=lambda: {"0001": "active"})  # status by contract id
    devices: dict[int, Device] = field(default_factory=dict)
    logs: list[AuditEntry] = field(default_factory=list)
    seq: dict[str, int] = field(default_factory=dict)  # by node
    begun: dict[str, float] = field(default_factory=dict)
    approved: dict[str, str | None] = field(default_factory=dict)
    spool: dict[str, str] = field(default_factory=dict)
    records: dict[tuple[str, PeerId], PeerRecord] = field(default_factory=dict)
    interfaces: dict[tuple[str, str], InterfaceCheckpoint] = field(default_factory=dict)
    conditions: dict[tuple[str, str, str], Condition] = field(default_factory=dict)
    buckets: Sums = field(default_factory=dict)
    days: Sums = field(default_factory=dict)
    quarantine: dict[int, tuple[str, QuarantinedDelta]] = field(default_factory=dict)  # by id
    quarantined: int = 0  # the last id in the quarantine

    def insert(self, number: int, **columns: Any) -> None:
        self.devices[number] = new_device(number, **columns)

    def update(self, number: int, **columns: Any) -> None:
        self.devices[number] |= columns

    def copy(self) -> FakeDatabase:
        """A copy for a transaction to work on. Rows are the only values that can change, so they are copied too."""
        tables = {name: copy(value) for name, value in vars(self).items()}
        return FakeDatabase(**tables | {"devices": {number: dict(row) for number, row in self.devices.items()}})

    def forget_logs(self) -> None:
        self.logs.clear()


def figures(db: FakeDatabase, number: int, scope: VerifyRanges, sides: tuple[str, str]) -> DeviceTotals:
    """The figures and sums of one device for `wgsyncd verify`, computed in the simplest way."""
    device = db.devices[number]
    buckets = {at: sums for (row, at), sums in db.buckets.items() if row == number}
    days = {at: sums for (row, at), sums in db.days.items() if row == number}

    def column(window: str) -> Counters:
        return Counters(*(device[f"{side}_bytes_{window}"] or 0 for side in sides))

    def between(sums: Mapping[Any, Counters], first: Any, beyond: Any) -> Counters:
        some = [s for at, s in sums.items() if first <= at < beyond]
        return Counters(sum(s.rx for s in some), sum(s.tx for s in some))

    def cut(sums: Counters) -> Counters:
        return Counters(min(sums.rx, MOST), min(sums.tx, MOST))

    return DeviceTotals(
        number, device["device_id"], column("total"), column("24h"), column("month"),
        tuple(cut(between(buckets, *some)) for some in scope.rolling),
        tuple(cut(between(days, *some)) for some in scope.months),
        tuple(
            DaySums(day, between(buckets, *day.inner), between(buckets, *day.outer),
                    days.get(day.name, Counters(0, 0)))
            for day in scope.days
        ),
    )  # fmt: skip
