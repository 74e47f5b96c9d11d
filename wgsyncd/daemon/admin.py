"""What admins ask of the daemon over the control socket, done in the main thread, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon.control import Control, Request
from wgsyncd.daemon.notify_socket import parse
from wgsyncd.daemon.rate_limit import TokenBucket
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.plan_report import plan_as_data
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import ConfigIssue, StoreError, UserError, WireGuardError

COMMANDS = frozenset({"plan", "approve", "sync", "reload"})
SHARE, SAVED = 0.2, 1.0  # of the time, and seconds


class DaemonApi(Protocol):
    """The daemon's side."""

    status: DaemonStatus

    @property
    def agent(self) -> Agent:
        """The one of now: a reload makes another."""

    def reconcile_now(self, devices: frozenset[str]) -> bool:
        """These; whether that went well."""

    def carry_out(self) -> Decision | None:
        """Reconcile now; what was done, None where that failed."""

    def reload(self, who: str) -> Sequence[ConfigIssue]:
        """Take the configuration in, or say what is wrong with it."""


class AdminRequests:
    """Takes them from the socket. ``zone``: in which the daemon tells times now; ``file``: its configuration's."""

    def __init__(self, control: Control, work: DaemonApi, file: Path, zone: Callable[[], ZoneInfo]) -> None:
        self._control, self._work, self._file, self._zone = control, work, file, zone
        self._budget = TokenBucket(SHARE, SAVED)
        self._waiting = False
        self._log = log.get("control")

    def wait(self) -> None:
        """Something was asked."""
        self._waiting = True

    def delay(self) -> float | None:
        """Seconds until :meth:`obey` has something to do; None: it has not."""
        return self._budget.delay(time.monotonic()) if self._waiting else None

    def handle_next(self) -> bool:
        """Do the next one, if there is time for it; whether there was one."""
        if not self._waiting or self._budget.delay(time.monotonic()) > 0:
            return False
        request = self._control.take()
        if request is None:
            self._waiting = False
            return False
        began = time.monotonic()
        try:
            self._do(request)
        except (UserError, StoreError, WireGuardError) as error:
            request.fail(str(error))
        except BaseException:
            request.fail("the daemon met a bug, or stops: see its log")
            raise
        self._budget.spend(began, time.monotonic())
        return True

    def _do(self, request: Request) -> None:
        if request.command == "plan":
            request.answer(plan_as_data(self._work.agent.inspector.preview(), self._zone(), time.time()))
        elif request.command == "approve":
            self._approve(request)
        elif request.command == "sync":
            self._sync(request)
        else:
            self._log.info("reload", who=request.who)
            faults = self._work.reload(request.who)
            request.answer({
                "taken": not faults, "config": str(self._file), "faults": [one.as_data() for one in faults]
            })  # fmt: skip

    def _approve(self, request: Request) -> None:
        plan_id = request.text("plan")
        self._log.info("approve", plan=plan_id, who=request.who)
        self._work.agent.approve(plan_id, request.who)
        decision = self._work.carry_out()
        if decision is None:
            raise UserError(f"plan {plan_id} is approved, but not carried out yet: {self._work.status.last_error}")
        if decision.is_withholding:
            raise UserError("the rows changed in that moment; nothing was let through: look at `wgsyncd plan` again")
        request.answer(plan_as_data(decision, self._zone(), time.time()))

    def _sync(self, request: Request) -> None:
        devices = request.devices()
        try:
            named = parse(" ".join(devices).encode())
        except ValueError as error:
            raise UserError(f"one of the devices {error}") from None
        self._log.debug("sync", who=request.who, devices=len(named))
        good = (
            self._work.reconcile_now(named) if named else self._work.carry_out() is not None
        )  # all: with the counters
        if not good:
            raise UserError(f"failed: {self._work.status.last_error}")
        request.answer({"compared": list(devices) or "everything"})
