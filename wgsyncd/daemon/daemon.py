"""The daemon: its main loop takes events from a queue and runs the tasks that they name.

Only the main thread uses netlink and the database, so they need no lock.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wgsyncd import __version__, log
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditAction, AuditFacts
from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon import admin, control_socket, lock
from wgsyncd.daemon.change_watch import ChangeWatcher
from wgsyncd.daemon.clock_step import ClockStepDetector
from wgsyncd.daemon.events import Event, EventQueue, ShutdownTimeout
from wgsyncd.daemon.monitoring import MonitoringServer, pages
from wgsyncd.daemon.poll_interval import PollInterval, thread_cpu_time
from wgsyncd.daemon.scheduler import Schedule
from wgsyncd.daemon.systemd import Notifier
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.engine import inspector, status_report
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import summary_line
from wgsyncd.errors import ConfigError, ConfigIssue, UserError

UNHEALTHY = 90.0  # seconds without a heartbeat after which /healthz reports a failure
LONGEST_WAIT = 5.0  # seconds: the longest turn of an idle loop, which feeds the watchdog and detects clock steps


class Daemon:
    """Runs one node: the main loop, the sockets, the schedule and the reload.

    ``build`` makes an agent from settings and from the state that outlives the agent. Each reload calls it again.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        build: Callable[[Settings, AgentState], Agent],
        inbox: EventQueue,
        status: DaemonStatus,
        notifier: Notifier,
    ) -> None:
        self.path, self.settings, self.build = path, settings, build
        self.inbox, self.status, self.notifier = inbox, status, notifier
        self._log = log.get("daemon")
        self._tasks = Tasks(status)
        self._state = AgentState()
        self._agent = build(settings, self._state)
        self._web = MonitoringServer(pages(status, self._is_alive, self._is_ready))
        self._schedule = Schedule(inbox)
        interval = float(settings.schedule.watch_interval)
        self.looks = ChangeWatcher(lambda: self._agent, self._work, self._heartbeat, status, interval)
        self._admin = admin.AdminRequests(self, path, lambda: self.settings.node.zone, lambda: inbox.put(Event.ADMIN))
        self._control: control_socket.ControlSocket | None = None
        self._beat = time.monotonic()
        self._fed = 0.0
        self._idle = True  # this turn of the loop did nothing but check the digest
        self._deadline: float | None = None  # UNIX seconds of the next activation deadline
        self._clock = ClockStepDetector()

    def run(self) -> int:
        """Run until an event says stop. Returns the exit status. UserError if the metrics' address cannot be had."""
        settings = self.settings
        self._web.listen(settings.metrics.address)
        self._open_sockets()
        self._schedule_all(settings)
        self.status.started_at = self.status.config_loaded_at = time.time()
        self._log.info("started", version=__version__, node=settings.node.name, interfaces=list(settings.interfaces))
        self._agent.queue_audit(AuditAction.DAEMON_STARTED, AuditFacts(version=__version__))
        try:
            self._handle(Event.RECONCILE)
            self.notifier.ready(summary_line(self.status))
            while True:
                before, self._idle = thread_cpu_time(), True
                messages = self.inbox.take(self._delay())
                if Event.STOP in messages:
                    break
                self._check_clock()
                for message in messages:
                    self._handle(message)
                self._poll()
                self.notifier.status(summary_line(self.status))
                self._heartbeat()
                if self._idle:
                    self.looks.watch.record_idle_turn(thread_cpu_time() - before)
            self._stop()
        except ShutdownTimeout:
            self._log.error("stopped without a last account: the database did not answer in time")
        finally:
            self._end()
        return 0

    # -- the loop

    def _heartbeat(self) -> None:
        self._beat = time.monotonic()
        if self._beat - self._fed >= 1:
            self._fed = self._beat
            self.notifier.watchdog()

    def _delay(self) -> float:
        """Seconds to wait for an event: until the next check, admin's request or activation deadline is due."""
        now = time.monotonic()
        wait = min(LONGEST_WAIT, self.looks.patience(now))
        asked = self._admin.delay()
        wait = wait if asked is None else min(wait, asked)
        if self._deadline is None or self._deadline > time.time():  # a passed one stays until the poll
            self._deadline = self._agent.next_deadline()
        if self._deadline is not None:
            wait = min(wait, self._deadline - time.time() + 0.05)  # At the deadline itself, nothing expires yet.
        return wait

    def _handle(self, message: Event) -> None:
        if message is Event.RELOAD:
            self.reload("a signal")
        elif message is Event.ADMIN:
            self._admin.wait()  # The poll handles the request.
        elif message is Event.NOTIFY:
            pass  # The poll follows the notification.
        elif message is Event.ACCOUNT:
            self.looks.run_preemptible("account", self._agent.account)
            if self._agent.needs_reconcile:
                self._handle(Event.RECONCILE)
        elif message is Event.RECONCILE:
            self.looks.run_preemptible("reconcile", self.looks.reconcile)
        elif not self._clock.trusted:
            return  # After a clock step, nothing is deleted for its age, and no time window is verified.
        elif message is Event.PURGE:
            self._work("purge", self._agent.purge)
        elif message is Event.VERIFY and inspector.is_due(self._state, time.time(), self.settings.node.zone):
            self._work("verify", self._verify)

    def _poll(self) -> None:
        """Handle an admin's request, a passed activation deadline, notifications, and changed rows."""
        if self._admin.handle_next():
            self._idle = False
        if self._deadline is not None and time.time() > self._deadline:
            self._deadline = None
            self._handle(Event.RECONCILE)
        self.looks.poll()

    def _verify(self) -> None:
        def work() -> None:
            self._agent.reconcile(self.looks.is_urgent)
            self._heartbeat()

        self._agent.inspector.run_verification(work, self.status)

    def _work(self, task: str, piece: Callable[[], object]) -> bool:
        self._idle = self._idle and task == "watch"
        self.looks.begin()
        good = self._tasks.do(task, piece)
        self.looks.end(good=good)
        return good

    # -- what an admin asks for (admin.py)

    @property
    def agent(self) -> Agent:
        """The present agent. A reload replaces it."""
        return self._agent

    @property
    def last_error(self) -> str:
        """Why the last failed task failed."""
        return self._tasks.last_error

    def reconcile_now(self, devices: frozenset[str]) -> bool:
        """Reconcile these devices now. Whether that succeeded."""
        return self.looks.reconcile_hinted(devices)

    def carry_out(self) -> Decision | None:
        """Reconcile everything now. Returns what was decided, or None if the reconcile failed."""
        done: list[Decision] = []
        self._work("reconcile", lambda: done.append(self.looks.reconcile(self.looks.is_urgent)))
        return done[0] if done else None

    def reload(self, who: str) -> Sequence[ConfigIssue]:
        """Load the configuration again, and replace the agent. Returns the faults of the new configuration.

        A configuration with faults changes nothing. In both cases, a reconcile follows.
        """
        self.notifier.reloading()
        faults: Sequence[ConfigIssue] = ()
        old = self.settings
        try:
            settings = load.load(self.path)
            if settings.node.name != old.node.name:
                fault = ConfigIssue("node.name", settings.node.name, f"was {old.node.name}: that needs a restart")
                raise ConfigError(str(self.path), [fault])
            if settings.metrics.listen != old.metrics.listen:
                self._web.listen(settings.metrics.address)
        except (ConfigError, UserError) as error:
            faults = (
                error.faults if isinstance(error, ConfigError) else (ConfigIssue("metrics.listen", "", str(error)),)
            )
            for fault in faults:
                self._log.error("new configuration refused, the old one goes on", key=fault.key, why=str(fault))
            self.status.config_ok = False
            keys = ", ".join(dict.fromkeys(fault.key for fault in faults))
            self._agent.queue_audit(AuditAction.CONFIG_REJECTED, AuditFacts(count=len(faults), keys=keys))
        else:
            agent = self.build(settings, self._state)
            self._agent.store.close()
            self._agent, self.settings = agent, settings
            log.configure(settings.log.level, settings.log.format)
            self._schedule_all(settings)
            self.looks.watch = PollInterval(float(settings.schedule.watch_interval))
            self.status.config_ok, self.status.config_loaded_at = True, time.time()
            self._log.info("configuration reloaded", who=who)
            self.status.add_event("config", text="configuration reloaded")
            self._agent.queue_audit(AuditAction.CONFIG_RELOADED)
        self._handle(Event.RECONCILE)
        self.notifier.ready(summary_line(self.status))
        return faults

    def _is_alive(self) -> bool:
        return time.monotonic() - self._beat < UNHEALTHY

    def _is_ready(self) -> bool:
        return self.status.reconciled and self.status.database_up

    def _open_sockets(self) -> None:
        """Open the sockets for notifications and for admins. The daemon also runs without them."""
        try:
            self.looks.listen(lock.path().with_name("notify.sock"), lambda: self.inbox.put(Event.NOTIFY))
        except UserError as error:
            self._log.warning("no hints from the application", why=str(error))
        try:
            answers = self._admin.routes(lambda: status_report.of_daemon(self.status, self.settings, self.path))
            self._control = control_socket.ControlSocket(control_socket.path(), {**self._web.routes, **answers})
        except UserError as error:
            self._log.warning("no commands to the running daemon", why=str(error))

    # -- time

    def _schedule_all(self, settings: Settings) -> None:
        self._schedule.arm(settings)
        plan = settings.schedule
        self.status.intervals = {"account": float(plan.poll_interval), "reconcile": float(plan.resync_interval)}

    def _check_clock(self) -> None:
        step = self._clock.stepped()
        if step is not None:
            self._log.warning("the clock was set", seconds=round(step, 3))
            self._schedule_all(self.settings)
            self.inbox.put(Event.ACCOUNT)
            self.inbox.put(Event.RECONCILE)

    # -- the end

    def _stop(self) -> None:
        self.notifier.stopping("stopping: last account")
        self._work("account", lambda: self._agent.account(self.looks.is_urgent))
        self._agent.queue_audit(AuditAction.DAEMON_STOPPED)
        self._work("settle", self._agent.flush)
        signal.setitimer(signal.ITIMER_REAL, 0)  # The shutdown was in time, so ShutdownTimeout must not come.

    def _end(self) -> None:
        self._schedule.disarm()
        self.looks.close()
        self._admin.close()
        if self._control is not None:
            self._control.close()
        self._web.close()
        self._agent.store.close()
        self._agent.wireguard.close()
        self._log.info("stopped; peers stay in place")
        self.notifier.close()
