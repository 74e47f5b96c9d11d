"""A plan held against the guard: what a cycle would do, what it withholds, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wgsyncd.core.model import ChangeKind, InterfaceState, Transition
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.plan import Plan


@dataclass(frozen=True, slots=True)
class RemovalLimits:
    """From how many removals on an admin is asked."""

    always_allowed: int
    max_share: float
    small_node: int = 3  # a node with at most so many live peers may lose all of them

    def max_removals(self, actual: int) -> float:
        """How many removals of so many live peers may go unasked."""
        return max(self.always_allowed, self.max_share * actual)

    def permits(self, removals: int, actual: int) -> bool:
        """Whether so many may."""
        return removals <= self.max_removals(actual)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cycle would do, and what it was decided from."""

    desired: Desired
    plan: Plan  # after the guard
    actual: Mapping[str, InterfaceState]
    plan_id: str  # of all removals that were wanted
    tripped: bool  # more removals were wanted than may go unasked
    approved: bool  # but an admin let exactly these through
    limit: float  # removals that may go unasked
    transitions: tuple[Transition, ...] = ()  # in devices' lives, that are due
    quarantined: int = 0  # deltas that wait for an admin
    interface_errors: Mapping[str, str] = field(default_factory=dict)  # interfaces that could not be compared, and why

    @property
    def is_withholding(self) -> bool:
        """Whether removals wait for an admin."""
        return self.tripped and not self.approved


def apply_guard(
    desired: Desired, plan: Plan, actual: Mapping[str, InterfaceState], limits: RemovalLimits, approved: str | None
) -> Decision:
    """Put a plan before the guard. ``approved``: the id of the set of removals that an admin let through."""
    plan_id = plan.removals_id
    removals = len(plan.of(ChangeKind.REMOVE))
    # However few they are: a table without a row of this node was emptied, or is not the one it was; and all peers at
    # once, none of them for another, are an UPDATE without its WHERE rather than an owner that was paused.
    no_rows_left = removals > 1 and desired.is_empty
    removes_all = removals > limits.small_node and removals == plan.live_count and not plan.of(ChangeKind.ADD)
    tripped = no_rows_left or removes_all or not limits.permits(removals, plan.live_count)
    let_through = tripped and approved == plan_id
    if tripped and not let_through:
        plan = plan.withhold(lambda change: change.kind is ChangeKind.REMOVE)
    return Decision(desired, plan, actual, plan_id, tripped, let_through, limits.max_removals(plan.live_count))
