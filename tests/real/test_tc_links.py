"""Devices whose contract is in another link than 0 are shaped by the kernel, in both directions and both families."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import pytest

from tests.bench.shaped_net import WHERE, Net, addresses
from tests.core.test_shaping_links import FOUR
from tests.core.test_shaping_plan import MBIT, device, wish
from tests.namespace import run
from tests.real.test_tc_faults import (  # noqa: F401 - it runs here, too
    test_a_kill_in_the_middle_of_installing_leaves_what_the_next_process_ends,
)
from tests.real.test_tc_kernel import MIRROR, reach, tc  # noqa: F401 - a fixture
from tests.wait import until
from wgsyncd.core.network import parse_host
from wgsyncd.core.shaping import spread
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.tree import Port
from wgsyncd.core.shaping.wanted import Wanted
from wgsyncd.dataplane.tc.kernel import KernelTc

pytestmark = pytest.mark.vm
CHANGES = 100  # at least


@pytest.fixture(autouse=True, scope="module")
def _small_links() -> Iterator[None]:
    """Each contract has a link of its own."""
    with mock.patch.object(spread, "MOST_CLASSES", 1):
        yield


def test_what_a_hand_broke_is_mended_and_nothing_is_left(tc: KernelTc) -> None:  # noqa: F811
    reach(tc, FOUR)
    assert sorted(tc.read().more) == [1, 2, 3]
    for command in (
        "ip link del wgsyncd-down1",
        "ip link set wgsyncd-up2 down",
        "tc filter del dev wg0 egress pref 63333",
        "tc qdisc del dev wgsyncd-down3 root",
        "tc qdisc del dev wg1 clsact",
        "ip link del wgsyncd-up",
    ):
        run(*command.split())
        assert not make_plan(FOUR, tc.read()).is_empty, command
        reach(tc, FOUR)
    reach(tc, wish())
    after = tc.read()
    assert not after.more and not any(tree.index for _, _, tree in after.every_tree())
    assert after.ports["wg0"] == after.ports["wg1"] == Port()
    assert "wgsyncd" not in run("ip", "link") and "clsact" not in run("tc", "qdisc")


def test_a_filter_of_another_program_stays(tc: KernelTc) -> None:  # noqa: F811
    run("tc", "qdisc", "add", "dev", "wg0", "clsact")
    theirs = "pref 63333 protocol ip flower dst_ip 10.200.0.3 src_ip 192.0.2.1"
    run("tc", "filter", "add", "dev", "wg0", "egress", *theirs.split(), *MIRROR)
    before = tc.read().ports["wg0"]
    assert before.taken and before.has_foreign_filters
    plan = make_plan(FOUR, tc.read())
    assert plan.foreign == ("wg0",)
    assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
    reach(tc, wish())
    assert tc.read().ports["wg0"] == before


def _apply(tc: KernelTc, wanted: Wanted) -> None:  # noqa: F811
    plan = make_plan(wanted, tc.read())
    assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
    assert make_plan(wanted, tc.read()).is_empty


def test_packets_of_other_links_have_the_rate_of_their_contract() -> None:
    """Devices 2 and 3 are in the links 1 and 2, at two interfaces."""
    with ExitStack() as stack:
        net, kernel = Net(stack, userspace=False), KernelTc(timeout=60)
        stack.callback(kernel.close)
        net.without_offloads()
        wanted = wish(*(
            device(one, *addresses(one), owner=f"{one}", interface=WHERE[one], down=4 * MBIT, up=2 * MBIT) for one in WHERE
        ))  # fmt: skip
        _apply(kernel, wanted)
        with net.servers():
            until(lambda: len(run("ip", "netns", "exec", "far", "ss", "-ltnH").splitlines()) == 2, 30, "both listen")
            for number, link in ((2, 1), (3, 2)):
                for family in (4, 6):
                    for way, mbit in (("down", 4), ("up", 2)):
                        name = f"wgsyncd-{way}{link}"
                        before = _sent(name)
                        load = net.load(net.begin(number, way, 6, family=family))
                        print(number, family, way, round(load.bits / mbit / 1e6, 3))
                        assert 0 < load.bits < mbit * 1e6
                        assert _sent(name) - before > load.bits / 8 * 3, "the link has seen them"
        for link in (1, 2):
            for way in ("down", "up"):
                shown = run("tc", "-s", "qdisc", "show", "dev", f"wgsyncd-{way}{link}", "root")
                assert re.findall(r"direct_packets_stat (\w+)", shown) == ["0"], "each packet was in a class"


def _sent(link: str) -> int:
    return int(re.findall(r"Sent (\d+) bytes", run("tc", "-s", "qdisc", "show", "dev", link, "root"))[0])


def test_a_device_that_moves_between_links_loses_no_ping() -> None:
    """It joins one contract and the other in turn, each of which is in a link of its own."""
    with ExitStack() as stack:
        net, kernel = Net(stack, userspace=False), KernelTc(timeout=60)
        stack.callback(kernel.close)
        others = [
            device(number, parse_host(f"10.200.0.{100 + number}"), owner=f"{number % 2}") for number in range(10, 16)
        ]

        def move(number: int) -> bool:
            """Whether the device is in another link than 0 now."""
            one = device(1, *addresses(1), owner=f"{number % 2}")
            _apply(kernel, wish(one, *others))
            return any(network == addresses(1)[0] for _, network in kernel.read().ports["wg0"].detours)

        places = {move(0)}
        pings = net.begin_ping(1, 400, 0.01)
        number = 0
        while number < CHANGES or pings.poll() is None:
            number += 1
            places.add(move(number))
        assert net.delay(pings).lost == 0
        assert places == {False, True}
        for link in ("wgsyncd-down", "wgsyncd-up", "wgsyncd-down1", "wgsyncd-up1"):
            shown = run("tc", "-s", "qdisc", "show", "dev", link, "root")
            assert re.findall(r"direct_packets_stat (\w+)", shown) == ["0"], "each packet was in a class"
