"""One half of the database is put back from a dump: wgsyncd's own tables, or the columns of the devices."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.fakemachine import FakeMachine
from tests.node import Node
from wgsyncd.core.model import Counters
from wgsyncd.engine import state_cache
from wgsyncd.errors import RevisionConflict

pytestmark = pytest.mark.usefixtures("usage_columns")
MIB = 2**20
APPLICATION = ("devices", "contracts", "logs")


def dump(node: Node) -> dict[str, Any]:
    return {name: deepcopy(value) for name, value in vars(node.db).items() if name != "logs"}


def put_back(node: Node, tables: dict[str, Any], *, own: bool = True, columns: bool = True) -> None:
    parts = [name for name in tables if (columns if name in APPLICATION else own)]
    node.db.__dict__.update(deepcopy({name: tables[name] for name in parts}))


def go_on(node: Node, *, running: bool, deaths: int = 0) -> None:
    """Two cycles of the daemon that runs, or of one that starts now, after others that died after their claim."""
    if running:
        with pytest.raises(RevisionConflict):
            node.agent.account()
    else:
        node.store.next_writes = ["crash after"] * deaths
        node.start()
        for _ in range(deaths):
            assert not node.survive()
    node.cycle()
    node.account()


@pytest.fixture
def node() -> Node:
    """Returns a node whose device 5 has moved 10 MiB, and device 6 nothing."""
    made = Node()
    made.machine = FakeMachine()
    made.start()
    for number in (5, 6):
        made.device(number)
    made.cycle()
    made.traffic(5, 10 * MIB, 3)
    made.account()
    return made


@pytest.mark.parametrize(("running", "deaths"), [(True, 0), (False, 0), (False, 5)])
def test_bytes_that_are_in_the_columns_already_are_not_posted_again(node: Node, running: bool, deaths: int) -> None:
    before = dump(node)
    node.traffic(5, 30 * MIB, 4)
    node.account()
    put_back(node, before, columns=False)
    node.traffic(5, MIB)
    go_on(node, running=running, deaths=deaths)
    assert node.posted == node.true
    assert node.windows(5) == (node.true[5], node.true[5])
    assert node.status.anomalies == {"tables_behind": 1}
    assert any(str(10 * MIB) in text and str(40 * MIB) in text for text in node.audit_texts)
    node.right()
    node.start()
    node.traffic(5, 9)
    go_on(node, running=False)
    node.right()
    assert not node.status.anomalies, "it is told once"


@pytest.mark.parametrize("running", [True, False])
def test_a_database_that_was_put_back_as_a_whole_gets_the_bytes_since_the_dump(node: Node, running: bool) -> None:
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    node.tick(3600)
    put_back(node, before)
    node.traffic(5, MIB)
    go_on(node, running=running)
    node.right()
    assert node.status.anomalies == {"went_back": 1}


def test_no_time_of_the_process_outlives_the_node_state() -> None:
    """After an hour's bytes are posted again, they came in an hour: nothing goes to quarantine."""
    node = Node()
    node.device(5)
    node.cycle()
    node.account()
    before = dump(node)
    for _ in range(20):
        node.traffic(5, MIB)
        node.account()
    node.agent._accounting._max_rates["wg0"] = 8e6
    put_back(node, before)
    node.store.down = True
    node.traffic(5, MIB)
    node.account(fails=True)
    node.store.down = False
    node.account()
    node.cycle()
    node.right()
    assert node.status.anomalies == {"went_back": 1}
    assert not node.db.quarantine


@pytest.mark.parametrize("running", [True, False])
def test_own_tables_of_last_month_leave_the_first_sample_as_the_baseline(node: Node, running: bool) -> None:
    """The process that runs still knows its baseline. Another one posts too little and says so: never too much."""
    before = dump(node)
    node.tick(32 * 86400)
    node.traffic(5, 30 * MIB)
    node.account()
    put_back(node, before, columns=False)
    node.traffic(5, 7)
    go_on(node, running=running)
    assert node.posted[5].rx == node.true[5].rx - (0 if running else 7)
    assert node.status.anomalies == {"tables_behind": 1} | ({} if running else {"came_back": 1})
    node.traffic(5, 2)
    node.account()
    assert node.posted[5].rx == node.true[5].rx - (0 if running else 7)


@pytest.mark.parametrize("running", [True, False])
def test_own_tables_of_last_month_and_a_device_that_was_idle_since(node: Node, running: bool) -> None:
    """Its month column is zero, like the sum of its days. The column of last month tells that it has moved more."""
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    node.tick(32 * 86400)
    node.account()
    put_back(node, before, columns=False)
    node.traffic(6, 1)
    go_on(node, running=running)
    assert node.posted[5] == node.true[5]
    node.traffic(5, 9)
    node.account()
    assert node.posted[5] == node.true[5]


@pytest.mark.parametrize("running", [True, False])
def test_a_whole_database_of_last_month_gets_the_bytes_since_the_dump(node: Node, running: bool) -> None:
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    node.tick(32 * 86400)
    node.traffic(6, MIB)
    node.account()
    put_back(node, before)
    node.traffic(5, 7)
    go_on(node, running=running)
    node.right()
    assert node.status.anomalies == {"went_back": 1}


def test_a_month_column_that_somebody_changed_moves_no_baseline(node: Node) -> None:
    for value in (60 * MIB, 1):
        node.change(5, rx_bytes_month=value)
        node.start()
        node.traffic(5, 20 * MIB)
        node.cycle()
        node.account()
        assert node.posted == node.true


def test_older_columns_over_a_change_of_month_leave_the_baselines(node: Node) -> None:
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    put_back(node, before, own=False)
    node.tick(32 * 86400)
    node.start()
    node.traffic(5, 7)
    node.cycle()
    node.account()
    assert node.posted[5] == Counters(10 * MIB + 7, 3), "what is missing is the application's"


def test_columns_that_are_older_than_the_own_tables_are_told_with_both_numbers(node: Node) -> None:
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    put_back(node, before, own=False)
    node.traffic(5, MIB)
    node.tick(900)
    node.account()
    assert node.posted[5] == Counters(11 * MIB, 3), "what is missing is the application's"
    assert node.status.anomalies == {"columns_behind": 1}
    node.cycle()
    assert any(str(41 * MIB) in text and str(11 * MIB) in text for text in node.audit_texts)
    assert node.windows(5) == (Counters(41 * MIB, 3), Counters(41 * MIB, 3))
    node.quiet()


def test_older_columns_are_told_at_the_start(node: Node) -> None:
    before = dump(node)
    node.traffic(5, 30 * MIB)
    node.account()
    put_back(node, before, own=False)
    node.start()
    node.traffic(5, MIB)
    node.cycle()
    assert node.posted[5] == Counters(11 * MIB, 3)
    assert node.status.anomalies == {"columns_behind": 1}


def test_own_tables_that_are_lost_under_a_running_daemon_lose_no_byte(node: Node) -> None:
    node.traffic(5, 30 * MIB)
    node.account()
    empty = dump(Node())
    put_back(node, empty, columns=False)
    node.traffic(5, MIB)
    go_on(node, running=True)
    assert node.posted == node.true


def test_own_tables_that_are_lost_while_no_daemon_runs_are_told(node: Node, said: Callable[[], list[str]]) -> None:
    node.traffic(5, 30 * MIB)
    node.account()
    put_back(node, dump(Node()), columns=False)
    node.traffic(5, MIB)
    go_on(node, running=False)
    assert node.posted[5].rx == 40 * MIB, "never too much"
    assert [line for line in said() if "peers without a record are taken over" in line and "peers=2" in line]
    node.traffic(5, 9)
    node.account()
    assert node.posted[5].rx == 40 * MIB + 9


def test_a_month_that_begins_while_the_daemon_is_away_is_no_fault(node: Node) -> None:
    for seconds in (32 * 86400, 70 * 86400):
        node.tick(seconds)
        node.start()
        node.traffic(5, 5)
        node.cycle()
        node.account()
        node.right()
        assert not node.status.anomalies


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_crash_while_the_own_tables_follow_posts_nothing_twice(
    node: Node, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies at one of the transactions, before or after it, and the next one goes on."""
    monkeypatch.setattr(state_cache, "BATCH", 1)
    before = dump(node)
    for number in (5, 6):
        node.traffic(number, 30 * MIB)
    node.account()
    put_back(node, before, columns=False)
    node.store.next_writes = ["ok"] * (after - 1) + ["crash after" if after % 2 else "crash before"]
    node.start()
    for _ in range(4):
        node.survive()
    node.traffic(5, MIB)
    node.survive()
    node.cycle()
    node.right()


def test_rows_that_the_application_began_again_are_no_older_columns(node: Node) -> None:
    node.change(5, **{f"{side}_bytes_{window}": 0 for side in ("rx", "tx") for window in ("total", "24h", "month")})
    node.tick(900)
    node.account()
    assert not node.status.anomalies


@pytest.mark.parametrize("fails", ["during", "after"])
def test_a_commit_that_fails_under_a_running_daemon_leaves_the_rest_to_the_next_load(
    node: Node, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Then the revision may be higher than the one that the process knew before the dump."""
    monkeypatch.setattr(state_cache, "BATCH", 1)
    before = dump(node)
    for number in (5, 6):
        node.traffic(number, 30 * MIB)
    node.account()
    put_back(node, before, columns=False)
    node.traffic(5, MIB)
    with pytest.raises(RevisionConflict):
        node.agent.account()
    node.store.next_writes = ["ok", fails]
    node.cycle(fails=True)
    node.db.seq["r640"] += 5
    node.cycle()
    node.account()
    node.right()
