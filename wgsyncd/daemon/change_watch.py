"""How it is found that rows have changed, and what is done then: looks at their digest, hints from the application.

A look is due as often as its cost allows (watch.py); a hint is followed at once, for its devices alone where that can
be. Either leaves the counters to the poll, and a booking of many devices does not hold it up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon.notify_socket import NotifySocket
from wgsyncd.daemon.poll_interval import PollInterval, thread_cpu_time
from wgsyncd.daemon.rate_limit import TokenBucket
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.state_cache import Until
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError

SHARE, SAVED = 0.5, 1.0  # of the time, and seconds, for hints
MAX_PREEMPTIONS = 5  # so often a posting is preempted at most; then it goes on to its end, whatever changes


class ChangeWatcher:
    """Looks round for one daemon. ``agent``: the one of now. ``work``: does a piece of work, and says whether it went
    well. ``floor``: seconds between looks at least; 0: never look."""

    def __init__(
        self,
        agent: Callable[[], Agent],
        work: Callable[[str, Callable[[], object]], bool],
        heartbeat: Callable[[], None],
        status: DaemonStatus,
        floor: float,
    ) -> None:
        self._agent, self._work, self._heartbeat, self._status = agent, work, heartbeat, status
        self.watch = PollInterval(floor)
        # Of the rows as the last good reconcile found them. None: none was good, or the kernel was changed since: rows
        # that are as they were then may want something done now.
        self._digest: object = None
        self._seen: object = None  # the last digest read
        self._interrupted = False  # the piece of work of now was told of changed rows, so it may have removed peers
        self._hints: NotifySocket | None = None
        self._budget = TokenBucket(SHARE, SAVED)
        self._hints_are_urgent = False  # the posting of now ends for them

    def listen(self, path: Path, wake: Callable[[], None]) -> None:
        """Take hints at a socket. Refused where that cannot be."""
        self._hints = NotifySocket(path, self._status, wake)

    def close(self) -> None:
        """No more hints."""
        if self._hints is not None:
            self._hints.close()

    @property
    def _hinted(self) -> bool:
        return self._hints is not None and self._hints.pending

    def patience(self, now: float) -> float:
        """Seconds until :meth:`go_round` has something to do."""
        wait = self.watch.delay(now)
        return min(wait, self._budget.delay(now)) if self._hinted else wait

    def poll(self) -> None:
        """Do what was hinted; look whether rows have changed, if that is due."""
        self._follow_hints()
        if self.watch.due(time.monotonic()):
            self.check_digest()

    def check_digest(self) -> bool:
        """Ask whether rows have changed, and if so reconcile; whether that went well."""
        answered = self._work("watch", self._read_digest)
        self._status.record_interval("watch", self.watch.period)
        if answered and self._seen != self._digest:
            return self.reconcile_hinted(frozenset())
        return answered

    def reconcile_hinted(self, devices: frozenset[str]) -> bool:
        """These devices, or (none named) all rows, since something may have changed; whether that went well. What
        concerns others too is left to a look at all rows. Counters are left to the poll: where rows change all the time
        they would be written all the time, and the next change would wait for it."""
        if not devices:
            return self._work("reconcile", lambda: self.reconcile(self.is_urgent, with_accounting=False))
        done = False

        def some() -> None:
            nonlocal done
            done = self._agent().reconcile_devices(devices)

        sent = self._agent().sent
        good = self._work("notify", some)
        if self._agent().sent != sent:
            self._digest = None
        return good and (done or self.check_digest())

    def reconcile(self, until: Until, *, preemptible: bool = False, with_accounting: bool = True) -> Decision:
        """Reconcile, and know of which rows."""
        digest: object = None
        with contextlib.suppress(StoreError):  # the agent has something to do without the database, and says it is away
            digest = self._seen = self._agent().store.digest()  # before the rows: later changes, the next look finds
        self._digest = None
        agent = self._agent()
        decision = agent.reconcile(until, preemptible=preemptible, with_accounting=with_accounting)
        self._digest = digest
        return decision

    def begin(self) -> None:
        """A piece of work."""
        self._interrupted = False

    def end(self, *, good: bool) -> None:
        """It is over."""
        if not good or self._interrupted:
            self._digest = None

    # -- beside a posting of many devices

    def run_preemptible(self, task: str, piece: Callable[..., object]) -> None:
        """A piece of work that ends with a posting. Where rows change meanwhile the posting is preempted, a few times:
        the changes are followed, and what is left is posted."""
        for more in range(MAX_PREEMPTIONS, -1, -1):
            preemptible = self._hints_are_urgent = more > 0
            try:
                good = self._work(task, partial(piece, self.is_urgent, preemptible=preemptible))
            finally:
                self._hints_are_urgent = False
            if not good or not self._agent().preempted:
                return
            if self._interrupted:
                self.reconcile_hinted(frozenset())
            self._follow_hints()
            task, piece = "account", self._agent().account

    def is_urgent(self) -> bool:
        """Whether rows have changed, or a hint waits for the end of a posting that may be preempted. A posting asks
        between its transactions; the watchdog is fed too, as the loop does not come round meanwhile."""
        self._heartbeat()
        hinted = self._hinted and self._budget.delay(time.monotonic()) <= 0
        if hinted and self._hints_are_urgent:
            self._hints_are_urgent = False  # a posting that goes on nevertheless is told once
            return True
        if not (hinted or self.watch.due(time.monotonic())):
            return False
        before = self._seen
        with contextlib.suppress(StoreError):  # the next transaction meets it too
            self._read_digest()
        if self._seen == before:
            return False
        self._interrupted = True
        return True

    def _read_digest(self) -> None:
        began, before, answered = time.monotonic(), thread_cpu_time(), False
        try:
            self._seen, answered = self._agent().store.digest(), True
        finally:
            self.watch.record_query(began, time.monotonic() - began, thread_cpu_time() - before, answered=answered)

    def _follow_hints(self) -> None:
        began = time.monotonic()
        if self._hints is None or not self._hints.pending or self._budget.delay(began) > 0:
            return
        self.reconcile_hinted(self._hints.take().devices)
        self._budget.spend(began, time.monotonic())
