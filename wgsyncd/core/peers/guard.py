"""The guard: it withholds the removals of a plan that would remove too many peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wgsyncd.core.model import ChangeKind, InterfaceState, Transition
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.plan import Plan


@dataclass(frozen=True, slots=True)
class RemovalLimits:
    """How many removals one plan may have without the approval of an admin."""

    always_allowed: int  # this many removals are within the limits of every node
    max_share: float  # of the actual peers, from 0 to 1
    small_node: int  # a node with at most this many actual peers may lose all of them at once

    def max_removals(self, actual: int) -> float:
        """The largest permitted number of removals on a node with ``actual`` peers."""
        return max(self.always_allowed, self.max_share * actual)

    def permits(self, removals: int, actual: int) -> bool:
        """Whether a plan may have so many removals on a node with ``actual`` peers."""
        return removals <= self.max_removals(actual)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cycle would do, and the values that the decision was made from."""

    desired: Desired
    plan: Plan  # after the guard
    actual: Mapping[str, InterfaceState]
    plan_id: str  # names all removals that the plan had before the guard
    tripped: bool  # the guard does not permit these removals without approval
    approved: bool  # the guard tripped, but an admin approved exactly these removals
    limit: float  # the largest number of removals without approval
    transitions: tuple[Transition, ...] = ()  # the transitions that are due
    quarantined: int = 0  # how many deltas wait for an admin
    interface_errors: Mapping[str, str] = field(default_factory=dict)  # by interface: why it could not be compared

    @property
    def is_withholding(self) -> bool:
        """Whether removals wait for the approval of an admin."""
        return self.tripped and not self.approved


def apply_guard(
    desired: Desired, plan: Plan, actual: Mapping[str, InterfaceState], limits: RemovalLimits, approved: str | None
) -> Decision:
    """The decision about ``plan``: if the guard trips, its removals are withheld unless they are approved.

    ``approved``: the plan id that an admin approved, or None.
    """
    plan_id = plan.removals_id
    removals = len(plan.of(ChangeKind.REMOVE))
    # Two cases trip the guard even if the number of removals is within the limits. First, peers go and no row of this
    # node has a readable key: somebody emptied the table, or it is another table. Second, all peers go and no peer is
    # added: this looks like an UPDATE without its WHERE, and not like an owner that was paused.
    no_rows_left = removals > 1 and desired.is_empty
    removes_all = removals > limits.small_node and removals == plan.live_count and not plan.of(ChangeKind.ADD)
    tripped = no_rows_left or removes_all or not limits.permits(removals, plan.live_count)
    let_through = tripped and approved == plan_id
    if tripped and not let_through:
        plan = plan.withhold(lambda change: change.kind is ChangeKind.REMOVE)
    return Decision(desired, plan, actual, plan_id, tripped, let_through, limits.max_removals(plan.live_count))
