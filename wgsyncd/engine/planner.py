"""From rows and dumps to an outlook, with what has to be kept in mind between cycles to do so: which rows wait for a
handshake or a deadline, and when their devices were first seen to shake hands. Asks nobody and writes nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace

from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Change, ChangeKind, DeviceRow, PublicKey, Transition
from wgsyncd.core.peers import lifecycle
from wgsyncd.core.peers.desired import PeerPolicy, build_desired
from wgsyncd.core.peers.guard import Decision, RemovalLimits, apply_guard
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.validate import DesiredPeer, InterfaceSpec
from wgsyncd.core.state import NodeState
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.interfaces import Actual
from wgsyncd.ports import Snapshot


class Planner:
    """One node's."""

    def __init__(self, settings: Settings, state: AgentState) -> None:
        self._state = state
        self._sites = tuple(
            InterfaceSpec(name, one.store_name, one.networks, one.own_hosts, int(one.persistent_keepalive))
            for name, one in settings.interfaces.items()
        )
        self._interface_of = {site.store_name: site.interface for site in self._sites}
        guard = settings.guard
        self._limits = RemovalLimits(guard.always_allowed, guard.max_share, guard.small_node)
        self.policy = PeerPolicy(
            frozenset(settings.node.ignored_interfaces), settings.peers.foreign, frozenset(settings.peers.always_keep)
        )
        # Of the pending rows, sorted: the daemon's loop asks for the nearest one at every turn.
        self._deadlines = lifecycle.deadlines(state.pending_rows)
        self._peers: Mapping[
            str, Mapping[PublicKey, DesiredPeer]
        ] = {}  # as last wanted: the same row is not read twice

    # -- what is kept in mind

    def load(self, rows: Iterable[DeviceRow]) -> None:
        """All rows, as just read."""
        self._set_pending(filter(lifecycle.is_pending, rows))
        self._state.rows_loaded = True

    def update_rows(self, rows: Iterable[DeviceRow]) -> None:
        """Some rows, as just read."""
        some = {row.id: row for row in rows}
        others = (row for row in self._state.pending_rows if row.id not in some)
        self._set_pending((*others, *filter(lifecycle.is_pending, some.values())))

    def transitions_applied(self, steps: Iterable[Transition]) -> None:
        """These steps are written."""
        self._set_pending(lifecycle.with_transitions(self._state.pending_rows, steps))

    def next_deadline(self, now: float) -> float | None:
        """UNIX seconds of the nearest QR end that is known."""
        at = bisect_left(self._deadlines, now)
        return self._deadlines[at] if at < len(self._deadlines) else None

    def _set_pending(self, rows: Iterable[DeviceRow]) -> None:
        self._state.pending_rows = tuple(rows)
        self._deadlines = lifecycle.deadlines(self._state.pending_rows)

    # -- deciding

    def due(self, rows: Iterable[DeviceRow], actual: Actual, now: float, *, some: bool = False) -> list[Transition]:
        """The steps that are due in devices' lives. ``some``: these are not all rows."""
        waiting = [row for row in rows if lifecycle.is_pending(row)]
        known = self._state.first_handshakes
        seen = lifecycle.first_handshakes(waiting, actual, known)
        self._state.first_handshakes = {**known, **seen} if some else seen
        return lifecycle.due_transitions(
            waiting, self._interface_of, actual, self._state.first_handshakes, now, self.policy.ignored_interfaces
        )

    def decide(
        self, snapshot: Snapshot, actual: Actual, node_state: NodeState, now: float, *, part_of: int | None = None
    ) -> Decision:
        """What a cycle would do. ``part_of``: how many peers there are, where ``live`` holds some of them."""
        steps = tuple(self.due(snapshot.rows, actual, now, some=part_of is not None))
        rows = lifecycle.with_transitions(snapshot.rows, steps)
        desired = build_desired(
            rows, self._sites, self.policy, actual, now, node_state.installed_keys,
            self._take_cached() if part_of is None else self._peers,
        )  # fmt: skip
        if part_of is None:
            self._peers = desired.peers
        plan = make_plan(desired, actual, node_state.records, self.policy)
        plan = plan if part_of is None else replace(plan, live_count=part_of)
        return replace(apply_guard(desired, plan, actual, self._limits, snapshot.approved), transitions=steps)

    def _take_cached(self) -> Mapping[str, Mapping[PublicKey, DesiredPeer]]:
        """The peers as last wanted, whose table is needed no more once the next one is made."""
        peers, self._peers = self._peers, {}
        return peers

    def drift(self, decision: Decision, after: Actual, node_state: NodeState) -> list[Change]:
        """What still differs after a plan was applied, but for what it withheld."""
        if not decision.plan.changes:
            return []
        plan = make_plan(decision.desired, after, node_state.records, self.policy)
        undone = {(c.kind, c.interface, c.public_key) for c in decision.plan.withheld}
        return [c for c in plan.changes if (c.kind, c.interface, c.public_key) not in undone]

    def revocations(self, snapshot: Snapshot, actual: Actual, known: NodeState, now: float) -> list[Change]:
        """The removals of peers whose row wants none, as far as the guard lets them. They need nothing written first,
        unless the row's QR has just ended."""
        # An approval that cannot be used up would be used again.
        decision = self.decide(replace(snapshot, approved=None), actual, known, now)
        return [c for c in decision.plan.of(ChangeKind.REMOVE) if c.public_key in decision.desired.revoked]

    def expired(self, steps: Iterable[Transition], actual: Actual) -> list[Change]:
        """The removals of peers whose QR has ended by these steps, if the guard lets them."""
        going = lifecycle.expired_removals(steps, actual, self.policy.always_keep)
        return going if self._limits.permits(len(going), sum(len(state.peers) for state in actual.values())) else []
