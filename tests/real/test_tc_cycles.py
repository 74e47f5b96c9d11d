"""Cycles of a node shape its devices in the kernel's tc, whatever happens to it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import namespace
from tests.engine.test_shaping import ShapedNode
from tests.namespace import run
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.wanted import Wanted
from wgsyncd.dataplane.tc.kernel import KernelTc
from wgsyncd.engine.shaping import Shaping

pytestmark = pytest.mark.vm


class KernelNode(ShapedNode):
    """A node whose tc is the kernel's. Its WireGuard is in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel_tc = KernelTc(timeout=60)
        self.begin()

    def begin(self) -> None:
        """Let a new process begin, as after a kill."""
        self.start()
        self.planes = (Shaping(self.settings, self.kernel_tc, self.status, self.state),)
        self.reload()

    def shown(self) -> dict[int, int]:
        """The highest rate of each device in bytes per second, by its number."""
        self.tc.trees = dict(self.kernel_tc.read().trees)
        return self.rates()


@pytest.fixture
def node() -> Iterator[KernelNode]:
    with namespace.own_network():
        for name in ("wg0", "wg1"):
            run("ip", "link", "add", name, "type", "dummy")
            run("ip", "link", "set", name, "up")
        made = KernelNode()
        made.cycle()
        yield made
        made.kernel_tc.close()


def test_devices_have_the_rates_of_their_contract_and_a_change_holds(node: KernelNode) -> None:
    assert node.shown() == dict.fromkeys((5, 6, 7), 1_000_000)
    assert node.shaping.ok
    node.db.profiles["0001"] = "slow"
    node.device(8)
    node.cycle()
    assert node.shown() == dict.fromkeys((5, 6, 7, 8), 100_000)
    changes = dict(node.status.shaping_changes)
    node.cycle()
    assert node.status.shaping_changes == changes, "nothing is sent where nothing has changed"


@pytest.mark.parametrize("part", [0, 1, 3, 6, 9, 14])
def test_a_process_that_was_killed_in_the_middle_of_installing_leaves_what_the_next_one_ends(
    node: KernelNode, part: int
) -> None:
    plan = make_plan(Wanted(), node.kernel_tc.read())
    assert node.kernel_tc.apply(plan.clean_up) == []
    wanted = node.planes[0].plan(node.store.snapshot(), node.cycle(), None).wanted  # type: ignore[arg-type]
    assert node.kernel_tc.apply(make_plan(Wanted(), node.kernel_tc.read()).clean_up) == []
    assert node.kernel_tc.apply(make_plan(wanted, node.kernel_tc.read()).prepare[:part]) == []
    node.begin()
    node.cycle()
    assert node.shaping.ok and node.shown() == dict.fromkeys((5, 6, 7), 1_000_000)


@pytest.mark.parametrize(
    "command",
    ["ip link del wgsyncd-down", "ip link set wgsyncd-up down", "tc qdisc del dev wgsyncd-down root",
     "tc class del dev wgsyncd-down classid 7767:2", "tc qdisc replace dev wg0 root pfifo", "tc qdisc del dev wg0 clsact",
     "ip link del wg1"],
)  # fmt: skip
def test_what_another_program_does_is_mended(node: KernelNode, command: str) -> None:
    if "class del" in command:
        run("tc", "filter", "del", "dev", "wgsyncd-down", "parent", "7767:")
    run(*command.split())
    node.account()
    node.cycle()
    assert node.shaping.ok and node.shown() == dict.fromkeys((5, 6, 7), 1_000_000)
    assert "wgsyncd-down" in run("tc", "filter", "show", "dev", "wg0", "egress")


def test_switched_off_nothing_is_left(node: KernelNode) -> None:
    Shaping(node.settings, node.kernel_tc, node.status, node.state).remove()
    assert "wgsyncd" not in run("ip", "link") + run("tc", "qdisc")
    assert "clsact" not in run("tc", "qdisc")
