"""A value of wgsyncd's own tables that only another program can have written stops nothing, and is told."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.nexavpn_sides import NexavpnTables
from tests.nexavpnnode import NexavpnNode
from tests.realnode import RealNode
from tests.samples import calendar, record
from tests.store_sides import RealMikyunTables
from wgsyncd import log
from wgsyncd.core.model import Counters
from wgsyncd.core.peers.conditions import condition_changes
from wgsyncd.core.records import RecordState
from wgsyncd.core.state import Allocation, Condition, ConditionType, Posting, WriteBatch

TRIPPED = Condition(ConditionType.GUARD_TRIPPED, "r640", "r640", "0123", 40)
# By the damage: the table that the log names. "": nobody has to know.
DAMAGES = {
    "mikyun": {
        "UPDATE wgsyncd_peers SET state = 'x' WHERE rx = 7": "wgsyncd_peers",
        "UPDATE wgsyncd_peers SET epoch = 'x' WHERE rx = 7": "wgsyncd_peers",
        "UPDATE wgsyncd_peers SET sampled_at = 1e300": "",
        "UPDATE wgsyncd_peers SET latest_handshake = -77 WHERE rx = 7": "",
        "UPDATE wgsyncd_nodes SET spool_position = 'nonsense'": "wgsyncd_nodes",
        "UPDATE wgsyncd_nodes SET spool_position = 'a1b2:7x'": "wgsyncd_nodes",
        "UPDATE wgsyncd_conditions SET reason = 'plan:many'": "",
        "UPDATE wgsyncd_conditions SET type = 'nonsense'": "",
        "UPDATE wgsyncd_interfaces SET sampled_at = -1e300": "",
        "UPDATE wgsyncd_set_aside SET reason = 'nonsense', start = 18446744073709551615": "",
        "UPDATE wgsyncd_set_aside SET since = 1e300": "",
        "UPDATE wgsyncd_removals SET uptime = 1e300, removed = -5, peers = -5": "",
        "UPDATE wgsyncd_boots SET first_seen = -1e300, uptime = 1e300": "",
    },
    "nexavpn": {
        "UPDATE wgsyncd.peers SET state = 'x' WHERE rx = 7": "wgsyncd.peers",
        "UPDATE wgsyncd.peers SET epoch = 'x' WHERE rx = 7": "wgsyncd.peers",
        "UPDATE wgsyncd.peers SET sampled_at = 'NaN'": "",
        "UPDATE wgsyncd.peers SET sampled_at = 'Infinity', latest_handshake = -77 WHERE rx = 7": "",
        "UPDATE wgsyncd.node_states SET spool_position = 'nonsense'": "wgsyncd.node_states",
        "UPDATE wgsyncd.node_states SET spool_position = 'a1b2:7x'": "wgsyncd.node_states",
        "UPDATE wgsyncd.conditions SET reason = 'plan:many'": "",
        "UPDATE wgsyncd.conditions SET type = 'nonsense'": "",
        "UPDATE wgsyncd.interfaces SET sampled_at = 'NaN'": "",
        "UPDATE wgsyncd.totals SET seen = 'Infinity', connected = 'NaN'": "",
        "UPDATE wgsyncd.totals SET seen = 1e300, connected = -1e300": "",
        "UPDATE wgsyncd.removals SET uptime = 'NaN', removed = -5, peers = -5": "",
        "UPDATE wgsyncd.boots SET first_seen = '-Infinity', uptime = 'NaN'": "",
        "INSERT INTO wgsyncd.quarantine (node, interface, device, rx, tx, since, until)"
        " VALUES ('r640', 'wg0', 'x', 1e19, -1, 'NaN', 'Infinity')": "",
    },
}


@pytest.fixture
def told_by() -> Iterator[io.StringIO]:
    """Yields what the log says."""
    stream = io.StringIO()
    log.configure("info", "logfmt", stream)
    yield stream
    log.configure()


@pytest.fixture(params=["mikyun", "nexavpn"])
def damaged(request: pytest.FixtureRequest) -> Iterator[RealMikyunTables | NexavpnTables]:
    """Yields the empty database of a control plane, whose tables another program changes."""
    with ExitStack() as stack:
        if request.param == "mikyun":
            yield RealMikyunTables(request.getfixturevalue("mariadbd"), stack)
        else:
            yield NexavpnTables(request.getfixturevalue("postgres"), stack)


@pytest.mark.parametrize(
    ("damaged", "damage"), [(name, one) for name, some in DAMAGES.items() for one in some], indirect=["damaged"]
)
def test_one_damaged_row_stops_nobody(
    damaged: RealMikyunTables | NexavpnTables, told_by: io.StringIO, damage: str
) -> None:
    """F18."""
    tables, now = damaged, calendar()
    is_mikyun = isinstance(tables, RealMikyunTables)
    told = DAMAGES["mikyun" if is_mikyun else "nexavpn"][damage]
    first = replace(record(5, counters=Counters(7, 8)), row_id=tables.id(5))
    second = replace(record(6, state=RecordState.ADDING), row_id=tables.id(6))
    tables.insert(5)
    store: Any = tables.store()
    held = Posting(tables.id(5), "0001-DEV-005", (Allocation(None, now.day(now.now), 3, 4),), 1_000_000)
    state = store.load_state(now)
    state = store.commit(
        state, WriteBatch((held,), (first, second), started=frozenset({TRIPPED}), spool_position="a1b2:7"), now
    ).node_state
    removals = "wgsyncd_removals" if is_mikyun else "wgsyncd.removals"
    tables.sql(f"INSERT INTO {removals} (node, uptime, removed, demanded, peers) VALUES ('r640', 1, 1, 1, 9)")
    if is_mikyun:
        tables.sql(
            "INSERT INTO wgsyncd_set_aside (node, device, start, day, row_id, rx, tx, handshake, reason, detail, since)"
            " VALUES ('r640', '0001-DEV-099', 0, '2026-02-03', 99, 3, 4, 0, 'locked', '', 0)"
        )
    tables.sql(damage)
    again: Any = tables.store()
    state = again.load_state(now)
    records = {one.public_key: one for one in state.records.each()}
    assert records[first.public_key].counters == first.counters
    assert records[first.public_key].state is RecordState.PRESENT
    assert records[second.public_key].state is RecordState.ADDING
    assert state.spool_position == ("" if "spool" in damage else "a1b2:7")
    again.commit(state, WriteBatch(postings=(held,)), now)
    assert all(0 <= one.since < 1e12 for one in again.post_set_aside(now, frozenset({99})))
    assert all(0 <= one.delta.since <= one.delta.until < 1e12 for one in again.quarantine())
    said = told_by.getvalue()
    assert f"{told} is damaged" in said or not told
    assert bool(told) == ("is damaged" in said)
    assert "cannot be written" not in said
    for repair in re.findall(r'repair="(.*?)"', said):
        tables.sql(repair)
    again.load_state(now)
    assert "is damaged" not in told_by.getvalue()[len(said) :], "what is printed mends it"


def test_a_damaged_epoch_posts_nothing_twice(damaged: RealMikyunTables | NexavpnTables, tmp_path: Path) -> None:
    is_mikyun = isinstance(damaged, RealMikyunTables)
    node = RealNode(damaged, tmp_path) if isinstance(damaged, RealMikyunTables) else NexavpnNode(damaged, tmp_path)
    node.device(5)
    node.cycle()
    node.traffic(5, 100)
    node.account()
    damaged.sql(f"UPDATE {'wgsyncd_peers' if is_mikyun else 'wgsyncd.peers'} SET epoch = ''")
    node.start()
    node.cycle()
    node.account()
    assert node.posted == node.true
    assert node.status.anomalies
    node.traffic(5, 7)
    node.account()
    assert node.posted == node.true


def test_the_end_of_an_unknown_condition_stops_nobody(damaged: RealMikyunTables | NexavpnTables) -> None:
    """A newer build wrote it, and an admin went back to this one."""
    store: Any = damaged.store()
    started = frozenset({Condition("of_a_newer_build", "s", "n", "r")})
    state = store.commit(store.load_state(calendar()), WriteBatch(started=started), calendar()).node_state
    again: Any = damaged.store()
    again.commit(again.load_state(calendar()), condition_changes(state, frozenset()), calendar())
    assert not again.load_state(calendar()).conditions
