"""Runs the daemon's tasks, counts and times them, and logs when errors start and end."""

import time
from collections.abc import Callable

from wgsyncd import log
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError, WgsyncdError, WireGuardError

# These tasks may write nothing, so their success does not prove that the database takes writes again. After a failure,
# the next successful query of the digest leads to a reconcile.
_READERS = ("account", "watch", "verify")
_COMPARING = ("account", "reconcile")  # these tasks are good only if they could read an interface

_NO_DATABASE = "the database failed. Devices stay connected, traffic is kept, the work is tried again"
_NO_ROWS = "the database failed before any row was read. The node may lack peers, and it removes none"
_OVER = {"database": "the database works again. wgsyncd goes on, and posts the traffic that it kept"}


class Tasks:
    """Runs tasks in the main thread."""

    def __init__(self, status: DaemonStatus) -> None:
        self._status, self._log = status, log.get("daemon")
        self._on_change = log.OnChange()
        self._trouble = ""  # the kind of the last error, until a task succeeds
        self.last_error: WgsyncdError | None = None  # of the last task that failed

    def do(self, task: str, piece: Callable[[], object]) -> bool:
        """Run a task. Whether it succeeded."""
        status, started = self._status, time.monotonic()
        status.runs.add(task)
        try:
            piece()
        except (StoreError, WireGuardError) as error:
            status.failures.add(task)
            status.last_error = error.text if isinstance(error, StoreError) else str(error)
            self.last_error = error
            kind, what = type(error).__name__, "the work failed and is tried again"
            if isinstance(error, StoreError):
                status.database_up, status.database_error, status.database_todo = False, error.text, error.todo
                status.database_errors += 1
                kind, what = "database", _NO_ROWS if status.rows is None else _NO_DATABASE
            self._trouble = kind
            if self._on_change("error", kind):
                self._log.error(what, task=task, error=str(error), lasting=self._on_change.lasting("error"))
            return False
        else:
            if task not in _READERS:
                status.database_up = True
                if self._on_change("error", None):
                    what, self._trouble = _OVER.get(self._trouble, "works again"), ""
                    self._log.info(what, task=task, after=self._on_change.lasting("error"))
            if task not in _COMPARING or status.compares:
                status.succeeded_at = {**status.succeeded_at, task: time.time()}
            return True
        finally:
            status.record_duration(task, time.monotonic() - started)
