"""The planner makes a decision from rows, the actual peers and the node state.

Between cycles it remembers which rows wait for a handshake or a deadline, and the first handshake of their keys. It
reads and writes neither kernel nor store.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Change, ChangeKind, DeviceId, DeviceRow, PublicKey, Transition
from wgsyncd.core.network import Network, Networks
from wgsyncd.core.peers import lifecycle
from wgsyncd.core.peers.desired import PeerPolicy, build_desired
from wgsyncd.core.peers.guard import AccessMemory, Decision, RemovalLimits, apply_guard
from wgsyncd.core.peers.identities import identity_changes
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.removals import unrecorded
from wgsyncd.core.peers.validate import DesiredPeer, InterfaceSpec
from wgsyncd.core.shaping.limits import with_lost_peers
from wgsyncd.core.state import NodeState, remembered
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.gateways import networks_of
from wgsyncd.engine.interfaces import Actual
from wgsyncd.ports import Snapshot


class Planner:
    """Decides for one node: due transitions, desired peers, plan and guard. ``uptime``: seconds since the boot."""

    def __init__(self, settings: Settings, state: AgentState, uptime: Callable[[], float]) -> None:
        self._settings, self._state, self._uptime = settings, state, uptime
        self._sites: tuple[InterfaceSpec, ...] = ()
        self._interface_of = {one.store_name: name for name, one in settings.interfaces.items()}
        guard = settings.guard
        self._limits = RemovalLimits(guard.always_allowed, guard.max_share, guard.small_node)
        self.policy = PeerPolicy(
            frozenset(settings.node.ignored_interfaces), settings.peers.foreign, frozenset(settings.peers.always_keep)
        )
        self._is_adopted = False  # as the last whole snapshot says
        # The deadlines of the pending rows, sorted. The daemon's loop asks for the next one in every turn.
        self._deadlines = lifecycle.deadlines(state.pending_rows)
        self._peers: Mapping[
            str, Mapping[PublicKey, DesiredPeer]
        ] = {}  # the desired peers of the last decision, so that no unchanged row is validated again
        self._set_sites({name: one.networks for name, one in settings.interfaces.items()})

    # -- what the planner remembers

    def load(self, rows: Iterable[DeviceRow]) -> None:
        """Remember which of all rows are pending. ``rows`` were just read."""
        self._set_pending(filter(lifecycle.is_pending, rows))
        self._state.rows_loaded = True

    def update_rows(self, rows: Iterable[DeviceRow]) -> None:
        """Replace these rows among the pending ones. ``rows`` were just read, and all other rows stay."""
        some = {row.id: row for row in rows}
        others = (row for row in self._state.pending_rows if row.id not in some)
        self._set_pending((*others, *filter(lifecycle.is_pending, some.values())))

    def transitions_applied(self, steps: Iterable[Transition]) -> None:
        """Note that these transitions are committed. Their rows may not be pending any more."""
        self._set_pending(lifecycle.with_transitions(self._state.pending_rows, steps))

    def next_deadline(self, now: float) -> float | None:
        """The next activation deadline of the pending rows, in UNIX seconds. None: no deadline lies ahead."""
        at = bisect_left(self._deadlines, now)
        return self._deadlines[at] if at < len(self._deadlines) else None

    def _set_pending(self, rows: Iterable[DeviceRow]) -> None:
        self._state.pending_rows = tuple(rows)
        self._deadlines = lifecycle.deadlines(self._state.pending_rows)

    # -- deciding

    def due(
        self, rows: Iterable[DeviceRow], actual: Actual, now: float, *,
        some: bool = False, node_state: NodeState | None = None,
    ) -> list[Transition]:  # fmt: skip
        """The transitions that are due at ``now`` (UNIX seconds).

        ``some``: ``rows`` are not all rows, so the first handshakes of other rows stay remembered. ``node_state``: by
        default the last known one.
        """
        pending = filter(lifecycle.is_pending, rows)
        waiting, read_at = lifecycle.issued_by(pending, self._state.issues_read_at, now)
        self._state.issues_read_at = {**self._state.issues_read_at, **read_at} if some else read_at
        known = self._state.first_handshakes
        seen = lifecycle.first_handshakes(waiting, actual, {**self._kept_handshakes(waiting, node_state), **known})
        self._state.first_handshakes = {**known, **seen} if some else seen
        return lifecycle.due_transitions(
            waiting, self._interface_of, actual, self._state.first_handshakes, now, self.policy.ignored_interfaces
        )

    def _kept_handshakes(self, rows: Iterable[DeviceRow], node_state: NodeState | None) -> dict[PublicKey, int]:
        """The earliest handshake that a record or a waiting sample has for the key of each row.

        The kernel may have a later one only, after a restart or while the store was away.
        """
        waiting, found = {key: row for row in rows if (key := row.key) is not None}, dict[PublicKey, int]()
        known, backlog = node_state or self._state.last_known, self._state.backlog
        for record in known.records.each() if known is not None and waiting else ():
            row = waiting.get(record.public_key)
            if row is None or (row.id, row.device) != (record.row_id, record.device):
                continue
            if record.handshake > 0 and lifecycle.counts(row, record.handshake):
                found[record.public_key] = record.handshake
        for sample in backlog.samples if backlog is not None else ():
            for key in waiting.keys() & sample.state.peers.keys():
                if (handshake := sample.state.peers[key].latest_handshake) and lifecycle.counts(
                    waiting[key], handshake
                ):
                    found[key] = min(found.get(key, handshake), handshake)
        return found

    def decide(
        self, snapshot: Snapshot, actual: Actual, node_state: NodeState, now: float, *, part_of: int | None = None
    ) -> Decision:
        """The decision of a cycle, as if the due transitions were committed. ``now``: UNIX seconds.

        ``part_of``: the number of all actual peers, if ``actual`` has only some of them. The guard needs this number.
        """
        if part_of is None:
            self._is_adopted = snapshot.adopted
            self._set_sites(networks_of(self._settings, snapshot))
        policy = self._policy_of_now()
        steps = tuple(self.due(snapshot.rows, actual, now, some=part_of is not None, node_state=node_state))
        rows = with_lost_peers(lifecycle.with_transitions(snapshot.rows, steps), node_state, actual)
        desired = build_desired(
            rows, self._sites, policy, actual, now, node_state.records.by_device,
            self._take_cached() if part_of is None else self._peers, self._moved(snapshot, node_state),
        )  # fmt: skip
        if part_of is None:
            self._peers = desired.peers
        plan = make_plan(desired, actual, node_state.records, policy)
        plan = plan if part_of is None else replace(plan, live_count=part_of)
        uptime = self._uptime()
        undone = unrecorded(node_state, actual, desired, uptime, plan.live_count, self._state.approved_removals)
        past = [one for one in remembered((*node_state.removals, *undone), uptime) if not one.access]
        decision = apply_guard(desired, plan, actual, self._limits, snapshot.approved, past, uptime, node_state.records)
        right = {name: (one.public_key, one.listen_port) for name, one in snapshot.gateways.items()}
        changes = identity_changes(node_state.conditions, actual, right, snapshot.approved)
        memory = self._access_memory(node_state, uptime)
        return replace(decision, transitions=steps, access=memory, identity_changes=changes)

    def _set_sites(self, networks: Mapping[str, Networks]) -> None:
        """Validate rows against these networks from now on. After a change, every row is validated again."""
        sites = tuple(
            InterfaceSpec(name, one.store_name, networks[name], one.own_hosts, int(one.persistent_keepalive))
            for name, one in self._settings.interfaces.items()
        )
        if sites != self._sites:
            self._sites, self._peers = sites, {}

    def _access_memory(self, node_state: NodeState, uptime: float) -> AccessMemory:
        every = (*node_state.removals, *self._state.losses)
        losses = (one for one in remembered(every, uptime) if one.access)
        return AccessMemory(tuple(one._replace(at=one.at - uptime) for one in losses), self._state.access_recorded)

    def _policy_of_now(self) -> PeerPolicy:
        """Until an admin has adopted the node, nobody has said that its foreign peers may go."""
        waits = not self._is_adopted and self.policy.foreign == "remove"
        return replace(self.policy, foreign="report") if waits else self.policy

    def _moved(self, snapshot: Snapshot, node_state: NodeState) -> Mapping[DeviceId, str]:
        """By row id: the other node's interface of each recorded device that has moved there.

        The rows of a few devices may be rows of other nodes. A row id that was used again names no moved device.
        """
        others = {row.id: row for row in snapshot.rows if row.interface in self.policy.ignored_interfaces}
        if not others:
            return snapshot.moved
        own = {(record.row_id, record.device) for record in node_state.records.each()}
        return dict(snapshot.moved) | {one.id: one.interface for one in others.values() if (one.id, one.device) in own}

    def _take_cached(self) -> Mapping[str, Mapping[PublicKey, DesiredPeer]]:
        """The desired peers of the last decision. The planner gives up its reference, so that memory is freed early."""
        peers, self._peers = self._peers, {}
        return peers

    def drift(
        self, decision: Decision, after: Actual, node_state: NodeState, waiting: frozenset[Network] = frozenset()
    ) -> list[Change]:
        """The changes that are still missing after a plan was applied, without the withheld ones.

        ``after``: the peers read back. ``waiting``: addresses that no peer gets yet. The result is empty if the plan
        had no changes.
        """
        if not decision.plan.changes:
            return []
        plan = make_plan(decision.desired, after, node_state.records, self._policy_of_now()).let_wait(waiting)
        undone = {(c.kind, c.interface, c.public_key) for c in decision.plan.withheld}
        return [c for c in plan.changes if (c.kind, c.interface, c.public_key) not in undone]

    def revocations(
        self, snapshot: Snapshot, actual: Actual, known: NodeState, now: float, stay: Collection[DeviceId]
    ) -> Decision:
        """A decision that does nothing but remove revoked peers, if the guard permits all removals that are due.

        Nothing must be committed before these removals, unless the row's activation deadline has just passed. The peers
        of the rows with the ids ``stay`` stay.
        """
        # Ignore approvals. Without the store, they cannot be marked as used.
        decision = self.decide(snapshot._replace(approved=None), actual, known, now)
        revoked = (c for c in decision.plan.of(ChangeKind.REMOVE) if c.public_key in decision.desired.revoked)
        going = tuple(change for change in revoked if change.row_id not in stay)
        return replace(decision, plan=replace(decision.plan, changes=going))

    def expired(self, steps: Iterable[Transition], actual: Actual) -> list[Change]:
        """The removals of the peers that these transitions expire. Empty if they are more than the guard's limit.

        The limit holds here, because the rows may have changed since they were read. So all peers that went since then
        count, too.
        """
        going = lifecycle.expired_removals(steps, actual, self.policy.always_keep)
        peers, known, recent = sum(len(state.peers) for state in actual.values()), self._state.last_known, 0
        if known is not None:
            gone = sum(len(known.records.of(name).keys() - state.peers.keys()) for name, state in actual.items())
            peers, recent = (
                peers + gone,
                gone + sum(one.removed for one in remembered(known.removals, self._uptime()) if not one.access),
            )
        limit = max(self._limits.always_allowed, self._limits.max_share * peers)
        return going if len(going) + recent <= limit else []
