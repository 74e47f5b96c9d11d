"""The schedule of periodic work: jobs that put events into the queue.

No other module imports apscheduler.
"""

from datetime import datetime, timedelta

from wgsyncd import hollow
from wgsyncd.config.schema import Settings
from wgsyncd.core.identity import BEAT
from wgsyncd.daemon.events import Event, EventQueue

with hollow("concurrent.futures.process", "multiprocessing"):  # for a pool of processes
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.base import BaseTrigger


class Every(BaseTrigger):  # type: ignore[misc]  # The base class has no types.
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
    def __init__(self, events: EventQueue) -> None:
        self._events = events
        self._scheduler: BackgroundScheduler | None = None

    def arm(self, settings: Settings) -> None:
        """Start the jobs, and stop the earlier ones: at the start, after a reload, after a step of the wall clock."""
        self.disarm()
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}  # The default grace time is 1 s.
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults=defaults,
            timezone=settings.node.zone,
            daemon=True,
        )
        put = self._events.put
        scheduler.add_job(put, Every(settings.schedule.poll_interval), [Event.ACCOUNT])
        scheduler.add_job(put, Every(settings.schedule.resync_interval), [Event.RECONCILE])
        scheduler.add_job(put, Every(BEAT), [Event.HEARTBEAT])
        # At midnight, so that earlier traffic is accounted to the old day, and at a month's end to the old month.
        scheduler.add_job(put, "cron", [Event.ACCOUNT], hour=0, minute=0, second=0)
        scheduler.add_job(put, "cron", [Event.PURGE], hour=4, minute=17)
        scheduler.add_job(put, "cron", [Event.VERIFY], minute=37)  # The daemon skips it unless it is due.
        scheduler.start()
        self._scheduler = scheduler

    def is_ahead(self) -> bool:
        """Whether a job waits for longer than its interval, because the wall clock was ahead and is back again.

        Such steps may cancel out before anybody compares the clocks, for example while a database hangs.
        """
        jobs = self._scheduler.get_jobs() if self._scheduler is not None else ()
        # The times are read before the clock, because a job may fire in between.
        times = [(job.next_run_time, job.trigger) for job in jobs if isinstance(job.trigger, Every)]
        return any(at > trigger.get_next_fire_time(None, datetime.now(at.tzinfo)) for at, trigger in times)

    def disarm(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None
