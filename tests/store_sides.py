"""The web application's side of a store under test, in memory and in MariaDB.

It writes what an admin writes, and reads what an admin sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date, datetime
from typing import Any, Protocol

import pymysql
from pymysql.cursors import DictCursor

from tests.fakereports import FakeReports
from tests.fakestore import FakeStore
from tests.node import CONFIG
from tests.tables import Device, FakeDatabase, new_device
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.model import Counters
from wgsyncd.demo.mariadb import ACCOUNT, DATABASE, PrivateServer
from wgsyncd.ports import ReportSource, Store
from wgsyncd.stores.mikyun.messages import AuditEntry
from wgsyncd.stores.mikyun.reports import MariaDBReports
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.store import MariaDBStore

REFUSAL = "1644: refused"  # the error of a row that the server refuses to change
_TRIGGER = """CREATE TRIGGER refusing BEFORE UPDATE ON customer_devices FOR EACH ROW BEGIN
    IF EXISTS (SELECT 1 FROM refusing WHERE id = OLD.id) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'; END IF; END"""


class AnyTables(Protocol):
    """The database of any control plane, and the stores that wgsyncd opens on it. Numbers name the devices."""

    def id(self, number: int) -> Any: ...  # of the device with this number
    def posted(self, number: int) -> Counters: ...
    def move(self, number: int, interface: str) -> None: ...  # the device is now on this interface
    def store(self, extra: str = "", **node: Any) -> Store: ...  # ``node``: see :func:`node_config`
    def insert(self, number: int) -> None: ...
    def delete(self, number: int) -> None: ...
    def locked(self, number: int) -> AbstractContextManager[None]: ...
    def logs(self) -> Sequence[object]: ...
    def days(self) -> dict[tuple[str, str], Counters]: ...
    def buckets(self) -> dict[tuple[str, int], Counters]: ...


class MikyunTables(AnyTables, Protocol):
    """A database mikyun_cloud as its admin uses it."""

    def reports(self, extra: str = "") -> ReportSource: ...
    def insert(self, number: int, **columns: Any) -> None: ...
    def refuse(self, *numbers: int) -> None: ...  # let the server refuse to change these rows, and no others
    def update(self, number: int, **columns: Any) -> None: ...
    def use_zone_of_node(self) -> None: ...  # by the server, for what it writes by itself
    def contract(self, name: str, status: str) -> None: ...
    def device(self, number: int) -> Device: ...
    def devices(self) -> list[int]: ...
    def logs(self) -> list[AuditEntry]: ...
    def log(self, entry: AuditEntry) -> None: ...
    def days(self) -> dict[tuple[str, str], Counters]: ...
    def buckets(self) -> dict[tuple[str, int], Counters]: ...


def node_config(node: str = "r640", zone: str = "Asia/Tokyo", ignored: Sequence[str] = (), prefix: str = "") -> str:
    """The configuration of a node. ``prefix``: what the store's names of its interfaces begin with."""
    text = CONFIG.replace('"r640"', f'"{node}"\nignored_interfaces = {json.dumps(list(ignored))}')
    text = text.replace('"Asia/Tokyo"', f'"{zone}"')
    return re.sub(r"^\[interfaces\.(.*)\]$", rf'[interfaces.\1]\nstore_name = "{prefix}\1"', text, flags=re.MULTILINE)


class FakeMikyunTables:
    """Implements MikyunTables on tables in memory."""

    def __init__(self) -> None:
        self.db = FakeDatabase()
        self.stores: list[FakeStore] = []

    def store(self, extra: str = "", **node: Any) -> Store:
        self.stores.append(FakeStore(parse(node_config(**node) + extra), self.db))
        return self.stores[-1]

    def move(self, number: int, interface: str) -> None:
        self.update(number, wg_iface=interface)

    def id(self, number: int) -> int:
        return number

    def posted(self, number: int) -> Counters:
        return _posted(self.device(number))

    def reports(self, extra: str = "") -> ReportSource:
        settings = parse(node_config() + extra)
        return FakeReports(self.db, Perspective(mikyun(settings).perspective))

    @contextmanager
    def locked(self, number: int) -> Iterator[None]:
        for store in self.stores:
            store.locked.add(number)
        yield
        for store in self.stores:
            store.locked.discard(number)

    def refuse(self, *numbers: int) -> None:
        for store in self.stores:
            store.refused = dict.fromkeys(numbers, REFUSAL)

    def insert(self, number: int, **columns: Any) -> None:
        self.db.insert(number, **columns)

    def update(self, number: int, **columns: Any) -> None:
        self.db.update(number, **columns)

    def use_zone_of_node(self) -> None:
        self.db.same_zone = True

    def delete(self, number: int) -> None:
        del self.db.devices[number]

    def contract(self, name: str, status: str) -> None:
        self.db.contracts[name] = status

    def device(self, number: int) -> Device:
        return dict(self.db.devices[number])

    def devices(self) -> list[int]:
        return sorted(self.db.devices)

    def logs(self) -> list[AuditEntry]:
        return list(self.db.logs)

    def log(self, entry: AuditEntry) -> None:
        self.db.logs.append(entry)

    def days(self) -> dict[tuple[str, str], Counters]:
        return dict(self.db.days)

    def buckets(self) -> dict[tuple[str, int], Counters]:
        return dict(self.db.buckets)


def _posted(device: Device) -> Counters:
    return Counters(device["rx_bytes_total"], device["tx_bytes_total"])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else value


class RealMikyunTables:
    """Implements MikyunTables on a private MariaDB.

    These tables are as the administrator sees them. The stores use the account with the shipped grants.
    """

    def __init__(self, server: PrivateServer, stack: ExitStack) -> None:
        self._server, self._stack, self._has_trigger = server, stack, False
        self._admin = pymysql.connect(**server.connect_args, database=DATABASE, autocommit=True, cursorclass=DictCursor)
        stack.callback(self._admin.close)
        self.sql("SET SESSION sql_mode = ''")  # as lenient as the session of an old application
        names = [next(iter(row.values())) for row in self.sql("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")]
        for table in names:
            if table != "wgsyncd_schema":
                self.sql(f"DELETE FROM {table}")
        self.sql("ALTER TABLE wgsyncd_nodes ALTER adopted SET DEFAULT 1")  # most tests are of adopted nodes
        self.contract("0001", "active")

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with self._admin.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def store(self, extra: str = "", **node: Any) -> MariaDBStore:
        store = MariaDBStore(self._settings(extra, **node))
        self._stack.callback(store.close)
        return store

    def move(self, number: int, interface: str) -> None:
        self.update(number, wg_iface=interface)

    def id(self, number: int) -> int:
        return number

    def posted(self, number: int) -> Counters:
        return _posted(self.device(number))

    def reports(self, extra: str = "") -> ReportSource:
        reports = MariaDBReports(self._settings(extra))
        self._stack.callback(reports.close)
        return reports

    def _settings(self, extra: str, **node: Any) -> Settings:
        where = f'[mikyun.database]\nsocket = "{self._server.socket}"\npassword_file = "{self._server.password_file}"\n'
        return parse(node_config(**node) + extra + where + f'user = "{ACCOUNT}"\n')

    def insert(self, number: int, **columns: Any) -> None:
        row = new_device(number, **columns)
        places = ", ".join(["%s"] * len(row))
        self.sql(f"INSERT INTO customer_devices ({', '.join(row)}) VALUES ({places})", *row.values())

    def update(self, number: int, **columns: Any) -> None:
        sets = ", ".join(f"{column} = %s" for column in columns)
        keep = "" if "updated_at" in columns else ", updated_at = updated_at"
        self.sql(f"UPDATE customer_devices SET {sets}{keep} WHERE id = %s", *columns.values(), number)

    def use_zone_of_node(self) -> None:
        self.sql("SET GLOBAL time_zone = '+09:00'")
        self._stack.callback(self.sql, "SET GLOBAL time_zone = 'SYSTEM'")

    def refuse(self, *numbers: int) -> None:
        if not self._has_trigger:
            self._has_trigger = True
            self.sql("CREATE TABLE refusing (id INT PRIMARY KEY)")
            self._stack.callback(self.sql, "DROP TABLE refusing")
            self.sql(_TRIGGER)
            self._stack.callback(self.sql, "DROP TRIGGER refusing")
        self.sql("DELETE FROM refusing")
        for number in numbers:
            self.sql("INSERT INTO refusing VALUES (%s)", number)

    @contextmanager
    def locked(self, number: int) -> Iterator[None]:
        self.sql("START TRANSACTION")
        self.sql("SELECT id FROM customer_devices WHERE id = %s FOR UPDATE", number)
        yield
        self.sql("ROLLBACK")

    def delete(self, number: int) -> None:
        self.sql("DELETE FROM customer_devices WHERE id = %s", number)

    def contract(self, name: str, status: str) -> None:
        self.sql("INSERT INTO contracts (contract_id, contract_status) VALUES (%s, %s)"
                 " ON DUPLICATE KEY UPDATE contract_status = VALUES(contract_status)", name, status)  # fmt: skip

    def device(self, number: int) -> Device:
        (row,) = self.sql(f"SELECT {', '.join(new_device(0))} FROM customer_devices WHERE id = %s", number)
        return {column: _plain(value) for column, value in row.items()}

    def devices(self) -> list[int]:
        return [row["id"] for row in self.sql("SELECT id FROM customer_devices ORDER BY id")]

    def logs(self) -> list[AuditEntry]:
        rows = self.sql("SELECT action_type, target_type, target_id, message FROM admin_logs ORDER BY id")
        return [AuditEntry(*row.values()) for row in rows]

    def log(self, entry: AuditEntry) -> None:
        into = "admin_logs (action_type, target_type, target_id, message, created_at)"
        self.sql(f"INSERT INTO {into} VALUES (%s, %s, %s, %s, NOW())", *entry)

    def forget_logs(self) -> None:
        self.sql("DELETE FROM admin_logs")

    def days(self) -> dict[tuple[str, str], Counters]:
        return self._history("wgsyncd_days", "day", "open_day")

    def buckets(self) -> dict[tuple[str, int], Counters]:
        return self._history("wgsyncd_buckets", "start", "open_bucket")

    def _history(self, table: str, time: str, open_time: str) -> dict[tuple[str, Any], Counters]:
        """Bytes by device and time, with the open pieces."""
        rows = self.sql(f"SELECT device, at, SUM(rx) AS rx, SUM(tx) AS tx FROM (SELECT device, {time} AS at, rx, tx"
                        f" FROM {table} UNION ALL SELECT device, {open_time}, open_rx, open_tx FROM wgsyncd_peers"
                        " WHERE open_bucket > 0) a GROUP BY device, at HAVING rx > 0 OR tx > 0")  # fmt: skip
        return {(row["device"], _plain(row["at"])): Counters(int(row["rx"]), int(row["tx"])) for row in rows}
