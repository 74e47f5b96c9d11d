"""In healthy operation, the comparison of months with days changes nothing and tells nothing."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import pytest

from tests.fakemachine import FakeMachine
from tests.fakes import Crash
from tests.node import Node
from tests.samples import TOKYO
from wgsyncd.core.model import Counters
from wgsyncd.core.state import Posting
from wgsyncd.errors import StoreError, StoreErrorCode

pytestmark = pytest.mark.usefixtures("usage_columns")
MIB = 2**20
OCTOBER = datetime(2026, 10, 1, tzinfo=TOKYO).timestamp()
WINDOWS = ("total", "24h", "month")


def node_of(*numbers: int) -> Node:
    made = Node()
    made.machine = FakeMachine()
    made.start()
    for number in numbers:
        made.device(number)
    made.cycle()
    for number in numbers:
        made.traffic(number, 10 * MIB, 3)
    made.account()
    return made


def at(node: Node, when: float) -> None:
    node.tick(when - node.now - 15)


def restart(node: Node) -> None:
    node.start()
    node.cycle()
    node.account()


def test_renamed_then_restarted() -> None:
    node = node_of(5)
    node.change(5, device_id="renamed")
    node._numbers["renamed"] = 5
    node.cycle()
    node.start()
    node.traffic(5, 7 * MIB)
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies


def test_renamed_while_stopped() -> None:
    node = node_of(5)
    node.change(5, device_id="renamed")
    node._numbers["renamed"] = 5
    node.start()
    node.cycle()
    node.traffic(5, 7 * MIB)
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies
    assert sum(s.rx for (n, _), s in node.days.items() if n == 5) in (7 * MIB, 17 * MIB)


def test_refused_over_two_months() -> None:
    node = node_of(5)
    node.refuse(5)
    node.traffic(5, 1)
    node.account()
    for month in (10, 11):
        at(node, datetime(2026, month, 1, tzinfo=TOKYO).timestamp() + 100)
        node.traffic(5, 1)
        node.account()
    node.tick(86400)
    node.traffic(5, 1)
    node.account()
    node.start()
    node.traffic(5, MIB)
    node.cycle()
    node.account()
    node.store.refused = {}
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies


@pytest.mark.parametrize("fates", [["ok", "before"], ["ok", "ok", "before"], ["ok", "crash before"], ["before"]])
@pytest.mark.parametrize("ahead", [0.5, 60.0])
def test_restart_between_posting_and_refresh_after_the_month_turned(ahead: float, fates: list[str]) -> None:
    """E.g. the row is locked at the refresh, or the database goes between the two."""
    node = node_of(5)
    at(node, OCTOBER + ahead)
    node.traffic(5, MIB)
    node.store.next_writes = list(fates)
    node.tick(0)
    with suppress(AssertionError, Crash):
        node.account()
    node.store.next_writes = []
    node.start()
    node.traffic(5, 7 * MIB)
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies
    node.right()


def test_outage_over_the_turn_and_a_restart_in_the_backlog() -> None:
    node = node_of(5)
    at(node, OCTOBER - 100)
    node.away((5, MIB), (5, MIB))
    node.tick(OCTOBER + 100 - node.now)
    node.traffic(5, MIB)
    node.account(fails=True)
    node.store.down = False
    node.store.next_writes = ["ok", "crash before"]
    node.survive()
    node.traffic(5, 7 * MIB)
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies


def test_new_node_of_a_dead_servers_rows_in_another_month() -> None:
    old = node_of(5)
    at(old, OCTOBER + 86400)
    old.traffic(5, 3 * MIB)
    old.account()
    at(old, datetime(2026, 11, 2, tzinfo=TOKYO).timestamp())
    new = Node(database=old.db, node="r650")
    new.now = old.now
    new._numbers, new.true = old._numbers, old.true
    new.cycle()
    new.traffic(5, MIB)
    new.account()
    assert new.posted == new.true
    assert not new.status.anomalies
    assert new.windows(5)[1].rx == MIB


def test_new_node_of_a_dead_servers_rows_one_month_only() -> None:
    old = node_of(5)
    at(old, OCTOBER + 86400)
    new = Node(database=old.db, node="r650")
    new.now = old.now
    new._numbers, new.true = old._numbers, old.true
    new.cycle()
    new.traffic(5, MIB)
    new.account()
    assert not new.status.anomalies
    assert new.windows(5)[1].rx == MIB


def test_row_unserved_for_months_comes_back() -> None:
    node = node_of(5, 6)
    node.change(5, wg_iface="wg9") if "wg_iface" in node.db.devices[node.admin.id(5)] else None
    node.cycle()
    for month in (10, 11):
        at(node, datetime(2026, month, 1, tzinfo=TOKYO).timestamp() + 100)
        node.traffic(6, 1)
        node.account()
    node.change(5, wg_iface="wg0")
    node.start()
    node.cycle()
    node.traffic(5, MIB)
    node.account()
    assert not node.status.anomalies
    assert node.windows(5)[1].rx == MIB


def test_told_again_and_again_while_a_row_is_locked() -> None:
    node = node_of(5, 6)
    node.change(5, rx_bytes_month=1)
    node.lock(5)
    node.tick(900)
    for _ in range(10):
        node.cycle()
        node.account()
    assert sum(action == "usage_anomaly" for action, _ in node.actions) <= 2, "once in each bucket"


def test_a_clock_that_was_ahead_over_the_turn() -> None:
    node = node_of(5)
    right = node.now
    node.now = OCTOBER + 86400
    node.traffic(5, MIB)
    node.account()
    node.now = right + 100
    node.start()
    node.traffic(5, MIB)
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies


def test_null_columns_and_another_perspective() -> None:
    node = node_of(5, 6)
    node.change(6, rx_bytes_month=None, tx_bytes_month=None)
    node.start()
    node.traffic(5, MIB)
    node.traffic(6, MIB)
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert not node.status.anomalies


def test_a_long_outage_of_two_turns_with_rolled_samples() -> None:
    node = node_of(5)
    for month in (10, 11):
        at(node, datetime(2026, month, 1, tzinfo=TOKYO).timestamp() - 300)
        node.away((5, MIB), (5, MIB), (5, MIB))
        node.start()
        node.store.down = True
        node.tick(600)
        node.traffic(5, MIB)
        node.account(fails=True)
    node.back()
    node.account()
    node.start()
    node.cycle()
    node.right()
    assert not node.status.anomalies


def test_quarantine_released_after_the_turn_and_a_restart() -> None:
    node = node_of(5)
    node.agent._accounting._max_rates["wg0"] = 8.0
    node.traffic(5, MIB)
    node.account()
    assert node.db.quarantine
    at(node, OCTOBER + 50)
    node.account()
    ((number, (_, delta)),) = node.db.quarantine.items()
    posting = Posting(
        delta.row_id, delta.device, node.calendar.allocate(Counters(delta.rx, delta.tx), delta.since, delta.until)
    )
    node.store.resolve_quarantine([number], [posting], [], node.calendar)
    node.start()
    node.cycle()
    node.account()
    node.right()
    assert not node.status.anomalies


def test_set_aside_over_the_turn_and_a_restart() -> None:
    node = node_of(5)
    node.lock(5)
    at(node, OCTOBER - 60)
    node.traffic(5, MIB)
    node.account()
    node.tick(100)
    node.traffic(5, MIB)
    node.account()
    node.start()
    node.cycle()
    node.unlock()
    node.start()
    node.traffic(5, MIB)
    node.cycle()
    node.account()
    node.right()
    assert not node.status.anomalies


@pytest.mark.parametrize("length", [64, 65])
def test_a_name_beyond_the_columns_of_the_own_tables_stops_nobody(
    length: int, mikyun_columns: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a device gets no peer, and doctor warns of it. MariaDB refuses its name (strict: 1406), as this store does."""
    node = Node()
    node.device(5)
    node.device(6, device_id="x" * length)
    plain = node.store._add_to_history

    def strict(db: object, posting: Posting) -> None:
        if len(posting.device) > 64:
            raise StoreError("1406: Data too long for column 'device'", StoreErrorCode.OTHER)
        plain(db, posting)

    monkeypatch.setattr(node.store, "_add_to_history", strict)
    node.cycle()
    node.change(6, rx_bytes_month=2**20)  # as the program before wgsyncd left it, or as another program sets it
    node.start()
    node.traffic(5, 1000)
    node.cycle()
    node.account()
    assert node.posted[5] == node.true[5]
