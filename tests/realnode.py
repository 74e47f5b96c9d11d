"""A node with a real database and a real spool. Its kernel is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.admins import MikyunAdmin
from tests.node import Node
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import Counters
from wgsyncd.stores.spool import FileSpool


class RealNode(Node):
    """A node whose rows are in the MariaDB of ``tables``, and whose spool is in ``folder``."""

    def __init__(self, tables: RealMikyunTables, folder: Path, node: str = "r640") -> None:
        self.tables, self.folder = tables, folder
        super().__init__('[log]\nlevel = "error"\n', node=node)
        self.db = tables
        self.admin = MikyunAdmin(tables)  # type: ignore[arg-type]
        self.start()

    def start(self) -> None:
        if hasattr(self, "db"):
            if hasattr(self.store, "_connection"):
                self.store.close()
            self.store = self.tables.store(node=self.settings.node.name)  # type: ignore[assignment]
            self.spool = FileSpool(self.folder, self.settings.node.name)  # type: ignore[assignment]
        super().start()

    @property
    def posted(self) -> dict[int, Counters]:
        rows = {number: self.tables.device(number) for number in self.tables.devices()}
        return {n: Counters(d["rx_bytes_total"], d["tx_bytes_total"]) for n, d in rows.items()}

    @property
    def written(self) -> tuple[int, int]:
        (node,) = self.tables.sql("SELECT revision FROM wgsyncd_nodes")
        return sum(self.wg.writes.values()), node["revision"]

    def outcome(self) -> dict[str, Any]:
        """Everything that must be equal on two nodes after the same events. Times are left out."""
        devices = {
            number: {**one, "last_handshake_at": None, "first_handshake_at": bool(one["first_handshake_at"])}
            for number in self.tables.devices()
            if (one := self.tables.device(number))
        }
        days: dict[str, Counters] = {}
        for (name, _), sums in self.tables.days().items():
            old = days.get(name, Counters(0, 0))
            days[name] = Counters(old.rx + sums.rx, old.tx + sums.tx)
        node_state = self.store.load_state(self.calendar)
        records = {slot: (r.row_id, r.config_digest, r.state, r.counters) for slot, r in node_state.records.items()}
        audit = sorted((one.action, one.target_id) for one in self.tables.logs())
        return {"kernel": self.kernel(), "devices": devices, "days": days, "audit": audit, "records": records,
                "conditions": sorted(node_state.conditions)}  # fmt: skip
