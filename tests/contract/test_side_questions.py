"""What only informs fails by itself: it is bounded in time, told once with its own name, and tried again."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pymysql
import pytest
from structlog.testing import capture_logs

from tests.node import local
from tests.samples import NOW, TOKYO, calendar, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.identity import Identity
from wgsyncd.core.state import Allocation, Condition, Posting, WriteBatch
from wgsyncd.stores.mikyun import trail
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.facts import examine
from wgsyncd.stores.mikyun.store import MariaDBStore

VIEW = "CREATE OR REPLACE {definer} VIEW v_parent_conflicts AS {query}"
GOOD = (
    "SELECT contract_id, COUNT(*) AS parent_count FROM customer_devices WHERE is_parent GROUP BY 1 HAVING COUNT(*) > 1"
)
CONFLICTS = frozenset((Condition("parent_conflict", "0001", "0001", "2"),))
UNSEEN = "v_parent_conflicts cannot be read: parent conflicts are not watched"

VIEWS = {
    # name: (the account that made the view, what it asks, a part of the reason)
    "its maker is gone": ("DEFINER = 'panel'@'10.9.8.7'", GOOD, "is gone: make it again"),
    "its maker may nothing": ("DEFINER = 'poor'@'localhost'", GOOD, "1356"),
    "stand-in of a dump": ("", "SELECT NULL AS contract_id, NULL AS parent_count", "no conflict"),
    "stand-in of a later dump": ("", "SELECT 1 AS contract_id, 1 AS parent_count", "no conflict"),
    "words": ("", "SELECT '0001' AS contract_id, 'two' AS parent_count", "no conflict"),
    "other columns": ("", "SELECT 1 AS contract", "1054"),
    "slow": ("", "SELECT '0001' AS contract_id, SLEEP(20) + 2 AS parent_count", "1969"),
    "broken": (
        "",
        "SELECT contract_id, COUNT(*) + parent_until AS parent_count FROM customer_devices GROUP BY 1",
        "1356",
    ),
}


def look(store: MariaDBStore) -> tuple[frozenset[Condition] | None, list[str]]:
    """Returns the conditions of a snapshot that has the row, and why the view was not read, where the log says that."""
    with capture_logs() as lines:
        seen = store.snapshot()
    assert [one.id for one in seen.rows] == [5, 6]
    return seen.conditions, [line["why"] for line in lines if line["event"] == UNSEEN]


@pytest.mark.parametrize(("definer", "query", "why"), VIEWS.values(), ids=VIEWS.keys())
def test_a_view_that_cannot_be_read_hides_no_row(
    odd_tables: RealMikyunTables, definer: str, query: str, why: str
) -> None:
    for number in (5, 6):
        odd_tables.insert(number, public_key=text(number), is_parent=1)
    odd_tables.sql("CREATE USER IF NOT EXISTS 'poor'@'localhost'")
    odd_tables.sql("ALTER TABLE customer_devices ADD parent_until INT")
    odd_tables.sql(VIEW.format(definer=definer, query=query))
    if why == "1356" and not definer:
        odd_tables.sql("ALTER TABLE customer_devices DROP parent_until")
    store, now = odd_tables.store(), [1000.0]
    store._conflicts._clock = lambda: now[0]
    conditions, (said,) = look(store)
    assert conditions is None
    assert why in said
    assert "its password" not in said
    now[0] += 59
    odd_tables.sql(VIEW.format(definer="", query=GOOD))
    assert look(store) == (None, []), "it is not asked again yet"
    now[0] += 1
    assert look(store) == (CONFLICTS, [])


def test_a_view_that_fails_again_and_again_is_told_once(odd_tables: RealMikyunTables) -> None:
    for number in (5, 6):
        odd_tables.insert(number, is_parent=1)
    store, now = odd_tables.store(), [1000.0]
    store._conflicts._clock = lambda: now[0]
    assert look(store) == (CONFLICTS, [])
    odd_tables.sql("DROP VIEW v_parent_conflicts")
    odd_tables.update(5, is_parent=0)
    said = [look(store)[1] for now[0] in (2000.0, 3000.0, 4000.0)]
    assert [len(one) for one in said] == [1, 0, 0]
    assert "1146" in said[0][0]
    odd_tables.sql(VIEW.format(definer="", query=GOOD))
    now[0] += 1000
    assert look(store) == (frozenset(), [])
    odd_tables.sql("DROP VIEW v_parent_conflicts")
    odd_tables.update(5, is_parent=1)
    assert len(look(store)[1]) == 1, "new trouble is told anew"


# -- the audit trail

LOGS = {
    # name: (what the application's table is like, the message and its target that it has at once, or None)
    "latin1": ("CONVERT TO CHARACTER SET latin1", ("Peer added on wg0 with 10.200.0.5", "??-5")),
    "ascii": ("CONVERT TO CHARACTER SET ascii", ("Peer added on wg0 with 10.200.0.5", "??-5")),
    "a message of latin1": (
        "MODIFY message TEXT CHARACTER SET latin1",
        ("Peer added on wg0 with 10.200.0.5", "端末-5"),
    ),
    "Japanese of an older time": ("CONVERT TO CHARACTER SET ujis", ("wg0 にピアを追加しました(10.200.0.5)", "端末-5")),
    "short columns": ("MODIFY message VARCHAR(10), MODIFY target_id VARCHAR(3)", ("wg0 にピアを追加", "端末-")),
    "a column without a default": ("ADD admin_id INT NOT NULL", ("wg0 にピアを追加しました(10.200.0.5)", "端末-5")),
    "other words": ("MODIFY action_type ENUM('login', 'logout')", ("wg0 にピアを追加しました(10.200.0.5)", "端末-5")),
    "a foreign key": ("ADD admin_id BIGINT NOT NULL, ADD FOREIGN KEY (admin_id) REFERENCES contracts (id)", None),
    "a rule": ("ADD CHECK (target_type <> 'device')", None),
    "another column": ("CHANGE message text TEXT", None),
    "no table": ("RENAME TO admin_logs_old", None),
}


def trailing(tables: RealMikyunTables) -> tuple[MariaDBStore, list[float]]:
    """Returns a store that writes Japanese, and the clock of its trail."""
    store, now = tables.store(), [1000.0]
    store._trail = trail.AuditTrail("r640", TOKYO, "ja", lambda: now[0])
    return store, now


def added(*numbers: int) -> WriteBatch:
    facts = [AuditFacts(interface="wg0", address=f"10.200.0.{number}") for number in numbers]
    return WriteBatch(
        audit=tuple(AuditEvent(AuditAction.PEER_ADDED, f"端末-{n}", f) for n, f in zip(numbers, facts, strict=True))
    )


def write(store: MariaDBStore, *numbers: int) -> list[str]:
    """Writes audit rows together with a posting. Returns what the log tells about the trail."""
    with capture_logs() as lines:
        node_state = store.load_state(calendar())
        posting = Posting(5, "0001-DEV-005", (Allocation(calendar().bucket, calendar().today, 1, 2),), None)
        store.commit(node_state, added(*numbers) + WriteBatch(postings=(posting,)), calendar())
    return [line["event"] for line in lines if "audit" in line["event"]]


def kept(tables: RealMikyunTables) -> list[str]:
    return [row["message"] for row in tables.sql("SELECT message FROM wgsyncd_unwritten ORDER BY id")]


def has(tables: RealMikyunTables) -> list[tuple[str, str]]:
    return [(one.message, one.target_id) for one in tables.logs()]


WAITING = "admin_logs refuses audit rows: they wait in wgsyncd_unwritten"
AGAIN = "admin_logs takes audit rows again"


@pytest.mark.parametrize(("alter", "row"), LOGS.values(), ids=LOGS.keys())
def test_an_audit_row_stops_nothing(odd_tables: RealMikyunTables, alter: str, row: tuple[str, str] | None) -> None:
    odd_tables.insert(5)
    odd_tables.sql(f"ALTER TABLE admin_logs {alter}")
    store, now = trailing(odd_tables)
    assert write(store, 5) == ([] if row else [WAITING])
    assert odd_tables.posted(5) == (1, 2)
    if row:
        assert has(odd_tables) == [row]
        return
    assert kept(odd_tables) == ["wg0 にピアを追加しました(10.200.0.5)"]
    assert write(store, 6) == [], "it is told once"
    odd_tables.sql("DROP TABLE IF EXISTS admin_logs")
    odd_tables.sql("CREATE TABLE admin_logs (id BIGINT AUTO_INCREMENT PRIMARY KEY, action_type TEXT, target_type TEXT,"
                   " target_id TEXT, message TEXT, created_at DATETIME)")  # fmt: skip
    now[0] += 61
    assert write(store) == [AGAIN]
    assert has(odd_tables) == [(f"wg0 にピアを追加しました(10.200.0.{n})", f"端末-{n}") for n in (5, 6)]
    (at,) = {str(row["created_at"]) for row in odd_tables.sql("SELECT created_at FROM admin_logs")}
    assert at == local(NOW), "the time is that of the event"
    assert kept(odd_tables) == []
    assert odd_tables.posted(5) == (3, 6)


def test_one_audit_row_that_is_refused_holds_up_no_other(odd_tables: RealMikyunTables) -> None:
    odd_tables.insert(5)
    odd_tables.sql("ALTER TABLE admin_logs ADD CHECK (target_id <> '端末-2')")
    store, now = trailing(odd_tables)
    assert write(store, 1, 2, 3) == [WAITING]
    assert write(store, 4) == [AGAIN]
    now[0] += 61
    write(store)
    assert [target for _, target in has(odd_tables)] == ["端末-4", "端末-1", "端末-3"]
    assert kept(odd_tables) == ["wg0 にピアを追加しました(10.200.0.2)"]
    other, _ = trailing(odd_tables)
    odd_tables.sql("DELETE FROM admin_logs")
    odd_tables.sql("ALTER TABLE admin_logs DROP CONSTRAINT CONSTRAINT_1")
    write(other)
    assert has(odd_tables) == [("wg0 にピアを追加しました(10.200.0.2)", "端末-2")], "a daemon that starts finds them"


def test_a_heartbeat_writes_what_waits_for_the_trail(odd_tables: RealMikyunTables) -> None:
    """On a quiet node nothing is committed for long. The doctor names what waits meanwhile."""
    odd_tables.insert(5)
    odd_tables.sql("ALTER TABLE admin_logs ADD CONSTRAINT closed CHECK (FALSE)")
    store, now = trailing(odd_tables)
    assert write(store, 1) == [WAITING]
    assert examine(odd_tables._settings("")).unwritten == store.unwritten == 1
    odd_tables.sql("ALTER TABLE admin_logs DROP CONSTRAINT closed")
    now[0] += 61
    store.beat(Identity("m", "n", "b"), 1.0)
    assert len(has(odd_tables)) == 1
    assert examine(odd_tables._settings("")).unwritten == store.unwritten == 0


def test_what_waits_for_the_trail_is_bounded(odd_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "MOST_KEPT", 3)
    odd_tables.insert(5)
    odd_tables.sql("RENAME TABLE admin_logs TO elsewhere")
    store, _ = trailing(odd_tables)
    write(store, 1, 2)
    assert write(store, 3, 4, 5) == ["audit rows are lost: too many wait for admin_logs"]
    assert [one.rpartition(".")[2] for one in kept(odd_tables)] == ["3)", "4)", "5)"]
    assert store.unwritten == 3
    odd_tables.sql("ALTER TABLE wgsyncd_unwritten ADD CHECK (target_id <> '端末-6')")
    assert write(store, 6) == ["audit rows are lost: wgsyncd_unwritten refuses them too"]
    assert odd_tables.posted(5) == (3, 6)


@pytest.mark.parametrize("how", ["LOCK TABLES admin_logs WRITE", "a trigger"])
def test_a_trail_that_is_slow_is_waited_for_once(odd_tables: RealMikyunTables, how: str) -> None:
    odd_tables.insert(5)
    if how == "a trigger":
        odd_tables.sql("CREATE TRIGGER slow BEFORE INSERT ON admin_logs FOR EACH ROW SET NEW.message = SLEEP(20)")
    store, now = trailing(odd_tables)
    store.load_state(calendar())
    if how != "a trigger":
        odd_tables.sql(how)
    try:
        assert write(store, 1) == [WAITING]
        statements: list[str] = []
        side_query = Connection.side_query

        def listening(self: Connection, sql: str, *args: Any, **more: Any) -> Any:
            statements.append(sql)
            return side_query(self, sql, *args, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "side_query", listening)
            assert write(store, 2) == []
        assert not [one for one in statements if "INTO admin_logs" in one]
    finally:
        odd_tables.sql("UNLOCK TABLES")
        with suppress(pymysql.MySQLError):
            odd_tables.sql("DROP TRIGGER slow")
    now[0] += 61
    assert write(store, 3) == [AGAIN]
    assert sorted(target for _, target in has(odd_tables)) == ["端末-1", "端末-2", "端末-3"]
    assert odd_tables.posted(5) == (3, 6)
