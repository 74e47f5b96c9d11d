"""The schedule goes on at its intervals, whatever happens to the wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec
import pytest

from tests.store_sides import node_config
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Seconds
from wgsyncd.daemon.events import Event, EventQueue
from wgsyncd.daemon.scheduler import Schedule


class _Ahead:
    """Takes the place of the scheduler's wall clock."""

    offset = timedelta()

    @classmethod
    def now(cls, zone: tzinfo | None = None) -> datetime:
        return datetime.now(zone) + cls.offset


@pytest.fixture
def schedule() -> Iterator[tuple[Schedule, EventQueue]]:
    events = EventQueue()
    made = Schedule(events)
    yield made, events
    made.disarm()


def _accounts(events: EventQueue) -> None:
    while Event.ACCOUNT not in events.take(60):
        pass


def test_a_clock_that_was_ahead_for_a_moment_stops_no_job(
    schedule: tuple[Schedule, EventQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody saw the steps: at the end the clock is right again. But the jobs that ran meanwhile wait for a day."""
    jobs, events = schedule
    settings: Any = parse(node_config())
    plan = msgspec.structs.replace(settings.schedule, poll_interval=Seconds(0.05), resync_interval=Seconds(0.05))
    settings = msgspec.structs.replace(settings, schedule=plan)
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", _Ahead)
    monkeypatch.setattr(_Ahead, "offset", timedelta())
    jobs.arm(settings)
    _accounts(events)
    assert not jobs.is_ahead()
    monkeypatch.setattr(_Ahead, "offset", timedelta(days=1))
    _accounts(events)
    _accounts(events)
    monkeypatch.setattr(_Ahead, "offset", timedelta())
    assert jobs.is_ahead()
    jobs.arm(settings)
    assert not jobs.is_ahead()
    _accounts(events)
