"""Finds changed rows by their digest and by the application's notifications, and reconciles them.

The digest is checked as often as its cost allows (poll_interval.py). A notification is followed at once, for its
devices alone if possible. Both leave the counters to the next poll. A long posting does not delay them.
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

SHARE, SAVED = 0.5, 1.0  # the notifications' share of the time, and the seconds that they may save up
MAX_PREEMPTIONS = 5  # A posting is preempted at most this often. Then it goes on to its end.


class ChangeWatcher:
    """Starts reconciles of changed rows for one daemon.

    ``agent`` returns the present agent. ``work`` runs a task and returns whether the task succeeded. ``heartbeat``
    feeds the watchdog. ``floor`` is the shortest time between two checks of the digest in seconds, 0: never check.
    """

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
        # The digest of the rows at the last successful reconcile. None: unknown, because no reconcile succeeded or the
        # kernel was changed since. Then the next check reconciles even if the digest is unchanged.
        self._digest: object = None
        self._seen: object = None  # the last digest that was read
        self._interrupted = False  # the present piece of work was told of changed rows, so it may have removed peers
        self._hints: NotifySocket | None = None
        self._budget = TokenBucket(SHARE, SAVED)
        self._hints_are_urgent = False  # a waiting notification ends the present posting

    def listen(self, path: Path, wake: Callable[[], None]) -> None:
        """Receive notifications on the socket ``path``. UserError if the socket cannot be made."""
        self._hints = NotifySocket(path, self._status, wake)

    def close(self) -> None:
        """Receive no more notifications."""
        if self._hints is not None:
            self._hints.close()

    @property
    def _hinted(self) -> bool:
        return self._hints is not None and self._hints.pending

    def patience(self, now: float) -> float:
        """Seconds until :meth:`poll` has something to do. ``now``: monotonic seconds."""
        wait = self.watch.delay(now)
        return min(wait, self._budget.delay(now)) if self._hinted else wait

    def poll(self) -> None:
        """Follow the notifications, and check the digest if that is due."""
        self._follow_hints()
        if self.watch.due(time.monotonic()):
            self.check_digest()

    def check_digest(self) -> bool:
        """Read the digest, and reconcile all rows if it has changed. Whether that succeeded."""
        answered = self._work("watch", self._read_digest)
        self._status.intervals = {**self._status.intervals, "watch": self.watch.period}
        if answered and self._seen != self._digest:
            return self.reconcile_hinted(frozenset())
        return answered

    def reconcile_hinted(self, devices: frozenset[str]) -> bool:
        """Reconcile these devices, or all rows if ``devices`` is empty. Whether that succeeded.

        If the devices cannot be reconciled alone, a check of the digest follows, which reconciles all rows. Counters
        are left to the next poll. Otherwise, with rows that change all the time, posting would delay each change.
        """
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
        """Reconcile all rows, and remember their digest. Parameters: see :meth:`Agent.reconcile`."""
        digest: object = None
        with contextlib.suppress(StoreError):  # The agent has work without the database too, and raises the error.
            digest = self._seen = self._agent().store.digest()  # Read before the rows: the next check finds changes.
        self._digest = None
        agent = self._agent()
        decision = agent.reconcile(until, preemptible=preemptible, with_accounting=with_accounting)
        self._digest = digest
        return decision

    def begin(self) -> None:
        """Note that a piece of work begins."""
        self._interrupted = False

    def end(self, *, good: bool) -> None:
        """Note that the piece of work ended. If it failed, or was told of changed rows, the next check reconciles."""
        if not good or self._interrupted:
            self._digest = None

    # -- during a posting of many devices

    def run_preemptible(self, task: str, piece: Callable[..., object]) -> None:
        """Run a task that ends with a posting. ``piece`` takes ``until`` and ``preemptible``.

        If rows change meanwhile, the posting is preempted, at most MAX_PREEMPTIONS times. Then the changed rows are
        reconciled, and a new poll posts the rest.
        """
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
        """Whether rows have changed, or a notification waits for the end of a preemptible posting.

        A posting asks this between its transactions. The call also feeds the watchdog, because the daemon's loop does
        not run meanwhile.
        """
        self._heartbeat()
        hinted = self._hinted and self._budget.delay(time.monotonic()) <= 0
        if hinted and self._hints_are_urgent:
            self._hints_are_urgent = False  # A posting that goes on all the same is told only once.
            return True
        if not (hinted or self.watch.due(time.monotonic())):
            return False
        before = self._seen
        with contextlib.suppress(StoreError):  # The next transaction of the posting meets the same error.
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
