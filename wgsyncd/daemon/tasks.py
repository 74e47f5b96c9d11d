"""Runs the daemon's tasks, counts and times them, and logs when errors start and end."""

from __future__ import annotations

import time
from collections.abc import Callable

from wgsyncd import log
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError, WireGuardError


class Tasks:
    """Runs tasks in the main thread."""

    def __init__(self, status: DaemonStatus) -> None:
        self._status = status
        self._log = log.get("daemon")
        self._edge = log.OnChange()
        self.last_error = ""  # of the last task that failed

    def do(self, task: str, piece: Callable[[], object]) -> bool:
        """Run a task. Whether it succeeded."""
        status, started = self._status, time.monotonic()
        status.runs.add(task)
        try:
            piece()
        except (StoreError, WireGuardError) as error:
            status.failures.add(task)
            database = isinstance(error, StoreError)
            if database:
                status.database_up, status.database_error = False, str(error)
                status.database_errors += 1
            status.last_error = self.last_error = str(error)
            if self._edge("trouble", "database" if database else type(error).__name__):
                what = "database does not serve us; peers stay as they are" if database else "work failed"
                self._log.error(f"{what}; tried again", task=task, error=str(error))
            return False
        else:
            # account and watch may write nothing, so their success does not clear the "database down" state. After a
            # failure, the next successful query of the digest leads to a reconcile.
            proves = task not in ("account", "watch", "verify")
            if proves:
                status.database_up = True
                if self._edge("trouble", None):
                    self._log.info("works again", task=task)
            status.succeeded_at = {**status.succeeded_at, task: time.time()}
            return True
        finally:
            status.record_duration(task, time.monotonic() - started)
