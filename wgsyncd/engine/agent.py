"""The shell around core: gather, decide, act. One thread, no lock; whoever holds the agent calls one method at a time.

    reconcile: read the interfaces · load the rows · take the steps that are due in devices' lives · plan · guard ·
               commit baseline zero · apply (a last sample of whom goes into the spool) · read back · book the dumps ·
               write down what was done
    account:   read the interfaces · book the dumps · take the steps that are due

Each may fail at any line (StoreError) and be called again: what it did is found in the kernel and in the ledger, what
it did not is done then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import NO_FACTS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import InterfaceState, Transition
from wgsyncd.core.peers.desired import share_keys
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.plan import Plan
from wgsyncd.core.peers.subset import is_independent, select_subset
from wgsyncd.core.reasons import TransitionKind
from wgsyncd.core.records import PeerId
from wgsyncd.core.state import NodeState, WriteBatch
from wgsyncd.engine import wording
from wgsyncd.engine.accounting import Accounting
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.inspector import Inspector
from wgsyncd.engine.interfaces import Actual, Interfaces
from wgsyncd.engine.planner import Planner
from wgsyncd.engine.recorder import Recorder
from wgsyncd.engine.state_cache import Between, LeftOff
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import refresh, update_from_reconcile
from wgsyncd.errors import StoreError, UserError
from wgsyncd.ports import Clock, Snapshot, Spool, Store, WireGuard


class Agent:
    """Keeps one node's interfaces equal to the store's rows, and the store's figures equal to the interfaces'."""

    def __init__(
        self, settings: Settings, wireguard: WireGuard, store: Store, spool: Spool, status: DaemonStatus, clock: Clock,
        state: AgentState,
    ) -> None:  # fmt: skip
        self.settings, self.wireguard, self.store, self.status, self.clock = settings, wireguard, store, status, clock
        self._state, self._log = state, log.get("agent")
        self._decider = Planner(settings, state)
        self._edge = log.OnChange()
        self._interfaces = Interfaces(settings, wireguard, status, state)
        self._accounting = Accounting(settings, store, spool, status, clock, state)
        self._books = self._accounting.books
        self._chronicle = Recorder(settings.node.name, self._books, state)
        self.inspector = Inspector(
            settings, store, self._interfaces, self._accounting.calendar, clock.now, self._decide, state
        )
        self._epochs: dict[str, str] = {}  # of the interfaces as the last reconcile found them
        self.needs_reconcile = False  # an account found an interface that is new: it waits to be filled
        self._looked_at: set[PeerId] = set()  # peers that went in this piece of work: there is a later sample of them

    def queue_audit(self, action: AuditAction, facts: AuditFacts = NO_FACTS) -> None:
        """Audit something about the daemon itself, with the next transaction."""
        self._books.queue_audit(AuditEvent(action, self.settings.node.name, facts))

    @property
    def between(self) -> Between:
        """Called between the transactions of a long booking; it may call :meth:`revoke`, or have it left off."""
        return self._books.between

    @between.setter
    def between(self, look: Between) -> None:
        self._books.between = look

    @property
    def sent(self) -> int:
        """How many batches of changes the kernel was sent so far."""
        return self._interfaces.batches_sent

    def next_deadline(self) -> float | None:
        """UNIX seconds of the nearest QR end that is known."""
        return self._decider.next_deadline(self.clock.now())

    # -- the two pieces of work

    def account(self) -> None:
        """Book what the counters and handshakes say. No statement is sent where nothing moved."""
        now, mono, actual = self._begin()
        refresh(self.status, actual, now)
        steps = self._decider.due(self._state.pending_rows, actual, now)
        try:
            # An end is left to the reconcile, which takes the peer out in the same cycle.
            steps_of_life = self._steps([step for step in steps if step.kind is not TransitionKind.EXPIRE])
            self._note_taken(
                steps, self._accounting.book(actual, now, mono, steps_of_life, may_leave_off=self._may_leave_off(now))
            )
        except LeftOff:
            return
        except StoreError:
            self._degraded(actual, now, mono, None, steps)
            raise
        self.needs_reconcile = any(self._epochs.get(name) != state.epoch for name, state in actual.items())
        self._accounting.roll(now)

    def reconcile(self, *, with_accounting: bool = True) -> Decision:
        """Make the kernel what the rows say, and write down what was done. ``count``: book the counters too; otherwise
        only as far as must be, and the next :meth:`account` books the rest."""
        now, mono, actual = self._begin()
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
                taken = self._accounting.book(actual, now, mono, self._steps(steps), snapshot.rows)
            else:
                taken = self._books.commit(self._steps(steps), calendar)[0] if steps else frozenset()
            self._note_taken(steps, taken)
            refused = frozenset(step.row.id for step in steps) - taken
            if steps:
                snapshot = self._snapshot()
            decision = self._decide(snapshot, actual, self._books.current(calendar), now)
            self._chronicle.record_intent(decision, calendar)
        except StoreError:  # it does not answer, or takes nothing in
            if snapshot is None:
                steps = self._decider.due(self._state.pending_rows, actual, now)
            still = [step for step in steps if step.row.id not in refused]
            self._degraded(actual, now, mono, snapshot, still, refused)
            raise
        self._epochs, self.needs_reconcile = {name: state.epoch for name, state in actual.items()}, False
        after = self._interfaces.apply(decision.plan, actual, self._spool_last_sample)
        # One made anew in between is for the next cycle: what it says was not asked of it.
        after = {name: state for name, state in after.items() if state.epoch == actual[name].epoch}
        counted = self._excluding_removed({**actual, **after})
        try:  # the kernel first: a customer waits for that, nobody for a figure
            if with_accounting:
                self._accounting.book(counted, now, mono, may_leave_off=self._may_leave_off(now))
            else:
                self._accounting.book_backlog(self.clock.now())
        except LeftOff:
            pass
        except StoreError:
            self._accounting.keep(counted.values(), now, mono)
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
        to do with others, or are not there, or something went otherwise."""
        now, _, actual = self._begin()
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
            taken = self._books.commit(self._steps(steps), calendar)[0]
            self._note_taken(steps, taken)
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
        self._accounting.book_backlog(self.clock.now())
        after = part.of({name: state for name, state in after.items() if state.epoch == actual[name].epoch})
        books = part.within(self._books.current(calendar))
        self._chronicle.record_some_outcomes(decision, after, books, calendar)
        return not self._decider.drift(decision, after, books)

    def remove_revoked(self) -> None:
        """Between the transactions of a long booking: whom a row has shut out since goes now. All else is left to the
        next cycle, and nothing is written to the store."""
        known = self._books.last_known
        if known is None:
            return
        now = self.clock.now()
        actual = self._interfaces.read(create=False)
        snapshot = self.store.snapshot()
        ended = {step.row.id for step in self._decider.due(snapshot.rows, actual, now)}  # which is written first
        out = [c for c in self._decider.revocations(snapshot, actual, known, now) if c.row_id not in ended]
        if out:
            self._accounting.keep_restarted({(c.interface, c.public_key) for c in out} - self._looked_at)
            self._interfaces.apply(Plan(tuple(out), 0, {}), actual, self._spool_last_sample)

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

    def _begin(self) -> tuple[float, float, Actual]:
        """A piece of work: both clocks, and then the dumps."""
        self._looked_at.clear()
        return self.clock.now(), self.clock.monotonic(), self._interfaces.read()

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

    def _may_leave_off(self, now: float) -> bool:
        return not self._accounting.calendar(now).closes_a_day  # else the rest would be looked at in the next day

    def _steps(self, steps: Iterable[Transition]) -> WriteBatch:
        return WriteBatch(transitions=tuple((step, _event(step)) for step in steps))

    def _note_taken(self, steps: Iterable[Transition], taken: frozenset[int]) -> None:
        done = [step for step in steps if step.row.id in taken]
        for step in done:
            self.status.count_transition(step.kind)
            self.status.add_event(
                step.kind, device=step.row.device, text=wording.TRANSITIONS[step.kind], at=self.clock.now()
            )
            self._log.info("device step", step=step.kind, device=step.row.device, contract=step.row.owner)
        self._decider.transitions_applied(done)

    def _spool_last_sample(self, state: InterfaceState) -> None:
        self._accounting.keep([state], self.clock.now(), self.clock.monotonic(), whole=False)
        self._looked_at.update((state.name, key) for key in state.peers)

    def _excluding_removed(self, actual: Actual) -> dict[str, InterfaceState]:
        """These dumps without the peers that were looked at since: they would seem to have gone back."""
        gone = self._looked_at
        return {
            name: replace(state, peers={k: found for k, found in state.peers.items() if (name, k) not in gone})
            if gone
            else state
            for name, state in actual.items()
        }

    def _degraded(
        self,
        actual: Actual,
        now: float,
        mono: float,
        snapshot: Snapshot | None,
        steps: list[Transition],
        refused: frozenset[int] = frozenset(),
    ) -> None:
        """The store takes nothing in. What was counted is kept in the spool; and nobody stays in whom a row shuts out:
        by the rows as just read (``snapshot``), or where they cannot be read, those whose QR has ended since. The books
        follow when the store is back. ``refused``: rows that are not as ``snapshot`` has them any more."""
        self._accounting.keep(self._excluding_removed(actual).values(), now, mono)
        known = self._books.last_known
        if snapshot is not None and known is not None:
            going = [c for c in self._decider.revocations(snapshot, actual, known, now) if c.row_id not in refused]
        else:
            going = self._decider.expired(steps, actual) if self._state.rows_loaded else []
        if going:
            self._log.warning("database takes nothing in: peers that are shut out are removed", peers=len(going))
            self._interfaces.apply(Plan(tuple(going), 0, {}), actual, self._spool_last_sample)


_ACTIONS = {
    TransitionKind.ACTIVATE: AuditAction.DEVICE_ACTIVATED,
    TransitionKind.EXPIRE: AuditAction.DEVICE_EXPIRED,
}


def _event(step: Transition) -> AuditEvent | None:
    action = _ACTIONS.get(step.kind)
    return AuditEvent(action, step.row.device, AuditFacts(at=step.at)) if action is not None else None
