"""Probes the application's tables and the server, and names the command that mends each fault.

`init-db`, `doctor`, `check-config --database` and the start of the daemon all ask here.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wgsyncd.config import resources
from wgsyncd.core.inspect.finding import Finding, fault, warning
from wgsyncd.errors import SchemaError, StoreError
from wgsyncd.stores.mikyun import cures
from wgsyncd.stores.mikyun.connection import Connection, Result, Values
from wgsyncd.stores.mikyun.own_tables import as_shipped, own_tables, reference, trial
from wgsyncd.stores.mikyun.row_text import NAME_LENGTH, WIDE
from wgsyncd.stores.mikyun.shape import CONFLICTS, CONTRACTS, COUNTERS, DEVICES, LOGS, Column, Shape, read_shape, touch
from wgsyncd.stores.mikyun.trail import INTO, holds_japanese
from wgsyncd.stores.mikyun.trouble import NO_SUCH_TABLE, MariaDBError

_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TIMES = ("first_handshake_at", "last_handshake_at", "activated_at", "issued_at", "qr_expires_at", "created_at")
_WORDS = ("active", "expired")  # the statuses that wgsyncd writes
_NEEDED = {
    DEVICES: ("id", "device_id", "contract_id", "wg_iface", "wg_ip", "public_key", "preshared_key", "status",
              "is_parent", *_TIMES, *COUNTERS),
    CONTRACTS: ("contract_id", "contract_status"),
    LOGS: ("action_type", "target_type", "target_id", "message", "created_at"),
}  # fmt: skip
_FILLED = (*COUNTERS, "first_handshake_at", "last_handshake_at", "activated_at")  # by wgsyncd itself
PROBE_AT_START = 3.0  # seconds that the start of the daemon may wait for the probe
_ONE = "SELECT id, device_id FROM customer_devices FORCE INDEX (PRIMARY) WHERE {where} ORDER BY id DESC LIMIT 1{lock}"
_MUCH = 10**13  # bytes that a device may well move. Columns that follow from the counters have to take it, too
_NO_COLUMN, _NO_DEFAULT, _GONE = 1054, 1364, frozenset((1045, 1356, 1449))


def open_probe(connection: Connection, language: str, seconds: float = 60.0) -> "Probe":
    """The probe of a database, with the present shape of its tables. ``seconds``: that all its questions may take."""
    until = time.monotonic() + seconds
    return Probe(connection, read_shape(connection), str(connection.query("SELECT DATABASE()")[0][0]), language, until)


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks one database. ``language``: of the audit rows. StoreError: it is later than ``until`` (monotonic)."""

    connection: Connection
    shape: Shape
    database: str
    language: str
    until: float

    def findings(self) -> Iterator[Finding]:
        """Every finding, the worst first. None if all is well."""
        yield from self.inexact()
        if read_only := self._is_read_only():
            # Two primaries split the data, and after a failover the one of before does not know that it is none now. So
            # no command makes it writable.
            why = (
                "it is read-only, as after a failover: let mikyun.database name the server that takes writes now."
                f" Only if there is no other: {self._mariadb('SET GLOBAL read_only = 0')}"
            )
            yield fault("server", why, "editor /etc/wgsyncd/wgsyncd.toml && wgsyncd reload")
        yield from self._columns()
        yield from self._contracts()
        yield from self._views()
        if read_only:  # it would refuse each trial
            return
        yield from self._trail()
        if not any(True for _ in self.inexact()):  # what is rolled back has to vanish
            yield from self._own()
            yield from self._writes()

    def inexact(self) -> Iterator[Finding]:
        """The findings that make exact accounting impossible: with these the daemon does not write."""
        for table, engine in sorted(self.shape.engines.items()):
            ours = table == DEVICES or (table.startswith("wgsyncd_") and engine != "view")
            if ours and engine != "innodb":
                todo = self._alter(table, "ENGINE = InnoDB") if engine != "view" else self._show(table)
                yield fault(table, f"its engine is {engine}: only InnoDB takes back what was not committed", todo)
        if DEVICES not in self.shape.engines:
            return
        columns = self.shape.of(DEVICES)
        is_table, keys = self.shape.engines[DEVICES] != "view", self.shape.keys
        # A key is seen only by an account that may read its columns.
        if is_table and "id" in columns and keys is not None and keys.get("primary") != "id":
            drop = "DROP PRIMARY KEY, " if "primary" in keys else ""
            todo = self._alter(DEVICES, f"{drop}ADD PRIMARY KEY (id)")
            yield fault(DEVICES, "its primary key is not id alone: a posting could meet two rows, or none", todo)
        if "id" in columns and columns["id"].type not in _WHOLE:
            yield fault(
                DEVICES, f"id is of type {columns['id'].written}: wgsyncd needs whole numbers", self._show(DEVICES)
            )
        one = columns.get("device_id")
        if one and ((one.charset or "").startswith(WIDE) or one.collation == "utf8mb4_nopad_bin"):
            todo = self._alter(DEVICES, f"MODIFY device_id {one.written} CHARACTER SET utf8mb4 NOT NULL")
            yield fault(DEVICES, f"device_id is {one.collation}, which cannot be compared with utf8mb4_bin", todo)
        for name in COUNTERS:
            if (one := columns.get(name)) and one.type not in (*_WHOLE, "decimal"):
                why = f"{name} is of type {one.written}, which cannot count bytes exactly"
                yield fault(DEVICES, why, self._modify(DEVICES, name, one, "BIGINT"))

    def _is_read_only(self) -> bool:
        """Whether the server refuses all writes. It says 1, or a word since MariaDB 12."""
        return str(self.connection.query("SELECT @@global.read_only")[0][0]).upper() not in ("0", "OFF")

    def _columns(self) -> Iterator[Finding]:
        columns = self.shape.of(DEVICES)
        for table, names in _NEEDED.items():
            if table not in self.shape.engines and self._refuses(touch(table), NO_SUCH_TABLE):
                yield fault(table, "it does not exist: the application makes it", "man wgsyncd-install  # see Tables")
                continue
            for name in names:
                missing = f"SELECT {name} FROM {table} LIMIT 0"  # noqa: S608
                if (table, name) in self.shape.columns or not self._refuses(missing, _NO_COLUMN):
                    continue
                if table == LOGS or name in _FILLED:
                    todo = self._alter(table, f"ADD {name} {reference(table, name)}")
                    yield fault(table, f"it has no column {name}", todo)
                else:  # An empty column would take the address, the key or the status from all rows.
                    why = f"it has no column {name}, which the application fills. Was it renamed? Give its name back"
                    yield fault(table, why, self._show(table))
        for name in COUNTERS:
            one = columns.get(name)
            if one and (one.type in _WHOLE[:-1] or (one.type == "decimal" and _digits(one) < 19)):
                why = f"{name} is of type {one.written}, which ends before a device has moved much"
                yield fault(DEVICES, why, self._modify(DEVICES, name, one, "BIGINT"))
        for name in _TIMES:
            if (one := columns.get(name)) and one.type not in ("datetime", "timestamp"):
                why = f"{name} is of type {one.written}: wgsyncd reads and writes DATETIME"
                todo = self._modify(DEVICES, name, one, "DATETIME") if one.type == "date" else self._show(DEVICES)
                yield fault(DEVICES, why, todo)
        for name, one in columns.items():
            if "on update" in one.extra and name != "updated_at":
                why = f"{name} changes with each posting (ON UPDATE), and it is not wgsyncd's to change"
                yield fault(DEVICES, why, self._modify(DEVICES, name, one, one.written))
        if status := columns.get("status"):
            yield from self._status(status)
        keys = self.shape.keys
        if keys is not None and "device_id" not in keys.values() and "device_id" in columns:
            todo = self._alter(DEVICES, "ADD UNIQUE (device_id)")
            yield warning(DEVICES, "device_id has no unique key: two rows of one device share their bytes", todo)
        large = self._ask("SELECT id FROM customer_devices WHERE id > 9223372036854775807 LIMIT 1")
        if isinstance(large, tuple) and large:
            why = f"the id {large[0][0]} is larger than a BIGINT: the accounting of such rows takes more statements"
            yield warning(DEVICES, why, self._show(DEVICES))
        long = f"SELECT device_id FROM customer_devices WHERE CHAR_LENGTH(device_id) > {NAME_LENGTH} LIMIT 1"  # noqa: S608
        if isinstance(found := self._ask(long), tuple) and found:
            why = f"a device_id has more than {NAME_LENGTH} characters: such a device gets no peer"
            yield fault(DEVICES, why, self._show(DEVICES))

    def _status(self, status: Column) -> Iterator[Finding]:
        if status.type == "enum":
            known = re.findall(r"'((?:[^']|'')*)'", status.written)
            if lacking := [word for word in _WORDS if word not in [one.casefold() for one in known]]:
                words = ", ".join(f"'{word}'" for word in (*known, *lacking))
                why = f"status cannot be {' or '.join(lacking)}, which wgsyncd writes"
                yield fault(DEVICES, why, self._modify(DEVICES, "status", status, f"ENUM({words})"))
        elif status.length is None or status.length < max(map(len, _WORDS)):
            why = f"status is of type {status.written}, which cannot hold {' and '.join(_WORDS)}"
            yield fault(DEVICES, why, self._modify(DEVICES, "status", status, "VARCHAR(16)"))

    def _contracts(self) -> Iterator[Finding]:
        theirs, ours = (self.shape.columns.get((table, "contract_id")) for table in (CONTRACTS, DEVICES))
        if theirs and ours and theirs.collation and ours.collation and theirs.charset != ours.charset:
            why = f"contract_id is {theirs.charset} here and {ours.charset} in {DEVICES}: no index helps the comparison"
            yield warning(CONTRACTS, why, self._modify(CONTRACTS, "contract_id", theirs, theirs.written, like=ours))

    def _views(self) -> Iterator[Finding]:
        for view in {CONFLICTS, "wgsyncd_audit"} & self.shape.engines.keys():
            error = self._ask(f"SELECT * FROM {view} LIMIT 1")  # noqa: S608
            if isinstance(error, MariaDBError) and error.number in _GONE:
                yield warning(view, str(error), self._mariadb(self._view(view)))

    def _view(self, view: str) -> str:
        script = resources.text("sql/mikyun/mikyun_cloud.sql" if view == CONFLICTS else "sql/mikyun/wgsyncd.sql")
        text = re.search(rf"VIEW {view} AS\s([^;]*);", script)[1]  # type: ignore[index]
        if (DEVICES, "deleted_at") not in self.shape.columns:
            text = text.replace("AND deleted_at IS NULL", "")
        return f"CREATE OR REPLACE SQL SECURITY DEFINER VIEW {view} AS {' '.join(text.split())}"

    def _trail(self) -> Iterator[Finding]:
        if LOGS not in self.shape.engines:
            return
        message = self.shape.columns.get((LOGS, "message"))
        if self.language == "ja" and message and not holds_japanese(message.charset):
            why = f"message is {message.charset}, which has no Japanese: wgsyncd writes English there"
            todo = self._alter(LOGS, f"MODIFY message {message.written} CHARACTER SET utf8mb4")
            yield warning(LOGS, why, todo)
        if self.shape.engines[LOGS] not in ("innodb", "view"):
            why = f"its engine is {self.shape.engines[LOGS]}: after an interruption it may have a row twice"
            yield warning(LOGS, why, self._alter(LOGS, "ENGINE = InnoDB"))
        with self.connection.undone():
            entry = ("daemon_started", "node", "probe", "probe", "2026-01-01 00:00:00")
            refused = self._ask(f"{INTO}(%s, %s, %s, %s, %s)", entry)
        if isinstance(refused, MariaDBError):
            todo, field = self._show(LOGS), re.search(r"'(\w+)'", str(refused))
            if field and refused.number == _NO_DEFAULT:
                todo = self._alter(LOGS, f"ALTER `{field[1]}` SET DEFAULT 0")
            if field and refused.number == _NO_COLUMN:
                todo = self._alter(LOGS, f"ADD {field[1]} {reference(LOGS, field[1])}")
            yield warning(LOGS, f"it refuses an audit row: {refused}", todo)

    def _own(self) -> Iterator[Finding]:
        """Write a row with the largest values into each of wgsyncd's own tables, twice, and take both back."""
        for table, columns in own_tables().items():
            has_key = "AUTO_INCREMENT" not in next(iter(columns.values())) or table == "wgsyncd_peers"
            try:
                with self.connection.undone():
                    refused = self._ask(trial(table, columns))
                    again = self._ask(trial(table, columns)) if has_key else None
            except SchemaError:  # the finding about tables reports it
                continue
            if isinstance(refused, MariaDBError):
                if refused.number in (1142, 1143):  # the finding about rights reports it
                    continue
                todo, field = self._show(table), re.search(r"(?:column|Field) .*?['`](\w+)['`](?!\.)", str(refused))
                if field and refused.number == _NO_DEFAULT:
                    todo = self._alter(table, f"ALTER `{field[1]}` SET DEFAULT 0")
                elif field and (definition := as_shipped(columns.get(field[1], ""))):
                    kind = "ADD" if refused.number == _NO_COLUMN else "MODIFY"
                    todo = self._alter(table, f"{kind} `{field[1]}` {definition}")
                yield fault(table, f"it refuses a row of wgsyncd: {refused}", todo)
            elif isinstance(again, tuple):
                yield fault(table, "it takes the same row twice: its key is gone", self._show(table))

    def _writes(self) -> Iterator[Finding]:
        """Write each kind of change to a row that may get it, look at the row, and take the change back."""
        is_there = [one for one in COUNTERS if (DEVICES, one) in self.shape.columns]
        sets = {one: f"GREATEST(COALESCE({one}, 0), {_MUCH})" for one in is_there}  # totals may be forbidden to fall
        sets |= dict.fromkeys(("first_handshake_at", "last_handshake_at", "activated_at"), "'2026-01-02 03:04:05'")
        yield from self._write("TRUE", f"{_MUCH} bytes", sets)
        for word in _WORDS:  # of an issued device alone: wgsyncd changes no other status
            yield from self._write("status = 'issued'", f"the status {word}", {"status": f"'{word}'"})

    def _write(self, where: str, words: str, sets: Mapping[str, str]) -> Iterator[Finding]:
        found = self._ask(_ONE.format(where=where, lock=""))
        if isinstance(found, MariaDBError) or not found:
            return
        which = f"id = {int(found[0][0])}"
        changes = ", ".join(f"{name} = {value}" for name, value in sets.items())
        lost = " OR ".join(f"NOT {name} <=> {value}" for name, value in sets.items())
        with self.connection.undone():
            locked = self._ask(_ONE.format(where=which, lock=" FOR UPDATE SKIP LOCKED"))
            if isinstance(locked, MariaDBError) or not locked:
                return
            refused = self._ask(f"UPDATE customer_devices FORCE INDEX (PRIMARY) SET {changes} WHERE {which}")  # noqa: S608
            kept = self._ask(_ONE.format(where=f"{which} AND NOT ({lost})", lock=""))
        if isinstance(refused, MariaDBError):
            if refused.number not in (1142, 1143):  # the finding about rights reports it
                yield fault(DEVICES, f"the row with {which} refuses {words}: {refused}", self._show(DEVICES))
        elif isinstance(kept, tuple) and kept != found:
            why = f"the row with {which} does not keep {words}: a trigger changes it"
            yield fault(DEVICES, why, self._mariadb(f"SHOW TRIGGERS FROM `{self.database}` LIKE '{DEVICES}'"))

    def _ask(self, sql: str, values: Values = ()) -> Result | MariaDBError:
        if time.monotonic() > self.until:
            raise StoreError("the database answers too slowly")
        return self.connection.side_query(sql, values)

    def _refuses(self, sql: str, number: int) -> bool:
        found = self._ask(sql)
        return isinstance(found, MariaDBError) and found.number == number

    def _modify(self, table: str, name: str, column: Column, written: str, *, like: Column | None = None) -> str:
        """The command that changes a column's type and leaves all else of it as it is."""
        of = like or column
        is_text = (column.collation and "(" in written) or written.lower().endswith(("text", "char"))
        words = [
            f"MODIFY `{name}` {written}",
            f"CHARACTER SET {of.charset} COLLATE {of.collation}" if is_text and of.collation else "",
            "" if column.nullable else "NOT NULL",
            "" if column.default is None else f"DEFAULT {column.default}",
            f"COMMENT {self.connection.quote(column.comment)}" if column.comment else "",
        ]
        if written.lower() == "timestamp" and column.nullable:
            words.insert(2, "NULL")
        return self._alter(table, " ".join(filter(None, words)))

    def _alter(self, table: str, change: str) -> str:
        return self._mariadb(f"ALTER TABLE `{self.database}`.`{table}` {change}")

    def _show(self, table: str) -> str:
        return self._mariadb(f"SHOW CREATE TABLE `{self.database}`.`{table}`; SHOW TRIGGERS FROM `{self.database}`")

    def _mariadb(self, sql: str) -> str:
        return cures.mariadb(self.connection.database, f"USE `{self.database}`; {sql}" if "VIEW" in sql else sql)


def _digits(column: Column) -> int:
    found = re.fullmatch(r"decimal\((\d+),(\d+)\).*", column.written.lower())
    return int(found[1]) - int(found[2]) if found else 0
