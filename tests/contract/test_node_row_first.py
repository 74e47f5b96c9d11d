"""Each transaction that moves bytes locks the row of its node first, so two of one node cannot wait for each other."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.committing import posted
from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import NOW, calendar, device_name, record
from tests.store_sides import RealMikyunTables
from tests.wait import until
from wgsyncd.core.quarantine import QuarantinedDelta
from wgsyncd.core.state import WriteBatch
from wgsyncd.demo.mariadb import PrivateServer
from wgsyncd.errors import StoreErrorCode
from wgsyncd.stores.mikyun.connection import Connection as MariaDB
from wgsyncd.stores.nexavpn.connection import Connection as Postgres

CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE)\b")  # FOR UPDATE, too
NODE = re.compile(r"\b(wgsyncd_nodes|wgsyncd\.node_states)\b")
BYTES = re.compile(r"\b(wgsyncd[_.](peers|totals|buckets|days|set_aside)|customer_devices)\b")


class Witness:
    """The statements that change or lock rows, by transaction."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transactions: list[list[str]] = [[]]
        for kind in (MariaDB, Postgres):
            for name in ("query", "execute", "try_change"):
                real = getattr(kind, name)

                def run(connection: Any, sql: str, *values: Any, real: Any = real, **options: Any) -> Any:
                    if sql.startswith(("START TRANSACTION", "BEGIN", "COMMIT", "ROLLBACK")):
                        self.transactions.append([])
                    elif CHANGES.search(sql):
                        self.transactions[-1].append(" ".join(sql.split()))
                    return real(connection, sql, *values, **options)

                monkeypatch.setattr(kind, name, run)

    @property
    def first(self) -> list[str]:
        """The first one of each transaction that touches baselines or bytes."""
        return [some[0] for some in self.transactions if any(BYTES.search(one) for one in some)]


@pytest.mark.parametrize("kind", ["mariadb", "nexavpn"])
def test_the_row_of_the_node_comes_first(
    mariadbd: PrivateServer, postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """New peers, the usual bytes, others, the next bucket, what is set aside, quarantine, other names, removals."""
    with ExitStack() as stack:
        tables: Any = RealMikyunTables(mariadbd, stack) if kind == "mariadb" else NexavpnTables(postgres, stack)
        tables.insert(5)
        store, five = tables.store(), tables.id(5)
        later = calendar(NOW + 900)
        store.load_state(calendar())
        witness = Witness(monkeypatch)

        def commit(writes: WriteBatch, at: Any = later) -> None:
            before = len(witness.first)
            store.commit(store.load_state(at), writes, at)
            assert len(witness.first) > before

        commit(WriteBatch(records=(record(5, row_id=five),)), calendar())
        for rx in (50, 100):
            moved = record(5, row_id=five, counters=(rx, 1))
            commit(WriteBatch((posted(five, 50, 1),), (moved,), counts_only=True), calendar())
        commit(WriteBatch((posted(five, 7, 1),)), calendar())
        commit(WriteBatch((posted(five, 7, 1),)))
        commit(WriteBatch(records=(record(5, row_id=five, counters=(100, 1)),)))
        with tables.locked(5):
            commit(WriteBatch((posted(five, 3, 1),), (record(5, row_id=five, counters=(103, 2)),), counts_only=True))
        store.post_set_aside(later, frozenset())
        delta = QuarantinedDelta("wg0", five, device_name(five), 9, 9, NOW, NOW)
        commit(WriteBatch(records=(record(5, row_id=five, counters=(104, 2)),), quarantined=(delta,)))
        before = len(witness.first)
        (held,) = store.quarantine()
        store.resolve_quarantine([held.id], [posted(five, 9, 9)], (), later)
        assert len(witness.first) > before
        commit(WriteBatch(renamed={"wg0": "wg9"}))
        commit(WriteBatch(removed=tuple(one.peer_id for one in store.load_state(later).records.each())))
        assert [one for one in witness.first if not NODE.search(one)] == []
        assert tables.posted(5).rx == 50 + 50 + 7 + 7 + 3 + 9


def test_a_daemon_posts_again_after_a_deadlock(postgres: PrivatePostgres, tmp_path: Path) -> None:
    """Another program breaks the rule, and the server undoes the daemon's transaction."""
    with ExitStack() as stack:
        tables = NexavpnTables(postgres, stack)
        node = NexavpnNode(tables, tmp_path)
        node.device(5)
        node.cycle()
        node.traffic(5, 1000, 10)
        node.account()
        node.traffic(5, 500, 5)
        node.tick()
        waiting = "SELECT count(*) AS some FROM pg_locks WHERE NOT granted"
        with closing(postgres.admin()) as other, ThreadPoolExecutor(1) as aside:
            other.execute("SET deadlock_timeout = '1min'")  # so the server finds it at the daemon's statement
            other.execute("SELECT FROM wgsyncd.totals FOR UPDATE")
            daemon = aside.submit(node.agent.account)
            until(lambda: tables.sql(waiting) == [{"some": 1}], 60, "the daemon waits")
            other.execute("SELECT FROM wgsyncd.node_states FOR UPDATE")
            error = daemon.exception()
            other.rollback()
        assert getattr(error, "sqlstate", None) == "40P01"
        assert getattr(error, "code", None) is StoreErrorCode.LOCKED
        node.account()
        assert node.posted == node.true
