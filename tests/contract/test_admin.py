"""An admin's total and the daemon's bytes are both kept, no matter which is written first.

The tests run the whole agent on both stores.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.fakes import FakeWireGuard
from tests.fakespool import FakeSpool
from tests.node import CONFIG
from tests.samples import NETWORKS, NOW, address, key, text
from tests.store_sides import MikyunTables, RealMikyunTables
from tests.wait import until
from wgsyncd.config.load import parse
from wgsyncd.core.state import CommitResult, NodeState, WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.ports import Clock, Store


class Between:
    """Wraps a store, so that `then` happens between the daemon's reads and its commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.then: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        if self.then is not None:
            self.then()
        return self._store.commit(node_state, writes, calendar)


class Desk:
    """Holds a daemon with one device in use, and the table that an admin changes."""

    def __init__(self, tables: MikyunTables) -> None:
        self.tables, self.now = tables, NOW
        tables.insert(5, status="active", wg_iface="wg0", wg_ip=address(5), public_key=text(5),
                    first_handshake_at="2026-01-02 00:00:00", last_handshake_at="2026-01-02 00:00:00",
                    rx_bytes_total=5000, tx_bytes_total=500)  # fmt: skip
        self.store = Between(tables.store())
        self.wg = FakeWireGuard(*NETWORKS)
        clock = Clock(lambda: self.now, lambda: self.now)
        self.agent = Agent(parse(CONFIG), self.wg, self.store, FakeSpool(), DaemonStatus(), clock, AgentState())
        self.agent.reconcile()

    def work(self, rx: int, tx: int) -> None:
        """Moves bytes, and lets the daemon make its next poll."""
        self.wg.traffic("wg0", key(5), rx, tx)
        self.now += 15
        self.agent.account()

    def totals(self) -> tuple[Any, Any]:
        five = self.tables.device(5)
        return five["rx_bytes_total"], five["tx_bytes_total"]


@pytest.mark.parametrize("figure", [0, 123, None])
def test_a_figure_that_is_set_between_read_and_commit_stands(tables: MikyunTables, figure: int | None) -> None:
    """The daemon does not overwrite the total with its remembered value."""
    desk = Desk(tables)
    desk.work(70, 7)
    assert desk.totals() == (5070, 507)
    desk.store.then = lambda: tables.update(5, rx_bytes_total=figure, tx_bytes_total=figure)
    desk.work(1000, 100)
    desk.store.then = None
    assert desk.totals() == ((figure or 0) + 1000, (figure or 0) + 100)
    desk.work(4, 3)
    desk.agent.reconcile()
    assert desk.totals() == ((figure or 0) + 1004, (figure or 0) + 103)
    assert (tables.device(5)["rx_bytes_24h"], tables.device(5)["rx_bytes_month"]) == (1074, 1074)


def test_a_device_whose_figures_are_all_set_to_zero_is_not_taken_for_a_new_one(tables: MikyunTables) -> None:
    """Bytes that were counted before are not counted again, even by a daemon that starts later."""
    desk = Desk(tables)
    desk.work(70, 7)
    tables.update(5, rx_bytes_total=0, tx_bytes_total=0, last_handshake_at=None, first_handshake_at=None)
    clock = Clock(lambda: desk.now, lambda: desk.now)
    desk.agent = Agent(parse(CONFIG), desk.wg, desk.store, FakeSpool(), DaemonStatus(), clock, AgentState())
    desk.agent.reconcile()
    assert desk.totals() == (0, 0)
    desk.work(5, 5)
    assert desk.totals() == (5, 5)


def test_an_admins_open_transaction_and_the_daemons_booking(real_tables: RealMikyunTables) -> None:
    """The admin sets the total and commits later. The bytes of the time between are added to that total once."""
    tables = real_tables
    desk = Desk(tables)
    tables.sql("START TRANSACTION")
    tables.update(5, rx_bytes_total=0, tx_bytes_total=0)
    desk.work(70, 7)
    desk.work(30, 3)
    tables.sql("COMMIT")
    assert desk.totals() == (0, 0)
    desk.work(0, 0)
    assert desk.totals() == (100, 10)
    daemon = threading.Thread(target=desk.work, args=(1, 1))
    tables.sql("START TRANSACTION")
    tables.update(5, rx_bytes_total=40)
    daemon.start()
    until(lambda: not daemon.is_alive(), 20, "the daemon goes on")
    tables.sql("ROLLBACK")
    desk.work(0, 0)
    assert desk.totals() == (101, 11)
