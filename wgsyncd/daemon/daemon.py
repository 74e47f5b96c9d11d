"""How wgsyncd lives: inbox, hints, orders, watch, reload, watchdog, stop.

The main thread takes from the inbox and is the only user of netlink and database, so there is no lock anywhere.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wgsyncd import __version__, log
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.daemon import admin, control, lock
from wgsyncd.daemon.change_watch import Looks
from wgsyncd.daemon.clock_step import WallClock
from wgsyncd.daemon.events import Inbox, Message, OutOfTime
from wgsyncd.daemon.http import Web
from wgsyncd.daemon.poll_interval import Watch, worked
from wgsyncd.daemon.scheduler import Schedule
from wgsyncd.daemon.systemd import Notifier
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.engine import inspector, status_report
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.status import Health
from wgsyncd.engine.status_update import in_one_line
from wgsyncd.errors import ConfigError, Fault, Refused

UNHEALTHY = 90.0  # seconds without finished work after which /healthz says so
LONGEST_WAIT = 5.0  # seconds; the loop comes round this often, to feed the watchdog and to see the clock step


class Daemon:
    """One node's daemon. ``build`` makes an agent from settings; it is called again for each reload."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        build: Callable[[Settings], Agent],
        inbox: Inbox,
        health: Health,
        notifier: Notifier,
    ) -> None:
        self.path, self.settings, self.build = path, settings, build
        self.inbox, self.health, self.notifier = inbox, health, notifier
        self._log = log.get("daemon")
        self._tasks = Tasks(health)
        self._agent = build(settings)
        self._agent.between = self._between
        self._web = Web(health, self._is_alive, self._is_ready)
        self._schedule = Schedule(inbox)
        self.looks = Looks(lambda: self._agent, self._work, health, float(settings.schedule.watch))
        self._control: control.Control | None = None
        self._orders: admin.Orders | None = None
        self._beat = time.monotonic()
        self._fed = 0.0
        self._idle = True  # this turn of the loop has brought nothing but a look
        self._deadline: float | None = None  # UNIX seconds of the nearest QR end
        self._clock = WallClock()

    def run(self) -> int:
        """Live until told to stop; the exit status. Refused where the metrics' address is taken."""
        settings = self.settings
        self._web.listen(settings.metrics.address)
        self._hear()
        self._arm(settings)
        self.health.started_at = self.health.config_loaded_at = time.time()
        self._log.info("started", version=__version__, node=settings.node.name, interfaces=list(settings.interfaces))
        self._agent.note("daemon_started", version=__version__)
        try:
            self._handle(Message.RECONCILE)
            self.notifier.ready(in_one_line(self.health))
            while True:
                before, self._idle = worked(), True
                messages = self.inbox.take(self._patience())
                if Message.STOP in messages:
                    break
                self._mind_the_clock()
                for message in messages:
                    self._handle(message)
                self._look_round()
                self.notifier.status(in_one_line(self.health))
                self._worked()
                if self._idle:
                    self.looks.watch.turned(worked() - before)
            self._stop()
        except OutOfTime:
            self._log.error("stopped without a last account: the database did not answer in time")
        finally:
            self._end()
        return 0

    # -- the loop

    def _worked(self) -> None:
        self._beat = time.monotonic()
        if self._beat - self._fed >= 1:
            self._fed = self._beat
            self.notifier.watchdog()

    def _patience(self) -> float:
        """Seconds to wait for a message: until the next look at the rows or the next QR end."""
        now = time.monotonic()
        wait = min(LONGEST_WAIT, self.looks.patience(now))
        asked = self._orders.patience() if self._orders is not None else None
        wait = wait if asked is None else min(wait, asked)
        if self._deadline is None or self._deadline > time.time():  # else it is due and not yet done
            self._deadline = self._agent.next_deadline()
        if self._deadline is not None:
            wait = min(wait, self._deadline - time.time() + 0.05)  # an instant later: at the end itself it is alive
        return wait

    def _handle(self, message: Message) -> None:
        if message is Message.RELOAD:
            self.reload("a signal")
        elif message is Message.ORDER and self._orders is not None:
            self._orders.wait()  # obeyed by the look round
        elif message is Message.HINT:
            pass  # followed by the look round
        elif message is Message.ACCOUNT:
            self.looks.count("account", self._agent.account)
            if self._agent.found_new:
                self._handle(Message.RECONCILE)
        elif message is Message.RECONCILE:
            self.looks.count("reconcile", self.looks.reconcile)
        elif not self._clock.trusted:
            return  # on such a clock nothing is forgotten, and no window judged
        elif message is Message.PURGE:
            self._work("purge", self._agent.purge)
        elif message is Message.VERIFY and inspector.is_due(self.health, time.time(), self.settings.node.zone):
            self._work("verify", self._prove)

    def _look_round(self) -> None:
        """Has an admin asked something, has a QR ended, was something hinted, did the rows change?"""
        if self._orders is not None and self._orders.obey():
            self._idle = False
        if self._deadline is not None and time.time() > self._deadline:
            self._deadline = None
            self._handle(Message.RECONCILE)
        self.looks.go_round()

    def _between(self, *, may_leave_off: bool) -> None:
        self._worked()
        self.looks.between(may_leave_off=may_leave_off)

    def _prove(self) -> None:
        def work() -> None:
            self._agent.reconcile()
            self._worked()

        self._agent.inspector.prove(work, self.health)

    def _work(self, task: str, piece: Callable[[], object]) -> bool:
        self._idle = self._idle and task == "watch"
        self.looks.begin()
        good = self._tasks.do(task, piece)
        self.looks.end(good=good)
        return good

    # -- what an admin asks for (orders.py)

    @property
    def agent(self) -> Agent:
        """The one of now."""
        return self._agent

    def compare(self, devices: frozenset[str]) -> bool:
        """These devices; whether that went well."""
        return self.looks.compare(devices)

    def carry_out(self) -> Outlook | None:
        """Reconcile now; what was done, None where that failed."""
        done: list[Outlook] = []
        self._work("reconcile", lambda: done.append(self.looks.reconcile()))
        return done[0] if done else None

    def reload(self, who: str) -> Sequence[Fault]:
        """Parse, check, swap whole; a configuration with faults changes nothing: these are returned."""
        self.notifier.reloading()
        faults: Sequence[Fault] = ()
        old = self.settings
        try:
            settings = load.load(self.path)
            if settings.node.name != old.node.name:
                fault = Fault("node.name", settings.node.name, f"was {old.node.name}: that needs a restart")
                raise ConfigError(str(self.path), [fault])
            if settings.metrics.listen != old.metrics.listen:
                self._web.listen(settings.metrics.address)
        except (ConfigError, Refused) as error:
            faults = error.faults if isinstance(error, ConfigError) else (Fault("metrics.listen", "", str(error)),)
            for fault in faults:
                self._log.error("new configuration refused, the old one goes on", key=fault.key, why=str(fault))
            self.health.config_ok = False
            keys = ", ".join(dict.fromkeys(fault.key for fault in faults))
            self._agent.note("config_rejected", count=len(faults), reason=keys)
        else:
            agent = self.build(settings)
            agent.inherit(self._agent)
            self._agent.store.close()
            self._agent, self.settings = agent, settings
            log.configure(settings.log.level, settings.log.format)
            self._arm(settings)
            self.looks.watch = Watch(float(settings.schedule.watch))
            self.health.config_ok, self.health.config_loaded_at = True, time.time()
            self._log.info("configuration reloaded", who=who)
            self.health.remember("config", text="configuration reloaded")
            self._agent.note("config_reloaded")
        self._handle(Message.RECONCILE)
        self.notifier.ready(in_one_line(self.health))
        return faults

    def _is_alive(self) -> bool:
        return time.monotonic() - self._beat < UNHEALTHY

    def _is_ready(self) -> bool:
        return self.health.reconciled and self.health.database_up

    def _hear(self) -> None:
        """Take hints and orders, if that can be: nothing depends on it."""
        try:
            self.looks.listen(lock.path().with_name("notify.sock"), lambda: self.inbox.put(Message.HINT))
        except Refused as error:
            self._log.warning("no hints from the application", why=str(error))
        try:
            asked = {"status": lambda: status_report.of_daemon(self.health, self.settings, self.path)}
            self._control = control.Control(
                control.path(), self.path, lambda: self.inbox.put(Message.ORDER), asked, admin.COMMANDS
            )
        except Refused as error:
            self._log.warning("no commands to the running daemon", why=str(error))
            return
        self._orders = admin.Orders(self._control, self, self.path, lambda: self.settings.node.zone)

    # -- time

    def _arm(self, settings: Settings) -> None:
        self._schedule.arm(settings)
        plan = settings.schedule
        self.health.intervals = {"account": float(plan.account), "reconcile": float(plan.reconcile)}

    def _mind_the_clock(self) -> None:
        step = self._clock.stepped()
        if step is not None:
            self._log.warning("the clock was set", seconds=round(step, 3))
            self._arm(self.settings)
            self.inbox.put(Message.ACCOUNT)
            self.inbox.put(Message.RECONCILE)

    # -- the end

    def _stop(self) -> None:
        self.notifier.stopping("stopping: last account")
        self._work("account", self._agent.account)
        self._agent.note("daemon_stopped")
        self._work("settle", self._agent.settle)
        signal.setitimer(signal.ITIMER_REAL, 0)  # in time

    def _end(self) -> None:
        self._schedule.disarm()
        self.looks.close()
        if self._control is not None:
            self._control.close()
        self._web.close()
        self._agent.store.close()
        self._agent.wireguard.close()
        self._log.info("stopped; peers stay in place")
        self.notifier.close()
