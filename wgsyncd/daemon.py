"""How wgsyncd lives: inbox, schedule, reload, watchdog, stop. The only importer of apscheduler.

The main thread takes from the inbox and is the only user of netlink and database, so there is no lock anywhere.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from wgsyncd import __version__, config, inspection, log
from wgsyncd.agent import Agent
from wgsyncd.endpoint import Server
from wgsyncd.errors import ConfigError, Fault, Refused, StoreError, WireGuardError
from wgsyncd.health import Health
from wgsyncd.inbox import Inbox, Message, OutOfTime
from wgsyncd.settings import Settings
from wgsyncd.systemd import Notifier

STEP = 2.0  # seconds by which the wall clock may differ from the monotonic one before it counts as a step
AWAY = 5.0  # seconds between two looks at a database that is away
SETTLED = 3600.0  # seconds after which a clock that was set is trusted with work that is done once a day
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
        self._edge = log.Edge()
        self._agent = build(settings)
        self._server: Server | None = None
        self._scheduler: BackgroundScheduler | None = None
        self._digest: object = None  # of the rows as the last good reconcile found them; None: none was good
        self._beat = time.monotonic()
        self._looked = 0.0
        self._deadline: float | None = None  # UNIX seconds of the nearest QR end
        self._clock_offset = time.time() - time.monotonic()
        self._clock_stepped_at = float("-inf")  # monotonic

    def run(self) -> int:
        """Live until told to stop; the exit status. Refused where the metrics' address is taken."""
        settings = self.settings
        self._listen(settings)
        self._schedule(settings)
        self.health.config_loaded_at = time.time()
        self._log.info("started", version=__version__, node=settings.node.name, interfaces=list(settings.interfaces))
        self._agent.note("daemon_started", version=__version__)
        try:
            self._handle(Message.RECONCILE)
            self.notifier.ready(self._status())
            while True:
                messages = self.inbox.take(self._patience())
                if Message.STOP in messages:
                    break
                self._mind_the_clock()
                for message in messages:
                    self._handle(message)
                self._look_round()
                self.notifier.status(self._status())
                self._worked()
            self._stop()
        except OutOfTime:
            self._log.error("stopped without a last account: the database did not answer in time")
        finally:
            self._end()
        return 0

    # -- the loop

    def _worked(self) -> None:
        self._beat = time.monotonic()
        self.notifier.watchdog()

    def _patience(self) -> float:
        """Seconds to wait for a message: until the next look at the rows or the next QR end."""
        wait = LONGEST_WAIT
        if self.settings.schedule.watch:
            wait = min(wait, self._looked + self._watch_interval() - time.monotonic())
        if self._deadline is None or self._deadline > time.time():  # else it is due and not yet done
            self._deadline = self._agent.next_deadline()
        if self._deadline is not None:
            wait = min(wait, self._deadline - time.time() + 0.05)  # an instant later: at the end itself it is alive
        return wait

    def _watch_interval(self) -> float:
        watch = float(self.settings.schedule.watch)
        return watch if self.health.database_up else max(watch, AWAY)

    def _handle(self, message: Message) -> None:
        if message is Message.RELOAD:
            self._reload()
        elif message is Message.ACCOUNT:
            self._work("account", self._agent.account)
            if self._agent.found_new:
                self._handle(Message.RECONCILE)
        elif message is Message.RECONCILE:
            self._work("reconcile", self._reconcile)
        elif time.monotonic() - self._clock_stepped_at < SETTLED:
            return  # on such a clock nothing is forgotten, and no window judged
        elif message is Message.PURGE:
            self._work("purge", self._agent.purge)
        elif message is Message.VERIFY and inspection.is_due(self.health, time.time(), self.settings.node.zone):
            self._work("verify", lambda: self._agent.prove(self._worked))

    def _reconcile(self) -> None:
        digest: object = None
        with contextlib.suppress(StoreError):  # the agent has something to do without the database, and says it is away
            digest = self._agent.store.digest()  # before the rows: a change in between is found by the next look
        self._digest = None
        self._agent.reconcile()
        self._digest = digest

    def _look_round(self) -> None:
        """Has a QR ended, or did the rows change?"""
        if self._deadline is not None and time.time() > self._deadline:
            self._deadline = None
            self._handle(Message.RECONCILE)
        now = time.monotonic()
        if not self.settings.schedule.watch or now - self._looked < self._watch_interval():
            return
        self._looked = now
        changed = False

        def look() -> None:
            nonlocal changed
            changed = self._agent.store.digest() != self._digest

        if self._work("watch", look) and changed:
            self._handle(Message.RECONCILE)

    def _work(self, task: str, piece: Callable[[], object]) -> bool:
        """One piece of work: counted, timed; passing trouble is said once when it starts and once when it ends."""
        health, started = self.health, time.monotonic()
        health.add("runs", task)
        try:
            piece()
        except (StoreError, WireGuardError) as error:
            health.add("failures", task)
            self._digest = None
            database = isinstance(error, StoreError)
            if database:
                health.database_up, health.database_error = False, str(error)
                health.database_errors += 1
            if self._edge("trouble", "database" if database else type(error).__name__):
                what = "database does not serve us; peers stay as they are" if database else "work failed"
                self._log.error(f"{what}; tried again", task=task, error=str(error))
            return False
        else:
            # A poll in which nothing moved asks nobody, and a look only reads: neither proves that writing works. After
            # every failure the next good look leads to a reconcile.
            proves = task not in ("account", "watch", "verify")
            health.database_up = health.database_up or proves
            if proves and self._edge("trouble", None):
                self._log.info("works again", task=task)
            now = time.time()
            health.succeeded_at = {**health.succeeded_at, task: now}
            return True
        finally:
            seconds = time.monotonic() - started
            health.durations = {**health.durations, task: seconds}
            health.add("duration_sums", task, seconds)

    # -- reload

    def _reload(self) -> None:
        """Parse, check, swap whole; a configuration with faults changes nothing."""
        self.notifier.reloading()
        old = self.settings
        try:
            settings = config.load(self.path)
            if settings.node.name != old.node.name:
                fault = Fault("node.name", settings.node.name, f"was {old.node.name}: that needs a restart")
                raise ConfigError(str(self.path), [fault])
            if settings.metrics.listen != old.metrics.listen:
                self._listen(settings)
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
            self._schedule(settings)
            self.health.config_ok, self.health.config_loaded_at = True, time.time()
            self._log.info("configuration reloaded")
            self._agent.note("config_reloaded")
        self._handle(Message.RECONCILE)
        self.notifier.ready(self._status())

    def _listen(self, settings: Settings) -> None:
        """Serve metrics where ``settings`` say; Refused, and as before, where that cannot be had."""
        before = self._server
        if before is not None:
            before.close()  # first: the new address may be the old port on another host
            self._server = None
        try:
            address = settings.metrics.address
            self._server = Server(self.health, address, self._is_alive, self._is_ready) if address else None
        except Refused:
            if before is not None:
                self._server = Server(self.health, before.address, self._is_alive, self._is_ready)
            raise

    def _is_alive(self) -> bool:
        return time.monotonic() - self._beat < UNHEALTHY

    def _is_ready(self) -> bool:
        return self.health.reconciled and self.health.database_up

    # -- the schedule

    def _schedule(self, settings: Settings) -> None:
        """Arm the jobs; again after a reload and after a step of the wall clock, on which APScheduler runs."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
        zone, plan = settings.node.zone, settings.schedule
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}  # the grace's default is 1 s
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)}, job_defaults=defaults, timezone=zone, daemon=True
        )

        def put(message: Message) -> Callable[[], None]:
            return lambda: self.inbox.put(message)

        scheduler.add_job(put(Message.ACCOUNT), "interval", seconds=float(plan.account))
        scheduler.add_job(put(Message.RECONCILE), "interval", seconds=float(plan.reconcile))
        # On the month's first second, so that what came before it is booked to the old month; days likewise.
        scheduler.add_job(put(Message.ACCOUNT), "cron", hour=0, minute=0, second=0)
        scheduler.add_job(put(Message.PURGE), "cron", hour=4, minute=17)
        scheduler.add_job(put(Message.VERIFY), "cron", minute=37)  # and then if it is due
        scheduler.start()
        self._scheduler = scheduler
        self.health.intervals = {"account": float(plan.account), "reconcile": float(plan.reconcile)}

    def _mind_the_clock(self) -> None:
        offset = time.time() - time.monotonic()
        step = offset - self._clock_offset
        self._clock_offset = offset
        if abs(step) > STEP:
            self._clock_stepped_at = time.monotonic()
            self._log.warning("the clock was set", seconds=round(step, 3))
            self._schedule(self.settings)
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
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
        if self._server is not None:
            self._server.close()
        self._agent.store.close()
        self._agent.wireguard.close()
        self._log.info("stopped; peers stay in place")
        self.notifier.close()

    def _status(self) -> str:
        """One line for `systemctl status`."""
        health = self.health
        parts = [
            f"{name}: {one.actual} peers, {one.online} online" if one.present else f"{name}: missing"
            for name, one in health.interfaces.items()
        ]
        if not health.database_up:
            parts.insert(0, f"database away ({health.database_error})")
        if health.guard_tripped:
            held = sum(one.withheld for one in health.interfaces.values())
            parts.insert(0, f"GUARD withholds {held} removals (wgsyncd approve {health.plan_id})")
        rejected = sum(health.rejected.values())
        if rejected:
            parts.append(f"{rejected} rows rejected")
        if health.quarantined:
            parts.append(f"{health.quarantined} in quarantine (wgsyncd quarantine)")
        findings = sum(health.findings.values())
        if findings:
            parts.append(f"does not add up: {findings} (wgsyncd verify)")
        if not health.config_ok:
            parts.append("new configuration refused")
        return "; ".join(parts) or "starting"
