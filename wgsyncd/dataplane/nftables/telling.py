"""Tells admins of what the packet filter plans and mends: in the log, the audit trail and the status."""

import time
from collections.abc import Sequence

from wgsyncd import log
from wgsyncd.core.audit import ACCESS, AuditAction, AuditFacts, Happening
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.model import DeviceRow
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.policies.status import FilterStatus

SHOWN = 5  # devices, or addresses, that a line of the log names
TOLD = 3600.0  # seconds: so long another repair after the same program is not audited


class Teller:
    """Keeps what was told, so that lasting trouble is told when it begins and ends. ``happenings``: for the audit."""

    def __init__(self, status: FilterStatus, happenings: list[Happening]) -> None:
        self._status, self._happenings = status, happenings
        self._log = log.get("policies")
        self._changed = log.OnChange()
        self._told: dict[str, float] = {}  # by program: monotonic seconds when a repair was last told
        self._most_withheld = 0  # devices, when a withheld loss of access was last told

    def tell(self, plan: AccessPlan, rows: Sequence[DeviceRow]) -> None:
        """Tell what needs an admin. ``rows``: they say what people call devices."""
        self._status.stale_profiles, self._status.shared_addresses = len(plan.stale), len(plan.shared)
        if self._changed("stale", bool(plan.stale)) and plan.stale:
            some = sorted(plan.stale)[:SHOWN]
            self._log.warning(
                "clients route other addresses than their policies allow", profiles=len(plan.stale), devices=some,
                called=_called(rows, some),
            )  # fmt: skip
        self._tell_shared(plan, rows)
        self._tell_withheld(plan)
        for fault in plan.faults:
            if self._changed(fault, "faulty"):
                self._log.warning("policy is faulty", policy=fault.name, part=fault.kind.value, text=fault.text[:45])

    def _tell_shared(self, plan: AccessPlan, rows: Sequence[DeviceRow]) -> None:
        if not self._changed("shared", plan.shared or None):
            return
        if plan.shared:
            some = sorted({one for ids in plan.shared.values() for one in ids if one})[:SHOWN]
            self._log.warning(
                "several devices have one address, so it reaches nothing", count=len(plan.shared),
                addresses=[host.address for host in plan.shared][:SHOWN], devices=some, called=_called(rows, some),
            )  # fmt: skip
        else:
            self._log.info("no address belongs to several devices any more", after=self._changed.lasting("shared"))

    def _tell_withheld(self, plan: AccessPlan) -> None:
        count = self._status.withheld = len(plan.withheld)
        self._status.plan_id = plan.plan_id if count else ""
        if self._changed("withheld", plan.plan_id if count else "") and count >= 2 * self._most_withheld and count:
            todo = f"A mistake? Restore the rows, and do nothing else. Meant? wgsyncd approve {plan.plan_id}"
            said = "NOTHING WAS TAKEN AWAY: the guard keeps the access of devices"
            self._log.error(said, devices=count, plan=plan.plan_id, todo=todo)
            facts = AuditFacts(condition=ACCESS, count=count, plan=plan.plan_id)
            self._happenings.append((AuditAction.GUARD_TRIPPED, facts))
            self._most_withheld = count
        if not count:
            self._most_withheld = 0

    def tell_repair(self) -> None:
        """Audit a repair, of one program once an hour. Two daemons in one network namespace would fill the trail."""
        name, now = self._status.culprit.partition(" (")[0], time.monotonic()
        if now - self._told.get(name, -TOLD) >= TOLD:
            self._told[name] = now
            facts = AuditFacts(count=self._status.devices, program=self._status.culprit or "unknown")
            self._happenings.append((AuditAction.RULESET_RESTORED, facts))


def _called(rows: Sequence[DeviceRow], devices: Sequence[str]) -> list[str]:
    labels = Labels.of_rows(rows, devices)
    return [labels.of(one) or "?" for one in devices]
