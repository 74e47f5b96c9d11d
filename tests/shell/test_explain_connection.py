"""`wgsyncd explain` names the next step for a customer who cannot connect."""

from __future__ import annotations

from tests.node import Node
from tests.shell import test_explain
from tests.shell.test_explain import FIVE, Ask, Run

node, reports, run, ask = test_explain.node, test_explain.reports, test_explain.run, test_explain.ask


def test_each_reason_has_its_next_step(node: Node, ask: Ask) -> None:
    """tests/core/test_connecting.py has the figures of more cases."""
    one = ask("0001-DEV-006")
    assert (one["connection"], one["advice"].startswith("Nothing that this server can read")) == (
        "nothing_arrives",
        True,
    )
    node.traffic(6, 2 * 148, 2 * 92)
    one = ask("0001-DEV-006")
    assert one["connection"] == "not_accepted"
    assert "The preshared key in the device differs from the row's" in one["advice"]
    node.db.update(7, status="paused")
    one = ask("0001-DEV-007")
    assert (one["connection"], one["advice"].startswith("Nothing is broken")) == (None, True)
    node.tick(3600)
    one = ask(FIVE)
    assert (one["connection"], one["advice"].startswith("It was connected 1 h")) == ("offline", True)
    node.db.update(5, wg_iface="wg7")
    assert ask(FIVE)["advice"] == "Mend the row. wgsyncd sees that at once"


def test_a_row_that_is_gone_leaves_a_peer_that_is_told_of(node: Node, run: Run) -> None:
    for number in range(8, 14):
        node.device(number)
    node.cycle()
    node.db.devices.clear()
    status, said = run(FIVE)
    assert (status, "A peer that was made for it is on wg0, and the guard keeps it: see `wgsyncd plan`" in said) == (
        1,
        True,
    )
