"""What `wgsyncd explain` has gathered about a device, and the same for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wgsyncd.cli.explain_verdict import verdict
from wgsyncd.cli.output import sanitize
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.explain import ActualPeer, Explanation
from wgsyncd.core.model import NO_PRESHARED_KEY, encode_key, fingerprint
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.ports import AuditRow, DeviceDetails


@dataclass(frozen=True, slots=True)
class ExplainReport:
    """All that is printed."""

    story: Explanation
    particulars: DeviceDetails | None
    audit: Sequence[AuditRow]
    no_audit: str  # why it cannot be read
    settings: Settings
    calendar: UsageCalendar


def as_data(told: ExplainReport) -> dict[str, Any]:
    story, row, more = told.story, told.story.row, told.particulars
    """One device's story; the keys are stable."""
    data: dict[str, Any] = {
        "device": sanitize(row.device),
        "row": row.id,
        "contract": sanitize(row.owner),
        "verdict": sanitize(verdict(story)),
        "interface": sanitize(row.interface),
        "address": sanitize(row.address),
        "public_key": encode_key(story.key) if story.key is not None else None,
        "preshared_key": bool(row.preshared_key),
        "status": row.status_text,
        "deleted": row.deleted,
        "qr_end": _time(told, row.activation_deadline),
        "qr_seconds_left": (
            None if row.activation_deadline is None else int(row.activation_deadline - told.calendar.now)
        ),
        "rules": [{"rule": rule.text, "holds": rule.holds, "value": sanitize(rule.value)} for rule in story.rules],
        "rejected": None
        if story.rejection is None
        else {"reason": story.rejection.reason.value, "detail": sanitize(wording.rejection(story.rejection))},
        "frozen": story.frozen,
        "kernel_error": sanitize(story.trouble) or None,
        "address_held_by": sanitize(story.address_holder) or None,
        "peers": [_peer(told, one) for one in story.peers],
        "plan": [
            {"action": c.kind.value, "interface": c.interface, "reason": sanitize(wording.change(c)), "when": fate}
            for c, fate in ((due.change, due.when) for due in story.due)
        ],
        "steps": [{"step": step.kind, "at": _time(told, step.at)} for step in story.steps],
        "perspective": told.settings.mikyun.perspective,
        "bytes": None,
        "audit": None if told.no_audit else [
            {"at": one.at, "action": one.action, "message": sanitize(one.message)} for one in told.audit
        ],
        "audit_error": sanitize(told.no_audit) or None,
    }  # fmt: skip
    if more is not None:
        data["bytes"] = {"total": more.total._asdict(), "24h": more.last_24h._asdict(), "month": more.month._asdict()}
        data |= {"role": sanitize(more.role), "parent": more.parent, "platform": sanitize(more.platform),
                 "app": sanitize(more.app), "created": _time(told, more.created),
                 "issued": _time(told, more.issued), "activated": _time(told, more.activated),
                 "paused": _time(told, more.paused), "first_handshake": _time(told, more.first_handshake),
                 "last_handshake": _time(told, more.last_handshake)}  # fmt: skip
    return data


def _peer(told: ExplainReport, one: ActualPeer) -> dict[str, Any]:
    record = one.record
    return {
        "interface": one.interface,
        "of_this_key": one.row_key,
        "peer": fingerprint(one.found.config.public_key),
        "endpoint": one.found.endpoint,
        "latest_handshake": _time(told, one.found.latest_handshake / 1e9 or None),
        "allowed_ips": sorted(map(str, one.found.config.allowed_ips)),
        "preshared_key": one.found.config.preshared_key != NO_PRESHARED_KEY,
        "persistent_keepalive": one.found.config.persistent_keepalive,
        "counters": one.found.counters._asdict(),
        "baseline": None
        if record is None
        else {
            "counters": record.counters._asdict(),
            "epoch": record.epoch,
            "state": record.state.value,
            "sampled": _time(told, record.sampled_at),
        },
        "unbooked": one.unbooked._asdict(),
    }


def _time(told: ExplainReport, at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(int(at), told.settings.node.zone).isoformat()
