"""Other connections wait only briefly for a row that the daemon posts to."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from tests.committing import BUCKET, DAY, posted
from tests.samples import EPOCH, NOW, calendar, device_name, key, record, text
from tests.store_sides import RealMikyunTables
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import DeviceId, Transition
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import Condition, InterfaceCheckpoint, Posting, WriteBatch
from wgsyncd.demo.mariadb import DATABASE, PrivateServer
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection

_FREE = "SELECT COUNT(*) FROM customer_devices WHERE id IN (5, 6) FOR UPDATE SKIP LOCKED"


class Witness:
    """Records each statement, and how many of the two rows another connection could lock before it."""

    def __init__(self, server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actual = pymysql.connect(**server.connect_args, database=DATABASE, autocommit=True)
        self.seen: list[tuple[str, int]] = []
        for name in ("query", "execute", "side_query", "try_change"):
            self._wrap(name, getattr(Connection, name), monkeypatch)

    def _wrap(self, name: str, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(connection: Connection, sql: str, *values: Any, **settings: Any) -> Any:
            self.seen.append((" ".join(sql.split()), self._free()))
            return call(connection, sql, *values, **settings)

        monkeypatch.setattr(Connection, name, run)

    def _free(self) -> int:
        with self.actual.cursor() as cursor:
            cursor.execute(_FREE)
            (row,) = cursor.fetchall()
            return int(row[0])


@pytest.fixture
def witness(mariadbd: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    with ExitStack() as stack:
        one = Witness(mariadbd, monkeypatch)
        stack.callback(one.actual.close)
        yield one


def test_what_is_the_nodes_own_is_written_before_rows_are_locked(
    real_tables: RealMikyunTables, witness: Witness
) -> None:
    for number in (5, 6):
        real_tables.insert(number, public_key=text(number))
    store = real_tables.store()
    before, rows = store.load_state(calendar()), store.snapshot().rows
    first = Transition(next(one for one in rows if one.id == 6), TransitionKind.EXPIRE, NOW)
    writes = WriteBatch(
        postings=(posted(5, 50, 5), posted(6, 60, 6)),
        records=(record(5), record(6)),
        removed=(("wg0", key(9)),),
        checkpoints={"wg0": InterfaceCheckpoint(EPOCH, NOW)},
        quarantined=(QuarantinedDelta("wg0", 5, "d", 1, 1, NOW - 9, NOW),),
        transitions=((first, AuditEvent(AuditAction.DEVICE_EXPIRED, "d", AuditFacts(at=NOW))),),
        started=frozenset((Condition("row_rejected", "9", "d", "bad_key"),)),
        audit=(AuditEvent(AuditAction.INTERFACE_MISSING, "d"),),
    )
    del witness.seen[:]
    assert store.commit(before, writes, calendar()).set_aside == frozenset()
    locked = [sql for sql, free in witness.seen if free < 2]
    assert "SELECT" in locked.pop(0), "the condition of the step"
    assert [sql.split()[0] for sql in locked] == ["SET", "SET", "SELECT", "UPDATE", "INSERT", "COMMIT"]
    for sql, what in zip(
        locked, ("status = 'expired'", "rx_bytes_total", "wgsyncd_peers", "open_rx", "admin_logs"), strict=False
    ):
        assert what in sql, "the step and its audit row, the columns and their pieces"
    assert len(witness.seen) - len(locked) >= 8, "all else was written before"


def test_a_device_that_somebody_has_with_all_its_figures_is_left_out_at_once(
    real_tables: RealMikyunTables, mariadbd: PrivateServer
) -> None:
    """Another node or an admin has locked these rows, and that connection hangs."""
    for number in (5, 6):
        real_tables.insert(number)
    store = real_tables.store()
    writes = WriteBatch(postings=(posted(5, 50, 5), posted(6, 60, 6)), records=(record(5), record(6)))
    node_state, _, _ = store.commit(store.load_state(calendar()), writes, calendar())
    with pymysql.connect(**mariadbd.connect_args, database=DATABASE) as actual, actual.cursor() as cursor:
        for table in ("customer_devices", "wgsyncd_buckets", "wgsyncd_days"):
            column = "device_id" if table == "customer_devices" else "device"
            cursor.execute(f"SELECT * FROM {table} WHERE {column} = %s FOR UPDATE", (device_name(5),))
        node_state, _, set_aside = store.commit(node_state, writes, calendar())
        assert set_aside == {5}
        assert store.refresh(calendar()) == (0, 0)
        actual.rollback()
    assert [real_tables.device(number)["rx_bytes_total"] for number in (5, 6)] == [50, 120]
    assert store.post_set_aside(calendar(), frozenset()) == ()
    assert real_tables.device(5)["rx_bytes_total"] == 100
    assert store.commit(node_state, WriteBatch(postings=(posted(5, 7, 7),)), calendar()).set_aside == frozenset()


ROWS = range(1, 41)
TURNS = 25


def test_two_nodes_an_admin_and_the_application_never_deadlock(
    real_tables: RealMikyunTables, mariadbd: PrivateServer
) -> None:
    """Both nodes post their own bytes to the same rows, as if devices move between them.

    They also refresh the windows.
    """
    for number in ROWS:
        real_tables.insert(number)
    sums: dict[str, Counter[DeviceId]] = {"a": Counter(), "b": Counter(), "admin": Counter()}
    done = threading.Event()

    def daemon(node: str) -> None:
        store = real_tables.store(node=node)
        node_state = store.load_state(calendar())
        for turn in range(TURNS):
            # Each turn uses a bucket that is new for both nodes, and an order that differs from the order of the ids.
            rx = 1 + turn % 3
            some = [_of_turn(posted(number, rx, 2 * rx), turn) for number in ROWS]
            some.sort(key=lambda one: (one.row_id % 5 == turn % 5, one.row_id))  # type: ignore[operator]
            mine = tuple(record(number, rx=turn) for number in ROWS)
            held = (QuarantinedDelta("wg0", 1 + turn % len(ROWS), "d", 1, 1, NOW - 9, NOW),)
            writes = WriteBatch(postings=tuple(some), records=mine, quarantined=held)
            node_state = store.commit(node_state, writes, calendar()).node_state
            for number in ROWS:
                sums[node][number] += rx
            store.post_set_aside(calendar(), frozenset())
            store.refresh(calendar())
        while store.post_set_aside(calendar(), frozenset()):
            pass

    def application() -> None:
        with pymysql.connect(**mariadbd.connect_args, database=DATABASE) as actual, actual.cursor() as cursor:
            while not done.is_set():
                for number in random.sample(ROWS, 3):
                    cursor.execute("UPDATE customer_devices SET device_name = 'x' WHERE id = %s", (number,))
                actual.rollback()

    def admin() -> None:
        store = real_tables.store(node="a")
        while not done.is_set():
            for held in store.quarantine():
                number = held.delta.row_id or 0
                try:
                    store.resolve_quarantine([held.id], [posted(number, 1, 2)], [], calendar())
                except StoreError as error:
                    assert str(error) == f"another program has locked row {number}: try again"
                else:
                    sums["admin"][number] += 1

    with ThreadPoolExecutor() as pool:
        others = [pool.submit(application), pool.submit(admin)]
        nodes = [pool.submit(daemon, node) for node in ("a", "b")]
        wait(nodes)
        done.set()
        for one in (*nodes, *others):
            one.result()
    assert sums["admin"]
    for number in ROWS:
        rx = sum(one[number] for one in sums.values())
        assert rx - sums["admin"][number] == 2 * sum(1 + turn % 3 for turn in range(TURNS))
        assert real_tables.device(number)["rx_bytes_total"] == rx
        assert real_tables.days()[device_name(number), DAY] == (rx, 2 * rx)


def _of_turn(one: Posting, turn: int) -> Posting:
    return replace(one, allocations=tuple(replace(piece, bucket=BUCKET + turn) for piece in one.allocations))
