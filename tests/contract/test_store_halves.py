"""Own tables and columns of different times: what a store finds and writes, and a dump that is put back on MariaDB."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tests.committing import commit
from tests.fakemachine import FakeMachine
from tests.realnode import RealNode
from tests.samples import EPOCH, calendar, device_name, record
from tests.store_sides import MikyunTables, RealMikyunTables
from wgsyncd.core.model import Counters
from wgsyncd.core.state import Allocation, Posting, WriteBatch
from wgsyncd.core.usage.halves import Apart
from wgsyncd.errors import RevisionConflict, StoreError
from wgsyncd.ports import Store
from wgsyncd.stores.mikyun.usual import UsualPosting

MIB = 2**20
BUCKET, DAY, MONTH = calendar().bucket, calendar().today, calendar().month


def of(number: int, rx: int, tx: int) -> Posting:
    return Posting(number, device_name(number), (Allocation(BUCKET, DAY, rx, tx),))


@pytest.mark.parametrize("perspective", ["server", "device"])
def test_rows_whose_column_is_not_the_sum_of_their_days(tables: MikyunTables, perspective: str) -> None:
    """The days include open pieces. A history goes to the days alone."""
    store = tables.store(f'perspective = "{perspective}"\n')
    for number in (5, 6, 7):
        tables.insert(number)
    commit(store, WriteBatch(records=tuple(map(record, (5, 6, 7)))))
    some = tuple(of(number, 70, 7) for number in (5, 6))
    commit(store, WriteBatch(some, (record(5, rx=70), record(6, rx=70)), counts_only=True))
    assert store.rows_apart(MONTH) == {}
    rx, tx = ("rx", "tx") if perspective == "server" else ("tx", "rx")
    tables.update(5, **{f"{rx}_bytes_month": 100, f"{tx}_bytes_month": 9})
    assert store.rows_apart(MONTH) == {5: Apart(device_name(5), Counters(100, 9), Counters(70, 7))}
    commit(store, WriteBatch(records=(record(5, rx=100, epoch="?" + EPOCH),), history=(of(5, 30, 2),)))
    assert store.rows_apart(MONTH) == {}
    assert tables.device(5)[f"{rx}_bytes_total"] == 70
    assert tables.buckets()[device_name(5), BUCKET] == tables.days()[device_name(5), DAY] == Counters(100, 9)
    assert store.rows_apart(("2020-01-01", "2020-02-01")).keys() == {5, 6}


def test_a_store_without_such_figures_has_no_rows_apart(any_store: Store) -> None:
    any_store.load_state(calendar())
    assert not any_store.rows_apart(MONTH)


def _dumped(tables: RealMikyunTables, folder: Path) -> tuple[RealNode, list[str]]:
    """A node that has posted bytes before and after a dump, and the names of the dumped tables in order."""
    node = RealNode(tables, folder)
    node.machine = FakeMachine()
    node.start()
    node.device(5)
    node.cycle()
    node.traffic(5, 10 * MIB, 3)
    node.account()
    names = [next(iter(row.values())) for row in tables.sql("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")]
    names = sorted(one for one in names if one == "customer_devices" or one.startswith("wgsyncd_"))
    for name in names:
        tables.sql(f"CREATE OR REPLACE TEMPORARY TABLE dump_{name} AS SELECT * FROM {name}")
    node.traffic(5, 30 * MIB, 4)
    node.account()
    return node, names


def _put_back(tables: RealMikyunTables, name: str) -> None:
    tables.sql(f"DELETE FROM {name}")
    tables.sql(f"INSERT INTO {name} SELECT * FROM dump_{name}")


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_dump_that_is_put_back(real_tables: RealMikyunTables, tmp_path: Path, running: bool, whole: bool) -> None:
    """All tables, or wgsyncd's own alone, under a daemon that runs, or before one starts."""
    tables = real_tables
    node, names = _dumped(tables, tmp_path)
    for name in names:
        if whole or name != "customer_devices":
            _put_back(tables, name)
    node.traffic(5, MIB)
    if running:
        with pytest.raises(RevisionConflict):
            node.agent.account()
    else:
        node.start()
    for _ in range(2):
        node.cycle()
        node.account()
    assert node.posted == node.true
    assert node.store.rows_apart(node.calendar.month) == {}
    assert node.status.anomalies == {"went_back" if whole else "tables_behind": 1}


@pytest.mark.parametrize("aside", [True, False])
@pytest.mark.parametrize(
    "last", ["customer_devices", "wgsyncd_buckets", "wgsyncd_days", "wgsyncd_nodes", "wgsyncd_peers"]
)
def test_a_daemon_posts_between_two_tables_of_a_dump(
    real_tables: RealMikyunTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, aside: bool
) -> None:
    """mariadb-dump writes the tables in the order of their names. ``last``: the last one that is back meanwhile.

    ``aside``: the daemon posts what it had set aside, because the row was locked. Otherwise it takes the longer way.
    """
    tables = real_tables
    node, names = _dumped(tables, tmp_path)
    if aside:
        node.traffic(5, 2 * MIB)
        with tables.locked(5):
            node.account()
    else:
        monkeypatch.setattr(UsualPosting, "statement", lambda *_: None)
    for name in names:
        _put_back(tables, name)
        if name in (last, names[-1]):  # the first cycle after the dump may meet another revision
            node.traffic(5, MIB)
            node.tick()
            with suppress(StoreError):
                node.agent.reconcile()
    for _ in range(2):
        node.traffic(5, 5)
        node.cycle()
        node.account()
    assert node.posted == node.true
    assert node.store.rows_apart(node.calendar.month) == {}
