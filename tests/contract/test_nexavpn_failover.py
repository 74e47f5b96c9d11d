"""A primary of PostgreSQL dies, and its streaming standby takes over: two real servers, and a kernel in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from tests.fakemachine import FakeMachine
from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import key
from tests.wait import until
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Counters
from wgsyncd.stores.nexavpn.settings import nexavpn

PATIENCE = 60


class ReplicatedTables(NexavpnTables):
    """The tables on a primary with a standby. The configuration names both."""

    def __init__(self, primary: PrivatePostgres, standby: PrivatePostgres, stack: ExitStack) -> None:
        self.standby = standby
        self.hosts = tuple(str(one.directory) for one in (standby, primary))
        super().__init__(primary, stack)

    def settings(self, extra: str = "", **node: object) -> Settings:
        found = super().settings(extra, **node)
        own = nexavpn(found)
        database = msgspec.structs.replace(own.database, hosts=self.hosts)
        return msgspec.structs.replace(found, store=msgspec.structs.replace(own, database=database))

    def set(self, server: PrivatePostgres, name: str, value: str) -> None:
        with closing(server.admin(autocommit=True)) as admin:
            admin.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            admin.execute("SELECT pg_reload_conf()")

    def wait_for_standby(self) -> None:
        (at,) = self.sql("SELECT pg_current_wal_lsn()::text AS at")
        with closing(self.standby.admin(autocommit=True)) as standby:
            asked = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            until(lambda: standby.execute(asked, (at["at"],)).fetchall() == [(True,)], PATIENCE, "the standby has all")

    def replicate(self, *, synchronously: bool) -> None:
        self.set(self.server, "synchronous_standby_names", "*" if synchronously else "")
        wanted = [{"sync_state": "sync" if synchronously else "async"}]
        asked = "SELECT sync_state FROM pg_stat_replication"
        until(lambda: self.sql(asked) == wanted, PATIENCE, "the standby is asked")

    def cut_replication(self) -> None:
        """Let the standby receive nothing any more. What it has received stays."""
        self.wait_for_standby()
        self.set(self.standby, "primary_conninfo", "")
        asked = "SELECT count(*) AS some FROM pg_stat_replication"
        until(lambda: self.sql(asked) == [{"some": 0}], PATIENCE, "the standby receives nothing")

    def fail_over(self) -> None:
        self.server.stop("immediate")
        self.standby.promote()
        self.set(self.standby, "synchronous_standby_names", "")  # it has no standby of its own
        self.server = self.standby
        self.connect()


@pytest.fixture
def tables() -> Iterator[ReplicatedTables]:
    with ExitStack() as stack:
        primary = stack.enter_context(PrivatePostgres())
        standby = stack.enter_context(closing(primary.begin_standby()))
        yield ReplicatedTables(primary, standby, stack)


@pytest.fixture
def node(tables: ReplicatedTables, tmp_path: Path) -> Iterator[NexavpnNode]:
    """Yields a node that has posted bytes of its devices, and whose spool has posted a sample before."""
    made = NexavpnNode(tables, tmp_path)
    made.machine = FakeMachine()
    made.machine.clock = lambda: made.mono
    made.start()
    for number in range(5, 10):
        made.device(number)
    made.cycle()
    for number in range(5, 10):
        made.traffic(number, 1000, 10)
    made.change(9, status="blocked")
    made.tick()
    made.cycle()
    yield made
    made.store.close()


def go_on(node: NexavpnNode) -> None:
    node.traffic(6, 1)
    for _ in range(3):
        node.tick()
        if node.survive():
            node.account()


def test_nothing_is_lost_that_was_committed_synchronously(tables: ReplicatedTables, node: NexavpnNode) -> None:
    tables.replicate(synchronously=True)
    for number in range(5, 9):
        node.traffic(number, 7 * number, number)
    node.change(5, status="blocked")
    node.tick()
    node.cycle()
    before, peers = node.outcome(), node.kernel_of("wg0").keys()
    tables.fail_over()
    assert node.posted == node.true
    go_on(node)
    assert node.posted == node.true
    assert node.kernel_of("wg0").keys() == peers == set(map(key, (6, 7, 8)))
    assert node.outcome()["audit"] == before["audit"], "no commit was lost, so nothing is told again"
    assert not node.status.anomalies


@pytest.mark.parametrize("restarted", [False, True])
def test_what_asynchronous_replication_loses_is_posted_again(
    tables: ReplicatedTables, node: NexavpnNode, restarted: bool
) -> None:
    tables.replicate(synchronously=False)
    node.traffic(5, 500, 5)
    node.traffic(6, 70)
    node.change(5, status="blocked")
    tables.cut_replication()
    node.tick()
    node.cycle()
    assert node.posted == node.true
    assert key(5) not in node.kernel_of("wg0")
    tables.fail_over()
    assert (node.posted[5], node.posted[6]) == (Counters(1000, 10), Counters(1000, 10)), "the commits are lost"
    if restarted:
        node.start()
    go_on(node)
    assert node.posted == node.true, "the spool has the bytes of the removed peer, and the kernel all others"
    assert key(5) not in node.kernel_of("wg0")
    assert node.status.anomalies == {"went_back": 1}
    assert [action for action, _ in node.actions].count("gateway.node_went_back") == 1
