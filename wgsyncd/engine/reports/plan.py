"""Makes the document of `wgsyncd plan --json`: a plan and the guard's verdict on it.

The daemon answers with this document, and the command makes its lines from it alone. It has no key in full.
"""

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.model import Change, DeviceRow, Rejection, Status, Transition, fingerprint, plain_id
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.reasons import Inactive, InactiveReason, Reason
from wgsyncd.core.state import Condition
from wgsyncd.engine import wording
from wgsyncd.engine.reports.access import AccessReport, access_report
from wgsyncd.engine.reports.bandwidth import BandwidthPlan
from wgsyncd.redact import redact


class InterfacePeers(Struct, frozen=True, kw_only=True):
    """How many peers an interface has, and how many it should have."""

    interface: str
    live: int  # actual peers
    desired: int


class PlannedChange(Struct, frozen=True, kw_only=True):
    """One change of a peer: what changes, and why."""

    action: str  # add, update or remove
    interface: str
    row: int | str | None  # the row's id. None: the peer belongs to no row.
    device: str  # "" for a foreign peer
    name: str  # what its owner calls it. "": it has no name, or its row is gone
    owner: str
    address: str  # allowed addresses, separated by commas
    peer: str  # the key's fingerprint
    reason: str


class PlannedTransition(Struct, frozen=True, kw_only=True):
    """One transition that is due."""

    row: int | str  # the row's id
    device: str
    transition: str  # activate, expire or first_handshake
    at: str | None  # ISO 8601 with an offset
    text: str


class RejectedRow(Struct, frozen=True, kw_only=True):
    """One rejected row, and why it is rejected."""

    row: int | str
    device: str
    name: str  # what people call the device, or ""
    reason: str
    detail: str


class ConditionReport(Struct, frozen=True, kw_only=True):
    """Something that an admin should mend in the rows or in the configuration."""

    type: str
    name: str  # of the owner, device or gateway
    text: str


class GuardVerdict(Struct, frozen=True, kw_only=True):
    """What the guard says about the plan's removals."""

    tripped: bool  # the removals need an approval
    approved: bool  # an admin allowed exactly these removals
    plan: str  # the plan id
    limit: float  # the number of removals that need no approval in the window
    window: float  # seconds. 0: this plan alone
    recent: int  # the other removals in the window


class PlanReport(Struct, frozen=True, kw_only=True):
    """What a cycle would do, and which changes wait."""

    source: str  # "daemon", or "command" if the command itself read kernel and database
    plan: str  # the plan id
    interfaces: list[InterfacePeers]
    changes: list[PlannedChange]
    withheld: list[PlannedChange]
    blocked: list[PlannedChange]
    transitions: list[PlannedTransition]
    interface_errors: dict[str, str]
    rejected: list[RejectedRow]
    guard: GuardVerdict
    access: AccessReport | None  # null: nobody enforces policies, or the packet filter could not be asked
    bandwidth: BandwidthPlan | None  # null: it is not limited on this node, or tc cannot be read
    conditions: list[ConditionReport]  # of the control plane's own types, such as contracts over their device limit
    live: int

    @property
    def is_empty(self) -> bool:
        """Whether a cycle has nothing to do and no change waits."""
        return not (
            self.changes or self.withheld or self.blocked or self.transitions or self._has_access or self._has_rates
        )

    @property
    def _has_rates(self) -> bool:
        return self.bandwidth is not None and not self.bandwidth.is_empty

    @property
    def _has_access(self) -> bool:
        access = self.access
        return access is not None and bool(access.gained or access.lost or access.changed or access.withheld)


def build(
    decision: Decision, zone: ZoneInfo, now: float, source: str = "daemon", access: AccessPlan | None = None,
    bandwidth: BandwidthPlan | None = None, conditions: Iterable[Condition] = (), rows: Iterable[DeviceRow] = (),
) -> PlanReport:  # fmt: skip
    """The report of a decision, and of what it means for access and bandwidth if that is known.

    ``now`` (UNIX seconds) and ``zone`` say which times are of today. ``rows``: they say what people call devices.
    """
    plan, labels = decision.plan, Labels.of_rows(rows)

    def changes(some: Iterable[Change]) -> list[PlannedChange]:
        return [planned_change(one, decision, zone, now, labels) for one in some]

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
        transitions=[planned_transition(one, zone, now) for one in decision.transitions],
        interface_errors={name: redact(why.text) for name, why in decision.interface_errors.items()},
        rejected=rejected_rows(decision.desired.rejections, labels),
        guard=GuardVerdict(
            tripped=decision.tripped,
            approved=decision.approved,
            plan=decision.plan_id,
            limit=decision.limit,
            window=decision.window,
            recent=decision.recent,
        ),
        access=access_report(access, labels) if access is not None else None,
        bandwidth=bandwidth,
        conditions=[
            ConditionReport(type=one.type, name=redact(one.name), text=redact(wording.condition(one)))
            for one in conditions
            if one.type not in wording.HARMLESS
        ],
        live=plan.live_count,
    )


def planned_transition(one: Transition, zone: ZoneInfo, now: float) -> PlannedTransition:
    """The report of a transition that is due. ``now`` (UNIX seconds) and ``zone`` say which times are of today."""
    return PlannedTransition(
        row=plain_id(one.row.id),
        device=redact(one.row.device),
        transition=one.kind,
        at=iso(one.at, zone),
        text=f"{wording.TRANSITIONS[one.kind]}, as of {clock(one.at, zone, now)}",
    )


def rejected_rows(rejections: Iterable[Rejection], labels: Labels) -> list[RejectedRow]:
    """The rejected rows with their reasons in words. No text has a key."""
    return [
        RejectedRow(
            row=plain_id(one.row_id),
            device=redact(one.device),
            name=redact(labels.of(one.device)),
            reason=one.reason.value,
            detail=redact(labels.put_into(wording.rejection(one))),
        )
        for one in rejections
    ]


def unreadable_rows(rejected: Iterable[RejectedRow]) -> list[str]:
    """The rows with an unreadable key, as sentences name them."""
    return [f"row {one.row} ({one.name or one.device})" for one in rejected if one.reason == Reason.BAD_KEY]


def clock(at: float, zone: ZoneInfo, now: float) -> str:
    """The time of day of ``at`` (UNIX seconds) in the zone. The date comes first if it is not the date of ``now``."""
    local, today = (datetime.fromtimestamp(one, zone) for one in (at, now))
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def iso(at: float | None, zone: ZoneInfo) -> str | None:
    """``at`` (UNIX seconds) in ISO 8601 with the zone's offset, to the second. None if ``at`` is None or 0 (never)."""
    return datetime.fromtimestamp(int(at), zone).isoformat() if at else None


def planned_change(change: Change, decision: Decision, zone: ZoneInfo, now: float, labels: Labels) -> PlannedChange:
    """The report of a change. ``now`` (UNIX seconds) and ``zone`` say which times are of today."""
    peer = change.desired or change.current
    reason = wording.change(change)
    if change.reason.inactive is not None and change.public_key in decision.desired.revoked:
        row, _ = decision.desired.revoked[change.public_key]
        reason = _passed_deadline(row, change.reason.inactive, zone, now) or reason
    return PlannedChange(
        action=change.kind.value,
        interface=change.interface,
        row=None if change.row_id is None else plain_id(change.row_id),
        device=redact(change.device),
        name=redact(labels.name(change.device)),
        owner=redact(change.owner),
        address=",".join(sorted(map(str, peer.allowed_ips))) if peer else "",
        peer=fingerprint(change.public_key),
        reason=redact(labels.put_into(reason)),
    )


def _passed_deadline(row: DeviceRow, why: InactiveReason, zone: ZoneInfo, now: float) -> str:
    """Says when the activation deadline passed. "" if the row asks for no peer for another reason."""
    never = why.kind is Inactive.DEADLINE_PASSED or (row.status is Status.EXPIRED and not row.first_handshake_known)
    if never and row.activation_deadline is not None and row.activation_deadline < now:
        return f"activation deadline {clock(row.activation_deadline, zone, now)} passed"
    return ""
