"""Changed rows that the digest finds are reconciled alone, if they concern nobody else."""

import pytest

from tests.node import Node
from tests.samples import key
from wgsyncd.daemon import change_watch
from wgsyncd.daemon.daemon import Daemon


def has(node: Node, number: int) -> bool:
    return key(number) in node.wg.peers("wg0")


def test_a_changed_row_is_reconciled_alone(node: Node, daemon: Daemon) -> None:
    node.db.update(5, status="paused")
    node.device(8)
    daemon.watcher.check_digest()
    assert (has(node, 5), has(node, 8)) == (False, True)
    assert (node.status.runs["reconcile"], node.status.runs["notify"]) == (1, 1)
    daemon.watcher.check_digest()
    assert (node.status.runs["reconcile"], node.status.runs["notify"]) == (1, 1), "nothing is left to do"
    node.right()


@pytest.mark.parametrize("is_hinted", [False, True])
def test_a_row_gets_the_address_that_another_one_gave_up(node: Node, daemon: Daemon, is_hinted: bool) -> None:
    node.device(8, wg_ip="10.200.0.5")
    daemon.watcher.check_digest()
    assert not has(node, 8), "the address is taken"
    node.db.update(5, wg_ip="10.200.0.99")
    if is_hinted:
        assert daemon.reconcile_now(frozenset(("0001-DEV-005",)))
    daemon.watcher.check_digest()
    daemon.watcher.check_digest()
    assert has(node, 8)
    node.right()


def test_many_changed_rows_are_reconciled_with_all_rows(
    node: Node, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_watch, "MOST_NAMED", 1)
    node.device(8)
    node.device(9)
    daemon.watcher.check_digest()
    assert has(node, 8) and has(node, 9)
    assert (node.status.runs["reconcile"], "notify" in node.status.runs) == (2, False)


def test_a_changed_contract_concerns_its_devices_alone(node: Node, daemon: Daemon) -> None:
    node.db.contracts["0001"] = "paused"
    daemon.watcher.check_digest()
    assert not has(node, 5)
    node.db.contracts["0009"] = "active"
    node.device(8, contract_id="0009", device_id="0009-DEV-008")
    daemon.watcher.check_digest()
    assert has(node, 8), "a new customer's first device"
    assert (node.status.runs["reconcile"], node.status.runs["notify"]) == (1, 2)
    node.right()
