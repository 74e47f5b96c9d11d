"""These faults hit the daemon itself, and the connection between it and the database."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from tests.faults.books import ZONE
from tests.faults.proxy import Deed as TrapDeed
from tests.faults.proxy import Trap
from tests.faults.runner import Deed, Play
from tests.faults.script import Step
from tests.faults.stage import DAEMON
from tests.real.running import Daemon

PATIENCE = 2.5  # nominal seconds that a trap waits for its statement
_BEGINS = 10.0  # nominal seconds in which daemons start on a busy machine


def kill(play: Play, step: Step) -> Deed[None]:
    """Sends SIGKILL at once or at a statement. If the statement does not come, the signal follows then."""
    if "words" in step.parameters:
        trap = yield from _sprung(play, step, "kill")
        if trap.sprung is not None:
            play.faults["kill"] += 1
            return
    if play.kill(_hit(play, step)):
        play.faults["kill"] += 1
        play.moments["kill at a random moment"] += 1


def _hit(play: Play, step: Step) -> Daemon:
    """Returns the daemon that the step hits. It is the one of the first node if the step names none."""
    number: int = step.parameters.get("node", 0)
    return play.stage.kept[number % len(play.stage.kept)]


def _sprung(play: Play, step: Step, deed: TrapDeed, patience: float = PATIENCE, hold: float = 0) -> Deed[Trap]:
    """Sets the step's trap and waits until it is sprung, or until the time is over."""
    p = step.parameters
    yield from play.until(play.answers, _BEGINS)  # a daemon that is just starting sends no statement
    trap = Trap(p["words"], p["nth"], p.get("moment", "answered"), deed, hold * play.stage.pace)
    play.stage.proxy.arm(trap)
    try:
        yield from play.until(lambda: trap.sprung is not None, patience)
    finally:
        play.stage.proxy.disarm(trap)
    if trap.sprung is not None:
        play.moments[trap.name] += 1
    return trap


def trap(play: Play, step: Step, deed: TrapDeed, hold: float = 0) -> Deed[bool]:
    """Sets a trap, and counts the fault as its kind if the trap was sprung."""
    sprung = (yield from _sprung(play, step, deed, PATIENCE * 2, hold)).sprung is not None
    play.faults[step.kind] += sprung
    return sprung


@contextlib.contextmanager
def _woken(pid: int) -> Iterator[None]:
    """Sends SIGCONT at the end, if the process is still there. It may have been killed while it was stopped."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def stop(play: Play, step: Step) -> Deed[None]:
    """Sends SIGSTOP for longer than the daemon's timeouts."""
    with (yield from play.holding("instances")):
        daemon = _hit(play, step)
        yield from play.until(lambda: _runs(daemon))
        with _woken(daemon.pid):
            os.kill(daemon.pid, signal.SIGSTOP)
            play.faults[step.kind] += 1
            yield from play.pause(step.parameters["lasts"])


def stop_at(play: Play, step: Step) -> Deed[None]:
    """Sends SIGSTOP at a statement."""
    with (yield from play.holding("instances")):
        sprung = yield from _sprung(play, step, "stop", PATIENCE * 2)
        if sprung.sprung is not None:
            play.faults[step.kind] += 1
            with _woken(sprung.pid):
                yield from play.pause(step.parameters["lasts"])


def _runs(daemon: Daemon) -> bool:
    process = daemon.process
    return process is not None and process.poll() is None


def terminate(play: Play, step: Step) -> Deed[None]:
    """Sends SIGTERM, for an orderly restart."""
    with (yield from play.holding("instances")):
        daemon = _hit(play, step)
        yield from play.until(lambda: _runs(daemon))
        process = daemon.process
        assert process is not None
        play.expected.add(-signal.SIGTERM)  # the signal may come before the process installs its handler
        process.send_signal(signal.SIGTERM)
        play.faults[step.kind] += 1
        if not (yield from play.until(lambda: process.poll() is not None, 12)):
            play.trouble("no end within 12 s of SIGTERM")


def reload(play: Play, step: Step) -> Deed[None]:
    """Sends SIGHUP."""
    with (yield from play.holding("instances")):
        yield from play.until(play.answers)
        os.kill(_hit(play, step).pid, signal.SIGHUP)
        play.faults[step.kind] += 1


def second(play: Play, step: Step) -> Deed[None]:
    """Starts another daemon on the same lock.

    It is refused. If the first one was killed at that moment, the second one runs.
    """
    stage, daemon = play.stage, _hit(play, step)
    with (yield from play.holding("instances")):
        yield from play.until(lambda: _runs(daemon))
        play.expected.add(1)  # the first daemon may restart while the second one has the lock
        argv = [sys.executable, *DAEMON, "run", "--config", str(daemon.config)]
        around = {**daemon.environment, **stage.environment(daemon)}
        again = stage.world.server.start(*argv, log=daemon.log, **around)
        play.faults[step.kind] += 1
        try:
            if (yield from play.until(lambda: again.poll() is not None, max(step.parameters["lasts"], 2))):
                play.ends[f"second: {again.returncode}"] += 1
                if again.returncode not in (1, -signal.SIGKILL):
                    play.trouble(f"a second daemon ended with {again.returncode}")
        finally:
            again.kill()
            again.wait()


def rival(play: Play, step: Step) -> Deed[None]:
    """Starts another daemon with a lock of its own, as an admin may start one by hand.

    It is refused all the same. If the first one was killed at that moment, the other one runs, and the first one is
    refused when it comes again.
    """
    stage = play.stage
    other = stage.daemons[1]
    with (yield from play.holding("instances")):
        play.expected |= {1, -signal.SIGTERM}
        stage.start(other)
        play.faults[step.kind] += 1
        process = other.process
        assert process is not None
        yield from play.until(lambda: process.poll() is not None, step.parameters["lasts"])
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if step.parameters["kill"] else signal.SIGTERM)
        if not (yield from play.until(lambda: process.poll() is not None, 12)):
            play.trouble("no end of the rival within 12 s of SIGTERM")
            process.kill()
        play.note_end(process.wait())


def clock(play: Play, step: Step) -> Deed[None]:
    """Sets the wall clock, and sets it back."""
    with (yield from play.holding("clock")):
        play.stage.clock.set(_offset(step.parameters["to"], time.time(), 2 * play.stage.pace))
        play.faults[step.kind] += 1
        play.moments[f"clock {step.parameters['to']}"] += 1
        yield from play.pause(step.parameters["lasts"])
        play.stage.clock.set(0)


def _offset(to: str, now: float, before: float) -> float:
    """Returns an offset in seconds.

    For "midnight" and "month", the clock is then ``before`` seconds before that boundary.
    """
    if to in ("midnight", "month"):
        day = datetime.fromtimestamp(now, ZONE).date()
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1) if to == "month" else day + timedelta(days=1)
        return datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp() - before - now
    return float(to[:-1]) * {"h": 3600, "d": 86400}[to[-1]]


def cut(play: Play, step: Step) -> Deed[None]:
    """Ends all connections."""
    play.stage.proxy.cut()
    play.faults[step.kind] += 1
    yield


def cut_at(play: Play, step: Step) -> Deed[None]:
    """Ends the connection at a statement."""
    yield from trap(play, step, "cut")


def hold_answer(play: Play, step: Step) -> Deed[None]:
    """Holds an answer for longer than the daemon waits."""
    yield from trap(play, step, "hold", step.parameters["lasts"])


def black_hole(play: Play, step: Step) -> Deed[None]:
    """Lets nothing through in either direction."""
    with (yield from play.holding("proxy")):
        play.stage.proxy.swallowing = True
        play.faults[step.kind] += 1
        try:
            yield from play.pause(step.parameters["lasts"])
        finally:
            play.stage.proxy.swallowing = False


def refuse(play: Play, step: Step) -> Deed[None]:
    """Ends all connections, and refuses new ones."""
    with (yield from play.holding("proxy")):
        play.stage.proxy.refusing = True
        play.stage.proxy.cut()
        play.faults[step.kind] += 1
        try:
            yield from play.pause(step.parameters["lasts"])
        finally:
            play.stage.proxy.refusing = False


ACTS = {"kill": kill, "stop": stop, "stop_at": stop_at, "terminate": terminate, "reload": reload, "second": second,
        "rival": rival, "clock": clock, "cut": cut, "cut_at": cut_at, "swallow_commit": cut_at,
        "hold_answer": hold_answer, "black_hole": black_hole, "refuse": refuse}  # fmt: skip
