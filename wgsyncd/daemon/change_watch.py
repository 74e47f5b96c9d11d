"""Finds changed rows by their digest and by the application's notifications, and reconciles them.

What other programs do to the planes beside the peers is put right at once (waker.py).

The digest is checked as often as its cost allows (pacing.py). A notification is followed at once, for its devices alone
if possible. Both leave the counters to the next poll. A long posting does not delay them.
"""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.row_digest import changed_devices
from wgsyncd.daemon.notify_socket import NotifySocket
from wgsyncd.daemon.pacing import PollInterval, TokenBucket, thread_cpu_time
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.daemon.waker import Waker
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.state_cache import Until
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError

NOTIFICATIONS_SHARE = 0.5  # of the time
MENDING_SHARE = 0.5  # of the time: in a flood, the next repair waits about as long as the last one took
MOST_NAMED = 1000  # devices with changed rows that are reconciled alone
MAX_PREEMPTIONS = 5  # A posting is preempted at most this often. Then it goes on to its end.


class ChangeWatcher:
    """Runs the tasks of one daemon, and starts reconciles of changed rows.

    ``agent`` returns the present agent. ``heartbeat`` feeds the watchdog. ``min_interval``: seconds between two checks
    of the digest, 0: never check.
    """

    def __init__(
        self, agent: Callable[[], Agent], tasks: Tasks, heartbeat: Callable[[], None], status: DaemonStatus,
        min_interval: float,
    ) -> None:  # fmt: skip
        self._agent, self._tasks, self._heartbeat, self._status = agent, tasks, heartbeat, status
        self.interval = PollInterval(min_interval)
        # The digest of the rows at the last successful reconcile. None: unknown, because no reconcile succeeded or the
        # kernel was changed since. Then the next check reconciles even if the digest is unchanged.
        self._digest: object = None
        # Devices that were reconciled alone since. Their rows may be again as the digest has them, so they come again.
        self._again: frozenset[str] = frozenset()
        self._last_read: object = None  # the last digest that was read
        self._interrupted = False  # the present task was told of changed rows, so it may have removed peers
        self.idle = True  # no task but checks of the digest ran since the daemon's loop set this
        self._socket: NotifySocket | None = None
        self._followed: object = None  # the store and the socket of the last `follow_agent`
        self._wake: Callable[[], None] = lambda: None
        self._waker: Waker | None = None
        self._planes: object = None  # the waker hears of their news
        self._bucket = TokenBucket(NOTIFICATIONS_SHARE)
        self._mending = TokenBucket(MENDING_SHARE)
        self._may_preempt = False  # a waiting notification ends the present posting

    def listen(self, path: Path, wake: Callable[[], None]) -> None:
        """Receive notifications on the socket ``path``. UserError if the socket cannot be made."""
        self._wake = wake
        self.close()
        self._socket = NotifySocket(path, self._status, wake)

    def follow_agent(self) -> None:
        """Hear of the present agent's database and planes too. A reload may have brought another agent."""
        planes = self._agent().planes
        if planes is not self._planes:
            self._end_waker()
            self._planes = planes
            if descriptors := planes.descriptors():
                self._waker = Waker(descriptors, self._wake)
        store, ours = self._agent().store, self._socket
        if ours is not None and (store, ours) != self._followed:
            self._followed = store, ours
            store.listen(ours.put)

    @property
    def is_listening(self) -> bool:
        """Whether notifications can be sent: somebody may have removed the socket's file."""
        return self._socket is not None and self._socket.path.exists()

    def close(self) -> None:
        """Receive no more notifications."""
        self._end_waker()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end_waker(self) -> None:
        if self._waker is not None:
            self._waker.close()
        self._waker = self._planes = None

    def delay(self, now: float) -> float:
        """Seconds until :meth:`poll` has something to do. ``now``: monotonic seconds."""
        wait = self.interval.delay(now)
        if (mending := self._mending.delay(now)) > 0:
            wait = min(wait, mending)
        return min(wait, self._bucket.delay(now)) if self._socket and self._socket.pending else wait

    def run(self, task: str, piece: Callable[[], object]) -> bool:
        """Run a task. Whether it succeeded. If it failed, or was told of changed rows, the next check reconciles."""
        self.idle = self.idle and task == "watch"
        self._interrupted = False
        good = self._tasks.do(task, piece)
        if not good or self._interrupted:
            self._digest = None
        return good

    def poll(self) -> None:
        """Put right what other programs did to the planes, follow the notifications, check the digest if it is due."""
        self._mend()
        self._follow_notifications()
        if self.interval.due(time.monotonic()):
            self.check_digest()

    def check_digest(self, *, at_once: bool = False) -> bool:
        """Read the digest. If it has changed, reconcile the changed rows alone if possible, else all rows.

        Returns whether that succeeded. ``at_once``: somebody has told of changed rows, which cannot be reconciled
        alone, so the digest may not be late.
        """
        answered = self.run("watch", lambda: self._read_digest(at_once=at_once))
        self._status.intervals = {**self._status.intervals, "watch": self.interval.period}
        digest = self._last_read
        if not answered or (digest == self._digest and not self._again):
            return answered
        changed = None if at_once else changed_devices(self._digest, digest)
        if changed is not None and len(changed | self._again) <= MOST_NAMED:
            done = self._reconcile_some(changed | self._again)
            if done and self._digest is not None:
                self._digest, self._again = digest, frozenset()
            if done is not False:
                return done is True
        return self._reconcile_all(digest)

    def reconcile_named(self, devices: frozenset[str]) -> bool:
        """Reconcile these devices, or all rows for none. Whether that succeeded.

        If the devices cannot be reconciled alone, a check of the digest follows, which reconciles all rows. Counters
        are left to the next poll. Otherwise, with rows that change all the time, posting would delay each change.
        """
        if not devices:
            return self._reconcile_all()
        sent = self._agent().sent
        done = self._reconcile_some(devices)
        if self._agent().sent != sent:
            self._again |= devices
        return done is not None and (done or self.check_digest(at_once=True))

    def _reconcile_some(self, devices: frozenset[str]) -> bool | None:
        """Reconcile these devices alone. False: all rows have to be reconciled. None: that failed.

        A device's address may be what a rejected row has waited for. So while there is a condition, a change is
        followed by a reconcile of all rows.
        """
        done: list[bool] = []
        sent = self._agent().sent
        if not self.run("notify", lambda: done.append(self._agent().reconcile_devices(devices))):
            return None
        if self._agent().sent != sent and self._agent().has_conditions:
            self._digest = None
        return all(done)

    def _reconcile_all(self, digest: object = None) -> bool:
        return self.run("reconcile", lambda: self.reconcile(self.is_urgent, with_accounting=False, digest=digest))

    def reconcile(
        self, until: Until, *, preemptible: bool = False, with_accounting: bool = True, must_plan: bool = False,
        digest: object = None,
    ) -> Decision:  # fmt: skip
        """Reconcile all rows, and remember their digest. With ``must_plan``, plan even if nothing has changed.
        ``digest``: it was just read. None: read it. Other parameters: see :meth:`Agent.reconcile`."""
        agent = self._agent()
        if digest is None:
            with contextlib.suppress(StoreError):  # The agent has work without the database too, and raises the error.
                # Read before the rows: the next check finds changes.
                digest = self._last_read = agent.store.digest(at_once=True)
        self._digest = None
        known = None if must_plan else digest
        decision = agent.reconcile(until, preemptible=preemptible, with_accounting=with_accounting, digest=known)
        self._digest, self._again = digest, frozenset()
        return decision

    # -- during a posting of many devices

    def run_preemptible(self, task: str, piece: Callable[..., object]) -> None:
        """Run a task that ends with a posting. ``piece`` takes ``until`` and ``preemptible``.

        If rows change meanwhile, the posting is preempted, at most MAX_PREEMPTIONS times. Then the changed rows are
        reconciled, and a new poll posts the rest.
        """
        for more in range(MAX_PREEMPTIONS, -1, -1):
            preemptible = self._may_preempt = more > 0
            try:
                good = self.run(task, partial(piece, self.is_urgent, preemptible=preemptible))
            finally:
                self._may_preempt = False
            if not good or not self._agent().preempted:
                return
            if self._interrupted:
                self._reconcile_all()
            self._follow_notifications()
            task, piece = "account", self._agent().account

    def is_urgent(self) -> bool:
        """Whether rows have changed, or a notification waits for the end of a preemptible posting.

        A posting asks this between its transactions. The call also feeds the watchdog, because the daemon's loop does
        not run meanwhile.
        """
        self._heartbeat()
        self._mend()
        notified = self._may_follow(time.monotonic())
        if notified and self._may_preempt:
            self._may_preempt = False  # A posting that goes on all the same is told only once.
            return True
        if not (notified or self.interval.due(time.monotonic())):
            return False
        before = self._last_read
        with contextlib.suppress(StoreError):  # The next transaction of the posting meets the same error.
            self._read_digest()
        changed = self._last_read != before
        self._interrupted = self._interrupted or changed
        return changed

    def _mend(self) -> None:
        """Put right what other programs did. What a plane cannot put right alone, the next check's reconcile does.

        If other programs never stop, other work gets its part of the time, too.
        """
        began = time.monotonic()
        if self._mending.delay(began) > 0:
            return
        if self._agent().planes.mend():
            self.idle, self._digest = False, None
        self._mending.spend(began, time.monotonic())

    def _read_digest(self, *, at_once: bool = False) -> None:
        began, before, answered = time.monotonic(), thread_cpu_time(), False
        try:
            self._last_read, answered = self._agent().store.digest(at_once=at_once), True
        finally:
            self.interval.record_query(began, time.monotonic() - began, thread_cpu_time() - before, answered=answered)

    def _may_follow(self, now: float) -> bool:
        """Whether a notification waits and there is time for it."""
        return self._socket is not None and self._socket.pending and self._bucket.delay(now) <= 0

    def _follow_notifications(self) -> None:
        began = time.monotonic()
        if self._may_follow(began) and self._socket and (devices := self._socket.take()) is not None:
            self.reconcile_named(devices)
            self._bucket.spend(began, time.monotonic())
