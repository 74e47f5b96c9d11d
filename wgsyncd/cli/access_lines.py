"""The lines of `wgsyncd explain` about policies."""

from collections.abc import Iterator, Sequence

from wgsyncd.cli.explain_access import NO_POLICY, PolicyReport, shared_text

MOST = 5  # ranges in a line


def policy_verdict(report: PolicyReport) -> Iterator[tuple[str, str]]:
    """What an admin has to know first, as a text and its kind."""
    if report.to is not None:
        yield report.to.text, "ok" if report.to.allowed else "fault"
    elif report.shared:
        yield f"It reaches nothing: {shared_text(report.shared)}. Give one of the devices another address", "fault"
    elif report.enforced and not report.kept and not report.allowed:
        kept = ". The guard keeps its old access: see filter below" if report.withheld else ": see policies below"
        yield f"No policy lets it reach an address{kept}", "held"


def policy_lines(report: PolicyReport) -> Iterator[tuple[str, str]]:
    """The policies and what follows from them, as labels and texts."""
    if not report.enforced:
        yield "policies", "are not enforced by the configuration: nothing is refused here"
        return
    if report.kept:
        yield "policies", "do not judge it: its key is in peers.always_keep"
        return
    if not report.policies:
        yield "policies", f"none: {NO_POLICY}"
    for number, one in enumerate(report.policies, 1):
        covers = ", ".join([*one.destinations, *["all addresses"] * one.full_tunnel]) or "nothing"
        fault = f" ({one.fault})" if one.fault else ""
        whose = " and ".join(one.targets)
        yield "policies" if number == 1 else "", f"{number}. {one.effect} {covers}: {one.name!r}{fault}"
        yield "", f"   priority {one.priority}, for {whose}"
    if report.shared:
        yield "reaches", f"nothing: {shared_text(report.shared)}"
        return
    dns = f"port 53 of {', '.join(report.dns_servers)}" if report.dns_servers else ""
    yield "reaches", ", ".join(filter(None, (*_first(report.allowed), dns))) or "nothing"
    if report.filter_error:
        yield "filter", f"cannot be asked: {report.filter_error}"
    elif report.installed is None:
        yield "filter", "has no entry of the device: nothing of it passes"
    elif report.installed != report.allowed:
        why = ", because the guard keeps its old access (wgsyncd plan)" if report.withheld else ""
        yield "filter", f"lets it reach {', '.join(_first(report.installed)) or 'nothing'} now{why}"
    if report.stale:
        yield "client", "its client profile is stale: it routes other addresses. Issue the device's configuration again"


def _first(ranges: Sequence[str]) -> list[str]:
    more = len(ranges) - MOST
    return [*ranges[:MOST], f"{more} more ranges"] if more > 1 else list(ranges)
