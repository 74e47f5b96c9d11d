"""Commits the transitions of devices, and then shows them in the status and in the log."""

from collections.abc import Iterable, Sequence

from wgsyncd import log
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import DeviceId, Transition
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import WriteBatch
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.engine.planner import Planner
from wgsyncd.engine.state_cache import StateCache
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.ports import Clock

_ACTIONS = {
    TransitionKind.ACTIVATE: AuditAction.DEVICE_ACTIVATED,
    TransitionKind.EXPIRE: AuditAction.DEVICE_EXPIRED,
}


def _event(step: Transition) -> AuditEvent | None:
    action = _ACTIONS.get(step.kind)
    return AuditEvent(action, step.row.device, AuditFacts(at=step.at)) if action is not None else None


def write_batch(steps: Iterable[Transition]) -> WriteBatch:
    """The writes that commit these transitions. An activation and an expiry also have an audit event."""
    return WriteBatch(transitions=tuple((step, _event(step)) for step in steps))


class Transitions:
    """Commits and shows the transitions of one node's devices."""

    def __init__(self, planner: Planner, cache: StateCache, status: DaemonStatus, clock: Clock) -> None:
        self._planner, self._cache, self._status, self._clock = planner, cache, status, clock
        self._log = log.get("agent")

    def commit(self, steps: Sequence[Transition], calendar: UsageCalendar) -> frozenset[DeviceId]:
        """Commit the transitions. Returns the ids of the rows whose transition was committed.

        A row that changed after it was read keeps its status: the store leaves such a transition out.
        """
        done = self._cache.commit(write_batch(steps), calendar) if steps else None
        return self.note(steps, done or frozenset())

    def note(self, steps: Iterable[Transition], applied: frozenset[DeviceId]) -> frozenset[DeviceId]:
        """Show the transitions of the rows in ``applied``, and return it. The planner no longer waits for them."""
        done = [step for step in steps if step.row.id in applied]
        for step in done:
            text = wording.TRANSITIONS[step.kind]
            self._status.transitions.add(step.kind)
            self._status.add_event(step.kind, device=step.row.device, text=text, at=self._clock.now())
            self._log.info("device changed", transition=step.kind, device=step.row.device, owner=step.row.owner)
        self._planner.transitions_applied(done)
        return applied
