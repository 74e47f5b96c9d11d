"""The shell around core: gather, decide, act. One thread, no lock; whoever holds the agent calls one method at a time.

    reconcile: read the interfaces · load the rows · take the steps that are due in devices' lives · plan · guard ·
               commit baseline zero · apply (a last sample of whom goes into the spool) · read back · book the dumps ·
               write down what was done
    account:   read the interfaces · book the dumps · take the steps that are due

Each may fail at any line (StoreError) and be called again: what it did is found in the kernel and in the ledger, what
it did not is done then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import NO_FACTS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import ChangeKind, DeviceRow, InterfaceState, Transition
from wgsyncd.core.peers.desired import share_keys
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.plan import Plan
from wgsyncd.core.peers.subset import is_independent, select_subset
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.records import PeerId
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.engine import transitions
from wgsyncd.engine.accounting import NOTHING, Accounting
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.inspector import Inspector
from wgsyncd.engine.interfaces import Actual, Interfaces
from wgsyncd.engine.planes import Cycle, Planes
from wgsyncd.engine.planner import Planner
from wgsyncd.engine.recorder import Recorder
from wgsyncd.engine.spooler import Samples
from wgsyncd.engine.state_cache import Until, never
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import refresh, update_from_reconcile
from wgsyncd.engine.transitions import Transitions
from wgsyncd.errors import StoreError, UserError
from wgsyncd.ports import Clock, Phase, Plane, Snapshot, Spool, Store, WireGuard


class Agent:
    """Keeps one node's interfaces equal to the store's rows, and the store's figures equal to the interfaces'."""

    def __init__(
        self, settings: Settings, wireguard: WireGuard, store: Store, spool: Spool, status: DaemonStatus, clock: Clock,
        state: AgentState, planes: Sequence[Plane[Any, Any]] = (),
    ) -> None:  # fmt: skip
        self.settings, self.wireguard, self.store, self.status, self.clock = settings, wireguard, store, status, clock
        self._state, self._log = state, log.get("agent")
        self._decider = Planner(settings, state)
        self._edge = log.OnChange()
        self._interfaces = Interfaces(settings, wireguard, status, state)
        self._accounting = Accounting(settings, store, spool, status, clock, state)
        self._transitions = Transitions(self._decider, self._accounting.books, status, clock)
        self._books, self._spooler = self._accounting.books, self._accounting.spooler
        self._planes = Planes(planes)  # beside the peers
        self._chronicle = Recorder(settings.node.name, self._books, state)
        self.inspector = Inspector(
            settings, store, self._interfaces, self._accounting.calendar, clock.now, self._decide, state
        )
        self._epochs: dict[str, str] = {}  # of the interfaces as the last reconcile found them
        self.needs_reconcile = False  # an account found an interface that is new: it waits to be filled
        self.preempted = False  # the last piece of work left samples unposted, for something urgent
        self._looked_at: set[PeerId] = set()  # peers that went in this piece of work: there is a later sample of them

    def queue_audit(self, action: AuditAction, facts: AuditFacts = NO_FACTS) -> None:
        """Audit something about the daemon itself, with the next transaction."""
        self._books.queue_audit(AuditEvent(action, self.settings.node.name, facts))

    @property
    def sent(self) -> int:
        """How many batches of changes the kernel was sent so far."""
        return self._interfaces.batches_sent

    def next_deadline(self) -> float | None:
        """UNIX seconds of the nearest QR end that is known."""
        return self._decider.next_deadline(self.clock.now())

    # -- the two pieces of work

    def account(self, until: Until = never, *, preemptible: bool = False) -> None:
        """Post what the counters and handshakes say. No statement is sent where nothing moved. ``until``,
        ``preemptible``: see :meth:`_post`."""
        samples = self._take_samples()
        refresh(self.status, samples.actual, samples.now)
        steps = self._decider.due(self._state.pending_rows, samples.actual, samples.now)
        try:
            # An end is left to the reconcile, which takes the peer out in the same cycle.
            steps_of_life = transitions.write_batch([step for step in steps if step.kind is not TransitionKind.EXPIRE])
            taken = self._post(samples, steps_of_life, until=until, preemptible=preemptible)
        except StoreError:
            self._degraded(samples, None, steps)
            raise
        if self.preempted:
            return
        self._transitions.note(steps, taken)
        self.needs_reconcile = any(self._epochs.get(name) != state.epoch for name, state in samples.actual.items())
        self._accounting.roll(samples.now)

    def reconcile(self, until: Until = never, *, preemptible: bool = False, with_accounting: bool = True) -> Decision:
        """Make the kernel what the rows say, and write down what was done. ``with_accounting``: post the counters too;
        otherwise only as far as must be, and the next :meth:`account` posts the rest. ``until``, ``preemptible``: see
        :meth:`_post`."""
        samples = self._take_samples()
        actual, now, _ = samples
        calendar = self._accounting.calendar(now)
        snapshot: Snapshot | None = None
        steps: list[Transition] = []
        refused: frozenset[int] = frozenset()
        try:
            snapshot = self._snapshot()
            if self._books.last_known is None:  # they take their keys from the rows
                share_keys(snapshot.rows, actual)
            steps = self._decider.due(snapshot.rows, actual, now)
            if self._accounting.must_come_first(actual, now, snapshot.rows):
                taken = self._post(samples, transitions.write_batch(steps), snapshot.rows, until=until)
            else:
                taken = self._transitions.commit(steps, calendar)
            self._transitions.note(steps, taken)
            refused = frozenset(step.row.id for step in steps) - taken
            if steps:
                snapshot = self._snapshot()
            decision = self._decide(snapshot, actual, self._books.current(calendar), now)
            planes = self._planes.cycle(snapshot, decision)
            self._chronicle.record_intent(decision, calendar)
        except StoreError:  # it does not answer, or takes nothing in
            if snapshot is None:
                steps = self._decider.due(self._state.pending_rows, actual, now)
            still = [step for step in steps if step.row.id not in refused]
            self._degraded(samples, snapshot, still, refused)
            raise
        self._epochs, self.needs_reconcile = {name: state.epoch for name, state in actual.items()}, False
        after = self._apply(planes, decision, actual)
        counted = samples._replace(actual={**actual, **after}).without(self._looked_at)
        try:  # the kernel first: a customer waits for that, nobody for a figure
            if with_accounting:
                self._post(counted, until=until, preemptible=preemptible)
            else:
                self._accounting.post_backlog(self.clock.now())
        except StoreError:
            self._spooler.keep(counted.without(self._looked_at))
            raise
        remaining = self._decider.drift(decision, after, self._books.current(calendar))
        if self._edge("drift", len(remaining)) and remaining:
            self._log.warning("drift after apply, tried again next cycle", peers=len(remaining))
        self._chronicle.record_outcome(decision, after, snapshot, self._interfaces.missing, calendar)
        update_from_reconcile(self.status, self.settings, decision, after, remaining, snapshot, now)
        self._accounting.roll(now)
        return decision

    def reconcile_devices(self, devices: frozenset[str]) -> bool:
        """The same for a few devices alone, and without their counters. False where a full cycle is needed: they have
        to do with others, or are not there, or something went otherwise; or there are planes beside the peers."""
        if self._planes:
            return False
        actual, now, _ = self._take_samples()
        calendar = self._accounting.calendar(now)
        rows = self.store.load_devices(devices)
        node_state = self._books.current(calendar)
        part = (
            select_subset(rows, actual, node_state) if rows is not None and not self._interfaces.read_errors else None
        )
        if rows is None or part is None or self._accounting.must_come_first(part.actual, now, rows):
            return False
        steps = self._decider.due(rows, part.actual, now, some=True)
        if steps:
            taken = self._transitions.commit(steps, calendar)
            self._transitions.note(steps, taken)
            rows = self.store.load_devices(devices)
            if rows is None or len(taken) < len(steps):
                return False
        self._decider.update_rows(rows)
        peers = sum(len(state.peers) for state in actual.values())
        decision = self._decider.decide(Snapshot(rows, None, None, 0), part.actual, part.node_state, now, part_of=peers)
        if not is_independent(decision, part, actual):
            return False
        self._chronicle.record_intent(decision, calendar)
        after = self._interfaces.apply(decision.plan, part.actual, self._spool_last_sample)
        self._accounting.post_backlog(self.clock.now())
        after = part.of({name: state for name, state in after.items() if state.epoch == actual[name].epoch})
        books = part.within(self._books.current(calendar))
        self._chronicle.record_some_outcomes(decision, after, books, calendar)
        return not self._decider.drift(decision, after, books)

    def approve(self, plan_id: str, who: str = "") -> None:
        """Let exactly that set of removals through, with the next cycle and once. Refused where it is not what is
        withheld now."""
        decision = self.inspector.preview()
        if not decision.is_withholding:
            raise UserError("nothing is withheld: there is nothing to approve")
        if decision.plan_id != plan_id:
            raise UserError(
                f"{plan_id} is not the plan of now, which is {decision.plan_id}: look at `wgsyncd plan` again"
            )
        self.store.approve(plan_id)
        self._state.approver = who

    def flush(self) -> None:
        """Commit notes that wait for a transaction, and when the interfaces were last looked at."""
        if self._books.has_notes:
            now = self.clock.now()
            self._books.commit(self._accounting.settled(now), self._accounting.calendar(now))

    def purge(self) -> None:
        """Forget figures that are older than they are kept."""
        self.store.purge(self._accounting.calendar(self.clock.now()), int(self.settings.usage.retention // 86400))

    # -- gather

    def _take_samples(self) -> Samples:
        """A piece of work begins with both clocks, and then the dumps."""
        self._looked_at.clear()
        self.preempted = False
        return Samples(now=self.clock.now(), monotonic=self.clock.monotonic(), actual=self._interfaces.read())

    def _snapshot(self) -> Snapshot:
        snapshot = self.store.snapshot()
        self._decider.load(snapshot.rows)
        self.status.database_read_at = self.clock.now()
        return snapshot

    def _decide(self, snapshot: Snapshot, actual: Actual, node_state: NodeState, now: float) -> Decision:
        return replace(
            self._decider.decide(snapshot, actual, node_state, now), interface_errors=self._interfaces.read_errors
        )

    # -- act

    def _apply(self, planes: Cycle, decision: Decision, actual: Actual) -> dict[str, InterfaceState]:
        """Apply all plans, phase by phase; the dumps of the peers afterwards. Where a plane is not prepared, peers go
        and nobody comes in."""
        after = dict(actual)
        for phase in Phase:
            if phase is Phase.PEERS:
                plan = decision.plan
                plan = plan if planes.is_ready else plan.withhold(lambda change: change.kind is ChangeKind.ADD)
                after = self._interfaces.apply(plan, actual, self._spool_last_sample)
            planes.apply(phase, after)
        # One made anew in between is for the next cycle: what it says was not asked of it.
        return {name: state for name, state in after.items() if state.epoch == actual[name].epoch}

    def _post(
        self, samples: Samples, more: WriteBatch = NOTHING, rows: Sequence[DeviceRow] | None = None, *,
        until: Until = never, preemptible: bool = False,
    ) -> frozenset[int]:  # fmt: skip
        """Post samples, until ``until`` says that something urgent waits. The ids of the rows whose step was taken.

        A ``preemptible`` posting ends there, which :attr:`preempted` says: the next samples tell the same and more. Any
        other one goes on to its end, with the time of its samples; before that, whom a row has revoked is removed. The
        samples that close a day are of this kind: the next ones would be those of the next day.
        """
        preemptible = preemptible and not self._accounting.calendar(samples.now).closes_a_day
        end = self._spooler.end()
        while (taken := self._accounting.post(samples, more, rows, until=until, end=end)) is None:
            if preemptible:
                self.preempted = True
                return frozenset()
            self._remove_revoked(samples)
        return taken

    def _remove_revoked(self, samples: Samples) -> None:
        """Remove whom a row has revoked since. All else is left to the next cycle, and nothing is written to the store.
        ``samples``: those that are being posted, which goes on afterwards."""
        known = self._books.last_known
        now, actual, snapshot = self.clock.now(), self._interfaces.read(create=False), self.store.snapshot()
        ended = {step.row.id for step in self._decider.due(snapshot.rows, actual, now)}  # which is written first
        revoked = self._decider.revocations(snapshot, actual, known, now) if known is not None else []
        going = [change for change in revoked if change.row_id not in ended]
        if going:
            peers = {(change.interface, change.public_key) for change in going}
            self._spooler.keep_restarted(samples, peers - self._looked_at)
            self._interfaces.apply(Plan(tuple(going), 0, {}), actual, self._spool_last_sample)

    def _spool_last_sample(self, state: InterfaceState) -> None:
        now, mono = self.clock.now(), self.clock.monotonic()
        self._spooler.keep(Samples({state.name: state}, now, mono), whole=False)
        self._looked_at.update((state.name, key) for key in state.peers)

    def _degraded(
        self, samples: Samples, snapshot: Snapshot | None, steps: list[Transition],
        refused: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        """The store takes nothing in. What was counted is kept in the spool; and nobody stays in whom a row shuts out:
        by the rows as just read (``snapshot``), or where they cannot be read, those whose QR has ended since. The books
        follow when the store is back. ``refused``: rows that are not as ``snapshot`` has them any more."""
        self._spooler.keep(samples.without(self._looked_at))
        actual, now, _ = samples
        known = self._books.last_known
        if snapshot is not None and known is not None:
            going = [c for c in self._decider.revocations(snapshot, actual, known, now) if c.row_id not in refused]
        else:
            going = self._decider.expired(steps, actual) if self._state.rows_loaded else []
        if going:
            self._log.warning("database takes nothing in: peers that are shut out are removed", peers=len(going))
            self._interfaces.apply(Plan(tuple(going), 0, {}), actual, self._spool_last_sample)
