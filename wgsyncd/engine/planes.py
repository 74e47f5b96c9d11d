"""Planes that stand beside the peers: all plan from one snapshot, and apply in phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from wgsyncd import log
from wgsyncd.core.peers.guard import Decision
from wgsyncd.engine.interfaces import Actual
from wgsyncd.errors import WireGuardError
from wgsyncd.ports import Phase, Plane, Snapshot


class Planes:
    """The planes of one node, in a fixed order. One that fails is said once and does not stop the others; what it has
    left to do, the next cycle plans again."""

    def __init__(self, planes: Sequence[Plane[Any, Any]]) -> None:
        self._planes = tuple(planes)
        self._log = log.get("planes")
        self._edge = log.OnChange()

    def __bool__(self) -> bool:
        return bool(self._planes)

    def cycle(self, snapshot: Snapshot, decision: Decision) -> Cycle:
        """Let every plane plan."""
        return Cycle(self._planes, snapshot, decision, self._attempt)

    def _attempt(self, plane: Plane[Any, Any], what: str, piece: Callable[[], object]) -> bool:
        try:
            piece()
        except WireGuardError as error:
            if self._edge((plane.name, what), str(error)):
                self._log.error("plane failed; tried again next cycle", plane=plane.name, step=what, error=str(error))
            return False
        self._edge((plane.name, what), "")
        return True


class Cycle:
    """What the planes do in one cycle."""

    def __init__(
        self, planes: Sequence[Plane[Any, Any]], snapshot: Snapshot, decision: Decision,
        attempt: Callable[[Plane[Any, Any], str, Callable[[], object]], bool],
    ) -> None:  # fmt: skip
        self._attempt = attempt
        self._plans: dict[Plane[Any, Any], Any] = {}
        self.is_ready = True  # every plane has done what must stand before a peer comes in
        for plane in planes:
            self.is_ready &= attempt(plane, "plan", partial(self._plan, plane, snapshot, decision))

    def _plan(self, plane: Plane[Any, Any], snapshot: Snapshot, decision: Decision) -> None:
        self._plans[plane] = plane.plan(snapshot, decision, plane.read())

    def apply(self, phase: Phase, actual: Actual) -> None:
        """One phase of all planes. ``actual``: the peers as they were read last."""
        for plane, plan in list(self._plans.items()):
            if not self._attempt(plane, phase.value, partial(plane.apply, phase, plan, actual)):
                del self._plans[plane]  # a later phase relies on the earlier ones
                self.is_ready = False
