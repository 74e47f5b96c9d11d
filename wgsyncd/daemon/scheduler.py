"""The schedule of periodic work: jobs that put events into the queue.

No other module imports apscheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from wgsyncd.config.schema import Settings
from wgsyncd.daemon.events import Event, EventQueue


class Every(BaseTrigger):  # type: ignore[misc]  # it has no types
    """Fires at a fixed interval, and once for all missed times.

    APScheduler's own trigger goes through each missed time. That takes minutes if a clock is set weeks ahead.
    """

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """One interval after ``previous_fire_time``, but never before ``now``."""
        after = previous_fire_time + self._interval if previous_fire_time is not None else now
        return after if after > now else now + self._interval


class Schedule:
    """The jobs of one daemon."""

    def __init__(self, inbox: EventQueue) -> None:
        self._inbox = inbox
        self._scheduler: BackgroundScheduler | None = None

    def arm(self, settings: Settings) -> None:
        """Start the jobs, and stop the earlier ones: at the start, after a reload, after a step of the wall clock."""
        self.disarm()
        zone, plan = settings.node.zone, settings.schedule
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}  # the default grace time is 1 s
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)}, job_defaults=defaults, timezone=zone, daemon=True
        )
        scheduler.add_job(self._put(Event.ACCOUNT), Every(plan.poll_interval))
        scheduler.add_job(self._put(Event.RECONCILE), Every(plan.resync_interval))
        # At midnight, so that earlier traffic is accounted to the old day, and at a month's end to the old month.
        scheduler.add_job(self._put(Event.ACCOUNT), "cron", hour=0, minute=0, second=0)
        scheduler.add_job(self._put(Event.PURGE), "cron", hour=4, minute=17)
        scheduler.add_job(self._put(Event.VERIFY), "cron", minute=37)  # the daemon skips it unless it is due
        scheduler.start()
        self._scheduler = scheduler

    def disarm(self) -> None:
        """Stop the jobs."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def _put(self, message: Event) -> Callable[[], None]:
        return lambda: self._inbox.put(message)
