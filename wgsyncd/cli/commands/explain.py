"""Explain why a device has a peer, or has none, and which addresses its policies let it reach.

With --to, the first sentences say whether the device reaches that address and what decides this: a policy, its range,
or that no policy covers the address. They also say if the packet filter does something else now.

The command writes nothing. Without root or CAP_NET_ADMIN it cannot read the kernel, and says so. The device's own
public key is the only key that it prints.

exit status: 0 done, 1 failed (also: no such device), 2 bad configuration or usage
"""

import argparse
import contextlib
import re
from collections.abc import Iterator, Sequence

from msgspec import structs

from wgsyncd.cli import options, output, wiring
from wgsyncd.cli.access_lines import policy_lines, policy_verdict
from wgsyncd.cli.explain_access import PolicyReport, policy_report
from wgsyncd.cli.explain_report import WAITS, CountersReport, ExplainReport, PeerReport, explain_report
from wgsyncd.cli.output import Line, Parts, ago
from wgsyncd.cli.table import WHOLE, Column, fit
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.answers import AuditRow
from wgsyncd.core.inspect.explain import Explanation, explain, find_rows
from wgsyncd.core.inspect.names import DeviceName, Labels, find_device, find_labelled, suggestions
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.model import DeviceRow, PublicKey, encode_key, fingerprint
from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.peers.plan import Plan
from wgsyncd.core.policies.model import Ruleset
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.words import seconds_between, short_time
from wgsyncd.engine import wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import Preview
from wgsyncd.engine.reports.bandwidth import bandwidth_lines, bandwidth_report, with_traffic
from wgsyncd.engine.status_update import ONLINE
from wgsyncd.errors import FilterError, ShapingError, StoreError, UserError
from wgsyncd.ports import DeviceSource, ReportSource

MOST = 10  # audit rows


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    parser.add_argument("device", type=options.name, metavar="DEVICE",
                        help="a device id, a device's name, a row's id, a tunnel address or a public key")  # fmt: skip
    parser.add_argument("--to", type=options.host, metavar="ADDRESS",
                        help="say whether the device reaches this IPv4 or IPv6 address, and why")  # fmt: skip
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also show the counters that are accounted already"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    report = _gather(args.device, load.load(args.config), args.to)
    public = (report.public_key,) if report.public_key else ()
    output.print_report(report, _lines(report, verbose=args.verbose), json=args.json, public=public)
    return 0


def _gather(device: str, settings: Settings, to: Network | None) -> ExplainReport:
    if to is not None and settings.store.policy_settings() is None:
        raise UserError(f"--to: the control plane {settings.control_plane} has no policies, so nothing is refused")
    agent, reports = wiring.open_agent(settings), wiring.open_reports(settings)
    view = agent.inspector.view()
    row = _find(device, view, agent.store, reports)
    interface_of = {one.store_name: name for name, one in settings.interfaces.items()}
    ignored = frozenset(settings.node.ignored_interfaces)
    found = explain(row, view.decision, view.node_state, interface_of, ignored, view.now)
    audit: Sequence[AuditRow] | str
    try:
        audit = reports.audit(row.device, MOST)
    except StoreError as error:  # only this part of the report is missing
        audit = str(error)
    rules, details = reports.rules(found.settled, view.now), reports.details(row.id)
    policies = _policies(settings, agent, view, found, to)
    bandwidth = None if found.is_ignored else bandwidth_report(row.owner, view.snapshot.terms, settings.shaping_policy)
    if bandwidth is not None:
        with contextlib.closing(wiring.open_tc()) as tc, contextlib.suppress(ShapingError):  # status says why
            bandwidth = with_traffic(bandwidth, tc.of(row.addresses))
    report = explain_report(
        found, rules, details, audit, policies, bandwidth, reports.perspective, view.now, settings.node.zone,
        Labels.of_rows(view.snapshot.rows), settings.store.owner_word,
    )  # fmt: skip
    name = found.interface
    if name is not None and report.connection is not None and wiring.is_down(name):
        down = f"{name} is down, so nobody can connect: {wording.bring_up(name)}"
        return structs.replace(report, connection=None, advice=down)
    return report


def _policies(
    settings: Settings, agent: Agent, view: Preview, found: Explanation, to: Network | None
) -> PolicyReport | None:
    """What the device may reach. None: the control plane has no policies."""
    policies = settings.store.policy_settings()
    if policies is None:
        return None
    plan: AccessPlan | None = None
    ruleset: Ruleset | str | None
    try:
        plan, ruleset = agent.planes.access(view.snapshot, view.decision), wiring.read_ruleset(settings)
    except FilterError as error:  # only this part of the report is missing
        ruleset = str(error)
    own = frozenset(host for one in settings.interfaces.values() for host in one.own_hosts)
    kept = found.key in settings.peers.always_keep
    names = Labels.of_rows(view.snapshot.rows)
    return policy_report(found, view.snapshot.policies, policies, plan, ruleset, to, own, names, kept=kept)


def _find(text: str, view: Preview, store: DeviceSource, reports: ReportSource) -> DeviceRow:
    """The row that ``text`` names. UserError, with similar names, if there is none or more than one.

    A row of another node is found by its device id or row id only, because this node reads no other columns of it.
    """
    rows = view.snapshot.rows
    names = [DeviceName(row.id, row.device, row.owner) for row in rows]
    named = find_device(text, names)
    if named is not None:
        return next(row for row in rows if row.id == named.row_id)
    found = find_rows(text, rows)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{len(found)} devices have this: {', '.join(row.device for row in found)}")
    names = list(reports.names())
    called = find_labelled(text, names)
    if len(called) > 1:
        raise UserError(
            f"{len(called)} devices have this: {', '.join(f'{one.device} of {one.owner}' for one in called)}"
        )
    named = find_device(text, names) or next(iter(called), None)
    if named is not None and (own := [row for row in rows if row.device == named.device]):
        return own[0]
    if named is not None and (read := store.load_devices(frozenset((named.device,)))):
        return read[0]
    for name, state in view.decision.actual.items():
        for key, peer in state.peers.items():
            ips = ", ".join(sorted(map(str, peer.config.allowed_ips)))
            if text == encode_key(key) or text in {str(net).rpartition("/")[0] for net in peer.config.allowed_ips}:
                told = f"no row has this, but {name} has a peer {fingerprint(key)} with {ips or 'no address'}"
                raise UserError(told + _fate(key, view.decision.plan))
    for record in view.node_state.records.each():
        there = view.decision.actual.get(record.interface)
        if record.device.casefold() == text.casefold() and there is not None and record.public_key in there.peers:
            told = f"no row is called {text!r}. A peer that was made for it is on {there.name}"
            raise UserError(told + _fate(record.public_key, view.decision.plan))
    with contextlib.suppress(ValueError):
        parse_host(text)
        raise UserError(f"no row and no peer of this node has the address {text}")
    kept = find_device(text, reports.names(gone=True))
    with contextlib.suppress(StoreError):  # without audit rows, similar names may help
        for one in reports.audit(kept.device if kept is not None else text, 1):
            raise UserError(
                f"no row is called {text!r} any more. wgsyncd noted at {one.at}: {one.message}."
                " Was that a mistake? Restore the row in the application's tables. Then its peer comes back at once"
            )
    if kept is not None:
        raise UserError(
            f"no row is called {text!r} any more. Was that a mistake? Restore the row in the application's tables. Then"
            f" its peer comes back at once. wgsyncd counted bytes of it: wgsyncd usage {kept.device}"
        )
    alike = suggestions(text, [name for one in names for name in (one.device, one.label)])
    raise UserError(f"no device is called {text!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))


def _fate(key: PublicKey, plan: Plan) -> str:
    """What comes next for a peer without a row, as the end of a sentence."""
    if any(one.public_key == key for one in plan.withheld):
        return ", and the guard keeps it: see `wgsyncd plan`"
    if any(one.public_key == key for one in plan.blocked):
        return f". Its removal waits {wording.until_mended()}: see `wgsyncd plan`"
    if any(one.public_key == key for one in plan.changes):
        return ", and the next cycle removes it"
    return ". wgsyncd leaves it as it is: see `wgsyncd adopt`"


def _lines(report: ExplainReport, *, verbose: bool = False) -> Iterator[Parts]:
    """Everything, in blocks that an empty line separates. The verdict is the last block, too, for a small screen."""
    policies = report.policies
    verdict: list[Parts] = [(f"{report.name or report.device} {report.verdict}", "head")]
    if policies is not None:
        verdict += policy_verdict(policies)
    verdict += [(one, "held") for one in re.split(r"(?<=\.) (?=[A-Z])", report.advice) if one]
    yield from verdict
    yield "", ""
    yield from (_pair(*one) for one in _row(report))
    yield "", ""
    for rule in report.rules:
        yield _rule(f"{rule.text}{rule.value and f': {rule.value}'}", holds=rule.holds)
    if report.rejected is not None:
        yield _rule(f"its row is valid: {report.rejected.reason}, {report.rejected.detail}", holds=False)
    elif all(rule.holds for rule in report.rules) and not report.other_node:
        yield _rule("its row is valid", holds=True)
    yield "", ""
    yield from (_pair(*one) for one in (*_kernel(report, verbose=verbose), *_plan(report)))
    yield "", ""
    if policies is not None:
        yield from (_pair(*one) for one in policy_lines(policies))
        yield "", ""
    if report.bandwidth is not None:
        for number, line in enumerate(bandwidth_lines(report.bandwidth)):
            yield _pair("" if number else "bandwidth", line)
        yield "", ""
    if report.bytes is not None:
        columns = [Column("bytes", rank=0), Column("rx", right=True), Column("tx", right=True)]
        yield from fit(columns, list(_bytes(report.bytes)), WHOLE)
        yield f"rx: received by the {report.perspective}. The kernel's counters are always the server's", ""
        yield "", ""
    if report.audit_error:
        yield f"audit rows cannot be read: {report.audit_error}", "warning"
    elif not report.audit:
        yield "no audit rows", ""
    for one in report.audit or ():
        yield f"{one.at}  {one.action}  {one.message}", ""
    yield "", ""
    yield from verdict


def _pair(label: str, text: str) -> Line:
    return f"{label:10} {text}", ""


def _rule(text: str, *, holds: bool) -> Line:
    return (f"yes {text}", "ok") if holds else (f"NO  {text}", "fault")


def _row(report: ExplainReport) -> Iterator[tuple[str, str]]:
    """What the row says."""
    place = f"{report.interface or 'no interface'}, {', '.join(report.addresses) or 'no address'}"
    yield "row", f"{report.row}, {report.owner_word} {report.owner}, {place}"
    yield "key", report.public_key or f"cannot be read: it {report.key_fault}"
    yield "psk", f"the row has {'one' if report.preshared_key else 'none'}"
    yield "status", report.status
    known = [f"{label} {text}" for label, text in (report.details or {}).items() if text]
    known += [f"{label} {short_time(at)}" for label, at in (report.times or {}).items() if at]
    for first in range(0, len(known), 3):
        yield "" if first else "details", ", ".join(known[first : first + 3])
    if report.activation_deadline and report.activation_seconds_left is not None:
        left = report.activation_seconds_left
        yield "activation", f"{'ends' if left >= 0 else 'ended'} {short_time(report.activation_deadline)}, {ago(-left)}"


def _kernel(report: ExplainReport, *, verbose: bool) -> Iterator[tuple[str, str]]:
    """The live peers. ``verbose``: with the baselines."""
    if report.kernel_error:
        yield "kernel", f"cannot be asked: {report.kernel_error}"
    elif not report.peers:
        held = "".join(f", {holder} holds {address}" for address, holder in report.addresses_held_by.items())
        yield "kernel", f"has no peer of the device{held}"
    for one in report.peers:
        whose = "" if one.of_this_key else f"another key of it, {one.peer}, "
        yield one.interface, f"{whose}endpoint {one.endpoint or 'unknown'}, {_handshake(one, report.at)}"
        psk = f"{'a' if one.preshared_key else 'no'} preshared key"
        alive = f"keepalive {f'{one.persistent_keepalive} s' if one.persistent_keepalive else 'off'}"
        yield "", f"{', '.join(one.allowed_ips) or 'no address'}, {psk}, {alive}, {_two(one.counters)}"
        if not verbose:
            continue
        if (base := one.baseline) is None:
            yield "baseline", "none yet: the next cycle begins it"
            continue
        sampled = f"last moved {short_time(base.sampled)}"
        yield "baseline", f"{_two(base.counters)}, {base.state}, {sampled}, epoch {base.epoch}"
        reset = " (the counters went back: they count from zero)" if one.counter_reset else ""
        yield "not posted", f"{_two(one.unposted)}{reset}"
    for base in report.baselines_without_peer if verbose else ():
        yield "baseline", f"{base.interface} {base.peer}, {base.state}, {short_time(base.sampled)}: the peer is gone"


def _handshake(one: PeerReport, now: str) -> str:
    age = seconds_between(one.latest_handshake, now)
    if age is None:
        return "no handshake yet"
    return f"handshake {short_time(one.latest_handshake)}, {ago(age)}{' (online)' if abs(age) < ONLINE else ''}"


def _plan(report: ExplainReport) -> Iterator[tuple[str, str]]:
    for due in report.transitions:
        yield "due", due.text
    for one in report.plan:
        yield "plan", f"{one.action.value} on {one.interface}: {one.reason}{WAITS[one.when]}"
    if not report.plan and not report.transitions:
        yield "plan", "nothing to do"


def _bytes(counters: dict[str, CountersReport]) -> Iterator[list[Line]]:
    for label, one in counters.items():
        yield [(f"{label:9}", ""), (format_bytes(one.rx), ""), (format_bytes(one.tx), "")]


def _two(counters: CountersReport) -> str:
    return f"rx {format_bytes(counters.rx)} tx {format_bytes(counters.tx)}"
