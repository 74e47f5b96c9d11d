"""The inspector previews a cycle, and verifies that kernel, node state and stored bytes agree.

It writes neither to the kernel nor to the store.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect import verify
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.inspect.verify import Discrepancy
from wgsyncd.core.model import DeviceRow
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.state import Condition, NodeState
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.interfaces import Actual, Interfaces
from wgsyncd.engine.planes import Planes
from wgsyncd.engine.reports.bandwidth import BandwidthPlan, bandwidth_plan
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import UserError
from wgsyncd.ports import Snapshot, Store

EARLY = 4  # the hour of the day, in node.zone
DAY = 25 * 3600.0  # seconds: the longest day of a time zone
LINES = 20  # discrepancies that are logged. More of them are only counted.

_log = log.get("verify")


class Preview(NamedTuple):
    """A decision, and what it was made from."""

    decision: Decision
    snapshot: Snapshot
    node_state: NodeState
    now: float  # UNIX seconds


class FullPreview(NamedTuple):
    """What a cycle would do to peers, access and bandwidth, and the store's own conditions."""

    decision: Decision
    access: AccessPlan | None = None
    bandwidth: BandwidthPlan | None = None
    conditions: tuple[Condition, ...] = ()
    rows: tuple[DeviceRow, ...] = ()  # they say what people call devices


class Inspector:
    """Reads the state of one node for previews and verifications.

    The agent passes ``calendar``, ``now``, ``decide`` and ``planes``, so that only one place decides what is desired.
    """

    def __init__(
        self, settings: Settings, store: Store, interfaces: Interfaces, calendar: Callable[[float], UsageCalendar],
        now: Callable[[], float], decide: Callable[[Snapshot, Actual, NodeState, float], Decision], state: AgentState,
        planes: Planes,
    ) -> None:  # fmt: skip
        self._settings, self._store, self._interfaces = settings, store, interfaces
        self._calendar, self._now, self._decide, self._state, self._planes = calendar, now, decide, state, planes

    def calendar(self) -> UsageCalendar:
        return self._calendar(self._now())

    def preview(self) -> Decision:
        """The decision that a cycle would make now. StoreError if the store does not answer."""
        return self.view().decision

    def look(self) -> Actual:
        """The actual peers. The store is not asked."""
        return self._interfaces.read(create=False)

    def check_withheld(self, plan_id: str) -> bool:
        """Whether the plan is about access. UserError if the plan is not one that is withheld now."""
        decision, access = self.preview_all()[:2]
        now = [decision.plan_id] if decision.is_withholding else []
        now += [access.plan_id] if access is not None and access.withheld else []
        now += [one.approval for one in decision.identity_changes.values()]
        if not now:
            raise UserError("nothing is withheld: there is nothing to approve")
        if plan_id not in now:
            raise UserError(f"{plan_id} is not the plan of now, which is {' or '.join(now)}: run `wgsyncd plan` again")
        return access is not None and plan_id == access.plan_id

    def preview_all(self) -> FullPreview:
        """What a cycle would do now to the peers, and to access and bandwidth of devices if this process sees to it."""
        decision, snapshot, _, _ = self.view()
        access, rates = self._planes.access(snapshot, decision), self._planes.bandwidth(snapshot, decision)
        policy = self._settings.shaping_policy
        bandwidth = bandwidth_plan(rates, snapshot.terms, policy) if rates is not None else None
        return FullPreview(decision, access, bandwidth, tuple(sorted(snapshot.conditions or ())), snapshot.rows)

    def view(self, *, adopted: bool = False) -> Preview:
        """The decision that a cycle would make now, with the rows and the node state that it was made from.

        ``adopted``: as if an admin had adopted the node.
        """
        now = self._now()
        actual = self._interfaces.read(create=False)
        snapshot = self._store.snapshot()
        node_state = self._store.load_state(self._calendar(now), create=False)
        seen = snapshot._replace(adopted=True) if adopted else snapshot
        decision = replace(self._decide(seen, actual, node_state, now), quarantined=snapshot.quarantined)
        return Preview(decision, snapshot, node_state, now)

    def verify(self, rounds: Iterator[None]) -> tuple[Discrepancy, ...]:
        """The discrepancies that last, and notes.

        Kernel and store cannot be read at the same instant, so flowing bytes always cause some discrepancies. A
        discrepancy counts only if every later check finds it again. Between two checks, one of ``rounds`` lets the
        daemon work.
        """
        return _confirm(self._check_peers, rounds) + _confirm(self._check_usage, rounds)

    def run_verification(self, work: Callable[[], object], status: DaemonStatus) -> None:
        """Verify for the daemon, and publish the result in metrics and log. ``work`` runs between two checks."""

        def rounds() -> Iterator[None]:
            work()
            yield

        findings = self.verify(rounds())
        self._state.verified_at, self._state.has_findings = self._now(), bool(verify.faults(findings))
        publish(findings, status)

    def _check_peers(self) -> list[Discrepancy]:
        now = self._now()
        snapshot, node_state = self._store.snapshot(), self._store.load_state(self._calendar(now), create=False)
        actual = self._interfaces.read(create=False)
        decision = self._decide(snapshot, actual, node_state, now)
        return [
            *verify.unread({name: one.text for name, one in self._interfaces.read_errors.items()}),
            *verify.check_kernel(actual, node_state, decision.desired),
            *self._planes.verify(snapshot, decision),
            *verify.waiting(snapshot.quarantined),
        ]

    def _check_usage(self) -> list[Discrepancy]:
        return list(verify.check_totals(self._store.device_totals(verify.make_ranges(self._calendar(self._now())))))


def _confirm(look: Callable[[], Sequence[Discrepancy]], rounds: Iterator[None]) -> tuple[Discrepancy, ...]:
    """What ``look`` finds each time. The checks end when no discrepancy is left, or when ``rounds`` end."""
    found = tuple(look())
    while verify.faults(found):
        try:
            next(rounds)
        except StopIteration:
            break
        found = verify.confirmed(found, look())
    return found


def is_due(state: AgentState, now: float, zone: ZoneInfo) -> bool:
    """Whether a verification is due. The daemon asks once an hour. ``now``: UNIX seconds.

    A verification is due at 4 o'clock, before people get up. It is also due every hour after one that found
    discrepancies, and as long as none was completed within a day: the daemon is new, or the verifications failed.
    """
    early = datetime.fromtimestamp(now, zone).hour == EARLY
    return early or state.has_findings or now - state.verified_at > DAY


def publish(findings: Sequence[Discrepancy], status: DaemonStatus) -> None:
    """Count the discrepancies for the metrics, and log the first ones."""
    faults = verify.faults(findings)
    status.findings = {check.value: sum(1 for one in faults if one.check is check) for check in verify.FAULTS}
    labels = Labels.of_rows(status.rows or (), {one.device for one in faults})
    for one in faults[:LINES]:
        facts = {"check": one.check.value, "device": one.device, **labels.fact(one.device)}
        _log.warning("discrepancy found", **facts, what=wording.discrepancy(one))
    if len(faults) > LINES:
        _log.warning("more discrepancies found: see `wgsyncd verify`", findings=len(faults) - LINES)
