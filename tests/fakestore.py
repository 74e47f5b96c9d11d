"""A store in memory, which behaves like the store on MariaDB.

Its tables are dicts with the columns of mikyun_cloud. So the same tests run on both (tests/contract/test_store.py).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.memorystore import MemoryStore
from tests.memorytables import MOST
from tests.tables import Device, FakeDatabase, row_digest, totals, word
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.inspect.verify import DeviceTotals, VerifyRanges
from wgsyncd.core.model import Counters, DeviceRow, Status, Transition, read_key
from wgsyncd.core.reasons import Reason
from wgsyncd.core.shaping.profiles import Terms, choose
from wgsyncd.core.state import Condition, Posting
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.core.usage.halves import Apart, Months
from wgsyncd.ports import Snapshot
from wgsyncd.stores.mikyun.eligibility import inactive_reasons
from wgsyncd.stores.mikyun.limits import OverLimit, wants_peer, without_beyond
from wgsyncd.stores.mikyun.messages import AuditMessages
from wgsyncd.stores.mikyun.row_text import NAME_LENGTH
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.terms import ContractTerms, over_limit

STATUS = {one: Status(one) for one in ("issued", "active", "expired")}
CONTRACT_WORDS = (None, "active", "paused", "terminated", "deleted")
PLANNED = ("id", "device_id", "contract_id", "wg_iface", "wg_ip", "public_key", "preshared_key", "status", "is_parent",
           "deleted_at")  # fmt: skip
ISSUED = ("qr_expires_at", "issued_at", "created_at", "activated_at", "first_handshake_at", "last_handshake_at")


class FakeStore(MemoryStore[FakeDatabase]):
    """Implements the port Store over a database in memory with the columns of mikyun_cloud."""

    def __init__(self, settings: Settings, database: FakeDatabase | None = None) -> None:
        super().__init__(settings.node, database or FakeDatabase(), settings.interfaces)
        self._zone = settings.node.zone
        self._messages = AuditMessages(mikyun(settings).language, self._zone)
        self._policy, self._limits = settings.shaping_policy, settings.limits.devices
        self._bought = ContractTerms(settings, swapped=False)
        self.condition_types = self._bought.condition_types | {"parent_conflict"}
        self._lifetime = int(mikyun(settings).qr.lifetime)
        self._sides = ("tx", "rx") if mikyun(settings).perspective == "device" else ("rx", "tx")

    def refresh(self, calendar: UsageCalendar) -> tuple[int, int]:
        self._read("roll")
        wrong = {row.id: want for row in self._own_rows() if (want := self._windows_differ(row.id, calendar))}
        if wrong:
            with self._transaction("roll") as db:
                for number in wrong.keys() - self.locked - self.refused.keys():
                    db.devices[number] |= wrong[number]
        return len(wrong), len(wrong.keys() & self.locked)

    def rows_apart(self, months: Months) -> Mapping[Any, Apart]:
        self._read("apart")
        found: dict[Any, Apart] = {}
        for number in (row.id for row in self._own_rows()):
            device = self.db.devices[number]
            some = [s for (name, day), s in self.db.days.items()
                    if name == device["device_id"] and months[0] <= day < months[1]]  # fmt: skip
            days = Counters(min(sum(s.rx for s in some), MOST), min(sum(s.tx for s in some), MOST))
            column = Counters(*(device[f"{side}_bytes_month"] or 0 for side in self._sides))
            if column != days and len(device["device_id"]) <= NAME_LENGTH:
                found[number] = Apart(device["device_id"], column, days)
        return found

    def _figures(self, device: Any) -> dict[str, Counters]:
        row = self.db.devices[device]
        return {
            name: Counters(*(row[f"{side}_bytes_{name}"] or 0 for side in self._sides)) for name in ("24h", "month")
        }

    # ---- what this control plane adds

    def _rows(self) -> list[DeviceRow]:
        return [self._row(self.db.devices[number]) for number in sorted(self.db.devices)]

    def _name(self, device: Device) -> str:
        return str(device["device_id"])

    def snapshot(self) -> Snapshot:
        found, terms, over = super().snapshot(), self._terms(), self._over()
        conditions = found.conditions
        if conditions is not None:
            conditions = conditions.union(self._bought.of_terms(terms), over_limit(over))
        rows = without_beyond(found.rows, over) if self._limits == "reject" else found.rows
        return found._replace(rows=rows, terms=terms, conditions=conditions)

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        found = super().load_devices(devices)
        full = {name: one._replace(beyond=frozenset(self.db.devices)) for name, one in self._over().items()}
        return without_beyond(found, full) if found is not None and self._limits == "reject" else found

    def _over(self) -> dict[str, OverLimit]:
        """The contracts of own rows with more devices than their limit, if a limit matters."""
        found: dict[str, OverLimit] = {}
        present = {record.device for record in self.db.records.values()}
        for owner in {row.owner for row in self._own_rows() if wants_peer(row)} if self._limits != "ignore" else ():
            limit, devices = self.db.limits.get(owner, -1), [r for r in self._rows() if r.owner == owner]
            devices = sorted((r for r in devices if wants_peer(r)), key=lambda r: (r.device not in present, r.id))
            if 0 <= limit < len(devices):
                found[owner] = OverLimit(limit, len(devices), frozenset(row.id for row in devices[limit:]))
        return found

    def _terms(self) -> Mapping[str, Terms]:
        if not self._policy.enforce:
            return {}
        terms = {row.owner: Terms(self.db.profiles.get(row.owner) or "") for row in self._own_rows()}
        for owner, one in terms.items():
            profile = self._policy.profiles.get(choose(one, self._policy).name)
            if profile is not None and profile.monthly:
                some = [d for d in self.db.devices.values() if d["contract_id"] == owner]
                rx, tx = (sum(d[f"{side}_bytes_month"] or 0 for d in some) for side in self._sides)
                terms[owner] = one._replace(month=Counters(rx, tx))
        return terms

    def _own_conditions(self) -> frozenset[Condition]:
        here = {row.owner for row in self._own_rows()}
        parents = Counter(d["contract_id"] for d in self.db.devices.values() if d["is_parent"] and not d["deleted_at"])
        return frozenset(
            Condition("parent_conflict", contract, contract, str(count))
            for contract, count in parents.items()
            if count > 1 and contract in here
        )

    def digest(self, *, at_once: bool = False) -> object:
        self._read("digest")
        db, policy = self.db, self._policy
        rows = [
            (
                *(device[column] for column in PLANNED),
                [device[column] for column in ISSUED]
                if word(device["status"]) == "issued"
                else any((device["first_handshake_at"], device["last_handshake_at"])),
                policy.enforce and db.profiles.get(device["contract_id"]),
                self._limits != "ignore" and db.limits.get(device["contract_id"]),
                db.contracts.get(device["contract_id"]),
            )
            for _, device in sorted(db.devices.items())
            if device["wg_iface"] not in self._ignored
        ]
        return row_digest(rows, (self._own_conditions(), db.consent(self._node), db.held(self._node)))

    def _write_audit(self, db: FakeDatabase, events: Sequence[AuditEvent]) -> None:
        db.logs += self._messages.entries(events)

    def _totals(self, device: int, scope: VerifyRanges) -> DeviceTotals:
        return totals(self.db, device, scope, self._sides, self._zone)

    def _open(self, db: FakeDatabase, calendar: UsageCalendar) -> None:
        bucket = int(calendar.now // calendar.width) * calendar.width
        for table, window, at in ((db.buckets, "24h", bucket), (db.days, "month", calendar.month[0])):
            begun = {name for name, _ in table}
            for device in db.devices.values():
                rx, tx = (max(device[f"{side}_bytes_{window}"] or 0, 0) for side in self._sides)
                if (rx or tx) and device["device_id"] not in begun:
                    table[device["device_id"], at] = Counters(rx, tx)

    def _row(self, d: Device) -> DeviceRow:
        status, contract = word(d["status"]), self.db.contracts.get(d["contract_id"])
        known = status in ("issued", "active", "paused", "revoked", "expired", "deleted")
        standing = None if contract is None else word(contract)
        return DeviceRow(
            id=d["id"],
            device=d["device_id"],
            owner=d["contract_id"],
            interface=d["wg_iface"] or "",
            addresses=(d["wg_ip"] or "",),
            public_key=read_key(d["public_key"]),
            preshared_key=read_key(d["preshared_key"]),
            status=STATUS.get(status, Status.OFF) if known else Status.UNKNOWN,
            status_text=status if known else "of unknown status",
            inactive=inactive_reasons(
                d["contract_id"],
                standing if standing in CONTRACT_WORDS else "of unknown status",
                deleted=d["deleted_at"] is not None,
            ),
            activation_deadline=_seconds(
                end := self._qr_end(d) if status in ("issued", "expired") else None, self._zone
            ),
            version=end,
            fault=None if standing in CONTRACT_WORDS else Reason.UNKNOWN_STATUS,
            first_handshake=self._scanned(d) if status == "issued" else None,
            scanned_from=self._scanned_from(d) if status == "issued" else None,
            first_handshake_known=d["first_handshake_at"] is not None or d["last_handshake_at"] is not None,
            has_no_usage=not d["rx_bytes_total"] and not d["tx_bytes_total"] and d["last_handshake_at"] is None,
        )

    def _qr_end(self, d: Device) -> str | None:
        for column, after in (("qr_expires_at", 0), ("issued_at", self._lifetime), ("created_at", self._lifetime)):
            at = _datetime(d[column])
            with contextlib.suppress(OverflowError):  # MariaDB gives NULL
                if at is not None:
                    return (at + timedelta(seconds=after)).isoformat(" ")
        return None

    def _scanned(self, d: Device) -> float | None:
        at, issued = _datetime(d["first_handshake_at"]), _datetime(d["issued_at"]) or _datetime(d["created_at"])
        is_of_before = at is None or (issued is not None and at < issued) or self._is_issued_again(d)
        return None if is_of_before else _seconds(d["first_handshake_at"], self._zone)

    def _scanned_from(self, d: Device) -> float | None:
        last, changed, issued = (
            _seconds(d[column], self._zone)
            for column in ("last_handshake_at" if d["last_handshake_at"] else "activated_at", "updated_at", "issued_at")
        )
        if not self._is_issued_again(d):
            return issued and issued - 180
        if not self.db.same_zone or changed is None:
            return None if last is None else last + 1
        if last is not None and last >= changed:
            return changed
        return max(changed - 180, 0 if last is None else last + 1)

    def _is_issued_again(self, d: Device) -> bool:
        """Whether the device was used before, and is issued again with the old date."""
        activated, issued = _datetime(d["activated_at"]), _datetime(d["issued_at"]) or _datetime(d["created_at"])
        last, end = _datetime(d["last_handshake_at"]) or activated, _datetime(self._qr_end(d))
        changed = _datetime(d["updated_at"]) if self.db.same_zone else None
        if not end or (changed and changed >= end):
            return False
        if not activated:
            has_dates = d["first_handshake_at"] or d["last_handshake_at"]
            return bool(changed and not has_dates and (d["rx_bytes_total"] or d["tx_bytes_total"]))
        used = max(activated, last) if changed and last else activated  # activated_at keeps the first activation
        return bool(used >= (issued or activated) and last and last < end)

    def _text(self, seconds: float) -> str:
        return datetime.fromtimestamp(int(seconds), self._zone).strftime("%Y-%m-%d %H:%M:%S")

    def _make_transition(self, db: FakeDatabase, step: Transition) -> bool:
        row, device = step.row, db.devices.get(step.row.id)
        if (
            device is None
            or word(device["status"]) != row.status.value
            or read_key(device["public_key"]) != row.public_key
        ):
            return False
        if step.kind != "first_handshake" and self._qr_end(device) != row.version:
            return False
        if step.kind == "expire":
            device["status"] = "expired"
            return True
        device["first_handshake_at"] = device["first_handshake_at"] or self._text(step.at)
        if step.kind == "activate":
            device["status"] = "active"
            device["activated_at"] = device["activated_at"] or self._text(step.at)
        return True

    def _add_to_device(self, db: FakeDatabase, posting: Posting, calendar: UsageCalendar) -> None:
        device = db.devices[posting.row_id]
        first, beyond = calendar.month
        for piece in posting.allocations:
            recent = piece.bucket is not None and piece.bucket >= calendar.rolling_start
            for window, counts in (("total", True), ("24h", recent), ("month", first <= piece.day < beyond)):
                for side, more in zip(self._sides, (piece.rx, piece.tx) if counts else (0, 0), strict=True):
                    column = f"{side}_bytes_{window}"
                    device[column] = min((device[column] or 0) + more, MOST)
        if posting.handshake is not None:
            at = self._text(posting.handshake)
            device["last_handshake_at"] = max(device["last_handshake_at"] or at, at)

    def _windows_differ(self, number: Any, calendar: UsageCalendar) -> dict[str, int]:
        first, beyond = calendar.month
        device = self.db.devices[number]["device_id"]
        recent = [
            s
            for (name, at), s in self.db.buckets.items()
            if name == device and calendar.rolling_start <= at <= calendar.now
        ]
        month = [s for (name, day), s in self.db.days.items() if name == device and first <= day < beyond]
        want = {
            f"{side}_bytes_{window}": min(sum(s[index] for s in some), MOST)
            for window, some in (("24h", recent), ("month", month))
            for index, side in enumerate(self._sides)
        }
        have = {column: self.db.devices[number][column] for column in want}
        return want if want != have else {}


def _datetime(text: str | None) -> datetime | None:
    return None if text is None or text.startswith("0000") else datetime.fromisoformat(text)


def _seconds(text: str | None, zone: ZoneInfo) -> float | None:
    at = _datetime(text)
    if at is None or not 1970 <= at.year < 9999:
        return None
    return max(0.0, at.replace(tzinfo=zone).timestamp())
