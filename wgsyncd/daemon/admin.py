"""What admins ask over the control socket: the main thread does it, one request after the other.

A client's thread checks a request, queues it and waits for the answer. Only the main thread touches kernel and
database. GET /status alone is answered in the client's thread, because it only reads the daemon's status.
"""

import contextlib
import queue
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd import log
from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.core.model import ChangeKind
from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon.admin_report import ApproveReport, ReloadReport, SyncReport, as_json
from wgsyncd.daemon.device_list import UsageCache
from wgsyncd.daemon.http import Answer, Refusal, Request, Response, Routes
from wgsyncd.daemon.notify_socket import parse
from wgsyncd.daemon.pacing import TokenBucket
from wgsyncd.engine import wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.reports import plan as plan_report
from wgsyncd.errors import NO_ANSWER, ConfigIssue, StoreError, UserError, WgsyncdError, WireGuardError

MAX_WAITING = 8  # requests that may wait for the main thread
ANSWER_WITHIN = 120.0  # seconds, for the main thread
USAGE = "usage"  # the command of a request that no client makes: the list of devices asks for bytes
REQUESTS_SHARE = 0.2  # of the main thread's time


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /plan and POST /reload: an empty object."""


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /approve."""

    plan: str


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /sync. No devices are all devices."""

    devices: tuple[str, ...] = ()


BODIES: dict[str, type[Any]] = {"plan": Nothing, "approve": Approval, "sync": Selection, "reload": Nothing}
_KEY = re.compile(r"field `([^`]+)`|at `\$\.(\w+)")  # as msgspec's errors name it


def read_body(body: bytes, kind: type[Any]) -> Any:
    """A request's body. Refusal with the key that is wrong."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        key = _KEY.search(str(error))
        raise Refusal(400, f"the body is wrong: {error}", key and (key[1] or key[2])) from None


def _failed(error: WgsyncdError | None, what: str = "") -> Refusal:
    """The refusal of what failed. Its key tells the command that the database is away."""
    is_away = isinstance(error, StoreError) and error.code in NO_ANSWER
    return Refusal(503, f"{what}{error}", "database" if is_away else None)


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """One request that waits for the main thread."""

    command: str
    body: Any
    who: str
    answer: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue, repr=False)


class DaemonApi(Protocol):
    """What a request needs of the daemon."""

    @property
    def agent(self) -> Agent:
        """The present agent. A reload makes another one."""

    @property
    def last_error(self) -> WgsyncdError | None:
        """Why the last failed task failed."""

    def reconcile_now(self, devices: frozenset[str]) -> bool:
        """Reconcile these devices, and say whether that succeeded."""

    def reconcile_all(self) -> Decision | None:
        """Reconcile everything, and return what was done. None if that failed."""

    def reload(self, who: str) -> Sequence[ConfigIssue]:
        """Take over the configuration, or say what is wrong with it."""


class AdminRequests:
    """The queue between the clients' threads and the main thread, which ``wake`` wakes.

    ``file`` is the configuration file, and ``zone`` is the daemon's current time zone.
    """

    def __init__(self, daemon: DaemonApi, file: Path, zone: Callable[[], ZoneInfo], wake: Callable[[], None]) -> None:
        self._daemon, self._file, self._zone, self._wake = daemon, file, zone, wake
        self._config = str(file.resolve())
        self._queue: queue.SimpleQueue[AdminRequest] = queue.SimpleQueue()
        self._bucket = TokenBucket(REQUESTS_SHARE)
        self._waiting = self._closed = False
        self._usage = UsageCache()
        self._log = log.get("control")

    # -- in the clients' threads

    def routes(self, status: Callable[[], Any], devices: Callable[[Mapping[str, str]], Any]) -> Routes:
        """The paths of the control socket. ``status`` and ``devices`` make the reports of GET, and only read."""
        posts = {
            f"/{name}": {"POST": self._checked(partial(self._queued, name, kind))} for name, kind in BODIES.items()
        }
        reads = {
            "/status": {"GET": self._checked(lambda _: Response(200, as_json(status())))},
            "/devices": {"GET": self._checked(lambda request: Response(200, as_json(devices(request.query))))},
        }
        return {**reads, **posts}

    def ask_usage(self, devices: Sequence[str], patience: float) -> DeviceUsage | str:
        """What the store has of the bytes of devices, or why there is no answer. ``patience``: seconds."""
        request = AdminRequest(USAGE, devices, "")
        if self._queue.qsize() < MAX_WAITING // 2:  # Requests of admins always find room.
            self._queue.put(request)
            self._wake()
            with contextlib.suppress(queue.Empty):
                found: DeviceUsage | str = request.answer.get(timeout=patience)
                return found
        return "the daemon has no time for it: see `wgsyncd status`"

    def _checked(self, answer: Answer) -> Answer:
        def checked(request: Request) -> Response:
            if request.query.get("config", self._config) != self._config:
                raise Refusal(409, f"the daemon runs with {self._config}", "config")
            return answer(request)

        return checked

    def _queued(self, command: str, kind: type[Any], asked: Request) -> Response:
        request = AdminRequest(command, read_body(asked.body, kind), asked.who)
        if self._queue.qsize() >= MAX_WAITING:
            raise Refusal(503, f"{MAX_WAITING} others wait for the daemon already: try again")
        self._queue.put(request)
        if self._closed:
            self._refuse_all()
        self._wake()
        try:
            found: Response = request.answer.get(timeout=ANSWER_WITHIN)
            return found
        except queue.Empty:
            why = f"the daemon has not come to it within {ANSWER_WITHIN:.0f} s: see `wgsyncd status`"
            raise Refusal(503, why) from None

    # -- in the main thread

    def close(self) -> None:
        """Refuse the requests that wait, and all later ones."""
        self._closed = True
        self._refuse_all()

    def _refuse_all(self) -> None:
        while (request := self._next()) is not None:
            said = Refusal(503, "the daemon stops")
            request.answer.put(str(said) if request.command == USAGE else said.response())

    def _next(self) -> AdminRequest | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def wait(self) -> None:
        """Note that somebody asked something."""
        self._waiting = True

    def delay(self) -> float | None:
        """Seconds until :meth:`handle_next` has something to do. None if nothing waits."""
        return self._bucket.delay(time.monotonic()) if self._waiting else None

    def handle_next(self) -> bool:
        """Handle the next request if there is time for it. Say whether there was one."""
        began = time.monotonic()
        if not self._waiting or self._bucket.delay(began) > 0:
            return False
        request = self._next()
        if request is None:
            self._waiting = False
            return False
        request.answer.put(
            self._usage.get(self._daemon.agent, request.body) if request.command == USAGE else self._respond(request)
        )
        self._bucket.spend(began, time.monotonic())
        return True

    def _respond(self, request: AdminRequest) -> Response:
        try:
            return Response(200, as_json(self._do(request)))
        except Refusal as refusal:
            return refusal.response()
        except UserError as error:
            return Refusal(409, str(error)).response()
        except (StoreError, WireGuardError) as error:
            return _failed(error).response()
        except BaseException:
            request.answer.put(Refusal(500, "the daemon met a bug, or stops: see its log").response())
            raise

    def _do(self, request: AdminRequest) -> msgspec.Struct:
        if request.command == "plan":
            found = self._daemon.agent.inspector.preview_all()
            return plan_report.build(**found._asdict(), zone=self._zone(), now=time.time())
        if request.command == "approve":
            return self._approve(request.body.plan, request.who)
        if request.command == "sync":
            return self._sync(request.body.devices, request.who)
        self._log.info("reload", who=request.who)
        before = self._zone()
        faults = self._daemon.reload(request.who)
        now, effect = self._zone(), self._daemon.agent.settings.store.zone_effect
        changed = [wording.zone_changed(before, now, effect)] if now != before else []
        return ReloadReport(taken=not faults, config=str(self._file), faults=list(faults), warnings=changed)

    def _approve(self, plan: str, who: str) -> ApproveReport:
        self._log.info("approve", plan=plan, who=who)
        changes = [one.change.approval for one in self._daemon.agent.status.interfaces.values() if one.change]
        try:
            is_access = self._daemon.agent.approve(plan, who)
        except UserError as error:
            raise Refusal(409, str(error), "plan") from None
        decision = self._daemon.reconcile_all()
        if decision is None:
            raise _failed(self._daemon.last_error, f"plan {plan} is approved, but not carried out yet: ")
        access = self._daemon.agent.inspector.preview_all().access if is_access else None
        if plan not in changes and (decision.is_withholding if access is None else access.withheld):
            why = "the rows changed in that moment, so nothing was approved: look at `wgsyncd plan` again"
            raise Refusal(409, why, "plan")
        removed = len(decision.plan.of(ChangeKind.REMOVE))
        return ApproveReport(plan=plan, approved=True, carried_out=True, removed=removed)

    def _sync(self, devices: tuple[str, ...], who: str) -> SyncReport:
        try:
            named = parse(" ".join(devices).encode())
        except ValueError as error:
            raise Refusal(400, f"one of the devices {error}", "devices") from None
        self._log.debug("sync", who=who, devices=len(named))
        # Everything is reconciled with its counters.
        good = self._daemon.reconcile_now(named) if named else self._daemon.reconcile_all() is not None
        if not good:
            raise _failed(self._daemon.last_error, "failed: ")
        rows, store = {row.device for row in self._daemon.agent.status.rows or ()}, self._daemon.agent.store
        # A new row may be missing in the rows of the last complete reconcile.
        lost = [one for one in sorted(named - rows) if store.load_devices(frozenset({one})) is None]
        return SyncReport(compared=list(devices) or "everything", without_row=lost)
