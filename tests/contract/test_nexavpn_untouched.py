"""A node at work changes nothing of NexaVPN's tables but its own columns. A dump before and after its work shows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakemachine import FakeMachine
from tests.nexavpn_database import dump_of
from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import psk, text

OWN = {"devices": {"last_seen_at", "last_connected_at"}, "gateways": {"last_sync_at"}}

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def node(postgres: PrivatePostgres, tmp_path: Path) -> Iterator[NexavpnNode]:
    with ExitStack() as stack:
        made = NexavpnNode(NexavpnTables(postgres, stack), tmp_path)
        made.machine = FakeMachine()
        made.start()
        yield made


def content(tables: NexavpnTables) -> Rows:
    """The rows of all tables of the application, as JSON with sorted keys."""
    names = [one["name"] for one in tables.sql("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")]
    found = {name: tables.sql(f"SELECT to_jsonb(t) AS row FROM {name} t") for name in names}
    return {name: sorted((one["row"] for one in rows), key=json.dumps) for name, rows in found.items()}


def others(rows: Rows) -> Rows:
    """The rows without the columns that wgsyncd may write, and without its audit rows."""
    found = {
        name: [{column: value for column, value in row.items() if column not in OWN.get(name, ())} for row in some]
        for name, some in rows.items()
    }
    found["audit_logs"] = [row for row in rows["audit_logs"] if not row["event_type"].startswith("gateway.")]
    return found


@contextmanager
def untouched(node: NexavpnNode) -> Iterator[Callable[[], Rows]]:
    """Work of the node alone. Yields a function that returns the rows of now."""
    before, schema = content(node.tables), dump_of(node.tables.server, "postgres", "--schema-only")
    yield lambda: content(node.tables)
    assert others(content(node.tables)) == others(before)
    assert dump_of(node.tables.server, "postgres", "--schema-only") == schema
    kept = [row["id"] for row in content(node.tables)["audit_logs"]]
    assert {row["id"] for row in before["audit_logs"]} <= set(kept), "an audit row is never deleted"


def test_a_node_at_work_writes_its_own_columns_and_audit_rows_only(node: NexavpnNode) -> None:
    tables = node.tables
    for number in range(5, 10):
        node.device(number, seen=False)
    tables.policy("office", "allow", "10.7.0.0/16", to=[("device", tables.id(5))])
    tables.sql("INSERT INTO audit_logs (id, event_type, entity_type, status, message)"
               " VALUES (gen_random_uuid(), 'user.login', 'user', 'success', 'alice')")  # fmt: skip
    with untouched(node) as rows:
        node.cycle()
        for number in range(5, 9):
            node.traffic(number, 1000, 2000)
            node.shake(number)
        node.account()
        node.agent.beat()
        assert None not in {row["last_sync_at"] for row in rows()["gateways"]}
        assert sum(row["last_seen_at"] is not None for row in rows()["devices"]) == 4
        assert {"gateway.peer_added", "user.login"} <= {row["event_type"] for row in rows()["audit_logs"]}
    node.change(5, status="blocked")
    node.change(6, public_key=text(60), preshared_key=tables.seal(6, psk(6)))
    node.change(7, interface="wg1", address="10.251.0.7")
    node.change(8, preshared_key="v1:test:junk")
    tables.sql("UPDATE policies SET effect = 'maybe'")
    tables.delete(9)
    del node.true[9]
    with untouched(node):
        node.cycle()
        node.cycle()
        node.agent.purge()
        node.start()
        node.tick(86400)
        node.cycle()
        node.account()
        node.agent.beat()
    assert {"gateway.peer_removed", "gateway.row_rejected", "gateway.policy_faulty"} <= {
        one["event_type"] for one in tables.logs()
    }
    assert node.posted == node.true
