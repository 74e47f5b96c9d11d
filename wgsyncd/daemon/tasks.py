"""Pieces of work: each counted and timed; passing trouble is said once when it starts and once when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from wgsyncd import log
from wgsyncd.engine.status import Health
from wgsyncd.errors import StoreError, WireGuardError


class Tasks:
    """Does them, in the main thread."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._log = log.get("daemon")
        self._edge = log.Edge()

    def do(self, task: str, piece: Callable[[], object]) -> bool:
        """One of them; whether it succeeded."""
        health, started = self._health, time.monotonic()
        health.add("runs", task)
        try:
            piece()
        except (StoreError, WireGuardError) as error:
            health.add("failures", task)
            database = isinstance(error, StoreError)
            if database:
                health.database_up, health.database_error = False, str(error)
                health.database_errors += 1
            health.trouble = str(error)
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
