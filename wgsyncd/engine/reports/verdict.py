"""Judges a node by the report of its status: what is wrong with it, how bad that is, and what helps.

`wgsyncd doctor` has the same findings. `wgsyncd status` shows in red what makes the node fail, and the rest in yellow.
"""

from collections.abc import Iterator
from datetime import datetime

from wgsyncd.core.inspect.finding import Finding, Severity, fault, warning
from wgsyncd.core.words import counted
from wgsyncd.engine import wording
from wgsyncd.engine.reports.plan import unreadable_rows
from wgsyncd.engine.reports.status_document import InterfaceReport, StatusReport, Verdict

BEGINS = 60  # seconds after the start in which the first cycle may be under way
REMEMBERED = 3600  # seconds for which it is told that the database lost commits
CLOCK_STEP = 60.0  # seconds: a smaller step of the clock moves no deadline that anybody notices
STALE = 3  # times the configured interval, before a good cycle is too long ago
_LOG = "journalctl -u wgsyncd -n 30 --no-pager"
_OF_FEW = ("rows", "refused rows", "locked rows", "configuration")  # these faults leave all other devices as they are


def judge(findings: list[Finding]) -> Verdict:
    """The word for these findings."""
    if any(one.severity is Severity.FAULT and one.check not in _OF_FEW for one in findings):
        return Verdict.FAILING
    return Verdict.DEGRADED if findings else Verdict.OK


def nobody(report: StatusReport) -> str:
    """What to say if no row wants a peer. "" if one does, or if the rows are not known."""
    if any(one.desired != 0 for one in report.interfaces):
        return ""
    names = ", ".join(one.interface for one in report.interfaces)
    nobody_connects = "" if any(one.actual for one in report.interfaces) else ", so nobody can connect"
    look = "`wgsyncd devices --all` shows the rows of this node, and why they have no peer"
    return f"No row wants a peer on {names}{nobody_connects}. {look}."


def find_troubles(report: StatusReport) -> Iterator[Finding]:
    """Everything that is wrong, the worst first."""
    begins = _begins(report)
    yield from _database(report, begins)
    for one in report.interfaces:
        if not one.present and not (begins and one.interface not in report.interface_errors):
            yield _interface(one, report.interface_errors.get(one.interface, "cannot be read"))
        elif one.present and one.up is False:
            yield fault(one.interface, "is down, so nobody can connect", wording.bring_up(one.interface))
        elif one.change is not None:
            why = f"NOBODY CAN CONNECT, because clients know another {one.interface}: {one.change.what}"
            undo = f"A mistake? Undo it. Meant? wgsyncd approve {one.change.approval}"
            if not one.change.approval:  # nobody means to lose a key
                undo = "Undo it"
            yield fault(f"{one.interface} identity", f"{why}. {undo}", one.change.todo)
    yield from _cycles(report, begins)
    yield from _guard(report)
    yield from _policies(report)
    yield from _rows(report)
    yield from _clock(report)
    yield from _waiting(report)
    yield from _shaping(report)


def _begins(report: StatusReport) -> bool:
    """Whether the daemon has just started."""
    if report.started is None:
        return False
    return (datetime.fromisoformat(report.at) - datetime.fromisoformat(report.started)).total_seconds() < BEGINS


def _database(report: StatusReport, begins: bool) -> Iterator[Finding]:
    database = report.database
    if not database.up and database.error:
        kept = "Devices stay connected, and traffic is kept" if database.read is not None else _NO_ROWS
        why = f"it does not serve wgsyncd: {database.error}. {kept}"
        yield fault("database", why, database.todo or "sudo wgsyncd doctor")
    elif not database.up and begins:
        yield warning("database", "the first cycle is not complete yet", "wgsyncd status")
    elif not database.up:
        yield fault("database", "it has not answered since the start", "sudo wgsyncd doctor")
    if database.went_back_age is not None and database.went_back_age < REMEMBERED:
        why = "a dump was put back, or an older copy answers in its place, and peers follow its rows"
        why = f"it lost commits of this node {database.went_back_age // 60} min ago: {why}"
        yield warning("database", why, "journalctl -u wgsyncd -g 'went back' -n 5 --no-pager")
    if report.spool_up is False:
        yield fault("spool", "it cannot be written: a restart would lose traffic", "sudo wgsyncd doctor")
    if report.spool_pending_counters:
        place = "memory" if report.spool_up is False else "the spool"
        why = f"{counted(report.spool_pending_counters, *_COUNTERS)} in {place} for the database"
        yield warning("spool", why, "sudo wgsyncd doctor")


def if_not_here(interface: str) -> str:
    """What to do if only the configuration has this interface."""
    return f"If this server has no {interface}, remove [interfaces.{interface}] from the configuration"


def _interface(one: InterfaceReport, why: str) -> Finding:
    name = one.interface
    if one.errno == "ENODEV":
        why = f"does not exist: nobody can connect to it. {if_not_here(name)}"
        return fault(name, why, f"systemctl restart wg-quick@{name}")  # `start` does nothing if somebody deleted it
    if one.errno == "EACCES":
        return fault(name, f"cannot be compared: {why}", "man wgsyncd-install")
    return fault(name, f"cannot be compared: {why}", "sudo wgsyncd doctor")


def _cycles(report: StatusReport, begins: bool) -> Iterator[Finding]:
    names = {"reconcile": "rows and kernel were not compared", "account": "counters were not posted"}
    for task, one in (report.cycles or {}).items():
        if one.age is None and begins:
            continue
        if one.age is None or one.age > STALE * (one.every or 60):
            since = "since the start" if one.age is None else f"for {one.age} s"
            told = report.last_error in ("", report.database.error)  # the finding about the database has it
            last = "" if told else f". Last error: {report.last_error}"
            yield fault("cycles", f"{names.get(task, task)} {since}{last}", _LOG)


_NO_ROWS = (
    "The rows were not read yet, so the node may lack peers, and their devices cannot connect. Peers that it has stay"
)
_COUNTERS = "counter waits", "counters wait"
_NAMES = "owner names", "owners name"
_STAY = "peer without a row stays", "peers without a row stay"
_UNWRITTEN = (
    "audit row waits, because the database did not take it",
    "audit rows wait, because the database did not take them",
)


def _guard(report: StatusReport) -> Iterator[Finding]:
    guard = report.guard
    if guard.tripped and not guard.approved:
        gone = [one for one in report.held if one.action == "remove"]
        reasons = ", ".join(dict.fromkeys(one.reason for one in gone))
        kept = f"and the guard keeps {'it' if report.withheld == 1 else 'them'}"
        why = f"NOTHING WAS REMOVED: {counted(report.withheld, 'peer')} would go ({reasons}), {kept}"
        yield fault("guard", f"{why}. {wording.if_a_mistake(one.device for one in gone)}", "wgsyncd plan")
    if report.blocked:
        until = wording.until_mended(unreadable_rows(report.rejected))
        why = f"{counted(report.blocked, 'removal waits', 'removals wait')} {until}"
        yield warning("blocked", why, "wgsyncd plan")
    if report.waiting_for_adoption:
        why = f"{counted(report.waiting_for_adoption, *_STAY)} until an admin adopts this node"
        yield warning("adoption", why, "wgsyncd adopt")


def _policies(report: StatusReport) -> Iterator[Finding]:
    policies = report.policies
    if policies is not None and policies.error:
        why = f"they cannot be enforced: {policies.error}. The old rules stay, and no peer gets an address"
        yield fault("policies", why, "sudo wgsyncd doctor")
    if policies is not None and policies.withheld:
        why = f"{counted(policies.withheld, 'device')} would lose all access, and the guard keeps it"
        why = f"NOTHING WAS TAKEN AWAY: {why}. {wording.RESTORE}. Meant? wgsyncd approve {policies.plan}"
        yield fault("access", why, "wgsyncd plan")
    if policies is not None and policies.shared_addresses:
        told = counted(policies.shared_addresses, "address belongs", "addresses belong")
        yield warning("addresses", f"{told} to several devices. Such an address reaches nothing", "wgsyncd plan")


def _rows(report: StatusReport) -> Iterator[Finding]:
    if report.rejected:
        count, first = len(report.rejected), report.rejected[0]
        rows = counted(count, "row is ignored", "rows are ignored")
        why = f"{rows} because of errors: row {first.row} ({first.name or first.device}), {first.detail}"
        yield fault("rows", why, "wgsyncd plan")
    if report.refused_rows:
        count, one = len(report.refused_rows), report.refused_rows[0]
        why = f"the database refuses to change {count}, so their bytes wait: {one.name or one.device}: {one.error}"
        yield fault("refused rows", why, "sudo wgsyncd doctor")
    if report.locked_rows:
        why = f"another program has locked {report.locked_rows}, or the database is too slow, so their bytes wait"
        yield fault("locked rows", why, "sudo wgsyncd doctor")


def _shaping(report: StatusReport) -> Iterator[Finding]:
    shaping = report.shaping
    if shaping is not None and not shaping.ok:
        why = shaping.trouble or f"tc did not take {counted(shaping.drift, 'change')}"
        yield warning("shaping", f"not every device has its bandwidth: {why}", _LOG)
    if shaping is not None and shaping.unknown:
        why = f"{counted(shaping.unknown, *_NAMES)} a bandwidth profile that the configuration does not have"
        yield warning("shaping", why, "wgsyncd plan")


def _clock(report: StatusReport) -> Iterator[Finding]:
    if (step := report.clock_step) is not None and abs(step) >= CLOCK_STEP:
        way = f"was set {'ahead' if step > 0 else 'back'} by {abs(step):.0f} s in the last hour"
        why = f"it {way}. Activation deadlines, days and months follow it. Is it right now?"
        yield warning("clock", why, "timedatectl status")


def _waiting(report: StatusReport) -> Iterator[Finding]:
    configuration = report.configuration
    if configuration is not None and configuration.refused:
        why = f"{configuration.file} has faults, so the daemon keeps the old one"
        yield fault("configuration", why, "wgsyncd check-config")
    elif configuration is not None and configuration.changed_since:
        yield warning("configuration", f"{configuration.file} has changed since it was loaded", "wgsyncd reload")
    if report.pending:
        what = ", ".join(f"{count} to {action}" for action, count in report.pending.items())
        yield warning("drift", f"the kernel did not take all changes: {what}", _LOG)
    if report.unwritten_audit_rows:
        why = counted(report.unwritten_audit_rows, *_UNWRITTEN)
        yield warning("audit trail", why, "sudo wgsyncd doctor")
    if report.quarantined:
        why = f"{counted(report.quarantined, 'delta is', 'deltas are')} not accounted"
        yield warning("quarantine", why, "wgsyncd quarantine")
    if report.findings:
        why = f"it found {counted(report.findings, 'discrepancy', 'discrepancies')}"
        yield warning("verification", why, "wgsyncd verify")
    told = {*wording.HARMLESS, *(("unknown_profile",) if report.shaping is not None else ())}
    for kind, count in (report.conditions or {}).items():
        if count and kind not in told:
            yield warning(kind, wording.conditions(kind, count), "wgsyncd plan")
