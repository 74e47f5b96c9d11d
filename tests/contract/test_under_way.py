"""What admins and their tools do to a server while wgsyncd is connected loses no byte and reads no half answer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import pytest

from tests.contract.test_store_refused import BAD, begun, poll
from tests.samples import calendar
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import DeviceId
from wgsyncd.errors import StoreError
from wgsyncd.ports import Store

NUMBERS = (5, BAD, 7, 8)
D = "customer_devices"


# What happens, and what ends it. The store may refuse between the two, with a StoreError, but not answer wrong.
EVENTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "gh-ost": ((f"CREATE TABLE _gho LIKE {D}", f"INSERT INTO _gho SELECT * FROM {D}",
                f"RENAME TABLE {D} TO _del, _gho TO {D}"), ("DROP TABLE _del",)),
    "columns in another order": ((f"ALTER TABLE {D} MODIFY wg_ip VARCHAR(64) AFTER id, ADD note INT FIRST",), ()),
    "the table is away for a moment": ((f"RENAME TABLE {D} TO _old",), (f"RENAME TABLE _old TO {D}",)),
    "a view of it": ((f"RENAME TABLE {D} TO _old", f"CREATE VIEW {D} AS SELECT * FROM _old"),
                     (f"DROP VIEW {D}", f"RENAME TABLE _old TO {D}")),
    "a view without definer": ((f"RENAME TABLE {D} TO _old", f"CREATE DEFINER = 'x'@'gone' VIEW {D} AS SELECT * FROM _old"),
                               (f"DROP VIEW {D}", f"RENAME TABLE _old TO {D}")),
    "small packets": (("SET GLOBAL max_allowed_packet = 1024",), ("SET GLOBAL max_allowed_packet = 16777216",)),
    "read-only": (("SET GLOBAL read_only = 1",), ("SET GLOBAL read_only = 0",)),
    "Oracle's mode": (("SET GLOBAL sql_mode = 'ORACLE'",), ("SET GLOBAL sql_mode = DEFAULT",)),
    "ANSI": (("SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'",), ("SET GLOBAL sql_mode = DEFAULT",)),
    "no text is NULL": (("SET GLOBAL sql_mode = 'EMPTY_STRING_IS_NULL'",), ("SET GLOBAL sql_mode = DEFAULT",)),
    "another zone": (("SET GLOBAL time_zone = '-11:00'",), ("SET GLOBAL time_zone = 'SYSTEM'",)),
    "a first statement": (("SET GLOBAL init_connect = 'SET NAMES latin1, autocommit = 0'",), ("SET GLOBAL init_connect = ''",)),
    "no commit by itself": (("SET GLOBAL autocommit = 0",), ("SET GLOBAL autocommit = 1",)),
    "reading alone": (("SET GLOBAL tx_read_only = 1",), ("SET GLOBAL tx_read_only = 0",)),
    "serializable": (("SET GLOBAL tx_isolation = 'SERIALIZABLE'",), ("SET GLOBAL tx_isolation = 'REPEATABLE-READ'",)),
    "another character set": (("SET GLOBAL character_set_server = 'utf32'", "SET GLOBAL collation_connection = 'latin1_bin'"),
                              ("SET GLOBAL character_set_server = 'utf8mb4'", "SET GLOBAL collation_connection = DEFAULT")),
    "few rows": (("SET GLOBAL sql_select_limit = 1", "SET GLOBAL max_join_size = 1"),
                 ("SET GLOBAL sql_select_limit = DEFAULT", "SET GLOBAL max_join_size = DEFAULT")),
    "no time": (("SET GLOBAL max_statement_time = 0.001",), ("SET GLOBAL max_statement_time = 0",)),
    "an index less": ((f"ALTER TABLE {D} DROP KEY wg_ip, DROP KEY public_key",), ()),
    "no primary key": ((f"ALTER TABLE {D} MODIFY id INT NOT NULL, DROP PRIMARY KEY",), ()),
    "repaired": ((f"OPTIMIZE TABLE {D}", f"ANALYZE TABLE {D}", "FLUSH TABLES"), ()),
    "compressed": ((f"ALTER TABLE {D} ROW_FORMAT = COMPRESSED, ALGORITHM = COPY",), ()),
    "triggers of a schema changer": ((f"CREATE TABLE _new LIKE {D}", f"CREATE TRIGGER c AFTER UPDATE ON {D} FOR EACH ROW"
                                      f" REPLACE INTO _new (id, device_id) VALUES (NEW.id, NEW.device_id)"), ("DROP TRIGGER c",)),
}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("is_new", [False, True], ids=["the same connection", "a new one"])
def test_what_happens_under_way(odd_tables: RealMikyunTables, event: str, is_new: bool) -> None:
    tables, (happens, ends) = odd_tables, EVENTS[event]
    store, state = begun(tables)
    before = seen(store)
    assert len(before) == 4
    state = poll(store, state, 1)
    turns = 1
    names = [name for one in happens for name in re.findall(r"SET GLOBAL (\w+)", one)]
    values = {name: tables.sql(f"SELECT @@global.{name} AS v")[0]["v"] for name in names}
    try:
        for one in happens:
            tables.sql(one)
        if is_new:
            store.close()
        with contextlib.suppress(StoreError):
            assert seen(store) == before
        with contextlib.suppress(StoreError):
            state = poll(store, state, 2)
            turns = 2
    finally:
        for one in ends:
            tables.sql(one)
        for name, value in values.items():
            tables.sql(f"SET GLOBAL {name} = %s", value)
    if turns == 1 and event != "no primary key":
        state = poll(store, store.load_state(calendar()), 2)
        turns = 2
    assert [tables.posted(number) for number in NUMBERS] == [
        (turns * (200 if number == BAD else 20), turns) for number in NUMBERS
    ]
    if event == "no primary key":
        with pytest.raises(StoreError, match="its primary key is not id alone"):
            store.snapshot()
    else:
        assert seen(store) == before


def seen(store: Store) -> dict[DeviceId, object]:
    return {row.id: (row.device, row.public_key, row.addresses, row.status) for row in store.snapshot().rows}


@pytest.mark.parametrize("away", [f"RENAME TABLE {D} TO _old", f"DROP TABLE {D}"])
def test_a_table_that_is_away_is_told_as_such(odd_tables: RealMikyunTables, away: str) -> None:
    """It is no right that lacks, so no admin is sent to grant one. An empty answer would remove everybody."""
    store, _ = begun(odd_tables)
    odd_tables.sql(away)
    for again in (store, odd_tables.store()):
        with pytest.raises(StoreError) as told:
            again.snapshot()
        assert "customer_devices' doesn't exist" in str(told.value)
        assert "grant" not in str(told.value)
