"""The guard: it withholds the removals of a plan that would remove too many peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wgsyncd.core.model import Change, ChangeKind, InterfaceState, Transition
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.plan import Plan, removals_id
from wgsyncd.core.reasons import ChangeCause


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
    plan_id: str  # names the removals that the guard counted
    tripped: bool  # the guard does not permit these removals without approval
    approved: bool  # the guard tripped, but an admin approved exactly these removals
    limit: float  # the largest number of removals without approval
    counted: int  # how many removals the guard counted
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
    """The decision about ``plan``: if the guard trips, the removals that it counts are withheld unless approved.

    ``approved``: the plan id that an admin approved, or None.

    The guard does not count the end of a device that was never used. It does not count a peer either whose row asks
    for it on another interface, of this node or of another one. But if all peers go and no peer is added, the guard
    counts such moves, too: this looks like an UPDATE without its WHERE.
    """
    removals = [change for change in plan.of(ChangeKind.REMOVE) if not _is_unused(change, desired)]
    empties = len(plan.of(ChangeKind.REMOVE)) == plan.live_count and not plan.of(ChangeKind.ADD)
    removes_all = empties and len(removals) > limits.small_node
    counted = removals if removes_all else [one for one in removals if one.reason.cause is not ChangeCause.MOVED_TO]
    plan_id = removals_id(counted)
    # Peers go and no row of this node has a readable key: somebody emptied the table, or it is another table.
    no_rows_left = len(counted) > 1 and desired.is_empty
    tripped = no_rows_left or removes_all or not limits.permits(len(counted), plan.live_count)
    let_through = tripped and approved == plan_id
    if tripped and not let_through:
        held = {(change.interface, change.public_key) for change in counted}
        plan = plan.withhold(lambda one: one.kind is ChangeKind.REMOVE and (one.interface, one.public_key) in held)
    limit = limits.max_removals(plan.live_count)
    return Decision(desired, plan, actual, plan_id, tripped, let_through, limit, len(counted))


def _is_unused(change: Change, desired: Desired) -> bool:
    """Whether a removal is the end of a device that was never used."""
    row, _ = desired.revoked.get(change.public_key, (None, None))
    return row is not None and row.is_unused
