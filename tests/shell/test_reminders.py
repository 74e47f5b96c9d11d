"""Trouble that lasts is in the log of each hour, so that `journalctl --since -1h` shows it."""

from __future__ import annotations

import io

import pytest

from wgsyncd import log
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError


def test_a_database_that_stays_away_is_told_of_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = 1000.0, io.StringIO()
    monkeypatch.setattr("wgsyncd.log.time.monotonic", lambda: now)
    log.configure("info", "logfmt", stream)
    tasks = Tasks(DaemonStatus())

    def away() -> None:
        raise StoreError("2003: Can't connect")

    tasks.do("reconcile", lambda: None)
    for _ in range(3 * 240):  # three hours of polls
        tasks.do("account", away)
        now += 15
    tasks.do("reconcile", lambda: None)
    lines = stream.getvalue().splitlines()
    assert [line.rpartition("lasting=")[2].rpartition(" logger")[0] for line in lines[:3]] == [
        '"0 s"', '"1 h 0 min"', '"2 h 0 min"'
    ]  # fmt: skip
    assert (
        'event="the database works again. wgsyncd goes on, and posts the traffic that it kept" task=reconcile after="3 h 0 min"'
        in lines[3]
    )
    assert len(lines) == 4


def test_a_database_that_is_away_since_the_boot_has_left_the_node_without_peers() -> None:
    def away() -> None:
        raise StoreError("2003: Can't connect")

    stream = io.StringIO()
    log.configure("info", "logfmt", stream)
    status = DaemonStatus()
    Tasks(status).do("reconcile", away)
    status.rows = []
    Tasks(status).do("reconcile", away)
    first, later = stream.getvalue().splitlines()
    assert "before any row was read. The node may lack peers" in first and "stay connected" not in first
    assert "Devices stay connected" in later
