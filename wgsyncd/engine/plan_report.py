"""The document of `wgsyncd plan --json`: a plan and the guard's verdict on it.

The daemon answers with this document, and the command's lines are made of nothing else. It holds no key in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.core.model import Change, DeviceRow, Rejection, fingerprint
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.reasons import Inactive, InactiveReason, TransitionKind
from wgsyncd.engine import wording
from wgsyncd.redact import redact

_STEPS = {
    TransitionKind.ACTIVATE: "issued -> active (first handshake {at})",
    TransitionKind.EXPIRE: "issued -> expired (activation deadline {at} passed)",
    TransitionKind.FIRST_HANDSHAKE: "first handshake {at} is noted",
}


class InterfacePeers(Struct, frozen=True, kw_only=True):
    """How many peers an interface has, and how many it should have."""

    interface: str
    live: int
    desired: int


class PlannedChange(Struct, frozen=True, kw_only=True):
    """One change of a peer."""

    action: str  # add, update or remove
    interface: str
    row: int | None
    device: str  # "" for a foreign peer
    owner: str
    address: str
    peer: str  # the key's fingerprint
    reason: str


class PlannedStep(Struct, frozen=True, kw_only=True):
    """One step in a device's life that is due."""

    row: int
    device: str
    step: str
    at: str | None
    text: str


class RejectedRow(Struct, frozen=True, kw_only=True):
    """One row that cannot be followed."""

    row: int
    device: str
    reason: str
    detail: str


class GuardVerdict(Struct, frozen=True, kw_only=True):
    """What the guard says about the plan's removals."""

    tripped: bool
    approved: bool
    plan: str
    limit: float


class PlanReport(Struct, frozen=True, kw_only=True):
    """What a cycle would do."""

    source: str  # "daemon", or "command" where the command looked by itself
    plan: str
    interfaces: list[InterfacePeers]
    changes: list[PlannedChange]
    withheld: list[PlannedChange]
    blocked: list[PlannedChange]
    steps: list[PlannedStep]
    interface_errors: dict[str, str]
    rejected: list[RejectedRow]
    guard: GuardVerdict
    live: int

    @property
    def is_empty(self) -> bool:
        """Whether a cycle has nothing to do, and nothing is kept from it."""
        return not (self.changes or self.withheld or self.blocked or self.steps)


def build(decision: Decision, zone: ZoneInfo, now: float, source: str = "daemon") -> PlanReport:
    """The report of a plan that was held against the guard."""
    plan = decision.plan

    def changes(some: Iterable[Change]) -> list[PlannedChange]:
        return [_change(one, decision, zone, now) for one in some]

    return PlanReport(
        source=source,
        plan=decision.plan_id,
        interfaces=[
            InterfacePeers(interface=name, live=len(state.peers), desired=len(decision.desired.peers.get(name, ())))
            for name, state in decision.actual.items()
        ],
        changes=changes(plan.changes),
        withheld=changes(plan.withheld),
        blocked=changes(plan.blocked),
        steps=[
            PlannedStep(
                row=step.row.id,
                device=redact(step.row.device),
                step=step.kind,
                at=iso(step.at, zone),
                text=_STEPS[step.kind].format(at=clock(step.at, zone, now)),
            )
            for step in decision.transitions
        ],
        interface_errors={name: redact(why) for name, why in decision.interface_errors.items()},
        rejected=rejected_rows(decision.desired.rejections),
        guard=GuardVerdict(
            tripped=decision.tripped, approved=decision.approved, plan=decision.plan_id, limit=decision.limit
        ),
        live=plan.live_count,
    )


def rejected_rows(rejections: Iterable[Rejection]) -> list[RejectedRow]:
    """The rows that cannot be followed."""
    return [
        RejectedRow(
            row=one.row_id, device=redact(one.device), reason=one.reason.value, detail=redact(wording.rejection(one))
        )
        for one in rejections
    ]


def clock(at: float, zone: ZoneInfo, now: float) -> str:
    """A time of day in the zone, with the date where that is not today's."""
    local, today = (datetime.fromtimestamp(one, zone) for one in (at, now))
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def iso(at: float, zone: ZoneInfo) -> str | None:
    """A time for machines, with its offset; None for never."""
    return datetime.fromtimestamp(int(at), zone).isoformat() if at else None


def _change(change: Change, decision: Decision, zone: ZoneInfo, now: float) -> PlannedChange:
    peer = change.desired or change.current
    reason = wording.change(change)
    if change.reason.inactive is not None and change.public_key in decision.desired.revoked:
        row, _ = decision.desired.revoked[change.public_key]
        reason = _passed_deadline(row, change.reason.inactive, zone, now) or reason
    return PlannedChange(
        action=change.kind.value,
        interface=change.interface,
        row=change.row_id,
        device=redact(change.device),
        owner=redact(change.owner),
        address=",".join(sorted(map(str, peer.allowed_ips))) if peer else "",
        peer=fingerprint(change.public_key),
        reason=redact(reason),
    )


def _passed_deadline(row: DeviceRow, why: InactiveReason, zone: ZoneInfo, now: float) -> str:
    """When a device that was never activated should have been; "" where that is not why its row wants no peer."""
    never = why.kind is Inactive.DEADLINE_PASSED or (row.is_expired and not row.first_handshake_known)
    if never and row.activation_deadline is not None and row.activation_deadline < now:
        return f"activation deadline {clock(row.activation_deadline, zone, now)} passed"
    return ""
