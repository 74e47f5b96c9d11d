"""A dump of PostgreSQL that is put back while a daemon runs: in one transaction, by statements, and table by table."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import groupby
from pathlib import Path

import pytest

from tests.fakemachine import FakeMachine
from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from wgsyncd.core.state import WriteBatch
from wgsyncd.errors import StoreError

MIB = 2**20
TABLES = ("boots", "buckets", "days", "interfaces", "node_states", "peers", "totals")  # in the order of a dump


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server of its own, because a dump makes the tables again."""
    with PrivatePostgres() as made:
        yield made


@pytest.fixture
def tables(server: PrivatePostgres) -> Iterator[NexavpnTables]:
    with ExitStack() as stack:
        yield NexavpnTables(server, stack)


@pytest.fixture
def node(tables: NexavpnTables, tmp_path: Path) -> NexavpnNode:
    """A node that has posted bytes."""
    made = NexavpnNode(tables, tmp_path)
    made.machine = FakeMachine()
    made.start()
    made.device(5)
    made.cycle()
    made.traffic(5, 10 * MIB, 3)
    made.account()
    return made


def _dump(tables: NexavpnTables, *options: str) -> str:
    """A script that makes wgsyncd's tables again, as pg_dump writes it."""
    argv = ["pg_dump", "-h", str(tables.server.directory), "-U", "postgres", "-n", "wgsyncd", "--inserts", *options]
    found = subprocess.run([*argv, "postgres"], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return re.sub(r"(?m)^(--.*|\\(un)?restrict .*)?\n", "", found.stdout)


def _run(tables: NexavpnTables, statements: Iterable[str]) -> None:
    """Run some of a dump. It changes settings of the session, which is also the test's."""
    for one in statements:
        tables.sql(one)
    tables.sql("RESET ALL")


def _move_and_poll(node: NexavpnNode) -> None:
    """Let a byte move, and the daemon meet the tables as they are now."""
    node.traffic(5, 1)
    node.tick()
    with suppress(StoreError):
        node.agent.account()


def _judge(node: NexavpnNode) -> None:
    """Every byte must be in the totals and in the days once, and in the buckets of the last day."""
    for _ in range(2):
        node.traffic(5, 5)
        node.cycle()
        node.account()
    assert node.posted == node.true
    for history in (node.tables.days(), node.tables.buckets()):
        assert tuple(map(sum, zip(*history.values(), strict=True))) == node.true[5]


def test_a_dump_that_is_put_back_in_one_transaction(tables: NexavpnTables, node: NexavpnNode) -> None:
    """The tables are other ones afterwards. A connection that knew the old ones goes on."""
    script = _dump(tables, "--clean", "--if-exists")
    node.traffic(5, 30 * MIB, 4)
    node.account()
    node.traffic(5, MIB)
    _run(tables, [f"BEGIN; {script} COMMIT"])
    _move_and_poll(node)
    _judge(node)
    assert node.status.anomalies == {"went_back": 1}


def test_a_daemon_polls_between_the_statements_of_a_dump(tables: NexavpnTables, node: NexavpnNode) -> None:
    """Between those of different kinds: DROP, CREATE, INSERT, keys, rights. The rights come last, so it waits."""
    statements = _dump(tables, "--clean", "--if-exists").split(";\n")
    node.traffic(5, 30 * MIB, 4)
    node.account()
    for _, some in groupby(statements, key=lambda one: one.split(maxsplit=2)[:2]):
        _run(tables, some)
        _move_and_poll(node)
    _judge(node)
    assert node.status.anomalies == {"went_back": 1}


@pytest.mark.parametrize("usual", [True, False])
@pytest.mark.parametrize("last", TABLES)
def test_a_daemon_posts_between_two_tables_of_a_dump(
    tables: NexavpnTables, node: NexavpnNode, monkeypatch: pytest.MonkeyPatch, last: str, usual: bool
) -> None:
    """Each table is replaced in one moment, in the order of a dump. ``last``: the last one that is back meanwhile.

    ``usual``: the bytes come with the baselines of known peers, as they nearly always do.
    """
    for name in TABLES:
        tables.sql(f"CREATE TEMPORARY TABLE dump_{name} AS SELECT * FROM wgsyncd.{name}")
    node.traffic(5, 30 * MIB, 4)
    node.account()
    if not usual:
        monkeypatch.setattr(WriteBatch, "is_paired", property(lambda _: False))
    for name in TABLES:
        tables.sql(f"DELETE FROM wgsyncd.{name}; INSERT INTO wgsyncd.{name} SELECT * FROM dump_{name}")
        if name in (last, TABLES[-1]):  # the first poll after the dump may meet another revision
            _move_and_poll(node)
    _judge(node)
