"""`wgsyncd demo`: opens the environment, runs every scenario, and leaves nothing behind."""

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from wgsyncd.demo import environment, nexavpn, nexavpn_scenarios, packages, scenarios
from wgsyncd.demo.bench import Bench, Opener, Scenario
from wgsyncd.demo.observation import DemoReport, Outcome, ScenarioReport
from wgsyncd.demo.output import Screen
from wgsyncd.demo.testbed import WgKind
from wgsyncd.errors import UserError, WgsyncdError

DIRECTORY = Path("/run/wgsyncd-demo")
_CLONE_NEWNS = 0x00020000  # linux/sched.h
_CLOSING = 0.05  # the share of --seconds that closing the environment may take
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class _Demo(NamedTuple):
    """The demo of one control plane. ``made``: for people, what it makes before its first scenario."""

    made: str
    needed: packages.Needed
    opened: Opener
    scenarios: Sequence[Scenario[Any]]


# by control plane. The first is the default
DEMOS = {
    "mikyun": _Demo("MariaDB, wg0, wg1, customers", packages.MARIADB, environment.opened, scenarios.SCENARIOS),
    "nexavpn": _Demo("PostgreSQL, gateways, clients", packages.POSTGRESQL, nexavpn.opened, nexavpn_scenarios.SCENARIOS),
}


class Interrupted(BaseException):
    """A signal ended the demo. It is no Exception, so that no `except Exception` catches it."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(args: argparse.Namespace, keep: Callable[[str, Path], None] | None) -> tuple[int, DemoReport | None]:
    """Run the demo. Returns the exit status and the report.

    ``keep``: if all scenarios hold, it is called with the address of the daemon's page and with the configuration file.
    The environment lasts until it returns, or until a signal.

    0: all scenarios hold. 1: some do not hold. 2: the demo cannot run here. 128 + n: signal n ended it.
    """
    try:
        demo = DEMOS[args.control_plane]
        kind = packages.ensure(demo.needed, install=args.install)
        _isolate()
    except WgsyncdError as error:
        print(f"wgsyncd demo: {error}", file=sys.stderr)
        return 2, None
    except KeyboardInterrupt:
        return 128 + signal.SIGINT, None
    began, screen, reports = time.monotonic(), Screen(json=args.json), list[ScenarioReport]()
    told: list[DemoReport] = []

    def tell() -> None:
        seconds = round(time.monotonic() - began, 1)
        told.append(DemoReport(ok=all(one.ok for one in reports), kind=kind, seconds=seconds, scenarios=reports))
        screen.close(told[0], "" if keep else f"wgsyncd demo --control-plane {args.control_plane} --keep")

    def stay(env: Bench[Any]) -> None:
        tell()
        if keep is not None and told[0].ok:
            for each in _SIGNALS[:3]:
                signal.signal(each, _interrupt)
            with contextlib.suppress(Interrupted):
                keep(env.keep_running(), env.nodes[0].config)

    ended_by = _perform(demo, args.seconds, kind, screen, reports, stay)
    if not told:
        tell()
    report = told[0]
    if ended_by not in (0, signal.SIGALRM):
        return 128 + ended_by, report
    if not report.ok:
        for log in DIRECTORY.glob("*.log"):
            if lines := log.read_text(errors="replace").splitlines()[-15:]:
                print(f"the last lines of {log.name}:", *lines, sep="\n  ", file=sys.stderr)
    return int(not report.ok), report


def _perform(
    demo: _Demo, seconds: float, kind: WgKind, screen: Screen, reports: list[ScenarioReport],
    stay: Callable[[Bench[Any]], None],
) -> int:  # fmt: skip
    """Run all scenarios, then ``stay``. Returns the signal that interrupted them, or 0.

    A scenario that did not run to its end counts as failed.
    """
    reason, number = "", 0
    try:
        for each in _SIGNALS:
            signal.signal(each, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, max(1.0, seconds * (1 - _CLOSING)))
        screen.begin(demo.made)
        with demo.opened(DIRECTORY, kind, pace=max(1.0, seconds / 60), show=screen.show) as env:
            for scenario in demo.scenarios:
                screen.begin(scenario.name)
                reports.append(_report(scenario, env.until(scenario.play(env))))
                screen.add(reports[-1])
            _ignore_signals()
            signal.setitimer(signal.ITIMER_REAL, 0)
            stay(env)
            _ignore_signals()
    except Interrupted as interrupted:
        number = interrupted.number
        late = f"out of time: on a slow or busy machine, use --seconds {2 * seconds:.0f}"
        reason = late if number == signal.SIGALRM else "interrupted"
    except WgsyncdError as error:
        reason = str(error)
    _ignore_signals()
    rest = [_report(one, Outcome(reason, "not run to its end", ok=False)) for one in demo.scenarios[len(reports) :]]
    for first in rest[:1]:  # the others have the same reason
        screen.add(first)
    reports += rest
    return number


def _report(scenario: Scenario[Any], outcome: Outcome) -> ScenarioReport:
    return ScenarioReport(name=scenario.name, expected=scenario.expected, **outcome._asdict())


def _isolate() -> None:
    """Enter a mount namespace with an empty /run. The files vanish with the last process, however the demo ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise UserError(f"no namespaces can be made here (unshare: {why}): needs root with CAP_SYS_ADMIN")
    for arguments in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "mode=755", "wgsyncd-demo", "/run"]):
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(f"{done.stderr.strip()}: needs root with CAP_SYS_ADMIN")
    for directory in (DIRECTORY, Path("/run/wireguard")):
        directory.mkdir(mode=0o700)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise Interrupted(number)


def _ignore_signals() -> None:
    """The first signal ends the demo. Later signals must not stop the closing of the environment."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
