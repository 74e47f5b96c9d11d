"""The store of users and devices, which implements the port Store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from tests.memorystore import MemoryStore
from tests.memorytables import sums_of
from tests.usersstore.database import UserDevice, UsersDatabase
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import NO_BYTES, Counters, DeviceRow, Status, Transition, read_key
from wgsyncd.core.reasons import Inactive, InactiveReason, TransitionKind
from wgsyncd.core.state import Condition, Posting
from wgsyncd.core.usage.calendar import UsageCalendar

OVER_QUOTA = "user_over_quota"


class UsersStore(MemoryStore[UsersDatabase]):
    """Implements the port Store over :class:`UsersDatabase`.

    It keeps bytes as buckets and days only, so no figure needs a refresh.
    """

    def __init__(self, settings: Settings, database: UsersDatabase | None = None) -> None:
        super().__init__(settings.node, database or UsersDatabase(), settings.interfaces)

    # ---- what this control plane adds

    def _rows(self) -> list[DeviceRow]:
        return [self._row(self.db.devices[device]) for device in sorted(self.db.devices)]

    def _row(self, device: UserDevice) -> DeviceRow:
        state = self.db.users.get(device.user)
        inactive: tuple[InactiveReason, ...] = ()
        if state is None:
            inactive = (InactiveReason(Inactive.OWNER_MISSING, "", device.user, "user"),)
        elif state != "active":
            inactive = (InactiveReason(Inactive.OWNER_INACTIVE, state, device.user, "user"),)
        return DeviceRow(
            id=device.id,
            device=device.name,
            owner=device.user,
            interface=device.gateway,
            addresses=tuple(device.addresses),
            public_key=read_key(device.public_key),
            preshared_key=read_key(device.preshared_key),
            status=Status.ACTIVE if device.state == "active" else Status.OFF,
            status_text=device.state,
            inactive=inactive,
            first_handshake_known=device.first_seen is not None,
            has_no_usage=device.last_seen is None and not any(one == device.name for one, _ in self.db.days),
        )

    def _name(self, device: UserDevice) -> str:
        return device.name

    def _own_conditions(self) -> frozenset[Condition]:
        counts = Counter(device.user for device in self.db.devices.values())
        return frozenset(
            Condition(OVER_QUOTA, user, user, str(counts[user]))
            for user, most in self.db.quota.items()
            if counts[user] > most
        )

    def _all_columns(self) -> object:
        devices = (device for _, device in sorted(self.db.devices.items()) if device.gateway not in self._ignored)
        seen = (replace(device, last_seen=None) for device in devices)
        return list(seen), dict(self.db.users), dict(self.db.quota)

    def _make_transition(self, db: UsersDatabase, step: Transition) -> bool:
        assert step.kind is TransitionKind.FIRST_HANDSHAKE, "no device has a deadline or waits for its activation"
        device = db.devices.get(step.row.id)
        if device is None or device.state != "active" or read_key(device.public_key) != step.row.public_key:
            return False
        db.devices[device.id] = replace(device, first_seen=device.first_seen or step.at)
        return True

    def _add_to_device(self, db: UsersDatabase, posting: Posting, calendar: UsageCalendar) -> None:
        if posting.handshake is not None:
            device = db.devices[posting.row_id]
            db.devices[device.id] = replace(device, last_seen=max(device.last_seen or 0.0, posting.handshake))

    def _write_audit(self, db: UsersDatabase, events: Sequence[AuditEvent]) -> None:
        for event in events:
            facts = {name: fact for name, fact in msgspec.to_builtins(event.facts).items() if fact is not None}
            db.audit.append({"action": event.action.value, "target": event.target, "facts": facts})

    def _totals(self, device: Any, scope: VerifyRanges) -> DeviceTotals:
        *_, days = sums_of(self.db, self.db.devices[device].name, scope)
        return DeviceTotals(device, self.db.devices[device].name, (), days)


def posted(db: UsersDatabase, device: str) -> Counters:
    """All bytes of a device, as far back as its days go."""
    days = [sums for (one, _), sums in db.days.items() if one == device]
    return Counters(sum(one.rx for one in days), sum(one.tx for one in days)) if days else NO_BYTES
