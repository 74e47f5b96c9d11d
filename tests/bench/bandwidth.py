"""Measures what shaping does to traffic, and what it costs.

    tests/bench/shaping [--only traffic|cost] [--devices 250 1000 10000] [--repeat N] [--rates 1 10 100]
                        [--together 2] [--userspace] [--json]

``traffic``: the rates that TCP reaches, how devices share, and what pings take under load, with real WireGuard in
network namespaces. In User-Mode Linux with time-travel=inf-cpu, time is simulated, so the machine's own speed does not
matter. With --userspace, the server's interfaces are wireguard-go. This needs real time.

``cost``: the seconds to install and to compare trees of several sizes, beside `tc -batch` of the same tree. This needs
real time.
"""

import argparse
import json
import platform
import re
import sys
import time
from contextlib import ExitStack
from typing import Any

from tests.bench import shaped_sizes
from tests.bench.shaped_net import WHERE, Net, addresses
from tests.bench.timing import condition, disturbance
from tests.namespace import run
from wgsyncd.core.shaping.plan import make_plan
from wgsyncd.core.shaping.profiles import Choice
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted
from wgsyncd.dataplane.tc.kernel import KernelTc

_SECONDS = 12
_GOODPUT = {False: (0.94, 0.964), True: (0.8, 0.97)}  # of the rate, by userspace
_WHOLE = 1.003  # of the rate: a burst of 3,200 bytes in nine seconds at 1 Mbit is 0.3 % of it
_P95 = {1: 25.0, 10: 6.0, 100: 3.0}  # ms, by Mbit
_COST = {  # seconds, by devices
    250: {"install": 0.1, "unchanged": 0.01},
    10_000: {"install": 20.0, "unchanged": 0.5, "one more device": 0.01},
}


def _shape(tc: KernelTc, mbit: int, devices: tuple[int, ...]) -> None:
    choice = Choice("bench", mbit * 125_000, mbit * 125_000, True)
    wanted = Wanted(tuple(ShapedDevice(one, f"D{one}", "1", WHERE[one], addresses(one), choice) for one in devices))
    for _ in range(2):
        plan = make_plan(wanted, tc.read())
        failed = tc.apply((*plan.withdraw, *plan.prepare, *plan.clean_up))
        assert not failed, failed[0]
    assert plan.is_empty


def _alone(net: Net, tc: KernelTc, mbit: int, family: int) -> list[dict[str, Any]]:
    """One device with one flow each way, and once more with pings beside it."""
    found = []
    _shape(tc, mbit, (1,))
    for way in ("down", "up"):
        load = net.load(net.begin(1, way, _SECONDS, family=family))  # alone: at 1 Mbit, pings take 2 % of the rate
        flow = net.begin(1, way, _SECONDS, family=family)
        time.sleep(2)
        delay = net.delay(net.begin_ping(1, 150, 0.05, family))
        net.load(flow)
        found.append({"mbit": mbit, "family": family, "way": way, "goodput": round(load.bits / mbit / 1e6, 3),
                      "p50": delay.p50, "p95": delay.p95, "lost": delay.lost})  # fmt: skip
    return found


def _sent(way: str) -> tuple[float, list[int]]:
    """Now, and the bytes that the class of each device has let through."""
    shown = run("tc", "-s", "class", "show", "dev", f"wgsyncd-{way}")
    found = re.findall(r"class htb 7767:(\w+) [^\n]* leaf [^\n]*\n Sent (\d+) bytes", shown)
    return time.monotonic(), [int(sent) for _, sent in sorted(found, key=lambda one: int(one[0], 16))]


def _together(net: Net, tc: KernelTc, mbit: int, way: str) -> dict[str, Any]:
    """Three devices of one contract on two interfaces. The first has eight flows.

    The bytes are those of the classes: what TCP hands to its program comes in leaps where packets are lost.
    """
    _shape(tc, mbit, tuple(WHERE))
    flows = [net.begin(one, way, _SECONDS, 8 if one == 1 else 1) for one in WHERE]
    time.sleep(2)
    began, before = _sent(way)
    time.sleep(_SECONDS - 3)
    ended, after = _sent(way)
    for one in flows:
        net.load(one)
    each = [(new - old) * 8 / (ended - began) / mbit / 1e6 for old, new in zip(before, after, strict=True)]
    return {"mbit": mbit, "way": way, "of_a_third": [round(one * len(each) / sum(each), 3) for one in each],
            "sum": round(sum(each), 3)}  # fmt: skip


def _coming_and_going(net: Net, tc: KernelTc) -> int:
    """How many of 400 pings are lost while shaping is made and taken away ten times."""
    _shape(tc, 10, ())
    time.sleep(5)  # What the last flow has left in queues would take the place of pings.
    pings = net.begin_ping(1, 400, 0.01)
    for _ in range(10):
        _shape(tc, 10, tuple(WHERE))
        time.sleep(0.2)
        _shape(tc, 10, ())
        time.sleep(0.2)
    return net.delay(pings).lost


def traffic(rates: list[int], *, userspace: bool) -> dict[str, Any]:
    """What TCP and pings get."""
    with ExitStack() as stack:
        net = Net(stack, userspace=userspace)
        tc = KernelTc(timeout=60)
        stack.callback(tc.close)
        stack.enter_context(net.servers())
        time.sleep(1)
        alone = [_say(one) for mbit in rates for family in (4, 6) for one in _alone(net, tc, mbit, family)]
        lost = _coming_and_going(net, tc)
        net.without_offloads()
        shared = [_say(_together(net, tc, mbit, way)) for mbit in rates for way in ("down", "up")]
        _shape(tc, 1, ())
    return {"userspace": userspace, "alone": alone, "shared": shared, "lost_of_400": lost}


def _say(one: dict[str, Any]) -> dict[str, Any]:
    print(one, file=sys.stderr, flush=True)
    return one


def _mark(text: str, *, good: bool) -> str:
    return f"**{text}**" if good else text


def traffic_text(result: dict[str, Any]) -> str:
    """The result as tables. What meets its goal is bold."""
    low, high = _GOODPUT[result["userspace"]]
    lines = ["| rate | | IPv | TCP, of the rate | ping p50 / p95, ms | lost |", "|---|---|---|---|---|---|"]
    for one in result["alone"]:
        goodput = _mark(f"{one['goodput']:.3f}", good=low <= one["goodput"] <= high)
        p95 = _mark(f"{one['p95']:.1f}", good=one["p95"] <= _P95.get(one["mbit"], 0))
        lines.append(f"| {one['mbit']} Mbit | {one['way']} | {one['family']} | {goodput} | {one['p50']:.1f} / {p95} "
                     f"| {one['lost']} |")  # fmt: skip
    lines += ["", "| shared rate | | each device, of a third | all together, of the rate |", "|---|---|---|---|"]
    for one in result["shared"]:
        parts = _mark(" / ".join(f"{part:.3f}" for part in one["of_a_third"]),
                      good=all(abs(part - 1) <= 0.05 for part in one["of_a_third"]))  # fmt: skip
        lines.append(
            f"| {one['mbit']} Mbit | {one['way']} | {parts} | {_mark(str(one['sum']), good=one['sum'] <= _WHOLE)} |"
        )
    return "\n".join([*lines, "", f"Lost while shaping comes and goes: {result['lost_of_400']} of 400 pings."])


def cost_text(results: list[dict[str, Any]]) -> str:
    """The results as a table: seconds, beside `tc` where it does the same."""
    theirs = {"install": "install by tc -batch", "unchanged": "show by tc"}
    rows = []
    for name in ("install", "unchanged", "one more device", "remove"):
        cells = []
        for one in results:
            took, other = one["seconds"][name], one["seconds"].get(theirs.get(name, ""))
            goal = _COST.get(one["devices"], {}).get(name)
            cell = _mark(f"{took:.2g}", good=goal is not None and took <= goal)
            cells.append(f"{cell} / {other:.2g} = {took / other:.2g}" if other else cell)
        rows.append([f"{name}, s", *cells])
    for name in ("of no device", "of one device", "of all in turn"):
        rows.append([f"shaping adds to a packet {name}, ns", *(str(one["ns_per_packet"][name]) for one in results)])
    rows.insert(0, ["---"] * (len(results) + 1))
    rows.insert(0, ["", *(f"{one['devices']:,} devices" for one in results)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="tests/bench/shaping", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=["traffic", "cost"], help="one part")
    parser.add_argument("--devices", type=int, nargs="+", default=[250, 1000, 10_000])
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 10, 100], help="Mbit")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each size; the best counts")
    parser.add_argument("--together", type=int, default=2, help="devices of each contract whose cost is measured")
    parser.add_argument("--userspace", action="store_true", help="the server's interfaces are wireguard-go")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result: dict[str, Any] = {"kernel": platform.release()}
    if args.only != "cost":
        result["traffic"] = traffic(args.rates, userspace=args.userspace)
    if args.only != "traffic":
        result["disturbance"] = disturbance()
        result["cost"] = [shaped_sizes.measure(one, args.repeat, args.together) for one in args.devices]
    if args.json:
        print(json.dumps(result))
        return
    if "traffic" in result:
        print(traffic_text(result["traffic"]) + "\n")
    if "cost" in result:
        print(cost_text(result["cost"]) + f"\n\n{condition(result['disturbance'])}")


if __name__ == "__main__":
    main()
