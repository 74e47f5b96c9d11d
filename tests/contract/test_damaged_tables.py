"""A value of wgsyncd's own tables that only another program can have written stops nothing, and is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.realnode import RealNode
from tests.samples import calendar, record
from tests.store_sides import RealMikyunTables
from wgsyncd.core.model import Counters
from wgsyncd.core.records import RecordState
from wgsyncd.core.state import Allocation, Condition, ConditionType, Posting, WriteBatch

FIRST, SECOND = record(5, counters=Counters(7, 8)), record(6, state=RecordState.ADDING)
TRIPPED = Condition(ConditionType.GUARD_TRIPPED, "r640", "r640", "0123", 40)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE wgsyncd_peers SET state = 'x' WHERE row_id = 5", "wgsyncd_peers is damaged"),
        ("UPDATE wgsyncd_peers SET epoch = 'x' WHERE row_id = 5", "wgsyncd_peers is damaged"),
        ("UPDATE wgsyncd_peers SET sampled_at = 1e300", ""),
        ("UPDATE wgsyncd_peers SET handshake = -77 WHERE row_id = 5", ""),
        ("UPDATE wgsyncd_nodes SET spool = 'nonsense'", "wgsyncd_nodes is damaged"),
        ("UPDATE wgsyncd_nodes SET spool = 'a1b2:7x'", "wgsyncd_nodes is damaged"),
        ("UPDATE wgsyncd_conditions SET detail = 'plan:many'", ""),
        ("UPDATE wgsyncd_conditions SET kind = 'nonsense'", ""),
        ("UPDATE wgsyncd_interfaces SET sampled_at = -1e300", ""),
        ("UPDATE wgsyncd_set_aside SET reason = 'nonsense', start = 18446744073709551615", ""),
        ("UPDATE wgsyncd_set_aside SET since = 1e300", ""),
        ("UPDATE wgsyncd_removals SET uptime = 1e300, removed = -5, peers = -5", ""),
        ("UPDATE wgsyncd_boots SET first_seen = -1e300, uptime = 1e300", ""),
    ],
)
def test_one_damaged_row_stops_nobody(
    real_tables: RealMikyunTables, capsys: pytest.CaptureFixture[str], damage: str, told: str
) -> None:
    """F18."""
    store, now = real_tables.store(), calendar()
    state = store.load_state(now)
    held = Posting(5, "0001-DEV-005", (Allocation(None, now.day(now.now), 3, 4),))
    state = store.commit(
        state,
        WriteBatch(records=(FIRST, SECOND), started=frozenset({TRIPPED}), spool_position="a1b2:7"),
        now,
    ).node_state
    real_tables.sql(
        "INSERT INTO wgsyncd_set_aside (node, device, start, day, row_id, rx, tx, handshake, reason, detail, since)"
        " VALUES ('r640', '0001-DEV-099', 0, '2026-02-03', 99, 3, 4, 0, 'locked', '', 0)"
    )
    real_tables.sql("INSERT INTO wgsyncd_removals (node, uptime, removed, demanded, peers) VALUES ('r640', 1, 1, 1, 9)")
    real_tables.sql(damage)
    again: Any = real_tables.store()
    state = again.load_state(now)
    records = {one.public_key: one for one in state.records.each()}
    assert records[FIRST.public_key].counters == FIRST.counters
    assert records[FIRST.public_key].state is RecordState.PRESENT
    assert records[SECOND.public_key].state is RecordState.ADDING
    assert state.spool_position == ("" if "spool" in damage else "a1b2:7")
    again.commit(state, WriteBatch(postings=(held,)), now)
    assert all(0 <= one.since < 1e12 for one in again.post_set_aside(now, frozenset({99})))
    said = capsys.readouterr().out
    assert told in said
    assert bool(told) == ("is damaged" in said)
    for repair in re.findall(r'repair="(.*?)"', said):
        real_tables.sql(repair)
    again.load_state(now)
    assert "is damaged" not in capsys.readouterr().out, "what is printed mends it"


def test_a_damaged_epoch_posts_nothing_twice(real_tables: RealMikyunTables, tmp_path: Path) -> None:
    node = RealNode(real_tables, tmp_path)
    node.device(5)
    node.cycle()
    node.traffic(5, 100)
    node.account()
    real_tables.sql("UPDATE wgsyncd_peers SET epoch = ''")
    node.start()
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert node.status.anomalies
    node.traffic(5, 7)
    node.account()
    assert node.posted == node.true
