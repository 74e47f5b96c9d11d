"""What would be done now, and whether kernel, books and figures add up. Reads and asks core; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect import verify
from wgsyncd.core.inspect.verify import Discrepancy
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.state import NodeState
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.interfaces import Actual, Interfaces
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.ports import Snapshot, Store

EARLY = 4  # o'clock
DAY = 25 * 3600.0  # seconds: the longest that a zone has
LINES = 20  # of the log; the rest is counted

_log = log.get("verify")


class Preview(NamedTuple):
    """An outlook and what it was decided from."""

    decision: Decision
    snapshot: Snapshot
    node_state: NodeState
    now: float


class Inspector:
    """Looks at one node. ``windows``, ``now`` and ``decide`` are the agent's: which peers are wanted is decided in one
    place."""

    def __init__(
        self, settings: Settings, store: Store, interfaces: Interfaces, calendar: Callable[[float], UsageCalendar],
        now: Callable[[], float], decide: Callable[[Snapshot, Actual, NodeState, float], Decision], state: AgentState,
    ) -> None:  # fmt: skip
        self._settings, self._store, self._interfaces = settings, store, interfaces
        self._calendar, self._now, self._decide, self._state = calendar, now, decide, state

    def preview(self) -> Decision:
        """What a cycle would do now."""
        return self.view().decision

    def view(self) -> Preview:
        """The same, with what it was decided from."""
        now = self._now()
        actual = self._interfaces.read(create=False)
        snapshot = self._store.snapshot()
        node_state = self._store.load_state(self._calendar(now), create=False)
        decision = replace(self._decide(snapshot, actual, node_state, now), quarantined=snapshot.quarantined)
        return Preview(decision, snapshot, node_state, now)

    def verify(self, rounds: Iterator[None]) -> tuple[Discrepancy, ...]:
        """What does not add up, and notes. Kernel and books are never read at one moment, so while bytes flow there is
        always something: it stands if it is found again after each of ``rounds``, in which the daemon works."""
        return _confirm(self._at_the_kernel, rounds) + _confirm(self._at_the_figures, rounds)

    def run_verification(self, work: Callable[[], object], status: DaemonStatus) -> None:
        """The daemon's own verification, to metrics and log. ``work`` is its round between two looks."""

        def rounds() -> Iterator[None]:
            work()
            yield

        findings = self.verify(rounds())
        self._state.verified_at, self._state.has_findings = self._now(), bool(verify.faults(findings))
        publish(findings, status)

    def _at_the_kernel(self) -> list[Discrepancy]:
        now = self._now()
        snapshot, node_state = self._store.snapshot(), self._store.load_state(self._calendar(now), create=False)
        actual = self._interfaces.read(create=False)
        desired = self._decide(snapshot, actual, node_state, now).desired
        return [
            *verify.unread(self._interfaces.read_errors),
            *verify.check_kernel(actual, node_state, desired),
            *verify.waiting(snapshot.quarantined),
        ]

    def _at_the_figures(self) -> list[Discrepancy]:
        sides = ("tx", "rx") if self._settings.mikyun.perspective == "device" else ("rx", "tx")
        figures = self._store.device_totals(verify.make_ranges(self._calendar(self._now())))
        return list(verify.check_totals(figures, sides))


def _confirm(look: Callable[[], Sequence[Discrepancy]], rounds: Iterator[None]) -> tuple[Discrepancy, ...]:
    """What is found and found again: done as soon as nothing stands, or when there are no rounds left."""
    found = tuple(look())
    while verify.faults(found):
        try:
            next(rounds)
        except StopIteration:
            break
        found = verify.confirmed(found, look())
    return found


def is_due(state: AgentState, now: float, zone: ZoneInfo) -> bool:
    """Asked every hour. Once a day, before people get up; and in any hour where none succeeded for a day (the daemon is
    new, or they failed), or the last one found something."""
    early = datetime.fromtimestamp(now, zone).hour == EARLY
    return early or state.has_findings or now - state.verified_at > DAY


def publish(findings: Sequence[Discrepancy], status: DaemonStatus) -> None:
    """In the metrics and, where something is wrong, in the log."""
    faults = verify.faults(findings)
    status.findings = {check.value: sum(1 for one in faults if one.check is check) for check in verify.FAULTS}
    for one in faults[:LINES]:
        _log.warning("does not add up", check=one.check.value, device=one.device, what=one.text)
    if len(faults) > LINES:
        _log.warning("more does not add up: see `wgsyncd verify`", findings=len(faults) - LINES)
