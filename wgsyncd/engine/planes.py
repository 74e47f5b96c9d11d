"""Runs the planes beside the WireGuard peers: all plan from one snapshot and apply in phases."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

from wgsyncd import log
from wgsyncd.core.audit import AuditAction, AuditFacts
from wgsyncd.core.inspect.verify import Discrepancy
from wgsyncd.core.network import Network
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.shaping.preview import ShapingPreview
from wgsyncd.engine.interfaces import Actual
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import WireGuardError
from wgsyncd.ports import Phase, Plane, Snapshot


@runtime_checkable
class Previewing(Protocol):
    """A plane that says what a cycle would do to bandwidth, and where the kernel differs from the rows."""

    waiting: frozenset[Network]  # addresses that no peer gets in this cycle, because a next one makes what it needs

    def preview(self, snapshot: Snapshot, decision: Decision) -> ShapingPreview | None:
        """The changes of a cycle. None: they are not known."""

    def verify(self, snapshot: Snapshot, decision: Decision) -> Iterable[Discrepancy]:
        """What the kernel has otherwise than the rows ask for."""


class Planes:
    """Runs the planes of one node in a fixed order.

    A plane that fails does not stop the others. The log names its error once, and the next cycle plans it again.
    """

    def __init__(
        self, planes: Sequence[Plane], status: DaemonStatus, queue_audit: Callable[[AuditAction, AuditFacts], None]
    ) -> None:
        self._planes, self._status, self._queue_audit = tuple(planes), status, queue_audit
        self._errors: dict[tuple[str, str], str] = {}  # by plane and step
        status.plane_errors = {}
        self._log = log.get("planes")
        self._changed = log.OnChange()

    def __bool__(self) -> bool:
        return bool(self._planes)

    @property
    def rest(self) -> bool:
        """Whether a cycle with the same rows and peers as the last one would change nothing."""
        return all(plane.rests for plane in self._planes) and not self._errors

    def poll(self) -> bool:
        """Let every plane take away what cuts devices off. Returns whether a cycle must mend something."""
        found = [False]
        for plane in self._planes:
            self._attempt(plane, "poll", lambda plane=plane: found.append(plane.poll()))  # type: ignore[misc]
        return any(found)

    def descriptors(self) -> list[int]:
        """The descriptors at which news of the planes come in."""
        return [one for plane in self._planes if (one := plane.descriptor) is not None]

    def mend(self) -> bool:
        """Let every plane put right what another program changed. Returns whether something was wrong."""
        found = [False]
        for plane in self._planes:
            self._attempt(plane, "mend", lambda plane=plane: found.append(plane.mend()))  # type: ignore[misc]
        return any(found)

    def access(self, snapshot: Snapshot, decision: Decision) -> AccessPlan | None:
        """What a cycle would do to the access of devices. None: nobody judges it. WireGuardError if it is unknown."""
        for plane in self._planes:
            if plane.judges:
                plan: AccessPlan | None = plane.plan(snapshot, decision, plane.read())
                return plan
        return None

    def bandwidth(self, snapshot: Snapshot, decision: Decision) -> ShapingPreview | None:
        """What a cycle would do to the bandwidth of devices. None: nobody limits it, or tc cannot be read."""
        for plane in self._planes:
            if isinstance(plane, Previewing):
                return plane.preview(snapshot, decision)
        return None

    def verify(self, snapshot: Snapshot, decision: Decision) -> Iterator[Discrepancy]:
        """Where the planes differ from what the rows ask for."""
        for plane in self._planes:
            if isinstance(plane, Previewing):
                yield from plane.verify(snapshot, decision)

    def cycle(self, snapshot: Snapshot, decision: Decision) -> "Cycle":
        """Let every plane read its data plane and plan. No plane changes anything yet."""
        return Cycle(self._planes, snapshot, decision, self._attempt)

    def judge(self, snapshot: Snapshot, decision: Decision) -> "Cycle":
        """The same for the planes that judge access, and no others."""
        return Cycle([plane for plane in self._planes if plane.judges], snapshot, decision, self._attempt)

    def _attempt(self, plane: Plane, what: str, piece: Callable[[], object]) -> bool:
        try:
            piece()
        except WireGuardError as error:
            if self._changed((plane.name, what), error.name):
                self._log.error("plane failed, tried again next cycle", plane=plane.name, step=what, error=str(error))
            self._errors[plane.name, what] = str(error)
            self._status.plane_errors = {name: why for (name, _), why in self._errors.items()}
            return False
        finally:
            while plane.happenings:
                self._queue_audit(*plane.happenings.pop(0))
        self._changed((plane.name, what), "")
        if self._errors.pop((plane.name, what), None) is not None:
            self._status.plane_errors = {name: why for (name, _), why in self._errors.items()}
        return True


class Cycle:
    """Holds the plans of all planes for one cycle and applies them."""

    def __init__(
        self, planes: Sequence[Plane], snapshot: Snapshot, decision: Decision,
        attempt: Callable[[Plane, str, Callable[[], object]], bool],
    ) -> None:  # fmt: skip
        self._attempt = attempt
        self._plans: dict[Plane, Any] = {}
        self.access: AccessPlan | None = None  # of the plane that judges
        self.judge_failed = False  # so what was approved about access may not be done yet
        self.is_ready = True  # no plane has failed so far, so peers may be added
        for plane in planes:
            if not attempt(plane, "plan", partial(self._plan, plane, snapshot, decision)):
                self._note_failure(plane)

    def _plan(self, plane: Plane, snapshot: Snapshot, decision: Decision) -> None:
        self._plans[plane] = plane.plan(snapshot, decision, plane.read())
        if plane.judges:
            self.access = self._plans[plane]

    def _note_failure(self, plane: Plane) -> None:
        self.is_ready = False
        self.judge_failed |= plane.judges

    @property
    def waiting(self) -> frozenset[Network]:
        """The addresses that no peer gets in this cycle, because what it needs is made in a next one."""
        return frozenset().union(*(plane.waiting for plane in self._plans if isinstance(plane, Previewing)))

    def apply(self, phase: Phase, actual: Actual) -> None:
        """Apply one phase of every plane. ``actual``: the peers as they were last read, by interface."""
        for plane, plan in list(self._plans.items()):
            if not self._attempt(plane, phase.value, partial(plane.apply, phase, plan, actual)):
                del self._plans[plane]  # A later phase relies on the earlier ones.
                self._note_failure(plane)
