"""`wgsyncd explain` names the next step for a customer who cannot connect."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.samples import text
from tests.shell import test_explain
from tests.shell.test_explain import FIVE, Ask, Run
from wgsyncd.cli import wiring

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


def test_nothing_but_an_interface_that_is_down_is_to_blame(
    node: Node, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "is_down", lambda name: name == "wg0")
    one = ask(FIVE)
    assert (one["connection"], one["advice"]) == (
        None,
        "wg0 is down, so nobody can connect: ip link set wg0 up || ss -lunp",
    )


def test_a_row_that_is_gone_leaves_a_peer_that_is_told_of(node: Node, run: Run) -> None:
    for number in range(8, 14):
        node.device(number)
    node.cycle()
    node.db.devices.clear()
    for one in (FIVE, "10.200.0.5"):
        status, said = run(one)
        assert (status, ", and the guard keeps it: see `wgsyncd plan`" in said) == (1, True)


def test_a_removal_that_waits_for_the_key_of_another_row_is_not_said_to_be_next(node: Node, run: Run) -> None:
    node.cycle()
    node.change(6, public_key="junk")
    node.delete(5)
    status, said = run(FIVE)
    assert (status, "on wg0. Its removal waits until the unreadable key of a row is mended" in said) == (1, True)
    node.change(6, public_key=text(6))
    assert ", and the next cycle removes it" in run(FIVE)[1]
