"""What `wgsyncd explain` gathers about one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.explain import Explanation, explain, find_rows
from wgsyncd.core.inspect.names import DeviceName, find_device, suggestions
from wgsyncd.core.model import DeviceRow, encode_key, fingerprint
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.inspector import Preview
from wgsyncd.errors import StoreError, UserError
from wgsyncd.ports import AuditRow, DeviceDetails, Perspective, ReportSource, Rule

MOST = 10  # audit rows


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that the command knows about the device."""

    story: Explanation
    rules: Sequence[Rule]
    details: DeviceDetails | None
    perspective: Perspective
    audit: Sequence[AuditRow]
    no_audit: str  # why it cannot be read
    settings: Settings
    calendar: UsageCalendar

    def time(self, at: float | None) -> str | None:
        """A time for machines."""
        return None if at is None else datetime.fromtimestamp(int(at), self.settings.node.zone).isoformat()


def gather(device: str, settings: Settings, agent: Agent, reports: ReportSource) -> Gathered:
    """Find the device, and everything about it."""
    view = agent.inspector.view()
    row = _find(device, view)
    interface_of = {one.store_name: name for name, one in settings.interfaces.items()}
    story = explain(
        row, view.decision, view.node_state, interface_of, frozenset(settings.node.ignored_interfaces), view.now
    )
    audit: Sequence[AuditRow] = ()
    no_audit = ""
    try:
        audit = reports.audit(row.device, MOST)
    except StoreError as error:  # only one part of the story is missing
        no_audit = str(error)
    calendar = UsageCalendar(view.now, int(settings.usage.bucket_width), settings.node.zone)
    rules = reports.rules(story.settled, view.now)
    return Gathered(
        story, rules, reports.details(row.id), reports.perspective, audit, no_audit, settings, calendar
    )  # fmt: skip


def _find(text: str, view: Preview) -> DeviceRow:
    """The row that ``text`` names. UserError, with similar names, if there is none or more than one."""
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
    for name, state in view.decision.actual.items():
        for key, peer in state.peers.items():
            ips = ", ".join(sorted(map(str, peer.config.allowed_ips)))
            if text == encode_key(key) or text in {str(net).rpartition("/")[0] for net in peer.config.allowed_ips}:
                raise UserError(f"no row has this, but {name} has a peer {fingerprint(key)} with {ips or 'no address'}")
    alike = suggestions(text, [one.device for one in names])
    raise UserError(f"no device is called {text!r}" + (f"; alike: {', '.join(alike)}" if alike else ""))
