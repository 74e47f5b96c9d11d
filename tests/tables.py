"""mikyun_cloud and wgsyncd's own tables as dicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wgsyncd.core.audit import Entry
from wgsyncd.core.ledger import Condition, Quarantined, Record, Sampled, Slot
from wgsyncd.core.model import Counters

Device = dict[str, Any]
Sums = dict[tuple[int, Any], Counters]
COUNTS = [f"{side}_bytes_{window}" for window in ("total", "24h", "month") for side in ("rx", "tx")]


def new_device(number: int, **columns: Any) -> Device:
    """A row as the web application inserts it: NULL or the column's default where nothing is said."""
    plain: Device = dict.fromkeys(("wg_iface", "wg_ip", "public_key", "preshared_key", "issued_at", "qr_expires_at",
                                   "first_handshake_at", "last_handshake_at", "activated_at", "deleted_at"))  # fmt: skip
    plain |= dict.fromkeys(COUNTS, 0)
    plain |= {"id": number, "device_id": f"0001-DEV-{number:03}", "contract_id": "0001", "status": "issued",
              "is_parent": 0, "created_at": "2026-01-01 00:00:00", "updated_at": "2026-01-01 00:00:00"}  # fmt: skip
    return plain | columns


def word(text: str) -> str:
    """As the columns' collation compares texts."""
    return text.rstrip(" ").casefold()


@dataclass
class FakeDatabase:
    """What is on the disk. Shared by the stores of all nodes."""

    contracts: dict[str, str] = field(default_factory=lambda: {"0001": "active"})  # status by contract id
    devices: dict[int, Device] = field(default_factory=dict)
    logs: list[Entry] = field(default_factory=list)
    seq: dict[str, int] = field(default_factory=dict)  # by node
    approved: dict[str, str | None] = field(default_factory=dict)
    spool: dict[str, str] = field(default_factory=dict)
    records: dict[tuple[str, Slot], Record] = field(default_factory=dict)
    interfaces: dict[tuple[str, str], Sampled] = field(default_factory=dict)
    conditions: dict[tuple[str, str, str], Condition] = field(default_factory=dict)
    buckets: Sums = field(default_factory=dict)
    days: Sums = field(default_factory=dict)
    quarantine: list[tuple[str, Quarantined]] = field(default_factory=list)

    def insert(self, number: int, **columns: Any) -> None:
        self.devices[number] = new_device(number, **columns)

    def update(self, number: int, **columns: Any) -> None:
        self.devices[number] |= columns
