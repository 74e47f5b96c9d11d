"""When there is what to do: jobs that put messages into the inbox. The only importer of apscheduler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from wgsyncd.config.schema import Settings
from wgsyncd.daemon.events import Event, EventQueue


class Every(BaseTrigger):  # type: ignore[misc]  # it has no types
    """Every so many seconds, and once for all that were missed: APScheduler's own would go through each of them first,
    for minutes where a clock is set weeks ahead."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """After ``previous_fire_time``, but never before ``now``."""
        after = previous_fire_time + self._interval if previous_fire_time is not None else now
        return after if after > now else now + self._interval


class Schedule:
    """The jobs of one daemon."""

    def __init__(self, inbox: EventQueue) -> None:
        self._inbox = inbox
        self._scheduler: BackgroundScheduler | None = None

    def arm(self, settings: Settings) -> None:
        """Begin; again after a reload and after a step of the wall clock, on which APScheduler runs."""
        self.disarm()
        zone, plan = settings.node.zone, settings.schedule
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}  # the grace's default is 1 s
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)}, job_defaults=defaults, timezone=zone, daemon=True
        )
        scheduler.add_job(self._put(Event.ACCOUNT), Every(plan.poll_interval))
        scheduler.add_job(self._put(Event.RECONCILE), Every(plan.resync_interval))
        # On the month's first second, so that what came before it is booked to the old month; days likewise.
        scheduler.add_job(self._put(Event.ACCOUNT), "cron", hour=0, minute=0, second=0)
        scheduler.add_job(self._put(Event.PURGE), "cron", hour=4, minute=17)
        scheduler.add_job(self._put(Event.VERIFY), "cron", minute=37)  # and then if it is due
        scheduler.start()
        self._scheduler = scheduler

    def disarm(self) -> None:
        """No more of them."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def _put(self, message: Event) -> Callable[[], None]:
        return lambda: self._inbox.put(message)
