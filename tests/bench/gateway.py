"""How fast wgsyncd is on NexaVPN's tables, and how soon it changes access.

    tests/bench/nexavpn [--peers N] [--repeat 5] [--only PART …] [--changes 100] [--no-policies] [--page]

PostgreSQL, nf_tables and the packets are real. Both sides of each line take turns in one run. A gateway has fifty
access lists of twenty ranges.

`books` is a poll in which all devices moved, until it is posted. It is compared with bare UPDATEs of the same tables,
with the values of each device as literals, and without values. `cycle` is a cycle with nothing changed, beside the same with MariaDB. `access` is one device's
change of access. `repair` is what follows `nft flush ruleset`, with a running daemon. `judge` is the processor time of
a packet. `memory` is the memory of a running daemon.

`soon` is the time from the COMMIT of a change to the kernel: to the committed ruleset, or with --no-policies to the
peer. It needs the kernel's WireGuard for peers.

Interfaces are the kernel's where it has WireGuard, otherwise of wireguard-go. `cycle` needs the kernel's. A kernel without
nf_tables' named counters can measure with --no-policies only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import namespace
from tests.bench import gateway_parts, gateway_soon, gateway_table, judging, kernel, life, timing
from tests.bench.gateway_stage import SERVER, GatewayStage
from tests.bench.stage import room, stages
from tests.postgres import PrivatePostgres
from wgsyncd import log
from wgsyncd.daemon import memory

PARTS = ("books", "access", "repair", "judge", "cycle", "memory", "soon")
_BATCHES = 1500


def main() -> None:
    """Measures, and prints one JSON object for each part as soon as it is done."""
    parser = argparse.ArgumentParser(prog="tests/bench/nexavpn", description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each side; default: %(default)s")
    parser.add_argument("--only", choices=PARTS, nargs="+", help="default: all that this kernel can do")
    parser.add_argument("--changes", type=int, default=100, help="of `soon`; default: %(default)s")
    parser.add_argument("--no-policies", action="store_true", help="nobody enforces the policies")
    parser.add_argument("--page", action="store_true", help="also put the results into etc/doc/benchmarks.md")
    args = parser.parse_args()
    log.configure("error")
    memory.reduce_gc()  # as the daemon does
    for part in args.only or [one for one in PARTS if one != "cycle" or kernel.is_there()]:
        timing.servers.clear()
        disturbed = timing.disturbance()
        found = measure(part, args)
        busy = max(disturbed, timing.disturbance())
        about = {"part": part, "peers": args.peers, "kernel": platform.release(), "load": os.getloadavg()[0],
                 "policies": not args.no_policies}  # fmt: skip
        result = {**about, "disturbance": round(busy, 2), **found}
        print(json.dumps(result), flush=True)
        if args.page:
            gateway_table.put(result)


def measure(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measures one part, and returns its results by name: seconds, if the name has no unit."""
    if part == "judge":
        least = judging.measure(args.peers, _BATCHES)
        beyond = {way: least[f"judged_{way}"] - least[f"tracked_{way}"] for way in ("out", "back")}
        return {"ns": {name: round(ns) for name, ns in least.items()}, "beyond_ns": beyond}
    with _stage(args.peers, with_other=part == "cycle") as (stage, other):
        stage.enforces = not args.no_policies
        if part == "soon":
            return dict(gateway_soon.measure(stage, args.changes))
        if part == "memory":
            resident, peak = life.memory_used(stage)
            return {"rss_mib": round(resident, 1), "rss_peak_mib": round(peak, 1)}
        if part == "repair":
            took = gateway_parts.repair(stage, args.repeat)
            return {f"{name}_ms": {f"p{share}": gateway_soon.at_share(sorted(some), share) for share in (10, 50, 100)}
                    for name, some in took.items()}  # fmt: skip
        if part == "cycle":
            times = gateway_parts.cycle(stage, other, args.repeat)
        else:
            times = getattr(gateway_parts, part)(stage, args.repeat)
        return {name: {"wall": round(one, 4), "processor": round(one.processor, 3)} for name, one in times.items()}


@contextlib.contextmanager
def _stage(peers: int, *, with_other: bool) -> Iterator[tuple[GatewayStage, Any]]:
    """Makes the tables and an interface in a network of their own. ``with_other``: also those of MariaDB, and wg1."""
    with contextlib.ExitStack() as stack:
        where = room()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wgsyncd-bench-", dir=where)))
        folder.chmod(0o755)
        server = stack.enter_context(PrivatePostgres(SERVER, parent=where))
        other, name = None, "wg0"
        if with_other:
            other, name = stack.enter_context(stages())(peers), "wg1"
            stack.callback(other.close)
        else:
            stack.enter_context(namespace.own_network())
            namespace.run("ip", "link", "set", "lo", "up")  # the daemon's metrics need it
        link = namespace.kernel_link if kernel.is_there() else namespace.wireguard_go
        stack.enter_context(link(name))
        stage = GatewayStage(server, folder / "nexavpn", peers, name)
        stack.callback(stage.close)
        subprocess.run(["wg", "set", name, "listen-port", "51820" if not with_other else "51821",
                        "private-key", "/dev/stdin"], input=stage.keys.private, text=True, check=True)  # fmt: skip
        namespace.run("ip", "link", "set", name, "up")
        yield stage, other


if __name__ == "__main__":
    main()
