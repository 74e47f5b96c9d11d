"""How fast wgsyncd is: beside wg(8), pyroute2 and bare SQL, on the kernel's WireGuard and a MariaDB of one's own.

Both sides of each line take turns in one run, and the results are medians. Our side is the daemon's own classes:
LocalWireGuard, MariaDBStore and Agent. Memory, start and rest are measured on a real `wgsyncd run`.

`fill` is one cycle with an empty table of baselines and an empty interface. It reads the rows, commits baselines and
audit rows, adds the peers and reads them back.

`noop` is a cycle with nothing changed, as nine of ten are: it reads the digest of the rows and dumps the interface. The
benchmark asserts that it writes nothing.

`change` goes there and back between two states that differ in 1 % of the peers. wg(8) gets these states as files, with
a private key as `wg genkey` makes it. For theirs_loose, the bits that the kernel ignores are set in that key, as 32
random bytes have them. The kernel takes this key for a new one each time.

`commit` is a poll whose dump shows new bytes and a new handshake for every peer, until it is posted. It is compared
with the bare UPDATE … JOIN of the same rows and columns of customer_devices, with literals and with as many rows a
transaction. `everything` also sets a baseline for each row, in the same statement. Polls are measured without their
dump.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import books, compare, kernel, life, table, timing
from tests.bench.stage import Stage, stages
from wgsyncd import log
from wgsyncd.daemon import memory

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "etc" / "doc" / "benchmarks.md"
BEGIN, END = "<!-- bench: the last result -->\n", "<!-- bench: end -->\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=int, nargs="+", help="default: 250 10000 100000; with --quick: 250 10000")
    parser.add_argument("--repeat", type=int, help="runs of each side; default: 5; with --quick: 1")
    parser.add_argument("--quick", action="store_true", help="does everything work? The figures are of one run each")
    parser.add_argument("--idle", type=float, help="seconds to watch an idle daemon; default: 60; with --quick: 5")
    parser.add_argument("--only", choices=["kernel", "books", "life"], help="one part, for work on it")
    parser.add_argument(
        "--compare", metavar="REV", help="also measure this revision of git, in turn: the ratios of both"
    )
    parser.add_argument("--json", action="store_true", help="an object per number of peers, a line each")
    parser.add_argument("--page", action="store_true", help="also put the result into etc/doc/benchmarks.md")
    args = parser.parse_args()
    args.peers = args.peers or [250, 10_000, 100_000][: 2 if args.quick else 3]
    args.repeat = args.repeat or (1 if args.quick else 5)
    args.idle = args.idle or (5 if args.quick else 60)
    return args


def measure(stage: Stage, args: argparse.Namespace) -> dict[str, Any]:
    """Measures everything for one number of peers, and returns the results by name.

    The keys peers, ratios, seconds, rss_mib and writer_stall_ms are at the top, without the parts that --only leaves
    out. All other results are under "more".
    """
    seconds: dict[str, dict[str, timing.Took]] = {}
    timing.servers[:] = [stage.server.pid]
    more: dict[str, Any] = {"kernel": platform.release(), "repeat": args.repeat, "disturbance": timing.disturbance()}
    result: dict[str, Any] = {}
    if args.only in (None, "kernel"):
        seconds |= kernel.measure(stage, args.repeat)
    else:
        stage.fill_table()
        stage.empty_interface()
    if args.only in (None, "books"):
        posted, stall = books.measure(stage, args.repeat)
        seconds |= posted
        result["writer_stall_ms"] = stall["ms"]
        more["writer_alone_ms"], more["writer_elsewhere_ms"] = stall["alone_ms"], stall["elsewhere_ms"]
    if args.only in (None, "life"):
        result["rss_mib"], more["rss_peak_mib"] = life.memory(stage)
        if stage.peers <= 1000:
            more["start"] = life.start(stage, args.repeat)
            more["idle"] = life.idle(stage, args.idle)
    more["disturbance"] = max(more["disturbance"], timing.disturbance())
    more["processor"] = {what: {name: one.processor for name, one in some.items()} for what, some in seconds.items()}
    return {"peers": stage.peers, "ratios": table.ratios(seconds), "seconds": seconds, **result, "more": more}


def _here(args: argparse.Namespace) -> list[dict[str, Any]]:
    log.configure("error")
    memory.reduce_gc()  # as the daemon does
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # also for the server and all commands
    results = []
    with stages() as stage_for:
        for peers in args.peers:
            stage = stage_for(peers)
            results.append(measure(stage, args))
            stage.close()
            _say(results[-1], args)
    return results


def _in_vm() -> list[dict[str, Any]]:
    """Runs the same command in the virtual machine, and returns the results that it leaves in a file."""
    with tempfile.TemporaryDirectory() as folder:
        run = ["tests/vm/run", "--results", folder, "--memory", "4G", "--timeout", "36000", "--", sys.executable, "-m"]
        done = subprocess.run([*run, "tests.bench", *sys.argv[1:]], cwd=TOP, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        found: list[dict[str, Any]] = json.loads(Path(folder, "bench.json").read_text())
        return found


def _say(result: dict[str, Any], args: argparse.Namespace) -> None:
    whole = args.only is None and not args.json
    print(table.text(result) + "\n" if whole else json.dumps(result), flush=True)


def _growth(results: list[dict[str, Any]]) -> str:
    large = [one for one in results if one["peers"] >= 10_000]
    return table.growth(large) if len(large) == 2 else ""


def _into_page(results: list[dict[str, Any]]) -> None:
    parts = [table.together(results), _growth(results)]
    words = [word for word in sys.argv[1:] if word != "--page"]
    today = datetime.datetime.now(tz=datetime.UTC).date()
    said = f"{today}, Linux {results[0]['more']['kernel']}, `{' '.join(['tests/bench/run', *words])}`:"
    whole = PAGE.read_text(encoding="utf-8")
    block = BEGIN + "\n\n".join(filter(None, [said, *parts])) + "\n" + END
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, whole, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    """Measures, prints the results and keeps them."""
    args = _arguments()
    if kernel.is_there():
        if args.compare:
            print(compare.text(compare.run(args.compare, args.peers, args.repeat, args.only)))
        results = _here(args) if not args.compare else []
        if folder := os.environ.get("WGSYNCD_VM_RESULTS"):
            Path(folder, "bench.json").write_text(json.dumps(results))
            return
    elif os.environ.get("WGSYNCD_VM"):
        sys.exit("tests/bench/run: the virtual machine's kernel has no WireGuard either")
    else:
        results = _in_vm()
    if args.only is None and not args.json and (said := _growth(results)):
        print(said)
    if args.page:
        _into_page(results)


if __name__ == "__main__":
    main()
