"""What an admin does and sees in a control plane in memory, in words that every control plane has.

A small number names a device in all tests. Each control plane makes its own id and its own columns from it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from tests.fakestore import FakeStore
from tests.memorystore import MemoryStore
from tests.memorytables import sums_of
from tests.samples import NETWORKS, NETWORKS6, TOKYO, device_name
from tests.tables import FakeDatabase
from tests.usersstore.database import UserDevice, UsersDatabase
from tests.usersstore.store import OVER_QUOTA, UsersStore, posted
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.verify import make_ranges
from wgsyncd.core.model import Counters
from wgsyncd.core.usage.calendar import UsageCalendar

EARLIER = "2026-01-02 00:00:00"


class AuditLine(NamedTuple):
    """One audit row: its action, its target, and all of it as text."""

    action: str
    target: str
    text: str


class Admin(Protocol):
    """The admin of one control plane.

    The fields of a device are ``interface``, ``address``, ``public_key``, ``preshared_key`` and ``status``. A device
    with ``seen`` had a handshake before.
    """

    condition: str  # a condition of the control plane's own, which `begin_condition` begins
    condition_audit: tuple[str, str]  # the actions of the audit rows at its begin and at its end
    condition_target: str
    has_deadlines: bool  # a device can be issued, and must be activated by its deadline

    @property
    def db(self) -> Any: ...  # the tables
    def store(self, settings: Settings) -> MemoryStore[Any]: ...
    def id(self, number: int) -> Any: ...
    def insert(self, number: int, *, seen: bool = True, **fields: Any) -> None: ...
    def change(self, number: int, **fields: Any) -> None: ...
    def addresses(self, address: str) -> tuple[str, ...]: ...  # of a device with this IPv4 address
    def set_owner(self, status: str) -> None: ...
    def field(self, number: int, name: str) -> Any: ...
    def posted(self, number: int) -> Counters: ...
    def set_posted(self, number: int, total: Counters) -> None: ...
    def windows(self, number: int, calendar: UsageCalendar) -> tuple[Counters, Counters]: ...  # 24 h, month
    def lasting(self, number: int) -> object: ...  # what does not depend on when a cycle ran
    def first_handshake(self, number: int) -> float | None: ...
    def last_handshake(self, number: int) -> float | None: ...
    def begin_condition(self, one: int, other: int) -> None: ...  # of the owner of these devices
    def end_condition(self, other: int) -> None: ...
    def audit(self) -> list[AuditLine]: ...
    def forget_audit(self) -> None: ...


class MikyunAdmin:
    """Implements Admin for mikyun_cloud. A field can also be any of its columns."""

    condition, condition_target, has_deadlines = "parent_conflict", "0001", True
    condition_audit = ("parent_conflict", "parent_conflict_cleared")
    columns = {"interface": "wg_iface", "address": "wg_ip"}  # noqa: RUF012

    def __init__(self, database: FakeDatabase | None = None) -> None:
        self.db = database or FakeDatabase()

    def store(self, settings: Settings) -> FakeStore:
        return FakeStore(settings, self.db)

    def id(self, number: int) -> int:
        return number

    def insert(self, number: int, *, seen: bool = True, **fields: Any) -> None:
        before = EARLIER if seen else None
        plain = {"status": "active", "first_handshake_at": before, "last_handshake_at": before}
        self.db.insert(number, **(plain | self._columns(fields)))

    def change(self, number: int, **fields: Any) -> None:
        self.db.update(number, **self._columns(fields))

    def addresses(self, address: str) -> tuple[str, ...]:
        return (address,)

    def set_owner(self, status: str) -> None:
        self.db.contracts["0001"] = status

    def field(self, number: int, name: str) -> Any:
        return self.db.devices[number][self.columns.get(name, name)]

    def posted(self, number: int) -> Counters:
        return Counters(self.field(number, "rx_bytes_total"), self.field(number, "tx_bytes_total"))

    def set_posted(self, number: int, total: Counters) -> None:
        self.db.update(number, rx_bytes_total=total.rx, tx_bytes_total=total.tx)

    def windows(self, number: int, calendar: UsageCalendar) -> tuple[Counters, Counters]:
        row = self.db.devices[number]
        rolling, month = (Counters(row[f"rx_bytes_{one}"], row[f"tx_bytes_{one}"]) for one in ("24h", "month"))
        return rolling, month

    def lasting(self, number: int) -> object:
        row = self.db.devices[number]
        return {**row, "last_handshake_at": None, "first_handshake_at": bool(row["first_handshake_at"])}

    def first_handshake(self, number: int) -> float | None:
        return _seconds(self.field(number, "first_handshake_at"))

    def last_handshake(self, number: int) -> float | None:
        return _seconds(self.field(number, "last_handshake_at"))

    def begin_condition(self, one: int, other: int) -> None:
        for number in (one, other):
            self.db.update(number, is_parent=1)

    def end_condition(self, other: int) -> None:
        self.db.update(other, is_parent=0)

    def audit(self) -> list[AuditLine]:
        return [AuditLine(one.action, one.target_id, one.message) for one in self.db.logs]

    def forget_audit(self) -> None:
        self.db.forget_logs()

    def _columns(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {self.columns.get(name, name): value for name, value in fields.items()}


class UsersAdmin:
    """Implements Admin for the control plane of tests/usersstore."""

    condition, condition_target, has_deadlines = OVER_QUOTA, "alice", False
    condition_audit = ("store_condition_started", "store_condition_ended")

    def __init__(self, database: UsersDatabase | None = None) -> None:
        self.db = database or UsersDatabase()

    def store(self, settings: Settings) -> UsersStore:
        return UsersStore(settings, self.db)

    def id(self, number: int) -> UUID:
        return UUID(int=number << 96 | 0x4000_8000_0000_0000_0000)

    def insert(self, number: int, *, seen: bool = True, **fields: Any) -> None:
        before = 1_767_000_000.0 if seen else None
        self.db.devices[self.id(number)] = UserDevice(
            self.id(number), device_name(number), "alice", "", (), None, first_seen=before, last_seen=before
        )
        self.change(number, **fields)

    def change(self, number: int, **fields: Any) -> None:
        words: dict[str, Any] = {}
        for name, value in fields.items():
            match name:
                case "interface":
                    words["gateway"] = value
                case "address":
                    words["addresses"] = self.addresses(value) if value else ()
                case "status":
                    words["state"] = value
                case _:
                    words[name] = value
        self.db.devices[self.id(number)] = replace(self.db.devices[self.id(number)], **words)

    def addresses(self, address: str) -> tuple[str, ...]:
        """The IPv4 address, and the IPv6 address with the same number. A text that is no address stays alone."""
        for name, network in NETWORKS.items():
            prefix = network.removesuffix("0/24")
            if address.startswith(prefix):
                return address, NETWORKS6[name].removesuffix("/64") + address.removeprefix(prefix)
        return (address,)

    def set_owner(self, status: str) -> None:
        self.db.users["alice"] = status

    def field(self, number: int, name: str) -> Any:
        device = self.db.devices[self.id(number)]
        match name:
            case "interface":
                return device.gateway
            case "address":
                return device.addresses[0] if device.addresses else None
            case "status":
                return device.state
        return getattr(device, name)

    def posted(self, number: int) -> Counters:
        return posted(self.db, device_name(number))

    def set_posted(self, number: int, total: Counters) -> None:
        self.db.days[device_name(number), "2020-02-02"] = total

    def windows(self, number: int, calendar: UsageCalendar) -> tuple[Counters, Counters]:
        buckets, months, _ = sums_of(self.db, device_name(number), make_ranges(calendar))
        return buckets[0], months[0]

    def lasting(self, number: int) -> object:
        device = self.db.devices[self.id(number)]
        return replace(device, last_seen=None, first_seen=float(device.first_seen is not None))

    def first_handshake(self, number: int) -> float | None:
        return self.db.devices[self.id(number)].first_seen

    def last_handshake(self, number: int) -> float | None:
        return self.db.devices[self.id(number)].last_seen

    def begin_condition(self, one: int, other: int) -> None:
        self.db.quota["alice"] = 1

    def end_condition(self, other: int) -> None:
        self.db.quota.clear()

    def audit(self) -> list[AuditLine]:
        return [AuditLine(one["action"], one["target"], str(one)) for one in self.db.audit]

    def forget_audit(self) -> None:
        self.db.audit.clear()


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=TOKYO).timestamp()
