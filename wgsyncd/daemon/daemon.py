"""The daemon: its main loop takes events from a queue and runs the tasks that they name.

Only the main thread uses netlink and the database, so they need no lock.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wgsyncd import __version__, log
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditAction, AuditFacts
from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon import admin, lock, machine
from wgsyncd.daemon.change_watch import ChangeWatcher
from wgsyncd.daemon.device_list import DeviceList
from wgsyncd.daemon.events import Event, EventQueue
from wgsyncd.daemon.front_page import FrontPage
from wgsyncd.daemon.http import Routes
from wgsyncd.daemon.monitoring import MonitoringServer, pages
from wgsyncd.daemon.pacing import ClockStepDetector, PollInterval, thread_cpu_time
from wgsyncd.daemon.scheduler import Schedule
from wgsyncd.daemon.sockets import Sockets
from wgsyncd.daemon.systemd import Notifier
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.engine import inspector, wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.reports import status as status_report
from wgsyncd.engine.reports.status_document import StatusReport
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import summary_line
from wgsyncd.errors import ConfigError, ConfigIssue, NotHolder, StoreError, UserError, WgsyncdError

UNHEALTHY = 90.0  # seconds without a heartbeat after which /healthz reports a failure
MAX_WAIT = 5.0  # seconds: the longest turn of an idle loop, which feeds the watchdog and detects clock steps


class Daemon:
    """Runs one node: the main loop, the sockets, the schedule and the reload.

    ``build`` makes an agent from settings and from the state that outlives the agent. Each reload calls it again.
    ``claims``: what this process has claimed for its node and its interfaces.
    """

    def __init__(
        self, path: Path, settings: Settings, build: Callable[[Settings, AgentState], Agent], events: EventQueue,
        status: DaemonStatus, notifier: Notifier, claims: lock.Claims,
    ) -> None:  # fmt: skip
        self._claims = claims
        self.path, self.settings, self.build = path, settings, build
        self.events, self.status, self.notifier = events, status, notifier
        self._log = log.get("daemon")
        self._tasks = Tasks(status)
        self._beat = time.monotonic()
        self._fed = 0.0
        self._state = AgentState(on_answer=self._heartbeat)
        self.agent = build(settings, self._state)  # A reload replaces it.
        self._schedule = Schedule(events)
        interval = float(settings.schedule.watch_interval)
        self.watcher = ChangeWatcher(lambda: self.agent, self._tasks, self._heartbeat, status, interval)
        self._admin = admin.AdminRequests(self, path, lambda: self.settings.node.zone, lambda: events.put(Event.ADMIN))
        self.devices = DeviceList(status, lambda: self.settings, self._admin.ask_usage)
        self._front_page = FrontPage(lambda: self.settings, status, self._report, self.devices.report)
        served = pages(lambda: status.now(machine.link), self._is_alive)
        self._monitoring = MonitoringServer(served, self._front_page.answer)
        self._sockets = Sockets(self._monitoring, self.watcher, self._answers, events)
        self._deadline: float | None = None  # UNIX seconds of the next activation deadline
        self._clock = ClockStepDetector()

    def run(self) -> int:
        """Run until an event says stop, and return the exit status.

        NotHolder if another machine holds the node. ShutdownTimeout if the end takes too long.
        """
        settings = self.settings
        self._sockets.open(self.settings.metrics.address)
        self._begin_with(settings)
        self.status.started_at = time.time()
        self._log.info("started", version=__version__, node=settings.node.name, interfaces=list(settings.interfaces))
        self.agent.queue_audit(AuditAction.DAEMON_STARTED, AuditFacts(version=__version__))
        try:
            self.notifier.ready()  # Before the first cycle, because a slow database must not keep others waiting.
            self._handle(Event.RECONCILE)
            self.notifier.status(summary_line(self.status))
            while self._turn():
                pass
            self._stop()
        finally:
            self._end()
        return 0

    # -- the loop

    def _turn(self) -> bool:
        """Wait for events and handle them. False if an event says stop."""
        before, self.watcher.idle = thread_cpu_time(), True
        events = self.events.take(self._delay())
        if Event.STOP in events:
            return False
        self._check_clock()
        self._claims.answer()
        for event in events:
            if not self.events.is_stopping:  # Each piece of work may wait for a database that hangs.
                self._handle(event)
        if not self.events.is_stopping:
            self._poll()
        self.notifier.status(summary_line(self.status))
        self._heartbeat()
        if self.watcher.idle:
            self.watcher.interval.record_idle_turn(thread_cpu_time() - before)
        return True

    def _heartbeat(self) -> None:
        self._beat = time.monotonic()
        if self._beat - self._fed >= 1:
            self._fed = self._beat
            self.notifier.watchdog()

    def _delay(self) -> float:
        """Seconds to wait for an event: until the next check, admin's request or activation deadline is due."""
        wait = min(MAX_WAIT, self.watcher.delay(time.monotonic()))
        asked = self._admin.delay()
        wait = wait if asked is None else min(wait, asked)
        if self._deadline is None or self._deadline > time.time():  # A passed one stays until the poll.
            self._deadline = self.agent.next_deadline()
        if self._deadline is not None:
            wait = min(wait, self._deadline - time.time() + 0.05)  # At the deadline itself, nothing expires yet.
        return wait

    def _handle(self, event: Event) -> None:
        if event is Event.RELOAD:
            self.reload("a signal")
        elif event is Event.ADMIN:
            self._admin.wait()  # The poll handles the request. It also follows a notification.
        elif event is Event.HEARTBEAT:
            self.watcher.run("heartbeat", self.agent.beat)
            self._sockets.open(self.settings.metrics.address)
        elif event is Event.ACCOUNT:
            self.watcher.run_preemptible("account", self.agent.account)
            if self.agent.needs_reconcile and not self.events.is_stopping:
                self._handle(Event.RECONCILE)
        elif event is Event.SYNC:
            self.reconcile_all()
        elif event is Event.RECONCILE:
            self.watcher.run_preemptible("reconcile", self.watcher.reconcile)
        elif not self._clock.trusted:
            return  # After a clock step, nothing is deleted for its age, and no time window is verified.
        elif event is Event.PURGE:
            self.watcher.run("purge", self.agent.purge)
        elif event is Event.VERIFY and inspector.is_due(self._state, time.time(), self.settings.node.zone):
            self.watcher.run("verify", self._verify)

    def _poll(self) -> None:
        """Handle an admin's request, a passed activation deadline, notifications, and changed rows."""
        if self._admin.handle_next():
            self.watcher.idle = False
        if self._deadline is not None and time.time() > self._deadline:
            self._deadline = None
            self._handle(Event.RECONCILE)
        self.watcher.poll()

    def _verify(self) -> None:
        def work() -> None:
            self.agent.reconcile(self.watcher.is_urgent)
            self._heartbeat()

        self.agent.inspector.run_verification(work, self.status)

    # -- what an admin asks for (admin.py)

    @property
    def last_error(self) -> WgsyncdError | None:
        """Why the last failed task failed."""
        return self._tasks.last_error

    def reconcile_now(self, devices: frozenset[str]) -> bool:
        """Reconcile these devices now. Whether that succeeded."""
        return self.watcher.reconcile_named(devices)

    def reconcile_all(self) -> Decision | None:
        """Reconcile everything now. Returns what was decided, or None if the reconcile failed."""
        done, ask = list[Decision](), self.watcher
        ask.run("reconcile", lambda: done.append(ask.reconcile(ask.is_urgent, must_plan=True)))
        return done[0] if done else None

    def reload(self, who: str) -> Sequence[ConfigIssue]:
        """Load the configuration again, and replace the agent. Returns the faults of the new configuration.

        A configuration with faults changes nothing. In both cases, a reconcile follows.
        """
        self.notifier.reloading()
        faults: Sequence[ConfigIssue] = ()
        try:
            settings, agent = self._load()
        except ConfigError as error:
            faults = error.faults
            for fault in faults:
                self._log.error("new configuration refused, the old one goes on", key=fault.key, why=str(fault))
            self.status.config_ok = False
            keys = ", ".join(dict.fromkeys(fault.key for fault in faults))
            self.agent.queue_audit(AuditAction.CONFIG_REJECTED, AuditFacts(count=len(faults), keys=keys))
        else:
            self.agent.store.close()
            if (old := self.settings.node.zone) != (new := settings.node.zone):
                self._log.warning(wording.zone_changed(old, new, settings.store.zone_effect))
            self.agent, self.settings = agent, settings
            self._claims.keep(settings.interfaces)
            log.configure(settings.log.level, settings.log.format)
            self._begin_with(settings)
            self.watcher.interval = PollInterval(float(settings.schedule.watch_interval))
            self._log.info("configuration reloaded", who=who)
            self.status.add_event("config", text="configuration reloaded")
            self.agent.queue_audit(AuditAction.CONFIG_RELOADED)
        self._sockets.open(self.settings.metrics.address)
        self._handle(Event.RECONCILE)
        self.notifier.ready(summary_line(self.status))
        return faults

    def _load(self) -> tuple[Settings, Agent]:
        """The new configuration and its agent. Its interfaces are claimed, and its metrics' address is in use already.

        ConfigError if it cannot be taken over, also if an unknown value meets a bug: the old agent still works.
        """
        try:
            settings = self._take_over()
            return settings, self.build(settings, self._state)
        except ConfigError:
            raise
        except Exception as error:
            self._log.error("a bug refuses the new configuration", exc_info=True)
            fault = ConfigIssue("(file)", "", f"meets a bug of wgsyncd: {type(error).__name__}. The log has more")
            raise ConfigError(str(self.path), [fault]) from error

    def _take_over(self) -> Settings:
        settings, old = load.load(self.path), self.settings
        if settings.node.name != old.node.name:
            fault = ConfigIssue("node.name", settings.node.name, f"was {old.node.name}: that needs a restart")
            raise ConfigError(str(self.path), [fault])
        try:
            self._claims.add(settings.interfaces)
            with contextlib.suppress(StoreError):  # Without an answer, the next heartbeat asks.
                self.agent.holding.refuse_rivals(settings.interfaces)
        except (UserError, NotHolder) as error:
            self._claims.keep(old.interfaces)
            raise ConfigError(str(self.path), [ConfigIssue("interfaces", "", str(error))]) from error
        if settings.metrics.listen != old.metrics.listen:
            try:
                self._monitoring.listen(settings.metrics.address)
            except UserError as error:
                self._claims.keep(old.interfaces)
                raise ConfigError(str(self.path), [ConfigIssue("metrics.listen", "", str(error))]) from error
        return settings

    def _begin_with(self, settings: Settings) -> None:
        """Arm the schedule, and show in the status what the settings and the store say beforehand."""
        self._schedule.arm(settings)
        plan, status = settings.schedule, self.status
        status.intervals = {"account": float(plan.poll_interval), "reconcile": float(plan.resync_interval)}
        status.store_conditions = {**dict.fromkeys(self.agent.store.condition_types, 0), **status.store_conditions}
        status.note_configuration(self.path)

    def _answers(self) -> Routes:
        return self._admin.routes(self._report, self.devices.report)

    def _report(self) -> StatusReport:
        return status_report.of_daemon(self.status, self.settings, self.path, machine.links(self.settings.interfaces))

    def _is_alive(self) -> bool:
        return time.monotonic() - self._beat < UNHEALTHY

    def _check_clock(self) -> None:
        step, self.status.clock_step = self._clock.stepped(), self._clock.step
        if step is not None or self._schedule.is_ahead():  # 0 s: set ahead and back again during one piece of work
            self._log.warning("the clock was set", seconds=round(step or 0.0, 3))
            self._schedule.arm(self.settings)
            self.events.put(Event.ACCOUNT)
            self.events.put(Event.RECONCILE)

    # -- the end

    def _stop(self) -> None:
        self.notifier.stopping("stopping: last account")
        self.watcher.run("account", lambda: self.agent.account(self.watcher.is_urgent))
        self.agent.queue_audit(AuditAction.DAEMON_STOPPED)
        self.watcher.run("flush", self.agent.flush)
        self.watcher.run("heartbeat", self.agent.holding.release)
        signal.setitimer(signal.ITIMER_REAL, 0)  # The shutdown was in time, so ShutdownTimeout must not come.

    def _end(self) -> None:
        self._schedule.disarm()
        self._admin.close()
        self._sockets.close()
        self.agent.store.close()
        self.agent.wireguard.close()
        self._log.info("stopped, and peers stay in place")
        self.notifier.close()
