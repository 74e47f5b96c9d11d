"""A usual batch is one UPDATE, and an unusual one takes the longer way. Both are on MariaDB."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.committing import posted
from tests.samples import NOW, calendar, device_name, record
from tests.store_sides import RealMikyunTables
from wgsyncd.core.state import InterfaceCheckpoint, NodeState, WriteBatch
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.store import MariaDBStore


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Yields the list of all statements that are sent from now on."""
    statements: list[str] = []
    for name in ("query", "execute", "try_change"):
        real = getattr(Connection, name)

        def run(connection: Connection, sql: str, *values: Any, real: Any = real) -> Any:
            statements.append(" ".join(sql.split()))
            return real(connection, sql, *values)

        monkeypatch.setattr(Connection, name, run)
    return statements


def _begun(tables: RealMikyunTables) -> tuple[MariaDBStore, NodeState]:
    """A store whose node has records and open pieces of devices 5 and 6."""
    for number in (5, 6):
        tables.insert(number)
    store = tables.store()
    state = store.load_state(calendar())
    state = store.commit(state, WriteBatch(records=(record(5), record(6))), calendar()).node_state
    return store, store.commit(state, _batch(1), calendar()).node_state


def _batch(turn: int, *, at: float = NOW, **changes: Any) -> WriteBatch:
    records = tuple(record(n, counters=(50 * turn, 5 * turn), sampled_at=at) for n in (5, 6))
    return replace(
        WriteBatch(postings=(posted(5, 50, 5, at), posted(6, 50, 5)), records=records, counts_only=True), **changes
    )


def _figures(tables: RealMikyunTables) -> list[object]:
    return [tables.device(5)["rx_bytes_month"], tables.days(), tables.buckets()]


def test_a_usual_batch_is_one_update(real_tables: RealMikyunTables, sent: list[str]) -> None:
    store, state = _begun(real_tables)
    del sent[:]
    marks = {"wg0": InterfaceCheckpoint("boot-a:3", NOW)}
    assert store.commit(state, _batch(2, checkpoints=marks), calendar()).set_aside == frozenset()
    assert [one.split()[0] for one in sent] == ["START", "SET", "INSERT", "COMMIT"]
    assert real_tables.device(5)["rx_bytes_total"] == real_tables.device(6)["rx_bytes_24h"] == 100
    assert real_tables.sql("SELECT open_rx, open_tx, rx FROM wgsyncd_peers") == [
        {"open_rx": 100, "open_tx": 10, "rx": 100}, {"open_rx": 100, "open_tx": 10, "rx": 100}
    ]  # fmt: skip
    assert real_tables.sql("SELECT * FROM wgsyncd_buckets") == []
    assert store.load_state(calendar()).interfaces == marks


def test_the_open_pieces_move_when_their_bucket_ends(real_tables: RealMikyunTables, sent: list[str]) -> None:
    store, state = _begun(real_tables)
    before, later = _figures(real_tables), calendar(NOW + 900)
    del sent[:]
    nothing = (replace(posted(5, 0, 0, NOW + 900), allocations=()), replace(posted(6, 0, 0), allocations=()))
    done = store.commit(state, _batch(1, at=NOW + 900, postings=nothing), later)
    assert done.set_aside == frozenset()
    assert [one.split()[0] for one in sent][-3:] == ["START", "SET", "COMMIT"]
    assert real_tables.sql("SELECT COUNT(*) n FROM wgsyncd_peers WHERE open_rx > 0") == [{"n": 0}]
    assert real_tables.sql("SELECT SUM(rx) rx FROM wgsyncd_buckets") == [{"rx": 100}]
    assert _figures(real_tables) == before


@pytest.mark.parametrize("what", ["locked", "deleted", "another device", "an open piece of before", "another revision"])
def test_what_is_unusual_writes_nothing_and_takes_the_longer_way(
    real_tables: RealMikyunTables, sent: list[str], what: str
) -> None:
    store, state = _begun(real_tables)
    if what == "deleted":
        real_tables.delete(6)
    elif what == "another device":
        real_tables.update(6, device_id="another")
    elif what == "an open piece of before":
        real_tables.sql("UPDATE wgsyncd_peers SET open_bucket = open_bucket - 900 WHERE row_id = 6")
    elif what == "another revision":
        real_tables.sql("UPDATE wgsyncd_nodes SET revision = revision + 1")
        state = replace(state, revision=state.revision + 1)
        real_tables.sql("DELETE FROM wgsyncd_peers WHERE row_id = 6")
        state.records.discard(record(6).peer_id)
        state = store.commit(state, WriteBatch(records=(record(6),)), calendar()).node_state
    del sent[:]
    if what == "locked":
        with real_tables.locked(6):
            assert store.commit(state, _batch(2), calendar()).set_aside == {6}
    else:
        assert store.commit(state, _batch(2), calendar()).set_aside == frozenset()
    assert "ROLLBACK AND CHAIN" in sent
    days = {name: sums.rx for (name, _), sums in real_tables.days().items()}
    lost = 50 if what == "another revision" else 0  # the test itself deleted the open piece
    assert days == {device_name(5): 100, device_name(6): 50 if what == "locked" else 100 - lost}
    assert real_tables.device(5)["rx_bytes_total"] == 100
    if what in ("another device", "locked"):
        assert real_tables.device(6)["rx_bytes_total"] == 50, "it has only what came before"


def test_a_database_that_was_put_back_gives_the_rows_other_numbers(real_tables: RealMikyunTables) -> None:
    """After a restore, or on a replica that lags, the records are written again. Their numbers may be swapped."""
    store, _ = _begun(real_tables)
    numbers = [row["no"] for row in real_tables.sql("SELECT no FROM wgsyncd_peers ORDER BY no")]
    before = [real_tables.device(number)["rx_bytes_total"] for number in (5, 6)]
    real_tables.sql("DELETE FROM wgsyncd_peers")
    real_tables.sql("ALTER TABLE wgsyncd_peers AUTO_INCREMENT = " + str(numbers[0]))
    state = store.load_state(calendar())
    state = store.commit(state, WriteBatch(records=(record(6), record(5))), calendar()).node_state
    assert [row["device"] for row in real_tables.sql("SELECT device FROM wgsyncd_peers ORDER BY no")] == [
        device_name(6), device_name(5)
    ]  # fmt: skip
    store.commit(state, _batch(1, postings=(posted(5, 50, 5), posted(6, 7, 7))), calendar())
    after = [real_tables.device(number)["rx_bytes_total"] for number in (5, 6)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [50, 7]
