"""Faults on the kernel's tc: a kill in the middle, other programs beside it, a new interface, and a storm of changes."""

import multiprocessing
import os
import re
import signal
from contextlib import ExitStack

import pytest

from tests import namespace
from tests.bench.shaped_net import WHERE, Net, addresses
from tests.core.test_shaping_plan import MBIT, device, wish
from tests.namespace import run
from tests.real.test_tc_cycles import KernelNode, node  # noqa: F401 - a fixture
from wgsyncd.core.network import parse_host
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.wanted import Wanted
from wgsyncd.dataplane.tc.kernel import KernelTc
from wgsyncd.engine.shaping import Shaping

pytestmark = pytest.mark.vm
CHANGES = 100  # at least. The virtual machine is slow. In User-Mode Linux, 1,000 of them took less than a minute
RATES = dict.fromkeys((5, 6, 7), 1_000_000)
# What wondershaper 1.1a sends for `wondershaper wg0 8000 4000`, without its warnings, and what networkd sends for
# [FairQueueingControlledDelay] at the root.
WONDERSHAPER = (
    "tc qdisc add dev wg0 root handle 1: cbq avpkt 1000 bandwidth 10mbit",
    "tc qdisc add dev wg0 root handle 1: htb default 20",
    "tc class add dev wg0 parent 1: classid 1:1 htb rate 4000kbit",
    "tc class add dev wg0 parent 1:1 classid 1:20 htb rate 4000kbit",
    "tc filter add dev wg0 parent 1: protocol ip prio 18 u32 match ip dst 0.0.0.0/0 flowid 1:20",
    "tc qdisc add dev wg0 handle ffff: ingress",
    "tc filter add dev wg0 parent ffff: protocol ip prio 50 u32 match ip src 0.0.0.0/0 action drop",
)
HANDS = (  # what a hand does to traffic control
    "tc filter del dev wgsyncd-down parent 7767:",
    "tc class del dev wgsyncd-down classid 7767:4",  # of a device without pings: what waits in a class goes with it
    "tc filter del dev wg0 egress",
)
NETWORKD = ("tc qdisc replace dev wg0 root handle 2: fq_codel limit 2000",)


def _install_and_die(wanted: Wanted) -> None:
    tc = KernelTc(timeout=60)
    steps = make_plan(wanted, tc.read()).prepare
    tc.apply(steps[: len(steps) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_in_the_middle_of_installing_leaves_what_the_next_process_ends() -> None:
    wanted = wish(*(
        device(number, parse_host(f"10.201.0.{number}"), owner=f"{number // 2:04}") for number in range(1, 101)
    ))  # fmt: skip
    with namespace.own_network():
        for name in ("wg0", "wg1"):
            run("ip", "link", "add", name, "type", "dummy")
        process = multiprocessing.get_context("fork").Process(target=_install_and_die, args=(wanted,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        tc = KernelTc(timeout=60)
        half = tc.read()
        assert half.trees[Direction.DOWN].classes and not half.trees[Direction.UP].classes
        assert not half.ports["wg0"].redirects, "nobody is led into half a tree"
        plan = make_plan(wanted, half)
        assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
        assert make_plan(wanted, tc.read()).is_empty
        tc.close()


@pytest.mark.parametrize("commands", [WONDERSHAPER, NETWORKD], ids=["wondershaper", "networkd"])
def test_another_program_shapes_the_same_interface(node: KernelNode, commands: tuple[str, ...]) -> None:  # noqa: F811
    done = [_may_fail(one) for one in commands]
    assert any(done)
    theirs = run("tc", "qdisc", "show", "dev", "wg0", "root")
    node.account()
    node.cycle()
    assert node.shaping.ok and node.shown() == RATES
    assert run("tc", "qdisc", "show", "dev", "wg0", "root") == theirs
    Shaping(node.settings, node.kernel_tc, node.status, node.state).remove()
    assert run("tc", "qdisc", "show", "dev", "wg0", "root") == theirs, "wgsyncd leaves it there"


def _may_fail(command: str) -> bool:
    """Whether the kernel has taken a command. wondershaper does not look, either."""
    try:
        run(*command.split())
    except AssertionError:
        return False
    return True


def test_an_interface_that_is_made_anew_is_shaped_again(node: KernelNode) -> None:  # noqa: F811
    before = node.kernel_tc.read().trees
    run("ip", "link", "del", "wg0")
    node.account()
    run("ip", "link", "add", "wg0", "type", "dummy")
    node.cycle()
    assert node.shaping.ok and node.shown() == RATES
    assert node.kernel_tc.read().trees == before, "the trees outlive the interface"
    assert set(node.kernel_tc.read().ports["wg0"].redirects) == set(Direction)


def _counters(device_number: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """What the server has received from and sent to a device, and what the device has sent and received."""
    key = run("ip", "netns", "exec", f"d{device_number}", "wg", "show", "wg", "public-key").strip()
    lines = [one.split() for one in run("wg", "show", WHERE[device_number], "transfer").splitlines()]
    here = next((rx, tx) for name, rx, tx in lines if name == key)
    _, rx, tx = run("ip", "netns", "exec", f"d{device_number}", "wg", "show", "wg", "transfer").split()
    return here, (tx, rx)


def test_many_changes_lose_no_ping_and_nobody_is_unshaped_meanwhile() -> None:
    """The devices change their rates, whether they share them, and whether one has its contract for itself.

    WireGuard's counters are exact at the end.
    """
    with ExitStack() as stack:
        net = Net(stack, userspace=False)
        tc = KernelTc(timeout=60)
        stack.callback(tc.close)

        def reach(number: int) -> Wanted:
            mbit, alone = (8 + number % 7) * MBIT, number % 10 == 9
            wanted = wish(*(
                device(one, *addresses(one), interface=WHERE[one], down=mbit, up=mbit, shared=alone or number % 10 < 8)
                for one in WHERE if one == 1 or not alone
            ))  # fmt: skip
            plan = make_plan(wanted, tc.read())
            assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
            return wanted

        reach(0)
        pings = net.begin_ping(1, 400, 0.01)
        number = 0
        while number < CHANGES or pings.poll() is None:
            number += 1
            reach(number)
        assert make_plan(reach(number), tc.read()).is_empty
        assert net.delay(pings).lost == 0
        for link in ("wgsyncd-down", "wgsyncd-up"):
            shown = run("tc", "-s", "qdisc", "show", "dev", link, "root")
            assert re.findall(r"direct_packets_stat (\w+)", shown) == ["0"], "each packet was in a class"
        for one in WHERE:
            here, there = _counters(one)
            assert here == there


def test_a_kill_and_hands_lose_no_ping_and_no_byte() -> None:
    """A process dies while it makes the trees, the next one goes on, and then somebody takes parts away again."""
    with ExitStack() as stack:
        net = Net(stack, userspace=False)
        tc = KernelTc(timeout=60)
        stack.callback(tc.close)
        wanted = wish(*(device(one, *addresses(one), interface=WHERE[one]) for one in WHERE))

        def mend() -> None:
            plan = make_plan(wanted, tc.read())
            assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
            assert make_plan(wanted, tc.read()).is_empty

        # Before the pings: the kernel drops packets while a root, or the clsact of the redirects, comes or goes.
        run(*NETWORKD[0].split())
        mend()
        for port in ("wg0 ingress", "wg0 egress", "wg1 ingress", "wg1 egress"):
            run(*f"tc filter del dev {port}".split())
        for link in ("wgsyncd-down", "wgsyncd-up"):
            run("ip", "link", "del", link)
        pings = net.begin_ping(1, 400, 0.01)
        process = multiprocessing.get_context("fork").Process(target=_install_and_die, args=(wanted,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL and tc.read().trees[Direction.DOWN].index
        while pings.poll() is None:
            mend()
            for command in HANDS:
                run(*command.split())
        mend()
        assert net.delay(pings).lost == 0
        run("tc", "qdisc", "del", "dev", "wg0", "clsact")
        mend()
        assert "fq_codel 2: root" in run("tc", "qdisc", "show", "dev", "wg0")
        for one in WHERE:
            here, there = _counters(one)
            assert here == there
