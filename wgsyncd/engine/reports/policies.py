"""Makes the part of the status report that is about policies and the packet filter."""

from dataclasses import dataclass

from wgsyncd.core.policies.status import PLANE, Traffic
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.redact import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesReport:
    """How the packet filter enforces policies. Numbers are since the start, without "devices" to "plan"."""

    error: str  # why the packet filter could not be read or changed. "" if it could
    devices: int  # with an element in the ruleset
    profiles: int  # lists of addresses that devices share
    withheld: int  # devices that would lose all access, and keep it until an admin approves
    stale_profiles: int  # devices whose client routes other addresses than their policies are about
    shared_addresses: int  # addresses that several devices have, and that reach nothing
    plan: str  # the plan id that the admin approves. "" if nothing is withheld
    changes: int  # transactions of the packet filter
    drifts: int  # how often another program had changed the table
    restorations: int  # how often the table was put right
    last_program: str  # the program that last changed the table, and its process id
    forgotten_flows: int  # flows of addresses that changed hands
    accepted: Traffic
    refused: dict[str, Traffic]  # by interface


def policies_report(status: DaemonStatus) -> PoliciesReport | None:
    """The report. None: this process enforces no policies."""
    found = status.policies
    if found is None:
        return None
    return PoliciesReport(
        error=redact(status.plane_errors.get(PLANE, "")),
        devices=found.devices,
        profiles=found.profiles,
        withheld=found.withheld,
        stale_profiles=found.stale_profiles,
        shared_addresses=found.shared_addresses,
        plan=found.plan_id,
        changes=found.changes,
        drifts=found.drifts,
        restorations=found.restorations,
        last_program=redact(found.culprit),
        forgotten_flows=found.forgotten_flows,
        accepted=found.accepted,
        refused=dict(found.refused),
    )
