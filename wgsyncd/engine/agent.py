"""The agent runs the cycles of one node: it gathers, decides and acts.

    reconcile  gather  read the interfaces · read the rows · post the backlog, if any · commit due transitions
               decide  plan · guard
               act     commit baseline zero · apply (removed peers' last samples go into the spool) · read back ·
                       post the samples · record the outcome · refresh the usage windows
    account    gather  read the interfaces. So does a reconcile where nothing has changed: see rest.py
               decide  find due transitions
               act     post the backlog, the samples and the transitions · refresh the usage windows

StoreError may end a cycle at any line. The next cycle does the rest. There is no lock: one thread alone may use it.
"""

from collections.abc import Sequence
from dataclasses import replace

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import NO_FACTS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import DeviceId, DeviceRow, Transition
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.recording import changes_hands
from wgsyncd.core.peers.subset import is_independent, select_subset
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.state import OBSTACLES, NodeState
from wgsyncd.engine.accounting import Accounting
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.applier import Applier
from wgsyncd.engine.gateways import with_drift
from wgsyncd.engine.holding import Holding
from wgsyncd.engine.inspector import Inspector
from wgsyncd.engine.interfaces import Actual, Interfaces
from wgsyncd.engine.planes import Planes
from wgsyncd.engine.planner import Planner
from wgsyncd.engine.recorder import Recorder
from wgsyncd.engine.rest import Rest, begin_rest
from wgsyncd.engine.revoker import Revoker
from wgsyncd.engine.spooler import Samples
from wgsyncd.engine.state_cache import Until, never
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import refresh, update_from_devices, update_from_reconcile
from wgsyncd.engine.transitions import Transitions, write_batch
from wgsyncd.errors import StoreError
from wgsyncd.ports import Clock, Machine, Plane, Snapshot, Spool, Store, WireGuard


class Agent:
    """Keeps the peers of one node equal to the rows, and the stored bytes equal to the counters."""

    def __init__(
        self, settings: Settings, wireguard: WireGuard, store: Store, spool: Spool, status: DaemonStatus, clock: Clock,
        state: AgentState, planes: Sequence[Plane] = (), machine: Machine | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.wireguard, self.store, self.status, self.clock = settings, wireguard, store, status, clock
        self._state, self._log, self._changed = state, log.get("agent"), log.OnChange()
        self._planner = Planner(settings, state, uptime := machine.uptime if machine else clock.monotonic)
        self._interfaces = Interfaces(settings, wireguard, status, state)
        self.holding = Holding(settings, store, machine, status, state, clock.now)
        self._accounting = Accounting(settings, store, spool, status, clock, state, self.holding)
        self._transitions = Transitions(self._planner, self._accounting.cache, status, clock)
        self._cache, self._spooler = self._accounting.cache, self._accounting.spooler
        self.planes = Planes(planes, status, self.queue_audit)  # beside the WireGuard peers
        self._rest: Rest | None = None
        self._recorder = Recorder(settings.node.name, self._cache, state, status, uptime)
        calendar, look = self._accounting.calendar, self.planes
        self.inspector = Inspector(settings, store, self._interfaces, calendar, clock.now, self._decide, state, look)
        self._epochs: dict[str, str] = {}  # by interface, at the last reconcile
        self.needs_reconcile = False  # account found a new interface, and a reconcile must add its peers
        self.has_conditions = False  # so a row may wait for what the last :meth:`reconcile_devices` has freed
        self.preempted = False  # the last piece of work left samples unposted because something urgent waited
        self._applier = Applier(self._interfaces, self._spooler, clock)
        self._revoker = Revoker(self._planner, self._cache, self.planes, self._recorder, self._applier)

    def queue_audit(self, action: AuditAction, facts: AuditFacts = NO_FACTS) -> None:
        """Queue an audit row about the daemon itself. The next transaction writes the row."""
        self._cache.queue_audit(AuditEvent(action, self.settings.node.name, facts))

    @property
    def sent(self) -> int:
        """The number of batches of changes that this agent sent to the kernel."""
        return self._interfaces.batches_sent

    def next_deadline(self) -> float | None:
        """UNIX seconds of the next activation deadline of the known rows. None: none lies ahead."""
        return self._planner.next_deadline(self.clock.now())

    # -- the two pieces of work

    def account(self, until: Until = never, *, preemptible: bool = False) -> None:
        """Post new bytes and commit due transitions. If nothing moved, nothing is written. StoreError if the store
        fails: the samples are then in the backlog. Parameters: see :meth:`_post`."""
        self._account(self._take_samples(), until, preemptible=preemptible)

    def _account(self, samples: Samples, until: Until, *, preemptible: bool) -> None:
        is_broken = self.planes.poll()
        refresh(self.status, self.settings, samples.actual, samples.now)
        steps = self._planner.due(self._state.pending_rows, samples.actual, samples.now)
        # A reconcile commits expiries, because it removes the peer in the same cycle.
        alive = [step for step in steps if step.kind is not TransitionKind.EXPIRE]
        try:
            applied = self._post(samples, alive, until=until, preemptible=preemptible)
        except StoreError:
            self._degraded(samples, None, steps)
            raise
        if self.preempted:
            return
        self.needs_reconcile = is_broken or any(self._epochs.get(n) != s.epoch for n, s in samples.actual.items())
        self._accounting.refresh(samples.now, frozenset(step.row.id for step in steps) - applied)

    def reconcile(
        self, until: Until = never, *, preemptible: bool = False, with_accounting: bool = True, digest: object = None
    ) -> Decision:
        """Make the peers equal to the rows, and record what was done. StoreError: see :meth:`_degraded`.
        Without ``with_accounting``, only samples that cannot wait are posted, and the next :meth:`account` posts the
        rest. ``digest``: of the rows, read before. None: plan in any case. Other parameters: see :meth:`_post`."""
        samples = self._take_samples()
        before, self._rest = self._rest, None
        rest = before and before.go_on(digest, samples.actual)
        if rest is not None and rest.loads == self._cache.loads and not self._has_work(samples):
            if with_accounting:
                self._account(samples, until, preemptible=preemptible)
            self.status.database_read_at = samples.now
            self._rest, self._state.reconciled = rest, True
            return rest.decision
        (actual, now, _), calendar, missing = samples, self._accounting.calendar(samples.now), self._interfaces.missing
        snapshot: Snapshot | None = None
        steps: list[Transition] = []
        refused: frozenset[DeviceId] = frozenset()
        try:
            snapshot = self._snapshot(actual, before and before.rows_of(digest, self._cache.loads))
            self._cache.current(calendar)  # It has earlier handshakes than the kernel after a restart.
            steps = self._planner.due(snapshot.rows, actual, now)
            if self._accounting.must_come_first(actual, now, snapshot.rows):
                applied = self._post(samples, steps, snapshot.rows, until=until)
            else:
                applied = self._transitions.commit(steps, calendar)
            refused = frozenset(step.row.id for step in steps) - applied
            if steps:
                snapshot = self._snapshot(actual)
            decision = self._decide(snapshot, actual, self._cache.current(calendar), now)
            planes = self.planes.cycle(snapshot, decision)
            self._recorder.record_intent(decision, calendar, planes.access)
        except StoreError:  # The store does not answer, or it answers but cannot write.
            refresh(self.status, self.settings, actual, now)
            if snapshot is None:
                steps = self._planner.due(self._state.pending_rows, actual, now)
            self._degraded(samples, snapshot, [step for step in steps if step.row.id not in refused], refused)
            raise
        self._epochs, self.needs_reconcile = {name: state.epoch for name, state in actual.items()}, False
        with_accounting = with_accounting or changes_hands(self._cache.current(calendar), decision.desired)
        after = self._applier.apply(planes, decision, samples)
        counted = samples._replace(actual={**actual, **after}).without(self._applier.kept_last)
        try:  # Posting comes after apply: customers wait for their peers, but nobody waits for bytes.
            if with_accounting:
                self._post(counted, until=until, preemptible=preemptible)
            if self.preempted or not with_accounting:  # The outcome forgets removed peers, so their samples come first.
                self._accounting.post_backlog(self.clock.now())
        except StoreError:
            self._spooler.keep(counted.without(self._applier.kept_last))
            raise
        remaining = self._planner.drift(decision, after, self._cache.current(calendar), planes.waiting)
        if self._changed("drift", len(remaining)) and remaining:
            self._log.warning("drift after apply, tried again next cycle", peers=len(remaining))
        self._recorder.record_outcome(decision, after, calendar, snapshot=snapshot, missing=missing, planes=planes)
        update_from_reconcile(self.status, self.settings, decision, after, remaining, snapshot, now)
        self._accounting.refresh(now, refused)
        self._state.reconciled = not (remaining or planes.waiting or self._interfaces.read_errors)
        is_over = self.preempted or not self.planes.rest
        self._rest = None if is_over else begin_rest(digest, snapshot, decision, self._cache.loads, before)
        return decision

    def _has_work(self, samples: Samples) -> bool:
        """Whether a reconcile has work although neither rows nor peers have changed."""
        steps = self._planner.due(self._state.pending_rows, samples.actual, samples.now)
        waits = self._spooler.load().samples or self._cache.has_queued_audit
        return bool(self.planes.mend() or not self.planes.rest or steps or waits)

    def reconcile_devices(self, devices: frozenset[str]) -> bool:
        """Reconcile a few devices alone, without accounting. False if a full cycle is needed: the devices affect other
        rows or peers, a device has no row, drift remains, a transition was not taken, or there are other planes."""
        if self.planes:
            return False
        samples, self._rest = self._take_samples(), None  # what this leaves undone is done by a plan
        (actual, now, _), calendar = samples, self._accounting.calendar(samples.now)
        rows = None if self._interfaces.read_errors else self.store.load_devices(devices)
        part = select_subset(rows, actual, self._cache.current(calendar)) if rows is not None else None
        if rows is None or part is None or self._accounting.must_come_first(part.actual, now, rows):
            return False
        if steps := self._planner.due(rows, part.actual, now, some=True):
            applied = self._transitions.commit(steps, calendar)
            rows = self.store.load_devices(devices)
            if rows is None or len(applied) < len(steps):
                return False
        self._planner.update_rows(rows)
        peers = sum(len(state.peers) for state in actual.values())
        decision = self._planner.decide(Snapshot(rows, None, None, 0), part.actual, part.node_state, now, part_of=peers)
        if not is_independent(decision, part, actual, self._cache.current(calendar)):
            return False
        self._recorder.record_intent(decision, calendar)
        after = self._applier.apply_peers(decision.plan, samples._replace(actual=part.actual))
        update_from_devices(self.status, self.settings, decision.plan, actual, after, now)
        self._accounting.post_backlog(self.clock.now())
        after = part.of({name: state for name, state in after.items() if state.epoch == actual[name].epoch})
        node_state = part.within(self._cache.current(calendar))
        self._recorder.record_outcome(decision, after, calendar, node_state=node_state)
        self.has_conditions = any(one.type in OBSTACLES for one in node_state.conditions)
        return not self._planner.drift(decision, after, node_state)

    def approve(self, plan_id: str, who: str = "") -> bool:
        """Allow the next cycle to do exactly what ``plan_id`` names, once. ``who`` is named in the audit row.
        Returns whether the plan is about access, not about removals."""
        is_access = self.inspector.check_withheld(plan_id)
        self.store.approve(plan_id)
        self._state.approver = who
        return is_access

    def flush(self) -> None:
        """Commit queued audit rows, and with them the times of the last samples. Without audit rows: do nothing."""
        if self._cache.has_queued_audit:
            writes = self._accounting.checkpoints(self.clock.now())
            self._cache.commit(writes, self._accounting.calendar(self.clock.now()))

    def beat(self) -> None:
        """Write the heartbeat that tells other machines that this one lives."""
        self._cache.beat(self._accounting.calendar(self.clock.now()))

    def purge(self) -> None:
        """Delete buckets and days that are past their retention."""
        self.store.purge(self._accounting.calendar(self.clock.now()), int(self.settings.usage.retention // 86400))

    # -- gather

    def _take_samples(self) -> Samples:
        """Begin a piece of work. The clocks are read first, so the samples have all handshakes until then."""
        self.holding.look_at_role()
        self._applier.begin()
        self.preempted = False
        self._spooler.load()
        return Samples(now=self.clock.now(), monotonic=self.clock.monotonic(), actual=self._interfaces.read())

    def _snapshot(self, actual: Actual, known: Snapshot | None = None) -> Snapshot:
        snapshot = with_drift(known or self.store.snapshot(), actual, self.settings, self._state.last_known)
        self._planner.load(snapshot.rows)
        self.status.database_read_at = self.clock.now()
        return snapshot

    def _decide(self, snapshot: Snapshot, actual: Actual, node_state: NodeState, now: float) -> Decision:
        decision = self._planner.decide(snapshot, actual, node_state, now)
        return replace(decision, interface_errors=self._interfaces.read_errors)

    # -- act

    def _post(
        self, samples: Samples, steps: Sequence[Transition] = (), rows: Sequence[DeviceRow] | None = None, *,
        until: Until = never, preemptible: bool = False,
    ) -> frozenset[DeviceId]:  # fmt: skip
        """Post samples and commit transitions. Returns the ids of the rows whose transition was committed.
        Between transactions, ``until`` says whether something urgent waits. A ``preemptible`` posting then ends and
        sets :attr:`preempted`: the next samples include its bytes. Any other posting first removes revoked peers and
        then goes on. A posting that closes a day also goes on, because later samples belong to the next day."""
        calendar, early = self._accounting.calendar(samples.now), frozenset[DeviceId]()
        preemptible = preemptible and not calendar.closes_a_day
        self._cache.current(calendar)  # A claim may rename the spool's file.
        end = self._spooler.end()
        if self._spooler.load().samples:  # A crash may leave too few of them to show the first handshakes.
            early, steps = self._transitions.commit(steps, calendar), ()
        more = write_batch(steps)
        while (applied := self._accounting.post(samples, more, rows, until=until, end=end)) is None:
            if preemptible:
                self.preempted = True
                return early
            self._remove_revoked(samples)
        return early | self._transitions.note(steps, applied)

    def _remove_revoked(self, samples: Samples) -> None:
        """Remove peers that were revoked while ``samples`` are posted."""
        now, monotonic = self.clock.now(), self.clock.monotonic()
        later, snapshot = Samples(self._interfaces.read(create=False), now, monotonic), self.store.snapshot()
        ended = {step.row.id for step in self._planner.due(snapshot.rows, later.actual, now)}
        self._revoker.remove_revoked(snapshot, ended, samples, later)

    def _degraded(
        self, samples: Samples, snapshot: Snapshot | None, steps: list[Transition],
        refused: frozenset[DeviceId] = frozenset(),
    ) -> None:  # fmt: skip
        """Do what is safe while the store fails: spool the samples, and take away what nobody gives any more.
        If the rows or the node state are unknown, only peers whose deadline passed (``steps``) are removed.
        ``refused``: ids of rows that changed after ``snapshot`` was read."""
        self._rest = None
        self._spooler.keep(samples.without(self._applier.kept_last))
        if snapshot is not None and self._cache.last_known is not None:
            self._revoker.follow(snapshot, refused, samples)
        elif self._state.rows_loaded:
            self._revoker.remove_expired(steps, samples)
