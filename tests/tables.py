"""The tables of mikyun_cloud and wgsyncd's own tables, as dicts in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.memorytables import OwnTables, sums_of
from wgsyncd.core.inspect.verify import Check, DeviceTotals, StoredFigure, VerifyRanges
from wgsyncd.core.peers.row_digest import HASH_LENGTH, SEPARATOR, RowDigest
from wgsyncd.stores.mikyun.messages import AuditEntry

Device = dict[str, Any]
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
class FakeDatabase(OwnTables):
    """Holds the tables of one mikyun_cloud. The stores of all nodes share it."""

    devices: dict[Any, Device] = field(default_factory=dict)
    contracts: dict[str, str] = field(default_factory=lambda: {"0001": "active"})  # status by contract id
    profiles: dict[str, str] = field(default_factory=dict)  # bandwidth profile by contract id
    limits: dict[str, int] = field(default_factory=dict)  # max_devices by contract id
    logs: list[AuditEntry] = field(default_factory=list)
    same_zone: bool = False  # whether the server writes updated_at in the node's zone

    def insert(self, number: int, **columns: Any) -> None:
        self.devices[number] = new_device(number, **columns)

    def update(self, number: int, **columns: Any) -> None:
        self.devices[number] |= columns

    def forget_logs(self) -> None:
        self.logs.clear()


def totals(db: FakeDatabase, number: int, scope: VerifyRanges, sides: tuple[str, str], zone: ZoneInfo) -> DeviceTotals:
    """The columns and sums of one device for `wgsyncd verify`, computed in the simplest way."""
    device = db.devices[number]
    in_buckets, in_days, days = sums_of(db, device["device_id"], scope)
    at = device["last_handshake_at"]
    handshake = 0 if at is None else int(datetime.fromisoformat(str(at)).replace(tzinfo=zone).timestamp())
    figures = [StoredFigure(Check.FUTURE, "last handshake", handshake, "latest possible", (scope.latest,))]
    for side, name in enumerate(sides):
        total, recent, month = (device[f"{name}_bytes_{window}"] or 0 for window in ("total", "24h", "month"))
        recent_sums, month_sums = (tuple(one[side] for one in some) for some in (in_buckets, in_days))
        figures.append(StoredFigure(Check.FIGURE, f"{name} of 24 h", recent, "its buckets", recent_sums))
        figures.append(StoredFigure(Check.FIGURE, f"{name} of the month", month, "its days", month_sums))
        figures.append(StoredFigure(Check.NEGATIVE, f"{name} in total", total, "least", (0,)))
        if total >= 0:
            figures.append(StoredFigure(Check.LOW, f"{name} in total", total, f"{name} of the month", (month,)))
    return DeviceTotals(number, device["device_id"], tuple(figures), days)


def row_digest(rows: Sequence[tuple[Any, ...]], rest: object) -> RowDigest:
    """Returns the digest of rows. The second column is the name of the device."""
    hashes = (hashlib.md5(repr(row).encode(), usedforsecurity=False).hexdigest()[:HASH_LENGTH] for row in rows)
    return RowDigest(SEPARATOR.join(one + row[1] for one, row in zip(hashes, rows, strict=True)), rest)
