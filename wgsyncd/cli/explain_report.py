"""The document of `wgsyncd explain --json`."""

from __future__ import annotations

from msgspec import Struct

from wgsyncd.cli.adopt_report import CountersReport
from wgsyncd.cli.explain_query import Gathered
from wgsyncd.cli.explain_verdict import verdict
from wgsyncd.cli.output import sanitize
from wgsyncd.core.inspect.explain import ActualPeer
from wgsyncd.core.model import NO_PRESHARED_KEY, Counters, encode_key, fingerprint
from wgsyncd.engine import wording
from wgsyncd.ports import DeviceDetails


class RuleReport(Struct, frozen=True, kw_only=True):
    """One condition that a row has to meet."""

    rule: str
    holds: bool
    value: str


class RejectionReport(Struct, frozen=True, kw_only=True):
    """Why the row cannot be followed."""

    reason: str
    detail: str


class BaselineReport(Struct, frozen=True, kw_only=True):
    """What was last booked of a peer."""

    counters: CountersReport
    epoch: str
    state: str
    sampled: str | None


class PeerReport(Struct, frozen=True, kw_only=True):
    """One live peer of the device."""

    interface: str
    of_this_key: bool
    peer: str  # the key's fingerprint
    endpoint: str | None
    latest_handshake: str | None
    allowed_ips: list[str]
    preshared_key: bool
    persistent_keepalive: int
    counters: CountersReport
    baseline: BaselineReport | None
    unbooked: CountersReport


class PendingReport(Struct, frozen=True, kw_only=True):
    """One change that is planned for the device."""

    action: str
    interface: str
    reason: str
    when: str  # next, withheld or blocked


class DueStep(Struct, frozen=True, kw_only=True):
    """One step in the device's life that is due."""

    step: str
    at: str | None


class AuditReport(Struct, frozen=True, kw_only=True):
    """One audit row."""

    at: str
    action: str
    message: str


class ExplainReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd explain --json`."""

    device: str
    row: int
    owner: str
    verdict: str
    interface: str
    address: str
    public_key: str | None
    preshared_key: bool
    status: str
    activation_deadline: str | None
    activation_seconds_left: int | None
    rules: list[RuleReport]
    rejected: RejectionReport | None
    frozen: bool
    kernel_error: str | None
    address_held_by: str | None
    peers: list[PeerReport]
    plan: list[PendingReport]
    steps: list[DueStep]
    perspective: str
    bytes: dict[str, CountersReport] | None  # by the control plane's label, in the perspective
    details: dict[str, str | None] | None  # by the control plane's label: texts, and times or null
    audit: list[AuditReport] | None
    audit_error: str | None


def explain_report(told: Gathered) -> ExplainReport:
    """The report about one device."""
    story, row, more = told.story, told.story.row, told.details
    deadline = row.activation_deadline
    return ExplainReport(
        device=sanitize(row.device),
        row=row.id,
        owner=sanitize(row.owner),
        verdict=sanitize(verdict(story)),
        interface=sanitize(row.interface),
        address=sanitize(row.address),
        public_key=encode_key(story.key) if story.key is not None else None,
        preshared_key=bool(row.preshared_key),
        status=row.status_text,
        activation_deadline=told.time(deadline),
        activation_seconds_left=None if deadline is None else int(deadline - told.calendar.now),
        rules=[RuleReport(rule=rule.text, holds=rule.holds, value=sanitize(rule.value)) for rule in told.rules],
        rejected=None
        if story.rejection is None
        else RejectionReport(reason=story.rejection.reason.value, detail=sanitize(wording.rejection(story.rejection))),
        frozen=story.frozen,
        kernel_error=sanitize(story.trouble) or None,
        address_held_by=sanitize(story.address_holder) or None,
        peers=[_peer(told, one) for one in story.peers],
        plan=[
            PendingReport(
                action=due.change.kind.value,
                interface=due.change.interface,
                reason=sanitize(wording.change(due.change)),
                when=due.when,
            )
            for due in story.due
        ],
        steps=[DueStep(step=step.kind, at=told.time(step.at)) for step in story.steps],
        perspective=told.perspective.value,
        bytes=None if more is None else {label: _counters(counters) for label, counters in more.bytes.items()},
        details=None if more is None else _details(told, more),
        audit=None
        if told.no_audit
        else [AuditReport(at=one.at, action=one.action, message=sanitize(one.message)) for one in told.audit],
        audit_error=sanitize(told.no_audit) or None,
    )


def _details(told: Gathered, more: DeviceDetails) -> dict[str, str | None]:
    texts = {label: sanitize(text) for label, text in more.texts.items()}
    return {**texts, **{label: told.time(at) for label, at in more.times.items()}}


def _peer(told: Gathered, one: ActualPeer) -> PeerReport:
    record, config = one.record, one.found.config
    return PeerReport(
        interface=one.interface,
        of_this_key=one.row_key,
        peer=fingerprint(config.public_key),
        endpoint=one.found.endpoint,
        latest_handshake=told.time(one.found.latest_handshake / 1e9 or None),
        allowed_ips=sorted(map(str, config.allowed_ips)),
        preshared_key=config.preshared_key != NO_PRESHARED_KEY,
        persistent_keepalive=config.persistent_keepalive,
        counters=_counters(one.found.counters),
        baseline=None
        if record is None
        else BaselineReport(
            counters=_counters(record.counters),
            epoch=record.epoch,
            state=record.state.value,
            sampled=told.time(record.sampled_at),
        ),
        unbooked=_counters(one.unbooked),
    )


def _counters(counters: Counters) -> CountersReport:
    return CountersReport(rx=counters.rx, tx=counters.tx)
