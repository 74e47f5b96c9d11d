"""Plays the rounds of a script: starts each step at its time, keeps all that runs going, and restarts the daemon.

A fault is a generator (a :data:`Deed`): each `yield` gives the others their turn. There is one thread, so a deed that
waits for something asks again and again, and never blocks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import NamedTuple, TypeVar

from pymysql.cursors import Cursor

from tests.faults.metrics_poller import SAMPLED, Eyes
from tests.faults.oracle import NONE, Bytes, Truth
from tests.faults.script import Step
from tests.faults.stage import Device, Stage, labelled
from tests.faults.web import Away
from tests.real.running import Daemon

T = TypeVar("T")
Deed = Generator[None, None, T]
_TICK = 0.01
_LONGEST = 150.0  # seconds in which all that was begun must come to its end


class Peer(NamedTuple):
    """A device's peer that is about to go."""

    device: Device
    slot: tuple[str, str]  # interface and key
    counters: Bytes


class Stuck(Exception):
    """What was begun did not end."""


class Play:
    """One run."""

    def __init__(
        self, stage: Stage, truth: Truth, eyes: Eyes, acts: Mapping[str, Callable[[Play, Step], Deed[None]]]
    ) -> None:
        self.stage, self.truth, self.eyes, self._acts = stage, truth, eyes, acts
        self.faults: Counter[str] = Counter()  # done, by kind
        self.moments: Counter[str] = Counter()  # of these, at which moment
        self.ends: Counter[str] = Counter()  # of daemons, by how they ended
        self.troubles: list[str] = []
        self.replaced = 0  # peers with whose counters a foreign hand has begun anew
        self.down = False  # the daemon is not to be restarted now
        self.rival: Daemon | None = None
        self.expected = {-signal.SIGKILL, 0}
        self._held: set[str] = set()
        self._running: list[tuple[Step, Deed[None]]] = []
        self._began = self._started = time.monotonic()

    # -- the loop

    def storm(self, steps: list[Step]) -> None:
        """Play one round's steps, until the last of them is over."""
        began, pending = time.monotonic(), list(steps)
        pace = self.stage.pace
        while pending or self._running:
            now = time.monotonic() - began
            while pending and pending[0].at * pace <= now:
                step = pending.pop(0)
                self.say(f"begins: {step}")
                self._running.append((step, self._acts[step.kind](self, step)))
            self.turn()
            if not pending and now > (steps[-1].at if steps else 0) * pace + _LONGEST * max(1, pace / 2):
                raise Stuck("; ".join(str(step) for step, _ in self._running))

    def turn(self) -> None:
        """Everybody's turn, once."""
        for one in list(self._running):
            try:
                next(one[1])
            except StopIteration:
                self._running.remove(one)
                self.say(f"over: {one[0]}")
        self._revive()
        time.sleep(_TICK * self.stage.pace)

    def finish(self, deed: Deed[T], seconds: float) -> T | None:
        """Play one deed alone, to its end; None if it has none in so many seconds."""
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
        """Forget what still runs."""
        for _, deed in self._running:
            deed.close()
        self._running.clear()
        self._held.clear()

    def _revive(self) -> None:
        daemon = self.stage.daemons[0]
        process = daemon.process
        if process is not None:
            code = process.poll()
            if code is None:
                return
            daemon.process = None
            self.note_end(code)
        if not self.down:
            self._started = time.monotonic()
            self.stage.start(daemon)

    def note_end(self, code: int) -> None:
        """A daemon has ended so."""
        self.ends[str(code)] += 1
        if code not in self.expected:
            self.trouble(f"a daemon ended with {code}")

    def answers(self) -> bool:
        """Whether the daemon that runs now has answered, and so has its signal handlers."""
        process = self.stage.daemons[0].process
        return process is not None and process.poll() is None and self.eyes.seen.asked > self._started

    def kill(self, daemon: Daemon | None = None) -> bool:
        """SIGKILL, as a crash; whether there was anything to kill."""
        process = (daemon or self.stage.daemons[0]).process
        if process is None or process.poll() is not None:
            return False
        os.kill(process.pid, signal.SIGKILL)
        return True

    def say(self, text: str) -> None:
        """Progress, and the story of a failure."""
        print(f"{time.monotonic() - self._began:8.2f} {text}", file=sys.stderr, flush=True)

    def trouble(self, text: str) -> None:
        """Something that must not be, besides lost and doubled bytes."""
        self.troubles.append(text)
        self.say(f"TROUBLE: {text}")

    # -- what deeds are made of

    def pause(self, seconds: float) -> Deed[None]:
        """Wait so many nominal seconds."""
        end = time.monotonic() + seconds * self.stage.pace
        while time.monotonic() < end:
            yield

    def until(self, condition: Callable[[], object], seconds: float = 1e9) -> Deed[bool]:
        """Wait for a condition; False if it does not come true in so many nominal seconds."""
        end = time.monotonic() + seconds * self.stage.pace
        while not condition():
            if time.monotonic() > end:
                return False
            yield
        return True

    def holding(self, *names: str) -> Deed[contextlib.AbstractContextManager[None]]:
        """Have devices and other things for oneself; all at once, so that nobody waits for somebody who waits."""
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
        """The same, with devices."""
        return (yield from self.holding(*(d.name for d in devices), *names))

    def asked(self, work: Callable[[Cursor], T]) -> Deed[T]:
        """A transaction of the web application, tried until it succeeds; it may then have been done twice."""
        while True:
            try:
                return self.stage.web.transact(work)
            except Away:
                yield from self.pause(0.1)

    def told(self, sql: str, *values: object) -> Deed[None]:
        """One statement of the web application."""
        yield from self.asked(lambda cursor: cursor.execute(sql, values or None))

    # -- wires, traffic, and what was counted

    def quiet(self, devices: list[Device]) -> Deed[None]:
        """Cut the wires, and wait until no counter moves."""
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
        """Mend the wires; the customers, who got their devices' present configuration, talk again."""
        for device in devices:
            yield from self.until(lambda d=device: self.stage.actual(d) is not None)  # type: ignore[misc]
            self.stage.introduce(device)
            self.stage.wire([device], True)
            self.stage.talk(device, True)

    def sampled(self, interfaces: set[str]) -> Deed[None]:
        """Wait until the daemon has for good what was counted until now: in the database, or on its disk."""
        clock, eyes, since = self.stage.clock, self.eyes, None
        while True:
            steps, began = clock.steps, clock.now()
            since = None
            while steps == clock.steps:
                seen = eyes.seen
                times = [seen.values.get(labelled(SAMPLED, interface=name)) for name in interfaces]
                if all(at is not None for at in times):
                    if all(began < at <= clock.now() + 1 for at in times if at is not None):
                        return
                elif seen.values:  # a daemon without this metric: a second good run began after the first one's end
                    runs = seen.successes("account", "reconcile")
                    if since is None or since[0] != seen.life:
                        since = seen.life, runs
                    elif runs >= since[1] + 2:
                        return
                yield

    @property
    def spools(self) -> bool:
        """Whether the daemon says what it has for good, so that the database may be away meanwhile."""
        return any(name.startswith(SAMPLED) for name in self.eyes.seen.values)

    def last(self, device: Device) -> Bytes:
        """The counters of a quiet device's peer, which is about to go."""
        return self.stage.actual(device) or NONE

    def peers(self, devices: list[Device]) -> list[Peer]:
        """The devices' peers as they are now, before they go."""
        counters = self.stage.counters(fresh=True)
        slots = {device.name: (device.interface, device.keys.public) for device in devices}
        return [Peer(one, slots[one.name], counters.get(slots[one.name], NONE)) for one in devices]

    def gone(self, peer: Peer, busy: bool) -> Deed[None]:
        """Wait until the daemon has removed a peer, and note its last counters. ``busy``: there is traffic; what was
        counted before the row changed is sure to be in the daemon's last sample."""
        device = peer.device
        latest, seen = peer.counters, time.monotonic()
        while True:
            now = self.stage.counters(fresh=busy).get(peer.slot)
            if now is None:
                break
            latest, seen = now, time.monotonic()
            yield
        if not busy:
            self.truth.end(device.name, latest)
            return
        # The rate is kept to, so no more can have come since; and what waited in a queue.
        span = time.monotonic() - seen + 0.3
        most = Bytes(*(int(bytes_ + rate * span) + 400_000 for bytes_, rate in zip(latest, device.rate, strict=True)))
        self.truth.end_busy(device.name, peer.counters, latest, most)
