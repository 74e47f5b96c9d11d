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
from wgsyncd.core.audit import Entry, Scribe
from wgsyncd.core.model import InterfaceState, Transition
from wgsyncd.core.peers.desired import share_keys
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.peers.plan import Plan
from wgsyncd.core.peers.subset import narrow, stands_alone
from wgsyncd.core.records import Slot
from wgsyncd.core.state import Ledger, Writes
from wgsyncd.engine.accounting import Accounting
from wgsyncd.engine.inspector import Inspector
from wgsyncd.engine.interfaces import Interfaces, Live
from wgsyncd.engine.planner import Decider
from wgsyncd.engine.recorder import Chronicle
from wgsyncd.engine.state_cache import Between, LeftOff
from wgsyncd.engine.status import Health
from wgsyncd.engine.status_update import draw, recount
from wgsyncd.errors import Refused, StoreError
from wgsyncd.ports import Clock, Snapshot, Spool, Store, WireGuard

_STEPS = {"activate": "active (first handshake)", "expire": "expired (QR ended)", "first_handshake": "first handshake"}


class Agent:
    """Keeps one node's interfaces equal to the store's rows, and the store's figures equal to the interfaces'."""

    def __init__(
        self, settings: Settings, wireguard: WireGuard, store: Store, spool: Spool, health: Health, clock: Clock
    ) -> None:
        self.settings, self.wireguard, self.store, self.health, self.clock = settings, wireguard, store, health, clock
        self._log = log.get("agent")
        self._scribe = Scribe(settings.audit.language)
        self._decider = Decider(settings)
        self._edge = log.Edge()
        self._interfaces = Interfaces(settings, wireguard, health)
        self._accounting = Accounting(settings, store, spool, health, clock, self._scribe)
        self._books = self._accounting.books
        self._chronicle = Chronicle(settings.node.name, self._books, self._scribe)
        self.inspector = Inspector(settings, store, self._interfaces, self._accounting.windows, clock.now, self._decide)
        self._epochs: dict[str, str] = {}  # of the interfaces as the last reconcile found them
        self.found_new = False  # an account found an interface that is new: it waits to be filled
        self._looked_at: set[Slot] = set()  # peers that went in this piece of work: there is a later sample of them

    def inherit(self, old: Agent) -> None:
        """Take over what the agent of the previous configuration had seen."""
        self._decider.inherit(old._decider)
        self._accounting.inherit(old._accounting)
        self._interfaces.inherit(old._interfaces)
        self._chronicle.approver = old._chronicle.approver

    def note(self, action: str, **facts: object) -> None:
        """Audit something about the daemon itself, with the next transaction."""
        self._books.note(self._scribe.entry(action, self.settings.node.name, **facts))

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
        return self._interfaces.sent

    def next_deadline(self) -> float | None:
        """UNIX seconds of the nearest QR end that is known."""
        return self._decider.next_deadline(self.clock.now())

    # -- the two pieces of work

    def account(self) -> None:
        """Book what the counters and handshakes say. No statement is sent where nothing moved."""
        now, mono, live = self._begin()
        recount(self.health, live, now)
        steps = self._decider.due(self._decider.waiting, live, now)
        try:
            # An end is left to the reconcile, which takes the peer out in the same cycle.
            steps_of_life = self._steps([step for step in steps if step.kind != "expire"])
            self._note_taken(
                steps, self._accounting.book(live, now, mono, steps_of_life, may_leave_off=self._may_leave_off(now))
            )
        except LeftOff:
            return
        except StoreError:
            self._do_without_store(live, now, mono, None, steps)
            raise
        self.found_new = any(self._epochs.get(name) != state.epoch for name, state in live.items())
        self._accounting.roll(now)

    def reconcile(self, *, count: bool = True) -> Outlook:
        """Make the kernel what the rows say, and write down what was done. ``count``: book the counters too; otherwise
        only as far as must be, and the next :meth:`account` books the rest."""
        now, mono, live = self._begin()
        windows = self._accounting.windows(now)
        snapshot: Snapshot | None = None
        steps: list[Transition] = []
        refused: frozenset[int] = frozenset()
        try:
            snapshot = self._snapshot()
            if self._books.known is None:  # they take their keys from the rows
                share_keys(snapshot.rows, live)
            steps = self._decider.due(snapshot.rows, live, now)
            if self._accounting.must_come_first(live, now, snapshot.rows):
                taken = self._accounting.book(live, now, mono, self._steps(steps), snapshot.rows)
            else:
                taken = self._books.commit(self._steps(steps), windows)[0] if steps else frozenset()
            self._note_taken(steps, taken)
            refused = frozenset(step.row.id for step in steps) - taken
            if steps:
                snapshot = self._snapshot()
            outlook = self._decide(snapshot, live, self._books.ledger(windows), now)
            self._chronicle.before(outlook, windows)
        except StoreError:  # it does not answer, or takes nothing in
            if snapshot is None:
                steps = self._decider.due(self._decider.waiting, live, now)
            still = [step for step in steps if step.row.id not in refused]
            self._do_without_store(live, now, mono, snapshot, still, refused)
            raise
        self._epochs, self.found_new = {name: state.epoch for name, state in live.items()}, False
        after = self._interfaces.apply(outlook.plan, live, self._keep_last)
        # One made anew in between is for the next cycle: what it says was not asked of it.
        after = {name: state for name, state in after.items() if state.epoch == live[name].epoch}
        counted = self._uncounted({**live, **after})
        try:  # the kernel first: a customer waits for that, nobody for a figure
            if count:
                self._accounting.book(counted, now, mono, may_leave_off=self._may_leave_off(now))
            else:
                self._accounting.book_backlog(self.clock.now())
        except LeftOff:
            pass
        except StoreError:
            self._accounting.keep(counted.values(), now, mono)
            raise
        remaining = self._decider.drift(outlook, after, self._books.ledger(windows))
        if self._edge("drift", len(remaining)) and remaining:
            self._log.warning("drift after apply, tried again next cycle", peers=len(remaining))
        self._chronicle.after(outlook, after, snapshot, self._interfaces.missing, windows)
        draw(self.health, self.settings, outlook, after, remaining, snapshot, now)
        self._accounting.roll(now)
        return outlook

    def reconcile_some(self, devices: frozenset[str]) -> bool:
        """The same for a few devices alone, and without their counters. False where a full cycle is needed: they have
        to do with others, or are not there, or something went otherwise."""
        now, _, live = self._begin()
        windows = self._accounting.windows(now)
        rows = self.store.some(devices)
        ledger = self._books.ledger(windows)
        part = narrow(rows, live, ledger) if rows is not None and not self._interfaces.troubles else None
        if rows is None or part is None or self._accounting.must_come_first(part.live, now, rows):
            return False
        steps = self._decider.due(rows, part.live, now, some=True)
        if steps:
            taken = self._books.commit(self._steps(steps), windows)[0]
            self._note_taken(steps, taken)
            rows = self.store.some(devices)
            if rows is None or len(taken) < len(steps):
                return False
        self._decider.load_some(rows)
        peers = sum(len(state.peers) for state in live.values())
        outlook = self._decider.decide(Snapshot(rows, None, None, 0), part.live, part.ledger, now, part_of=peers)
        if not stands_alone(outlook, part, live):
            return False
        self._chronicle.before(outlook, windows)
        after = self._interfaces.apply(outlook.plan, part.live, self._keep_last)
        self._accounting.book_backlog(self.clock.now())
        after = part.of({name: state for name, state in after.items() if state.epoch == live[name].epoch})
        books = part.within(self._books.ledger(windows))
        self._chronicle.after_some(outlook, after, books, windows)
        return not self._decider.drift(outlook, after, books)

    def revoke(self) -> None:
        """Between the transactions of a long booking: whom a row has shut out since goes now. All else is left to the
        next cycle, and nothing is written to the store."""
        known = self._books.known
        if known is None:
            return
        now = self.clock.now()
        live = self._interfaces.read(create=False)
        snapshot = self.store.snapshot()
        ended = {step.row.id for step in self._decider.due(snapshot.rows, live, now)}  # which is written first
        out = [c for c in self._decider.shut_out(snapshot, live, known, now) if c.row_id not in ended]
        if out:
            self._accounting.keep_unposted({(c.interface, c.public_key) for c in out} - self._looked_at)
            self._interfaces.apply(Plan(tuple(out), 0, {}), live, self._keep_last)

    def approve(self, plan_id: str, who: str = "") -> None:
        """Let exactly that set of removals through, with the next cycle and once. Refused where it is not what is
        withheld now."""
        outlook = self.inspector.preview()
        if not outlook.withholds:
            raise Refused("nothing is withheld: there is nothing to approve")
        if outlook.plan_id != plan_id:
            raise Refused(f"{plan_id} is not the plan of now, which is {outlook.plan_id}: look at `wgsyncd plan` again")
        self.store.approve(plan_id)
        self._chronicle.approver = who

    def settle(self) -> None:
        """Commit notes that wait for a transaction, and when the interfaces were last looked at."""
        if self._books.has_notes:
            now = self.clock.now()
            self._books.commit(self._accounting.settled(now), self._accounting.windows(now))

    def purge(self) -> None:
        """Forget figures that are older than they are kept."""
        self.store.purge(self._accounting.windows(self.clock.now()), int(self.settings.usage.keep_days // 86400))

    # -- gather

    def _begin(self) -> tuple[float, float, Live]:
        """A piece of work: both clocks, and then the dumps."""
        self._looked_at.clear()
        return self.clock.now(), self.clock.monotonic(), self._interfaces.read()

    def _snapshot(self) -> Snapshot:
        snapshot = self.store.snapshot()
        self._decider.load(snapshot.rows)
        self.health.database_read_at = self.clock.now()
        return snapshot

    def _decide(self, snapshot: Snapshot, live: Live, ledger: Ledger, now: float) -> Outlook:
        return replace(self._decider.decide(snapshot, live, ledger, now), troubles=self._interfaces.troubles)

    # -- act

    def _may_leave_off(self, now: float) -> bool:
        return not self._accounting.windows(now).closes_a_day  # else the rest would be looked at in the next day

    def _steps(self, steps: Iterable[Transition]) -> Writes:
        return Writes(steps=tuple((step, self._word(step)) for step in steps))

    def _note_taken(self, steps: Iterable[Transition], taken: frozenset[int]) -> None:
        done = [step for step in steps if step.row.id in taken]
        for step in done:
            self.health.add("transitions", step.kind)
            self.health.remember(step.kind, device=step.row.device, text=_STEPS[step.kind], at=self.clock.now())
            self._log.info("device step", step=step.kind, device=step.row.device, contract=step.row.contract)
        self._decider.took(done)

    def _keep_last(self, state: InterfaceState) -> None:
        self._accounting.keep([state], self.clock.now(), self.clock.monotonic(), whole=False)
        self._looked_at.update((state.name, key) for key in state.peers)

    def _uncounted(self, live: Live) -> dict[str, InterfaceState]:
        """These dumps without the peers that were looked at since: they would seem to have gone back."""
        gone = self._looked_at
        return {
            name: replace(state, peers={k: found for k, found in state.peers.items() if (name, k) not in gone})
            if gone
            else state
            for name, state in live.items()
        }

    def _word(self, step: Transition) -> Entry | None:
        action = {"activate": "device_activated", "expire": "qr_expired"}.get(step.kind)
        if action is None:
            return None
        at = self._accounting.windows(step.at).local(step.at)
        return self._scribe.entry(action, step.row.device, at=at)

    def _do_without_store(
        self,
        live: Live,
        now: float,
        mono: float,
        snapshot: Snapshot | None,
        steps: list[Transition],
        refused: frozenset[int] = frozenset(),
    ) -> None:
        """The store takes nothing in. What was counted is kept in the spool; and nobody stays in whom a row shuts out:
        by the rows as just read (``snapshot``), or where they cannot be read, those whose QR has ended since. The books
        follow when the store is back. ``refused``: rows that are not as ``snapshot`` has them any more."""
        self._accounting.keep(self._uncounted(live).values(), now, mono)
        known = self._books.known
        if snapshot is not None and known is not None:
            going = [c for c in self._decider.shut_out(snapshot, live, known, now) if c.row_id not in refused]
        else:
            going = self._decider.ended(steps, live) if self._decider.loaded else []
        if going:
            self._log.warning("database takes nothing in: peers that are shut out are removed", peers=len(going))
            self._interfaces.apply(Plan(tuple(going), 0, {}), live, self._keep_last)
