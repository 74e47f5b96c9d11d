"""Shaping takes part in the cycles of a node: it follows contracts, fails open, and never keeps a peer out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.node import Node
from tests.samples import key
from tests.tcmodel import TcModel
from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import FailedStep, Step
from wgsyncd.core.shaping.tree import Hook, Passed, Port, Root, Tree
from wgsyncd.engine.shaping import Shaping
from wgsyncd.engine.status import ShapingStatus

pytestmark = pytest.mark.usefixtures("mikyun_columns")

DOWN, UP = Direction.DOWN, Direction.UP
CONFIG = """
[shaping]
mode = "enforce"
[bandwidth.standard]
down = "8Mbit"
up = "4Mbit"
monthly = "1MB"
beyond = "slow"
[bandwidth.slow]
down = "800kbit"
up = "800kbit"
[bandwidth.open]
shared = false
"""


class ShapedNode(Node):
    """A node with shaping and a model of tc."""

    def __init__(self) -> None:
        self.tc = TcModel()
        super().__init__(CONFIG)
        for number in (5, 6, 7):
            self.device(number)
        self.planes = (Shaping(self.settings, self.tc, self.status, self.state),)
        self.agent = self._agent()
        self.db.profiles["0001"] = "standard"

    @property
    def shaping(self) -> ShapingStatus:
        assert self.status.shaping is not None
        return self.status.shaping

    def rates(self, direction: Direction = DOWN) -> dict[int, int]:
        """The rate in bytes per second that the traffic of each device has at most, by its number."""
        tree = self.tc.trees[direction]
        return {
            one.network.packed[-1]: tree.classes[one.minor].ceil
            for one in tree.filters if one.network is not None and one.minor
        }  # fmt: skip


@pytest.fixture
def shaped() -> ShapedNode:
    node = ShapedNode()
    node.cycle()
    return node


def host(number: int) -> Network:
    return parse_host(f"10.200.0.{number}")


def test_devices_have_the_rates_of_their_contract(shaped: ShapedNode) -> None:
    assert shaped.rates() == dict.fromkeys((5, 6, 7), 1_000_000)
    assert shaped.rates(UP) == dict.fromkeys((5, 6, 7), 500_000)
    assert shaped.shaping == ShapingStatus(True, {"standard": 3, "slow": 0, "open": 0}, 1, 0, 0, 0, "")
    shaped.right()


def test_a_cycle_without_a_change_sends_nothing(shaped: ShapedNode) -> None:
    before = shaped.tc.writes
    shaped.quiet()
    assert shaped.tc.writes == before


def test_the_status_has_what_the_trees_let_through(shaped: ShapedNode) -> None:
    shaped.tc.passed = {DOWN: Passed(1000, 3), UP: Passed(2000, 0)}
    shaped.cycle()
    assert shaped.status.shaper_sent == {"down": 1000, "up": 2000}
    assert shaped.status.shaper_dropped == {"down": 3, "up": 0}


def test_another_profile_holds_with_the_next_cycle(shaped: ShapedNode) -> None:
    shaped.db.profiles["0001"] = "slow"
    shaped.cycle()
    assert set(shaped.rates().values()) == {100_000}
    assert shaped.shaping.devices == {"standard": 0, "slow": 3, "open": 0}


def test_a_peer_is_shaped_before_it_comes_and_until_it_has_left(shaped: ShapedNode) -> None:
    shaped.device(8)
    shaped.change(5, status="paused")
    shaped.wg.refused[key(5)] = 1
    shaped.cycle()
    assert set(shaped.rates()) == {5, 6, 7, 8}, "the kernel refused to remove the peer of 5"
    assert shaped.shaping.ok
    shaped.wg.refused.clear()
    shaped.cycle()
    assert set(shaped.rates()) == {6, 7, 8}


def test_from_the_monthly_cap_on_the_contract_is_slow(shaped: ShapedNode) -> None:
    shaped.traffic(5, 400_000, 599_999)
    shaped.account()
    shaped.cycle()
    assert set(shaped.rates().values()) == {1_000_000}
    shaped.traffic(6, 1)
    shaped.account()
    shaped.cycle()
    assert set(shaped.rates().values()) == {100_000}, "all devices of the contract"
    assert shaped.shaping.slowed == 1
    assert shaped.shaping.devices["standard"] == 3


def test_an_unknown_profile_is_counted_and_not_shaped(shaped: ShapedNode) -> None:
    shaped.db.profiles["0001"] = "premium"
    shaped.cycle()
    assert not shaped.rates() and not shaped.tc.trees[DOWN].index
    assert (shaped.shaping.unknown, shaped.shaping.ok) == (1, True)
    assert shaped.tc.ports["wg0"] == Port()


def test_while_the_database_is_away_all_stays(shaped: ShapedNode) -> None:
    before = shaped.tc.state
    shaped.store.down = True
    shaped.cycle(fails=True)
    assert shaped.tc.state == before


@pytest.mark.parametrize("fails", ["read", "apply"])
def test_without_tc_peers_come_and_go_as_ever(shaped: ShapedNode, fails: str) -> None:
    shaped.tc.fails = "EPERM" if fails == "read" else ""
    shaped.tc.lacks = set() if fails == "read" else {"HtbClass"}
    shaped.device(8)
    shaped.change(5, status="paused")
    shaped.cycle()
    assert set(shaped.kernel()["wg0"]) == {key(number) for number in (6, 7, 8)}
    assert not shaped.shaping.ok and shaped.shaping.trouble
    shaped.tc.fails, shaped.tc.lacks = "", set()
    shaped.cycle()
    assert set(shaped.rates()) == {6, 7, 8}
    assert shaped.shaping.ok


@pytest.mark.parametrize(
    ("kind", "module"), [("Link", "ifb"), ("RootQdisc", "sch_htb"), ("Leaf", "sch_fq_codel"), ("Filter", "cls_flower"),
                         ("Clsact", "sch_ingress"), ("Redirect", "cls_matchall act_mirred")]
)  # fmt: skip
def test_a_kernel_without_a_part_leaves_nothing_half_done(kind: str, module: str) -> None:
    node = ShapedNode()
    node.tc.lacks = {kind}
    node.cycle()
    assert f"modprobe {module}" in node.shaping.trouble
    assert (sum(node.shaping.devices.values()), node.shaping.owners) == (0, 0)
    assert not any(tree.index for tree in node.tc.trees.values())
    assert node.tc.ports == {"wg0": Port(), "wg1": Port()}
    node.right()
    node.tc.lacks = set()
    node.cycle()
    assert node.shaping.ok and set(node.rates()) == {5, 6, 7} and node.shaping.owners == 1


@pytest.mark.parametrize("dead", [Tree(), Tree(101, is_up=False, root=Root.OURS)])
def test_the_poll_takes_redirects_into_nowhere_away_and_asks_for_a_cycle(shaped: ShapedNode, dead: Tree) -> None:
    shaped.account()
    assert not shaped.agent.needs_reconcile
    shaped.tc.trees[DOWN] = dead
    shaped.account()
    assert set(shaped.tc.ports["wg0"].redirects) == {UP}
    assert shaped.agent.needs_reconcile
    shaped.cycle()
    assert set(shaped.rates()) == {5, 6, 7}


def test_news_of_a_dead_link_take_redirects_away_without_a_poll(shaped: ShapedNode) -> None:
    assert not shaped.agent.planes.mend()
    shaped.tc.trees[DOWN] = Tree()
    assert not shaped.agent.planes.mend(), "nobody looks without news"
    shaped.tc.news = True
    assert shaped.agent.planes.mend()
    assert set(shaped.tc.ports["wg0"].redirects) == {UP}
    assert not shaped.agent.planes.mend(), "a cycle does the rest"
    shaped.cycle()
    assert set(shaped.rates()) == {5, 6, 7}


def test_a_portion_that_the_kernel_refuses_waits_for_the_poll(
    shaped: ShapedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgsyncd.engine.shaping.MOST_NEW", 1)
    shaped.device(8)
    shaped.device(9)
    shaped.tc.lacks = {"Filter"}
    shaped.cycle()
    assert not shaped.agent.planes.mend()
    assert len(shaped.kernel()["wg0"]) == 5, "peers do not wait for what cannot be made"


def test_portions_that_another_program_hinders_do_not_hurry_for_ever(
    shaped: ShapedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgsyncd.engine.shaping.MOST_NEW", 1)
    shaped.tc.trees[DOWN] = shaped.tc.trees[UP] = Tree(101, is_up=True, root=Root.FOREIGN)
    hurries = []
    for _ in range(3):
        shaped.cycle()
        hurries.append(shaped.agent.planes.mend())
    assert not hurries[-1] and len(shaped.kernel()["wg0"]) == 3


def test_peers_do_not_wait_for_portions_that_somebody_takes_away_again(
    shaped: ShapedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgsyncd.engine.shaping.MOST_NEW", 1)
    for number in (8, 9, 10):
        shaped.device(number)
    for peers in (4, 6):
        shaped.cycle()
        assert len(shaped.kernel()["wg0"]) == peers
        shaped.tc.trees[DOWN] = shaped.tc.trees[UP] = Tree()


def test_many_new_devices_come_in_portions_and_each_cycle_asks_for_the_next(
    shaped: ShapedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgsyncd.engine.shaping.MOST_NEW", 2)
    for number in (8, 9, 10, 11, 12):
        shaped.device(number)
    for known, waiting in ((9, 3), (11, 1), (12, 0)):
        shaped.cycle()
        assert set(shaped.rates()) == set(range(5, known + 1))
        told = f"{waiting} {'device waits' if waiting == 1 else 'devices wait'}"
        assert (told in shaped.shaping.trouble, shaped.shaping.ok) == (waiting > 0, not waiting)
        assert set(shaped.kernel()["wg0"]) == {key(number) for number in shaped.rates()}, "no peer is there without it"
        assert (shaped.status.pending, shaped.state.reconciled) == ({}, not waiting), "nobody refused peers that wait"
        assert shaped.agent.planes.mend() == (waiting > 0), "the next check reconciles"
        shaped.account()
        assert shaped.agent.needs_reconcile == (waiting > 0)


def test_what_somebody_else_uses_is_named(shaped: ShapedNode) -> None:
    shaped.tc.ports["wg0"] = Port(Hook.INGRESS, has_foreign_filters=True)
    shaped.cycle()
    assert not shaped.shaping.ok
    assert shaped.shaping.trouble == "another program uses wg0"


def test_a_frozen_peer_keeps_its_shaping(shaped: ShapedNode) -> None:
    shaped.change(5, address="junk")
    shaped.db.profiles["0001"] = "slow"
    shaped.cycle()
    assert key(5) in shaped.kernel()["wg0"]
    assert shaped.rates() == {5: 1_000_000, 6: 100_000, 7: 100_000}


def test_switched_off_all_of_it_goes(shaped: ShapedNode) -> None:
    Shaping(shaped.settings, shaped.tc, shaped.status, shaped.state).remove()
    assert not any(tree.index for tree in shaped.tc.trees.values())
    assert shaped.tc.ports == {"wg0": Port(), "wg1": Port()}


@pytest.mark.parametrize(("error", "count"), [("EOPNOTSUPP", 0), ("EPERM", 1)])
def test_switched_off_a_kernel_without_tc_is_no_trouble(shaped: ShapedNode, error: str, count: int) -> None:
    shaped.tc.fails = error
    Shaping(shaped.settings, shaped.tc, shaped.status, shaped.state).remove()
    assert dict(shaped.status.shaping_failures) == ({error: 1} if count else {})


def test_what_the_kernel_does_not_take_away_is_told(
    shaped: ShapedNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(steps: Iterable[Step]) -> list[FailedStep]:
        return [FailedStep(one, "EPERM", "Operation not permitted") for one in steps]

    monkeypatch.setattr(shaped.tc, "apply", refuse)
    assert not Shaping(shaped.settings, shaped.tc, shaped.status, shaped.state).remove()
    said = capsys.readouterr().out
    assert "not all of it could be taken away" in said and "EPERM: Operation not permitted" in said


def test_a_restart_changes_nothing(shaped: ShapedNode) -> None:
    before = shaped.tc.writes
    shaped.start()
    shaped.planes = (Shaping(shaped.settings, shaped.tc, shaped.status, shaped.state),)
    shaped.reload()
    shaped.cycle()
    assert shaped.tc.writes == before and shaped.shaping.ok
    assert host(5) in {one.network for one in shaped.tc.trees[DOWN].filters}
