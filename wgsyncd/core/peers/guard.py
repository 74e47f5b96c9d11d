"""A plan held against the guard: what a cycle would do, what it withholds, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wgsyncd.core.model import InterfaceState, Kind, Transition
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.plan import Plan

ONE_CONTRACT = 3  # peers: the devices that a contract has at most unless it says otherwise (max_devices' default)


@dataclass(frozen=True, slots=True)
class Limits:
    """From how many removals on an admin is asked."""

    min_removals: int
    share: float

    def most(self, live: int) -> float:
        """How many removals of so many live peers may go unasked."""
        return max(self.min_removals, self.share * live)

    def allow(self, removals: int, live: int) -> bool:
        """Whether so many may."""
        return removals <= self.most(live)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a cycle would do, and what it was decided from."""

    desired: Desired
    plan: Plan  # after the guard
    live: Mapping[str, InterfaceState]
    plan_id: str  # of all removals that were wanted
    tripped: bool  # more removals were wanted than may go unasked
    approved: bool  # but an admin let exactly these through
    limit: float  # removals that may go unasked
    steps: tuple[Transition, ...] = ()  # in devices' lives, that are due
    quarantined: int = 0  # deltas that wait for an admin
    troubles: Mapping[str, str] = field(default_factory=dict)  # interfaces that could not be compared, and why

    @property
    def withholds(self) -> bool:
        """Whether removals wait for an admin."""
        return self.tripped and not self.approved


def look_ahead(
    desired: Desired, plan: Plan, live: Mapping[str, InterfaceState], limits: Limits, approved: str | None
) -> Outlook:
    """Put a plan before the guard. ``approved``: the id of the set of removals that an admin let through."""
    plan_id = plan.removals_id
    removals = len(plan.of(Kind.REMOVE))
    # However few they are: a table without a row of this node was emptied, or is not the one it was; and all peers at
    # once, none of them for another, are an UPDATE without its WHERE rather than a contract that was paused.
    bare = removals > 1 and desired.names_nobody
    everybody = removals > ONE_CONTRACT and removals == plan.live and not plan.of(Kind.ADD)
    tripped = bare or everybody or not limits.allow(removals, plan.live)
    let_through = tripped and approved == plan_id
    if tripped and not let_through:
        plan = plan.withhold(lambda change: change.kind is Kind.REMOVE)
    return Outlook(desired, plan, live, plan_id, tripped, let_through, limits.most(plan.live))
