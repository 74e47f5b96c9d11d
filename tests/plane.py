"""A second data plane with a planner of its own, for tests alone: one shaping class for each peer.

A class must stand before its peer comes in, and it is dropped after its peer has left. The kernel in memory keeps the
classes, so a class outlives the process and goes with its interface. That kernel refuses no peer without a class: it
ends the test, whatever interrupted the cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.fakes import FakeWireGuard
from wgsyncd.core.audit import Happening
from wgsyncd.core.model import InterfaceState
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.records import PeerId
from wgsyncd.errors import WireGuardError
from wgsyncd.ports import Phase, Snapshot

Classes = frozenset[PeerId]


class ShapingPlan(NamedTuple):
    """Holds the classes to make, and the classes to drop once their peer has left."""

    make: Classes
    drop: Classes


def plan_shaping(snapshot: Snapshot, decision: Decision, found: Classes) -> ShapingPlan:
    """Plans one class for each peer that stays or comes."""
    going = {(c.interface, c.public_key) for c in decision.plan.changes if c.desired is None}
    there = {(name, one) for name, state in decision.actual.items() for one in state.peers}
    coming = {(c.interface, c.public_key) for c in decision.plan.changes if c.desired is not None}
    wanted = frozenset((there - going) | coming)
    return ShapingPlan(wanted - found, found - wanted)


class Shaping:
    """Implements the port Plane. ``broken``: the calls that fail, "read" or the name of a phase.

    ``hook`` is called before and after every call that reads or applies.
    """

    name = "shaping"
    judges = rests = False
    descriptor: int | None = None
    hook: Callable[[str, str], None] = staticmethod(lambda port, where: None)

    def __init__(self, wg: FakeWireGuard) -> None:
        self.wg = wg
        wg.needs_classes = True
        self.broken: set[str] = set()
        self.happenings: list[Happening] = []
        self.phases: list[Phase] = []
        self.plans: list[ShapingPlan] = []
        self.writes = 0  # classes that were made or dropped

    def read(self) -> Classes:
        self._meet("read")
        found = self.classes()
        self.hook("plane", "after read")
        return found

    def plan(self, snapshot: Snapshot, decision: Decision, found: Classes) -> ShapingPlan:
        self.plans.append(plan_shaping(snapshot, decision, found))
        return self.plans[-1]

    def apply(self, phase: Phase, plan: ShapingPlan, actual: Mapping[str, InterfaceState]) -> None:
        self._meet(phase.value)
        self.phases.append(phase)
        there = self.wg.classes()
        if phase is Phase.PREPARE:
            for name, key in plan.make:
                if name in there:
                    there[name].add(key)
                    self.writes += 1
        elif phase is Phase.CLEAN_UP:
            for name, key in plan.drop:
                if name in actual and name in there and key not in actual[name].peers:
                    assert key not in self.wg.peers(name), "a class stays as long as its peer"
                    there[name].discard(key)
                    self.writes += 1
        self.hook("plane", f"after {phase.value}")

    def poll(self) -> bool:
        return False

    def mend(self) -> bool:
        return False

    def classes(self) -> Classes:
        return frozenset((name, key) for name, keys in self.wg.classes().items() for key in keys)

    def live(self) -> Classes:
        """The peers that must have a class: all of them."""
        return frozenset((name, key) for name in self.wg.classes() for key in self.wg.peers(name))

    def _meet(self, where: str) -> None:
        self.hook("plane", f"before {where}")
        if where in self.broken:
            raise WireGuardError("wg0", "EBUSY", "no shaping now")
