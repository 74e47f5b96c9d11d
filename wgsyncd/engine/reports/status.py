"""Makes the document of `wgsyncd status --json` from the daemon's status of itself.

If no daemon runs, the command reads kernel and database and makes a status from them. The same function then builds the
document, whose parts are in :mod:`wgsyncd.engine.reports.status_document`.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from wgsyncd import __version__
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.peers.guard import ReadError
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.engine import wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import Preview
from wgsyncd.engine.reports.plan import iso, rejected_rows
from wgsyncd.engine.reports.policies import policies_report
from wgsyncd.engine.reports.recent import recent_changes, refused_rows
from wgsyncd.engine.reports.status_document import (
    ConfigurationReport,
    CycleReport,
    DatabaseReport,
    GuardReport,
    IdentityReport,
    InterfaceReport,
    StatusReport,
    Verdict,
)
from wgsyncd.engine.reports.verdict import find_troubles, judge
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus, LinkState, changed_at
from wgsyncd.engine.status_update import UNKNOWN, refresh, update_from_reconcile
from wgsyncd.errors import StoreError
from wgsyncd.redact import redact

Links = Mapping[str, LinkState]
"""By interface: its link of now. A name that is missing here was not looked at."""
NO_LINKS: Links = MappingProxyType({})


def of_daemon(status: DaemonStatus, settings: Settings, file: Path, links: Links = NO_LINKS) -> StatusReport:
    """The report of the daemon in this process, for a client's thread. ``links``: the interfaces' of now."""
    now, zone, loaded = time.time(), settings.node.zone, status.config_loaded_at
    labels, times = Labels.of_rows(status.rows or ()), (status.config_time, changed_at(file))
    report = msgspec.structs.replace(
        _build(status, settings, now, links),
        source="daemon",
        daemon=f"wgsyncd runs (pid {os.getpid()})",
        pid=os.getpid(),
        started=iso(status.started_at, zone),
        configuration=ConfigurationReport(
            file=str(file),
            loaded=iso(loaded, zone),
            refused=not status.config_ok,
            changed_since=None if None in times else times[0] != times[1],
        ),
        cycles={
            task: CycleReport(
                last_good=iso(status.succeeded_at.get(task, 0.0), zone),
                age=_age(now, status.succeeded_at.get(task, 0.0)),
                every=status.intervals.get(task),
            )
            for task in ("reconcile", "account")
        },
        findings=sum(status.findings.values()),
        spool_pending_counters=status.spool_pending_counters,
        spool_up=status.spool_up,
        locked_rows=len(status.rows_set_aside(Obstacle.LOCKED, Obstacle.LATE)),
        refused_rows=refused_rows(status, zone, labels),
        unwritten_audit_rows=status.unwritten_audit_rows,
        changes=recent_changes(status, zone, labels),
        clock_step=status.clock_step,
    )
    return judged(report)


def judged(report: StatusReport, *more: Finding) -> StatusReport:
    """The report with its verdict. ``more``: findings that only its reader has."""
    return msgspec.structs.replace(report, troubles=(found := [*more, *find_troubles(report)]), verdict=judge(found))


def of_preview(settings: Settings, preview: Preview, daemon: str, links: Links = NO_LINKS) -> StatusReport:
    """The report of a command that itself read kernel and database. ``daemon`` says why it had to."""
    decision, status = preview.decision, DaemonStatus()
    update_from_preview(status, settings, preview)
    return judged(
        msgspec.structs.replace(
            whole := _build(status, settings, preview.now, links),
            daemon=redact(daemon),
            interfaces=[msgspec.structs.replace(one, drift=None) for one in whole.interfaces],
            pending={},  # A command applies nothing, so a difference is no drift.
            blocked=len(decision.plan.blocked),
            guard=GuardReport(tripped=decision.tripped, approved=decision.approved, plan=decision.plan_id),
        )
    )


def update_from_preview(status: DaemonStatus, settings: Settings, preview: Preview) -> None:
    """Fill in what a preview shows, as if the daemon had reconciled."""
    decision, now = preview.decision, preview.now
    status.database_up, status.database_read_at, status.interface_errors = True, now, decision.interface_errors
    update_from_reconcile(status, settings, decision, decision.actual, decision.plan.changes, preview.snapshot, now)


def without_store(
    settings: Settings, agent: Agent, daemon: str, error: StoreError, links: Links = NO_LINKS
) -> StatusReport:
    """The report of a command that could read the kernel only. ``error``: why it could not read the store."""
    now, status = agent.clock.now(), agent.status
    refresh(status, settings, agent.inspector.look(), now)
    status.database_up, status.database_error, status.database_todo = False, error.text, error.todo
    return judged(msgspec.structs.replace(_build(status, settings, now, links), daemon=redact(daemon)))


def _build(status: DaemonStatus, settings: Settings, now: float, links: Links) -> StatusReport:
    """The report without the fields that only a daemon knows. ``now``: UNIX seconds."""
    zone, interfaces = settings.node.zone, dict(status.interfaces)
    away, gone = not status.database_up, {name for name, one in links.items() if one is LinkState.MISSING}
    errors = {**dict.fromkeys(gone, ReadError("ENODEV", "ENODEV: no such interface")), **status.interface_errors}
    return StatusReport(
        node=settings.node.name,
        version=__version__,
        source="command",
        at=iso(now, zone) or "",
        verdict=Verdict.OK,
        troubles=[],
        daemon="",
        role={True: "active", False: "standby", None: None}[status.is_active],
        pid=None,
        started=None,
        configuration=None,
        interfaces=[
            InterfaceReport(
                interface=name,
                present=(present := one.present and name not in gone),
                kind=one.kind if present else "unreadable",
                desired=one.desired,
                actual=one.actual,
                online=one.online,
                frozen=one.frozen,
                foreign=one.foreign,
                drift=one.drift,
                rx_bytes=one.received,
                tx_bytes=one.sent,
                rx_rate=one.rx_rate,
                tx_rate=one.tx_rate,
                latest_handshake=iso(one.latest_handshake, zone),
                change=_change(name, one),
                up=None if (link := links.get(name)) in (None, LinkState.MISSING) else link is LinkState.UP,
                errno=errors[name].errno if not present and name in errors else "",
            )
            for name, one in ((name, interfaces.get(name, UNKNOWN)) for name in settings.interfaces)
        ],
        cycles=None,
        last_error=redact(status.last_error) if away else "",
        database=DatabaseReport(
            up=status.database_up,
            error=redact(status.database_error) if away else "",
            todo=status.database_todo if away else "",
            read=iso(status.database_read_at, zone),
            age=_age(now, status.database_read_at),
            heartbeat_age=_age(now, status.heartbeat_at),
            went_back_age=_age(now, status.went_back_at),
        ),
        pending=dict(status.pending),
        withheld=status.withheld,
        blocked=sum(one.blocked for one in interfaces.values()),
        held=list(status.held),
        interface_errors={name: redact(why.text) for name, why in errors.items()},
        rejected=rejected_rows(status.rejections, Labels.of_rows(status.rows or () if status.rejections else ())),
        guard=GuardReport(tripped=status.guard_tripped, approved=False, plan=status.plan_id),
        waiting_for_adoption=status.waiting_for_adoption,
        quarantined=status.quarantined,
        findings=None,
        spool_pending_counters=None,
        spool_up=None,
        locked_rows=None,
        refused_rows=None,
        unwritten_audit_rows=None,
        policies=policies_report(status),
        preshared_keys=dict(status.sealed),
        owner_word=settings.store.owner_word,
        shaping=status.shaping,
        conditions=dict(status.store_conditions),
        changes=None,
        clock_step=None,
    )


def _change(name: str, one: InterfaceStatus) -> IdentityReport | None:
    if one.change is None:
        return None
    what, todo = wording.identity_change(name, one.change)
    return IdentityReport(what=what, todo=todo, approval=one.change.approval)


def _age(now: float, at: float) -> int | None:
    return max(0, int(now - at)) if at else None
