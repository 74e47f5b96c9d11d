"""A simulated node whose tables are NexaVPN's on a real PostgreSQL. It fails as one in memory does.

Faults of the database happen at the connection of the real store. So the server rolls back what was not committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from tests.fakes import Crash
from tests.hooked_ports import Hook
from tests.nexavpn_sides import NexavpnTables, named
from tests.nexavpnnode import NexavpnAdmin
from tests.simulated_node import SimulatedNode
from tests.variants import Variant
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Counters, PublicKey, decode_key
from wgsyncd.core.records import PeerId, PeerRecord, RecordState
from wgsyncd.core.state import CommitResult, NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError, StoreErrorCode
from wgsyncd.stores.nexavpn.settings import nexavpn
from wgsyncd.stores.nexavpn.store import NexaStore
from wgsyncd.stores.nexavpn.trouble import translate

_RECORDS = """
SELECT interface, public_key, row_id, device, owner, address, config_digest, state, epoch, rx, tx,
       latest_handshake, sampled_at
FROM wgsyncd.peers WHERE node = 'r640'
"""
_FAULTS = ("hook", "written", "next_writes", "locked", "down", "read_only", "fail_reads")


def _lost() -> StoreError:
    return StoreError("08006: the connection was lost", StoreErrorCode.UNREACHABLE)


class _Cursor:
    """A cursor that fails where the store's next fate says so. All else goes to the real one."""

    def __init__(self, cursor: Any, store: HookedNexaStore) -> None:
        self._cursor, self._store = cursor, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, *values: Any, **options: Any) -> Any:
        fate = self._store.fate
        if self._store.read_only and sql.startswith("BEGIN ISOLATION LEVEL READ COMMITTED"):
            sql += " READ ONLY"
        if fate == "deadlock" and sql.lstrip().startswith("WITH raised"):
            raise translate("40P01", "deadlock detected")
        if fate not in ("during", "after", "crash after") or sql != "COMMIT":
            return self._cursor.execute(sql, *values, **options)
        if fate != "during":
            self._cursor.execute(sql)
        raise Crash if fate == "crash after" else _lost()


class HookedNexaStore(NexaStore):
    """The store, with a hook at every call. Its faults are as in :class:`tests.memorystore.MemoryStore`."""

    hook: Hook = staticmethod(lambda port, where: None)
    written: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.down = self.read_only = self.fail_reads = False
        self.next_writes: list[str] = []
        self.locked: set[Any] = set()  # nothing: no transaction of this store waits for a row
        self.fate = "ok"
        self._digest._clock = lambda: 0.0  # a clock that stands still: no digest is costly
        self._real, self._connection._cursor = self._connection._cursor, self._faulty  # type: ignore[assignment, method-assign]

    @contextmanager
    def _faulty(self, **options: bool) -> Iterator[_Cursor]:
        if self.down:
            self._connection.close()
            raise _lost()
        with self._real(**options) as found:
            yield _Cursor(found, self)

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        self.hook("store", "before commit")
        self.fate = self.next_writes.pop(0) if self.next_writes and not (self.down or self.read_only) else "ok"
        try:
            if self.fate == "crash before":
                raise Crash
            if self.fate == "before":
                self._connection.close()
                raise _lost()
            done = super().commit(node_state, writes, calendar)
        finally:
            self.fate = "ok"
            self.written()
        self.hook("store", "after commit")
        return done


def _hooked(name: str) -> Callable[..., Any]:
    def call(self: HookedNexaStore, *values: Any, **options: Any) -> Any:
        self.hook("store", f"before {name}")
        if self.fail_reads:
            raise _lost()
        found = getattr(NexaStore, name)(self, *values, **options)
        self.hook("store", f"after {name}")
        return found

    return call


for _name in ("snapshot", "load_state", "load_devices", "digest"):
    setattr(HookedNexaStore, _name, _hooked(_name))


class SimulatedTables(NexavpnTables):
    """The tables, as the oracle reads them."""

    records: dict[tuple[str, PeerId], PeerRecord]

    def read_records(self) -> None:
        found = self.sql(_RECORDS)
        for one in found:
            one |= {"public_key": PublicKey(bytes(one["public_key"])), "config_digest": bytes(one["config_digest"])}
            one |= {"state": RecordState(one["state"]), "rx": one["rx"] % 2**64, "tx": one["tx"] % 2**64}
        made = [PeerRecord(*one.values()) for one in found]
        self.records = {("r640", one.peer_id): one for one in made}

    @property
    def quarantine(self) -> list[Any]:
        return self.sql("SELECT * FROM wgsyncd.quarantine")


class SimulatedAdmin(NexavpnAdmin):
    """The admin, with the words that random events have for every control plane."""

    db: SimulatedTables

    def change(self, number: int, **fields: Any) -> None:
        if fields.get("status") == "paused":
            fields["status"] = "blocked"
        if secret := fields.get("preshared_key"):
            fields["preshared_key"] = self.db.seal(number, decode_key(secret))
        super().change(number, **fields)

    def field(self, number: int, name: str) -> Any:
        what = {"interface": "g.name", "address": "host(a.address)"}[name]
        sql = f"SELECT {what} AS x FROM ip_allocations a JOIN gateways g ON g.id = a.gateway_id WHERE a.device_id = %s"
        (found,) = self.db.sql(sql, self.id(number))
        return found["x"]

    def set_owner(self, status: str) -> None:
        self.db.update("users", named("alice"), is_active=status == "active")


class SimulatedNexavpn(SimulatedNode):
    """A simulated node with NexaVPN's tables."""

    store: HookedNexaStore  # type: ignore[assignment]
    db: SimulatedTables
    _days: dict[tuple[int, str], Counters] | None = None  # since the last commit

    def __init__(self, tables: SimulatedTables, extra: str, zone: str, start: str) -> None:
        self.tables, self._extra = tables, extra
        tables.records = {}
        tables.store(zone=zone).close()  # it makes the gateways
        plane = Variant("nexavpn", lambda _: SimulatedAdmin(tables))  # type: ignore[arg-type, return-value]
        super().__init__(extra, zone, start, plane)

    def _store(self) -> HookedNexaStore:  # type: ignore[override]
        found = self.tables.settings(self._extra, zone=self.settings.node.zone.key)
        own = replace(nexavpn(found), policies=replace(nexavpn(found).policies, enforce=False))
        self.settings = replace(found, store=own)
        return HookedNexaStore(self.settings)

    def start(self) -> None:
        before, self.store = self.store, self._store()
        for name in _FAULTS:
            setattr(self.store, name, getattr(before, name))
        before.close()
        super().start()

    def wrote(self) -> None:
        self._days = None
        self.db.read_records()
        super().wrote()

    def lock(self, *numbers: int) -> None:
        """No transaction of wgsyncd waits for a row of NexaVPN's application."""

    def delete(self, number: int) -> None:
        self.tables.delete(number)
        self.true.pop(number, None)

    def truncate(self) -> dict[Any, Any]:
        for number in self.numbers:
            self.tables.delete(number)
        return {}

    @property
    def numbers(self) -> list[int]:
        return [row["id"].int >> 96 for row in self.tables.sql("SELECT id FROM devices ORDER BY id")]

    @property
    def days(self) -> dict[tuple[int, str], Counters]:
        if self._days is None:
            self._days = {(self._number(device), day): sums for (device, day), sums in self.tables.days().items()}
        return self._days

    @property
    def written(self) -> tuple[int, int]:
        found = self.tables.sql("SELECT revision FROM wgsyncd.node_states")
        return sum(self.wg.writes.values()), sum(one["revision"] for one in found)
