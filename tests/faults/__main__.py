"""The entry: arguments, the run, and its report."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.faults import (
    on_copies,
    on_daemon,
    on_database,
    on_interfaces,
    on_liars,
    on_nexavpn,
    on_policies,
    on_table,
    report,
    script,
    verdict,
)
from tests.faults.clock import FAKETIME
from tests.faults.metrics_poller import PORT, SAMPLED, AllEyes
from tests.faults.mikyun_stage import MikyunStage
from tests.faults.nexavpn_stage import NexavpnStage
from tests.faults.oracle import DueBytes
from tests.faults.policies_stage import PoliciesStage
from tests.faults.runner import Acts, Play
from tests.faults.stage import Stage
from tests.faults.stuck import Stuck
from wgsyncd.demo.processes import CommandFailed

ACTS = {**on_daemon.ACTS, **on_copies.ACTS, **on_liars.ACTS, **on_database.ACTS, **on_interfaces.ACTS,
        **on_table.ACTS}  # fmt: skip
_PLANES: Mapping[tuple[str, str], tuple[type[Stage], Acts, script.Kinds]] = {
    ("mikyun", ""): (MikyunStage, ACTS, script.KINDS),
    ("nexavpn", ""): (NexavpnStage, on_nexavpn.ACTS, script.NEXAVPN),
    ("nexavpn", "moves"): (NexavpnStage, on_nexavpn.ACTS, script.MOVES),
    ("nexavpn", "policies"): (PoliciesStage, on_policies.ACTS, script.POLICIES),
}
EMULATED = 8.0  # the pace of an emulated machine


def main() -> int:
    """Exit status: 0 every byte posted once and every round settled, 1 not, 2 the run could not be set up."""
    args = _arguments()
    directory = args.keep or Path(tempfile.mkdtemp(prefix="wgsyncd-faults-"))
    try:
        if args.keep:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        found = _run(args, directory)
    except (CommandFailed, OSError) as error:
        print(f"tests/faults/run: {error}", file=sys.stderr)
        return 2
    finally:
        if not args.keep:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(found) if args.json else report.as_text(found))
    return 0 if report.is_good(found) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/faults/run", description=__doc__, epilog=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="the script is made of it alone")
    parser.add_argument("--minutes", type=float, default=5, help="no round begins that would end later")
    parser.add_argument("--rounds", type=int, default=1 << 30, help="no more than these, however long they take")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--kind", choices=("userspace", "kernel"), default="userspace", help="whose WireGuard")
    pace = EMULATED if os.environ.get("WGSYNCD_VM") else 1.0
    parser.add_argument("--pace", type=float, default=pace, help="stretches all times, for a slow machine")
    parser.add_argument("--keep", type=lambda path: Path(path).absolute(), help="a directory for logs; emptied first")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="KIND", help="leave out these, to narrow a fault down"
    )
    parser.add_argument("--liars", action="store_true", help="nobody dies, and everything that answers lies or drips")
    parser.add_argument("--control-plane", choices=("mikyun", "nexavpn"), default="mikyun", help="whose tables")
    few = parser.add_mutually_exclusive_group()
    few.add_argument(
        "--policies", action="store_const", dest="only", const="policies", default="",
        help="one node of nexavpn, which enforces policies while forbidden packets are sent",
    )  # fmt: skip
    few.add_argument(
        "--moves", action="store_const", dest="only", const="moves",
        help="two nodes of nexavpn, between which devices move all the time",
    )  # fmt: skip
    parser.add_argument("--print", action="store_true", help="print the script of the first three rounds, and end")
    args = parser.parse_args()
    if args.liars and args.control_plane == "nexavpn":
        parser.error("--liars: there is no liar for PostgreSQL")
    if args.only and args.control_plane == "mikyun":
        parser.error(f"--{args.only}: only with --control-plane nexavpn")
    if args.print:
        for number, steps in zip(range(1, 4), _rounds(args), strict=False):
            print(f"round {number}", *(f"{step.at:6.2f} {step}" for step in steps), sep="\n")
        raise SystemExit(0)
    return args


def _rounds(args: argparse.Namespace) -> Iterator[list[script.Step]]:
    if args.liars:
        return script.liars(args.seed, args.pace)
    return script.rounds(args.seed, args.pace, _PLANES[args.control_plane, args.only][2])


def _run(args: argparse.Namespace, directory: Path) -> dict[str, Any]:
    began = time.monotonic()
    if os.geteuid() != 0 or not FAKETIME.exists():
        raise CommandFailed("root is needed, and Debian's package libfaketime")
    kind, acts, _ = _PLANES[args.control_plane, args.only]
    stage = kind(directory, args.kind, script.devices(args.pace), args.seed, args.pace)
    eyes: AllEyes | None = None
    try:
        stage.open()
        due = DueBytes(device.name for device in stage.devices)
        ports = [PORT + stage.everybody.index(daemon) for daemon in stage.kept]
        eyes = AllEyes(stage.world.server.holder.pid, args.pace, ports)
        play = Play(stage, due, eyes, acts)
        play.say(f"seed {args.seed}")
        eyes.start()
        settled: list[float | None] = []
        longest = 0.0
        for number, steps in enumerate(_rounds(args), 1):
            late = time.monotonic() - began + longest > args.minutes * 60
            if settled and (late or number > args.rounds):
                break
            since = time.monotonic()
            play.say(f"== round {number}")
            settled.append(_round(play, [step for step in steps if step.kind not in args.without]))
            process = stage.daemons[0].process
            if process is not None:
                play.used.append(report.used(process.pid))
                play.say(f"the daemon: {play.used[-1]}")
            longest = max(longest, time.monotonic() - since)
        named = {
            "seed": args.seed,
            "control_plane": args.control_plane,
            "kind": args.kind,
            "pace": args.pace,
            "seconds": round(time.monotonic() - began, 1),
        }
        return named | report.data(play, settled, is_calm=args.liars)
    finally:
        if eyes is not None:
            eyes.close()
        stage.close()


def _round(play: Play, steps: list[script.Step]) -> float | None:
    """Plays a round and compares the table with the truth. Returns the seconds until the table was right."""
    stage = play.stage
    play.finish(play.loud(stage.devices), 60 * stage.pace)
    try:
        play.storm(steps)
    except Stuck as stuck:
        play.trouble(f"did not end: {stuck}")
        seen = play.eyes.seen
        sampled = {name: value for name, value in seen.values.items() if name.startswith(SAMPLED)}
        play.say(f"last scrape {time.monotonic() - seen.asked:.1f} s ago, the time now {time.time():.1f}: {sampled}")
        play.drop()
    healed = time.monotonic()
    if play.finish(verdict.served(play), 60 * stage.pace) is None:
        play.trouble("no cycle succeeded after the trouble")
    play.finish(play.quiet(stage.devices), 60 * stage.pace)
    end = play.finish(verdict.settle(play, healed), (verdict.PATIENCE + 30) * stage.pace)
    if end is None:
        play.trouble("the books could not be read")
        return None
    for one in end.wrong:
        play.say(f"WRONG: {one.device} {one.column}: true {one.true}, posted {one.posted}, {one.posted - one.true:+d}")
    play.say(f"settled after {end.seconds if end.seconds is None else round(end.seconds, 2)} s")
    if play.finish(_done(verdict.rest(play)), 60 * stage.pace) is None:
        play.trouble("the daemon does not come to rest")
    return end.seconds


def _done(deed: Any) -> Any:
    yield from deed
    return True


sys.exit(main())
