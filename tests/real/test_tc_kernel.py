"""The kernel's tc does what the model of tc in memory does: the same steps lead to the same state.

`tc` is the witness that wgsyncd's own reading is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from unittest import mock

import pytest

from tests import namespace
from tests.core.test_shaping_plan import EXEMPT, MBIT, device, wish
from tests.namespace import run
from tests.tcmodel import TcModel
from wgsyncd.core.network import parse_host
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Redirect, Step
from wgsyncd.core.shaping.tree import Hook, Port, Root, top_class
from wgsyncd.core.shaping.wanted import Wanted
from wgsyncd.dataplane.tc.codec import GETTFILTER
from wgsyncd.dataplane.tc.kernel import KernelTc

pytestmark = pytest.mark.vm
DOWN, UP = Direction.DOWN, Direction.UP
MIRROR = ("action", "mirred", "egress", "mirror", "dev", "lo")
TWO = wish(device(1), device(2), device(3, parse_host("10.251.0.9"), parse_host("fd00::9"), owner="0002", shared=False,
                                        interface="wg1"), exempt=tuple(EXEMPT))  # fmt: skip


@pytest.fixture
def tc() -> Iterator[KernelTc]:
    with namespace.own_network():
        for name in ("wg0", "wg1"):
            run("ip", "link", "add", name, "type", "dummy")
            run("ip", "link", "set", name, "up")
        kernel = KernelTc(timeout=60)
        yield kernel
        kernel.close()


def reach(tc: KernelTc, wanted: Wanted) -> None:
    """Applies a plan to the kernel. The model must come to the same state, and the next plan must be empty."""
    before = tc.read()
    model = TcModel(dict(before.trees), dict(before.ports))
    model.more = {number: dict(trees) for number, trees in before.more.items()}
    plan = make_plan(wanted, before)
    steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
    assert tc.apply(steps) == []
    model.apply(steps)
    after = tc.read()
    for number, direction, tree in after.every_tree():
        expected = model.of(number)[direction]
        assert (tree.classes, tree.leaves, tree.root) == (expected.classes, expected.leaves, expected.root)
        assert set(tree.filters) == set(expected.filters)
        assert bool(tree.index) == bool(expected.index)
    for name in ("wg0", "wg1"):
        assert after.ports[name].hook is model.ports[name].hook
        assert after.ports[name].redirects.keys() == model.ports[name].redirects.keys()
        assert after.ports[name].detours.keys() == model.ports[name].detours.keys()
    assert make_plan(wanted, after).is_empty


def test_a_life_of_shaping(tc: KernelTc) -> None:
    """Devices come, change their rates, their contract and their way to share, and go. Nothing is left."""
    reach(tc, TWO)
    shown = run("tc", "-d", "class", "show", "dev", "wgsyncd-down")
    assert "class htb 7767:1 root rate 10Mbit ceil 10Mbit" in shown and "parent 7767:1 leaf 2: prio 0" in shown
    leaves = json.loads(run("tc", "-j", "qdisc", "show", "dev", "wgsyncd-up"))
    assert [one["options"]["flows"] for one in leaves if one["kind"] == "fq_codel"] == [256] * 3
    assert "wgsyncd-down" in run("tc", "filter", "show", "dev", "wg0", "egress")
    reach(tc, wish(device(1, down=20 * MBIT), device(2, down=20 * MBIT)))
    reach(tc, wish(device(1), device(2, owner="0002")))
    reach(tc, wish(device(1, shared=False), device(2, owner="0002", up=None)))
    reach(tc, wish(*(device(number, shared=number % 2 == 0, owner=f"{number % 5:04}") for number in range(1, 40))))
    reach(tc, wish())
    after = tc.read()
    assert not after.trees[DOWN].index and not after.trees[UP].index
    assert after.ports["wg0"] == after.ports["wg1"] == Port()


def test_what_a_hand_broke_is_mended(tc: KernelTc) -> None:
    reach(tc, TWO)
    for command in (
        "tc filter del dev wgsyncd-down parent 7767: pref 10",
        "tc class change dev wgsyncd-up parent 7767:2 classid 7767:3 htb rate 1kbit ceil 1mbit",
        "tc qdisc del dev wgsyncd-down parent 7767:3",
        "tc qdisc replace dev wgsyncd-up parent 7767:3 handle 99: pfifo limit 5",
        "tc filter add dev wgsyncd-up parent 7767: pref 3 protocol ip u32 match ip src 10.0.0.1 flowid 7767:2",
        "tc qdisc del dev wgsyncd-down root",
        "ip link set wgsyncd-up down",
        "ip link set wgsyncd-down txqueuelen 5",
        "ip link del wgsyncd-up",
        "tc qdisc del dev wg0 clsact",
    ):
        run(*command.split())
        assert not make_plan(TWO, tc.read()).is_empty, command
        reach(tc, TWO)


def test_what_is_foreign_stays(tc: KernelTc) -> None:
    run("ip", "link", "add", "wgsyncd-up", "type", "dummy")
    run("tc", "qdisc", "add", "dev", "wg0", "clsact")
    run("tc", "filter", "add", "dev", "wg0", "egress", "pref", "9", "matchall", *MIRROR)
    run("tc", "qdisc", "add", "dev", "wg1", "ingress")
    before = tc.read()
    assert before.trees[UP].is_foreign
    assert before.ports["wg0"].has_foreign_filters and before.ports["wg1"].hook is Hook.INGRESS
    plan = make_plan(TWO, before)
    assert plan.foreign == ("wgsyncd-up", "wg1")
    assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
    assert make_plan(TWO, tc.read()).is_empty
    plan = make_plan(wish(), tc.read())
    assert tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up)) == []
    after = tc.read()
    assert (after.ports["wg0"], after.ports["wg1"]) == (before.ports["wg0"], before.ports["wg1"])
    assert tc.read().trees[UP].index


def test_a_foreign_root_is_seen(tc: KernelTc) -> None:
    run("ip", "link", "add", "wgsyncd-down", "type", "ifb")
    run("tc", "qdisc", "add", "dev", "wgsyncd-down", "root", "handle", "7767:", "htb", "default", "5")
    assert tc.read().trees[DOWN].root is Root.FOREIGN


def test_errors_have_the_kernels_own_words(tc: KernelTc) -> None:
    reach(tc, TWO)
    there, nowhere = top_class(1, 8000), top_class(9, 8000)
    failed = tc.apply(
        [Step(Action.ADD, DOWN, there), Step(Action.CHANGE, DOWN, nowhere), Step(Action.ADD, DOWN, nowhere)]
    )
    assert [(one.step.thing, one.name) for one in failed] == [(there, "EEXIST"), (nowhere, "ENOENT")]
    assert all(one.text for one in failed)
    assert 9 in tc.read().trees[DOWN].classes, "the others go on"


def test_clsact_stays_if_somebody_used_it_meanwhile(tc: KernelTc) -> None:
    reach(tc, TWO)
    plan = make_plan(wish(), tc.read())
    run("tc", "filter", "add", "dev", "wg0", "ingress", "pref", "9", "matchall", *MIRROR)
    assert tc.apply(plan.clean_up) == []
    assert tc.read().ports["wg0"] == Port(Hook.CLSACT, has_foreign_filters=True)


def test_a_look_reads_filters_again_only_after_a_change(tc: KernelTc) -> None:
    """A poll takes one look. A node of 10,000 devices has as many filters."""
    reach(tc, TWO)
    with mock.patch.object(tc._talk, "dump", wraps=tc._talk.dump) as dump:

        def look() -> tuple[int, list[object]]:
            """How many times filters were read, and the redirects that lead nowhere."""
            dump.reset_mock()
            bad = make_plan(Wanted(), tc.look(["wg0", "wg1"])).withdraw
            return sum(one.args[0] == GETTFILTER for one in dump.call_args_list), [one.thing for one in bad]

        assert (look(), look()) == ((4, []), (0, [])), "two interfaces, two directions"
        run("ip", "link", "set", "wgsyncd-down", "down")
        assert (look(), look()) == ((4, both := [Redirect("wg0"), Redirect("wg1")]), (0, both))
        tc.apply(make_plan(Wanted(), tc.read()).withdraw)
        assert look() == (4, [])
