"""Plays the rounds of a script: starts each step at its time, and restarts the daemon.

A fault is a generator (a :data:`Deed`). Each `yield` gives the other faults their turn. There is one thread, so a deed
that waits asks again and again, and never blocks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.faults.metrics_poller import SAMPLED, AllEyes, labelled
from tests.faults.oracle import NONE, Bytes, DueBytes
from tests.faults.script import Step
from tests.faults.stage import Device, Stage
from tests.faults.stuck import Stuck
from tests.faults.web import Away
from tests.real.running import Daemon

T = TypeVar("T")
Deed = Generator[None, None, T]
_TICK = 0.01
_LONGEST = 150.0  # seconds in which some running step must come to its end
_LONG = 5.0  # seconds: a turn of a step is told if it takes longer


class Peer(NamedTuple):
    """Describes a device's peer that is about to go."""

    device: Device
    slot: tuple[str, str]  # interface and key
    counters: Bytes


Acts = Mapping[str, Callable[["Play", Step], Deed[None]]]


class Play:
    """Plays one run: its steps, its daemon and its report of troubles."""

    def __init__(self, stage: Stage, due: DueBytes, eyes: AllEyes, acts: Acts) -> None:
        self.stage, self.due, self.eyes, self._acts = stage, due, eyes, acts
        self.faults: Counter[str] = Counter()  # the number of faults, by kind
        self.moments: Counter[str] = Counter()  # the number of faults, by their moment
        self.ends: Counter[str] = Counter()  # the number of ended daemons, by how they ended
        self.killed: Counter[str] = Counter()  # the number of killed daemons, by node
        self.troubles: list[str] = []
        self.used: list[dict[str, int]] = []  # what the daemon used after each round
        self.replaced = 0  # the number of peers whose counters a foreign hand has reset
        self.down = False  # the daemon must not be restarted now
        self.rival: Daemon | None = None
        self.expected = {-signal.SIGKILL, 0}
        self._held: set[str] = set()
        self._running: list[tuple[Step, Deed[None]]] = []
        self._began = self._started = time.monotonic()

    # -- the loop

    def storm(self, steps: list[Step]) -> None:
        """Plays the steps of one round until the last of them is over."""
        began, pending = time.monotonic(), list(steps)
        pace, longest = self.stage.pace, _LONGEST * max(1, self.stage.pace / 2)
        ended = began
        while pending or self._running:
            now = time.monotonic() - began
            while pending and pending[0].at * pace <= now:
                step = pending.pop(0)
                self.say(f"begins: {step}")
                self._running.append((step, self._acts[step.kind](self, step)))
            before = len(self._running)
            self.turn()
            if pending or len(self._running) < before:
                ended = time.monotonic()
            elif time.monotonic() > ended + longest:
                raise Stuck(self._running)

    def turn(self) -> None:
        """Gives each running step one turn."""
        for one in list(self._running):
            began = time.monotonic()
            try:
                next(one[1])
            except StopIteration:
                self._running.remove(one)
                self.say(f"over: {one[0]}")
            if (took := time.monotonic() - began) > _LONG:
                self.say(f"everybody waited {took:.1f} s for {one[0]}")
        self._revive()
        time.sleep(_TICK * self.stage.pace)

    def finish(self, deed: Deed[T], seconds: float) -> T | None:
        """Plays one deed alone to its end. Returns None if it does not end within `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                next(deed)
            except StopIteration as end:
                value: T = end.value
                return value
            self.turn()
        return None

    def drop(self) -> None:
        """Forgets the steps that still run."""
        for _, deed in self._running:
            deed.close()
        self._running.clear()
        self._held.clear()

    def _revive(self) -> None:
        for daemon in self.stage.kept:
            process = daemon.process
            if process is not None:
                code = process.poll()
                if code is None:
                    continue
                daemon.process = None
                self.note_end(code)
                self.killed[self.stage.node_of(daemon)] += code == -signal.SIGKILL
            if not self.down:
                self._started = time.monotonic()
                self.stage.start(daemon)

    def note_end(self, code: int) -> None:
        """Records the exit status of a daemon."""
        self.ends[str(code)] += 1
        if code not in self.expected:
            self.trouble(f"a daemon ended with {code}")

    def answers(self) -> bool:
        """Returns whether the present daemons have answered and have their signal handlers."""
        processes = [daemon.process for daemon in self.stage.kept]
        return self.eyes.seen.asked > self._started and all(
            one is not None and one.poll() is None and _catches_hangup(one) for one in processes
        )

    def kill(self, daemon: Daemon | None = None) -> bool:
        """Sends SIGKILL, as a crash. Returns whether a process was there."""
        process = (daemon or self.stage.daemons[0]).process
        if process is None or process.poll() is not None:
            return False
        os.kill(process.pid, signal.SIGKILL)
        return True

    def say(self, text: str) -> None:
        """Prints progress, which also explains a failure."""
        print(f"{time.monotonic() - self._began:8.2f} {text}", file=sys.stderr, flush=True)

    def trouble(self, text: str) -> None:
        """Records a fault of the program that is not about lost or doubled bytes."""
        self.troubles.append(text)
        self.say(f"TROUBLE: {text}")

    # -- the parts of deeds

    def devices(self, step: Step) -> list[Device]:
        """Returns the devices that the step is about."""
        return [self.stage.devices[n] for n in step.parameters["devices"]]

    def pause(self, seconds: float) -> Deed[None]:
        """Waits for nominal seconds."""
        end = time.monotonic() + seconds * self.stage.pace
        while time.monotonic() < end:
            yield

    def until(self, condition: Callable[[], object], seconds: float = 1e9) -> Deed[bool]:
        """Waits for a condition. Returns False if it does not come true in these nominal seconds."""
        end = time.monotonic() + seconds * self.stage.pace
        while not condition():
            if time.monotonic() > end:
                return False
            yield
        return True

    def holding(self, *names: str) -> Deed[contextlib.AbstractContextManager[None]]:
        """Takes devices and other things for one step alone.

        It takes all of them at once, so that no step waits for a step that waits.
        """
        while self._held & set(names):
            yield
        self._held |= set(names)

        @contextlib.contextmanager
        def held() -> Iterator[None]:
            try:
                yield
            finally:
                self._held -= set(names)

        return held()

    def holding_devices(self, devices: list[Device], *names: str) -> Deed[contextlib.AbstractContextManager[None]]:
        """Takes devices, and other things by name, for one step alone."""
        return (yield from self.holding(*(d.name for d in devices), *names))

    def asked(self, work: Callable[[Any], T]) -> Deed[T]:
        """Runs a transaction of the web application until it succeeds. The transaction may then have happened twice."""
        while True:
            try:
                return self.stage.web.transact(work)
            except Away:
                yield from self.pause(0.1)

    def told(self, sql: str, *values: object) -> Deed[None]:
        """Runs one statement of the web application."""
        yield from self.asked(lambda cursor: cursor.execute(sql, values or None))

    # -- wires, traffic and counted bytes

    def quiet(self, devices: list[Device]) -> Deed[None]:
        """Cuts the wires, and waits until no counter moves."""
        for device in devices:
            self.stage.talk(device, False)
        self.stage.wire(devices, False)
        before: object = None
        while True:
            yield from self.pause(0.12)
            counters = self.stage.counters(fresh=True)
            now = [counters.get((d.interface, d.keys.public)) for d in devices]
            if now == before:
                return
            before = now

    def loud(self, devices: list[Device]) -> Deed[None]:
        """Mends the wires. The customers get their devices' present configuration, and send again."""
        for device in devices:
            yield from self.until(lambda d=device: self.stage.actual(d) is not None)  # type: ignore[misc]
            self.stage.introduce(device)
            self.stage.wire([device], True)
            self.stage.talk(device, True)

    def sampled(self, interfaces: set[str]) -> Deed[None]:
        """Waits until all bytes so far are durable for the daemon, in the database or on its disk."""
        clock, eyes, began = self.stage.clock, self.eyes, time.time()

        def is_sampled(name: str) -> bool:
            # A daemon that has sampled nothing whole yet does not have the metric, for example while a row is locked.
            moments = clock.moments(eyes.seen.values.get(labelled(SAMPLED, interface=name), 0.0))
            return bool(moments) and min(moments) > began

        yield from self.until(lambda: all(map(is_sampled, interfaces)))

    @property
    def spools(self) -> bool:
        """Returns whether the daemon shows which samples are durable. The database may then be away meanwhile."""
        return any(name.startswith(SAMPLED) for name in self.eyes.seen.values)

    def last(self, device: Device) -> Bytes:
        """Returns the counters of a quiet device's peer, which is about to go."""
        return self.stage.actual(device) or NONE

    def peers(self, devices: list[Device]) -> list[Peer]:
        """Returns the devices' present peers before they go."""
        counters = self.stage.counters(fresh=True)
        slots = {device.name: (device.interface, device.keys.public) for device in devices}
        return [Peer(one, slots[one.name], counters.get(slots[one.name], NONE)) for one in devices]

    def gone(self, peer: Peer, busy: bool) -> Deed[None]:
        """Waits until the daemon has removed a peer, and records its last counters.

        ``busy`` means that there is traffic. The daemon's last sample then has all bytes from before the change of the
        row.
        """
        device = peer.device
        latest, seen = peer.counters, time.monotonic()
        while True:
            now = self.stage.counters(fresh=busy).get(peer.slot)
            if now is None:
                break
            latest, seen = now, time.monotonic()
            yield
        if not busy:
            self.due.end(device.name, latest)
            return
        # The traffic keeps to its rate, so no more bytes can have come since. A queue may have held some
        # more.
        span = time.monotonic() - seen + 0.3
        most = Bytes(*(int(bytes_ + rate * span) + 400_000 for bytes_, rate in zip(latest, device.rate, strict=True)))
        self.due.end_busy(device.name, peer.counters, latest, most)


def _catches_hangup(process: subprocess.Popen[bytes]) -> bool:
    """Returns whether the process has a handler for SIGHUP: SigCgt in proc(5) has a bit for each caught signal."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:  # It has just ended.
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)
