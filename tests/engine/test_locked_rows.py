"""Rows that another transaction has locked: their bytes wait, and no other row waits for them."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.samples import key
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.errors import StoreError, StoreErrorCode

# -- windows are rolled last


def rolling_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has a row locked."""

    def locked(_: object) -> tuple[int, int]:
        raise StoreError("1205: Lock wait timeout exceeded", StoreErrorCode.LOCKED)

    monkeypatch.setattr(node.store, "refresh", locked)


def test_a_locked_row_is_booked_once_it_is_free_and_holds_nobody_up(node: Node) -> None:
    node.lock(6)
    for _ in range(3):
        node.traffic(6, 100, 10)
        node.traffic(7, 100, 10)
        node.account()
        assert len(node.status.rows_set_aside(Obstacle.LOCKED)) == 1
    assert node.posted[7] == (300, 30)
    assert node.posted[6] == (0, 0)
    node.tick(3600)
    node.traffic(6, 10**13)  # in an hour that can be; in the quarter of a minute since the last sample it could not
    node.unlock()
    node.cycle()
    node.right()
    assert not node.status.set_aside
    assert not node.db.quarantine


def test_a_locked_row_of_which_there_is_more_to_tell_holds_up_nobody(node: Node, small: None) -> None:
    """A counter went back: the audit row that says so is written once, with the transaction that sets the bytes aside."""
    node.cycle()
    node.traffic(5, 100)
    node.cycle()
    node.wg.recreate_behind("wg0", key(5))
    node.lock(5)
    for number in (5, 6, 7):
        node.traffic(number, 10)
    node.account()
    assert [node.posted[number].rx for number in (5, 6, 7)] == [100, 10, 10]
    node.unlock()
    node.account()
    node.right()
    assert node.actions.count(("usage_anomaly", "0001-DEV-005")) == node.status.anomalies["reset"] == 1


def test_a_locked_row_that_is_shut_out_goes_and_its_bytes_wait(node: Node) -> None:
    node.traffic(6, 100)
    node.change(6, status="paused")
    node.lock(6)
    node.cycle()
    assert key(6) not in node.wg.peers("wg0")
    node.start()
    node.unlock()
    node.cycle()
    node.right()


def test_windows_of_locked_rows_are_rolled_once_they_are_free(node: Node, usage_columns: None) -> None:
    node.traffic(6, 100)
    node.cycle()
    node.lock(6)
    node.tick(86400 + 900)
    node.cycle()
    assert node.windows(6)[0].rx == 100
    node.unlock()
    node.cycle()
    assert node.windows(6)[0].rx == 0


def test_a_row_that_somebody_has_locked_keeps_no_revoked_peer_in(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.change(5, status="paused")
    node.tick(900)
    rolling_fails(node, monkeypatch)
    node.cycle(fails=True)
    assert key(5) not in node.wg.peers("wg0")
    assert node.actions[-1] == ("peer_removed", "0001-DEV-005")
    assert node.status.interfaces["wg0"].actual == 2
    monkeypatch.undo()
    node.cycle()
    node.right()


def test_a_row_that_somebody_has_locked_hides_no_new_interface(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.tick(900)
    rolling_fails(node, monkeypatch)
    node.wg.delete("wg0")
    node.wg.add_interface("wg0")
    node.account(fails=True)
    assert node.agent.needs_reconcile
