"""A node with NexaVPN's tables on a real PostgreSQL, and a real spool. Its kernel is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from tests.admins import AuditLine
from tests.nexavpn_sides import NexavpnTables
from tests.node import Node
from wgsyncd.core.model import Counters
from wgsyncd.stores.spool import FileSpool


class NexavpnAdmin:
    """What an admin of NexaVPN does and sees, in the words of :class:`tests.admins.Admin`."""

    has_deadlines = False

    def __init__(self, tables: NexavpnTables) -> None:
        self.db = tables

    def id(self, number: int) -> UUID:
        return self.db.id(number)

    def insert(self, number: int, *, seen: bool = True, **fields: Any) -> None:
        interface = fields.pop("interface", "wg0")
        # At once: another device may have the address that it would get otherwise.
        self.db.insert(number, interface, **({"assigned_ip": fields.pop("address")} if "address" in fields else {}))
        if seen:  # this node has posted bytes of the device before
            self.db.sql("INSERT INTO wgsyncd.totals (node, device) VALUES ('r640', %s)", self.db.id(number))
        self.change(number, **fields)

    def change(self, number: int, **fields: Any) -> None:
        device, peer = self.db.id(number), self.db.peer_id(number)
        for name, value in fields.items():
            match name:
                case "interface":
                    self.db.move(number, value)
                case "address":
                    self.db.sql("UPDATE ip_allocations SET address = %s WHERE device_id = %s", value, device)
                    self.db.update("wireguard_peers", peer, assigned_ip=value)
                case "status":
                    self.db.update("devices", device, status=value)
                case "public_key":
                    self.db.update("devices", device, public_key=value)
                    self.db.update("wireguard_peers", peer, public_key=value)
                case "preshared_key":
                    self.db.update("wireguard_peers", peer, preshared_key_ciphertext=value)

    def addresses(self, address: str) -> tuple[str, ...]:
        return (address,)

    def posted(self, number: int) -> Counters:
        return self.db.posted(number)

    def audit(self) -> list[AuditLine]:
        return [
            AuditLine(one["event_type"], str(one["entity_id"]), f"{one['message']} {one['metadata']}")
            for one in self.db.logs()
        ]

    def forget_audit(self) -> None:
        self.db.sql("DELETE FROM audit_logs")


class NexavpnNode(Node):
    """A node whose rows are in ``tables``, and whose spool is in ``folder``."""

    def __init__(self, tables: NexavpnTables, folder: Path) -> None:
        self.tables, self.folder = tables, folder
        super().__init__('[log]\nlevel = "error"\n')
        self.settings = tables.settings('[log]\nlevel = "error"\n')
        self.db, self.admin = tables, NexavpnAdmin(tables)  # type: ignore[assignment]
        self.start()

    def start(self) -> None:
        if hasattr(self, "db"):
            if hasattr(self.store, "_connection"):
                self.store.close()
            self.store = self.tables.store()  # type: ignore[assignment]
            self.spool = FileSpool(self.folder, "r640")  # type: ignore[assignment]
        super().start()

    @property
    def numbers(self) -> list[int]:
        return [row["id"].int >> 96 for row in self.tables.sql("SELECT id FROM devices ORDER BY id")]

    @property
    def written(self) -> tuple[int, int]:
        (node,) = self.tables.sql("SELECT revision FROM wgsyncd.node_states")
        return sum(self.wg.writes.values()), node["revision"]

    def outcome(self) -> dict[str, Any]:
        """Everything that must be equal on two nodes after the same events. Times are left out."""
        devices = {number: _lasting(self.tables.device(number)) for number in self.numbers}
        days: dict[str, Counters] = {}
        for (name, _), sums in self.tables.days().items():
            old = days.get(name, Counters(0, 0))
            days[name] = Counters(old.rx + sums.rx, old.tx + sums.tx)
        node_state = self.store.load_state(self.calendar)
        records = {slot: (r.row_id, r.config_digest, r.state, r.counters) for slot, r in node_state.records.items()}
        return {"kernel": self.kernel(), "devices": devices, "days": days, "audit": sorted(self.actions),
                "posted": self.posted, "records": records, "conditions": sorted(node_state.conditions)}  # fmt: skip


def _lasting(device: dict[str, Any]) -> dict[str, Any]:
    times = {name: device[name] is not None for name in ("last_seen_at", "last_connected_at")}
    return {**device, **times, "created_at": None, "updated_at": None}
