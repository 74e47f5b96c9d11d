"""What shaping costs by the number of devices: installing, comparing, one more device, and each packet.

The other side is ``tc -batch`` with a file of the same objects, made beforehand.
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tests.namespace import own_network, run
from wgsyncd.core.network import parse_host
from wgsyncd.core.shaping.plan import Planner, make_plan
from wgsyncd.core.shaping.profiles import Choice, Direction
from wgsyncd.core.shaping.steps import Clsact, Detour, Link, Redirect, RootQdisc, Step
from wgsyncd.core.shaping.tree import DEVICE_PREFS, Filter, HtbClass, Leaf, link_name
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted
from wgsyncd.dataplane.tc.kernel import KernelTc
from wgsyncd.engine.shaping import MOST_NEW

_STANDARD = Choice("standard", 125_000_000, 25_000_000, True)  # so fast that no packet of the benchmark waits
_NOBODY = "10.255.255.254"  # a host that is no device
_PACKETS, _ROUNDS = 250, 200


def _address(number: int) -> str:
    return f"10.{200 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def wanted(devices: int, together: int) -> Wanted:
    """Contracts of ``together`` devices each."""
    return Wanted(tuple(
        ShapedDevice(one, f"D{one}", f"{(one - 1) // together:05}", "wg0", (parse_host(_address(one)),), _STANDARD)
        for one in range(1, devices + 1)
    ))  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def install(tc: KernelTc, goal: Wanted) -> None:
    """Make everything as the daemon does it, in portions."""
    planner, is_complete = Planner(), False
    while not is_complete:
        _, plan, waiting = planner.plan(goal, tc.read(), MOST_NEW)
        failed = tc.apply(plan.prepare)
        assert not failed, failed[0]
        is_complete = not waiting


def remove(tc: KernelTc) -> None:
    """Take everything away, as for ``mode = "off"``."""
    plan = make_plan(Wanted(), tc.read())
    failed = tc.apply((*plan.withdraw, *plan.clean_up))
    assert not failed, failed[0]


def _as_tc(step: Step) -> str:
    """The command of tc(8) for a step."""
    link, thing = link_name(step.direction or Direction.DOWN, step.number), step.thing
    side = {Direction.DOWN: "dst_ip", Direction.UP: "src_ip"}[step.direction or Direction.DOWN]
    match thing:
        case RootQdisc():
            return f"qdisc add dev {link} root handle 7767: htb default 0"
        case HtbClass():
            parent = f"7767:{thing.parent:x}" if thing.parent else "7767:"
            burst, most = thing.buffer * thing.rate * 64, thing.cbuffer * thing.ceil * 64
            return (
                f"class add dev {link} parent {parent} classid 7767:{thing.minor:x} htb rate {thing.rate}bps "
                f"ceil {thing.ceil}bps burst {burst // 10**9} cburst {most // 10**9} quantum {thing.quantum}"
            )
        case Leaf():
            return (
                f"qdisc add dev {link} parent 7767:{thing.minor:x} handle {thing.handle:x}: fq_codel flows {thing.flows} "
                f"limit {thing.limit} memory_limit {thing.memory} target {thing.target}us interval {thing.interval}us"
            )
        case Filter():
            protocol = "ip" if thing.pref == DEVICE_PREFS[4] else "ipv6"
            return (
                f"filter add dev {link} parent 7767: pref {thing.pref} protocol {protocol} handle {thing.handle} "
                f"flower skip_hw {side} {thing.network} classid 7767:{thing.minor:x}"
            )
        case Clsact(interface):
            return f"qdisc add dev {interface} clsact"
        case Redirect(interface):
            hook = "egress" if step.direction is Direction.DOWN else "ingress"
            return (
                f"filter add dev {interface} {hook} pref 63335 handle 1 protocol all matchall action mirred egress "
                f"redirect dev {link}"
            )
        case Detour():
            hook = "egress" if step.direction is Direction.DOWN else "ingress"
            return (
                f"filter add dev {thing.interface} {hook} pref 63333 protocol ip flower skip_hw {side} "
                f"{thing.network} action mirred egress redirect dev {link}"
            )
    raise ValueError(step)


def _batch(steps: Iterable[Step], path: Path) -> None:
    path.write_text("".join(f"{_as_tc(one)}\n" for one in steps if not isinstance(one.thing, Link)))


def _by_tc(path: Path, links: Iterable[str]) -> None:
    for link in links:
        run("ip", "link", "add", link, "up", "txqueuelen", "1000", "type", "ifb")
    run("tc", "-batch", str(path))


def _shown_by_tc(links: Iterable[str]) -> None:
    for link in links:
        for what in ("qdisc", "class", "filter"):
            subprocess.run(["tc", what, "show", "dev", link], stdout=subprocess.DEVNULL, check=True)


def _per_packet(devices: int) -> dict[str, int]:
    """Nanoseconds of a packet of 100 bytes: by itself, and what shaping adds to it.

    Four kinds of packets take turns, and the best of all rounds counts. So other work on the machine matters little.
    """
    places = {
        "alone": ["172.16.0.9"], "of no device": [_NOBODY], "of one device": [_address(1)],
        "of all in turn": [_address(one) for one in range(1, devices + 1)],
    }  # fmt: skip
    best, data = dict.fromkeys(places, float("inf")), bytes(72)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for turn in range(_ROUNDS):
            for name, targets in places.items():
                round_ = [(targets[(turn * _PACKETS + at) % len(targets)], 9) for at in range(_PACKETS)]
                began = time.perf_counter()
                for place in round_:
                    sender.sendto(data, place)
                best[name] = min(best[name], time.perf_counter() - began)
    alone = best.pop("alone")
    added = {name: round((one - alone) / _PACKETS * 1e9) for name, one in best.items()}
    return {"alone": round(alone / _PACKETS * 1e9), **added}


def measure(devices: int, repeat: int, together: int = 2) -> dict[str, object]:
    """The seconds of each work by its name, and nanoseconds of a packet."""
    goal, more = wanted(devices, together), wanted(devices + 1, together)
    some: dict[str, list[float]] = {}

    def took(name: str, work: Callable[[], object]) -> None:
        some.setdefault(name, []).append(seconds(work))
        print(f"{devices}: {name} {some[name][-1]:.4f} s", file=sys.stderr, flush=True)

    with own_network(), tempfile.TemporaryDirectory() as folder:
        run("ip", "link", "add", "wg0", "type", "dummy")  # it takes all packets, so only sending and tc are measured
        run("ip", "addr", "add", "10.200.0.0/8", "dev", "wg0")
        run("ip", "link", "set", "wg0", "up")
        run("ip", "link", "add", "wg1", "type", "dummy")
        run("ip", "addr", "add", "172.16.0.1/24", "dev", "wg1")
        run("ip", "link", "set", "wg1", "up")
        tc, path = KernelTc(timeout=600), Path(folder, "batch")
        steps = make_plan(goal, tc.read()).prepare
        _batch(steps, path)
        links = [link_name(one.direction, one.number) for one in steps
                 if isinstance(one.thing, Link) and one.direction is not None]  # fmt: skip
        for _ in range(repeat):
            took("install by tc -batch", lambda: _by_tc(path, links))
            found = tc.read()
            leaves = [len(tree.leaves) for _, _, tree in found.every_tree()]
            assert sum(leaves) == 2 * devices and leaves == [len(tree.filters) for _, _, tree in found.every_tree()]
            took("show by tc", lambda: _shown_by_tc(links))
            took("remove", lambda: remove(tc))
            took("install", lambda: install(tc, goal))
            planner = Planner()
            took("first comparison", partial(_assert_unchanged, tc, goal, planner))
            for _ in range(3):
                took("unchanged", partial(_assert_unchanged, tc, wanted(devices, together), planner))
            plan = make_plan(more, tc.read())
            steps = (*plan.prepare, *plan.clean_up)
            took("one more device", partial(tc.apply, steps))
            _assert_unchanged(tc, more, planner)
            packets = _per_packet(devices)
            took("remove", lambda: remove(tc))
        tc.close()
    best = {name: round(min(times), 4) for name, times in some.items()}
    return {"devices": devices, "seconds": best, "ns_per_packet": packets}


def _assert_unchanged(tc: KernelTc, goal: Wanted, planner: Planner) -> None:
    assert planner.plan(goal, tc.read(), MOST_NEW).plan.is_empty
