"""What admins ask of the daemon over the control socket, done in the main thread, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.control import Control, Request
from wgsyncd.core.outlook import Outlook
from wgsyncd.errors import Fault, Refused, StoreError, WireGuardError
from wgsyncd.planned import plan_as_data

COMMANDS = frozenset({"plan", "approve", "sync", "reload"})
REST = 4.0  # times as long as an order took, before the next one: a flood gets a fifth of our time …
LONGEST_REST = 2.0  # … but an admin need not wait longer, in seconds


class Work(Protocol):
    """The daemon's side."""

    def preview(self) -> Outlook:
        """What a cycle would do."""

    def approve(self, plan_id: str, who: str) -> Outlook:
        """Let a plan's removals through; what that cycle did. Refused, StoreError."""

    def sync(self, devices: Sequence[str]) -> str:
        """Compare all, or these; why that failed, or nothing."""

    def reload(self, who: str) -> Sequence[Fault]:
        """Take the configuration in, or say what is wrong with it."""


class Orders:
    """Takes them from the socket. ``zone``: in which the daemon tells times now; ``file``: its configuration's."""

    def __init__(self, control: Control, work: Work, file: Path, zone: Callable[[], ZoneInfo]) -> None:
        self._control, self._work, self._file, self._zone = control, work, file, zone
        self._rest_until = 0.0  # monotonic
        self._waiting = False
        self._log = log.get("control")

    def wait(self) -> None:
        """Something was asked."""
        self._waiting = True

    def patience(self) -> float | None:
        """Seconds until :meth:`obey` has something to do; None: it has not."""
        return self._rest_until - time.monotonic() if self._waiting else None

    def obey(self) -> None:
        """Do the next one, if the last one's rest is over."""
        if not self._waiting or time.monotonic() < self._rest_until:
            return
        request = self._control.take()
        if request is None:
            self._waiting = False
            return
        began = time.monotonic()
        try:
            self._do(request)
        except (Refused, StoreError, WireGuardError) as error:
            request.fail(str(error))
        except BaseException:
            request.fail("the daemon met a bug, or stops: see its log")
            raise
        now = time.monotonic()
        self._rest_until = now + min(LONGEST_REST, REST * (now - began))

    def _do(self, request: Request) -> None:
        if request.command == "plan":
            request.answer(plan_as_data(self._work.preview(), self._zone(), time.time()))
        elif request.command == "approve":
            plan_id = request.text("plan")
            self._log.info("approve", plan=plan_id, who=request.who)
            outlook = self._work.approve(plan_id, request.who)
            request.answer(plan_as_data(outlook, self._zone(), time.time()))
        elif request.command == "sync":
            devices = request.devices()
            self._log.debug("sync", who=request.who, devices=len(devices))
            trouble = self._work.sync(devices)
            if trouble:
                raise Refused(f"failed: {trouble}")
            request.answer({"compared": list(devices) or "everything"})
        else:
            self._log.info("reload", who=request.who)
            faults = self._work.reload(request.who)
            request.answer({
                "taken": not faults,
                "config": str(self._file),
                "faults": [one.as_data() for one in faults],
            })  # fmt: skip
