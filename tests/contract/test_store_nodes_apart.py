"""Conflicts and figures of the devices of other nodes are left to these nodes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.samples import NOW, calendar, text
from tests.store_sides import MikyunTables, RealMikyunTables
from tests.two_nodes import THEIRS, commit, here, insert, later, there
from wgsyncd.core.inspect import verify
from wgsyncd.core.state import Condition
from wgsyncd.stores.mikyun import connection, trouble


def test_an_address_of_another_node_is_no_rival_and_that_of_an_own_row_is(tables: MikyunTables) -> None:
    ours = here(tables)
    tables.insert(5, wg_iface="wg0", wg_ip="10.200.0.5", public_key=text(5))
    tables.insert(6, wg_iface=THEIRS, wg_ip="10.200.0.5/32", public_key=text(6))
    seen = ours.load_devices(frozenset(("0001-DEV-005",)))
    assert seen is not None
    assert [row.id for row in seen] == [5]
    assert [row.id for row in ours.snapshot().rows] == [5]
    for interface in ("wg1", "kyoto", None):
        tables.update(6, wg_iface=interface)
        assert here(tables).load_devices(frozenset(("0001-DEV-005",))) is None


def test_parents_of_a_contract_on_two_nodes(tables: MikyunTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node tells the conflicts of the contracts that it has a device of."""
    ours, theirs = here(tables), there(tables)
    tables.contract("0002", "active")
    tables.insert(5, wg_iface="wg0")
    tables.insert(6, wg_iface=THEIRS, is_parent=1)
    for number in (7, 8):
        tables.insert(number, wg_iface=THEIRS, contract_id="0002", is_parent=1)
    assert ours.snapshot().conditions == frozenset()
    tables.update(5, is_parent=1)
    conflict = Condition("parent_conflict", "0001", "0001", "2")
    assert ours.snapshot().conditions == frozenset((conflict,))
    assert theirs.snapshot().conditions == frozenset((conflict, Condition("parent_conflict", "0002", "0002", "2")))
    before = ours.digest()
    tables.update(6, is_parent=0)
    later(monkeypatch)
    assert ours.digest() != before, "so that the next cycle plans"
    assert ours.snapshot().conditions == frozenset()


def test_conflicts_are_asked_for_where_parents_changed(
    real_tables: RealMikyunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    side_query = connection.Connection.side_query

    def listening(self: connection.Connection, sql: str, **more: Any) -> connection.Result | trouble.MariaDBError:
        asked.extend(["conflicts"] * ("v_parent_conflicts WHERE" in sql))
        return side_query(self, sql, **more)

    monkeypatch.setattr(connection.Connection, "side_query", listening)
    for store in (here(real_tables), real_tables.store()):
        real_tables.sql("DELETE FROM customer_devices")
        insert(real_tables, 5, 6, 7)
        for change, times in (
            ({"status": "active"}, 1), ({}, 0), ({"status": "paused"}, 0), ({"is_parent": 1}, 1), ({"rx_bytes_total": 5}, 0),
            ({"contract_id": "0002"}, 1), ({"deleted_at": "2026-01-01"}, 1), ({"wg_ip": "10.200.0.5"}, 0),
            ({"deleted_at": None}, 1),
        ):  # fmt: skip
            if change:
                real_tables.update(5, **change)
            asked.clear()
            store.snapshot()
            assert len(asked) == times, change


def test_figures_of_other_nodes_are_left_to_them(tables: MikyunTables) -> None:
    ours, theirs = here(tables), there(tables)
    for number, interface in ((5, "wg0"), (6, THEIRS), (7, "kyoto")):
        tables.insert(number, wg_iface=interface, rx_bytes_24h=9)
    commit(ours)
    commit(theirs)
    after = calendar(NOW + 2 * 86400)
    checked = {one.row_id for one in ours.device_totals(verify.make_ranges(after))}
    assert checked == {5, 7}
    assert ours.refresh(after) == (2, 0)
    assert [tables.device(number)["rx_bytes_24h"] for number in (5, 6, 7)] == [0, 9, 0]
    assert theirs.refresh(after) == (1, 0)
